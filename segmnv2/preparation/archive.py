"""Safe unpacking of archives that may be hostile: all wanted files appear in the target folder, or none."""

from __future__ import annotations

import errno
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from segmnv2.errors import DatasetError
from segmnv2.files.checksum import Track, untracked

# extractall(filter="data") needs Python 3.10.12 or 3.11.4, exists for tar only, allows links inside and sets no limit.
# Here, only regular files are written, each by `open`, so the rules do not depend on the version.

GROWTH, ALLOWANCE = 10, 1 << 20
"""Limit of the unpacked files: ten times the archive's bytes plus 1 MiB. COCO's annotations need two times."""

ZIP_MAGIC = b"PK\3\4"

OF_BYTES = (None, errno.EINVAL, errno.ENAMETOOLONG)
"""Error numbers of `OSError`s for damaged bytes, such as a seek to a negative position; not those of a file system."""


class Member(NamedTuple):
    """An entry of an archive: path, stated size, kind (``file``, ``folder``, ``link`` or ``device``) and opener."""

    name: str
    size: int
    kind: str
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path,
    target: Path,
    *,
    inside: str,
    wanted: Callable[[str], bool] = lambda name: True,
    track: Track = untracked,
) -> int:
    """Unpack a folder of a tar or zip archive.

    Files are first unpacked beside ``target``, and moved into it when the archive has been read to its end. Existing
    files in ``target`` stay unchanged, so that an incomplete folder is completed.

    Args:
        archive: a tar (plain, gzip, bzip2, xz) or zip file.
        target: the new path of the folder; its parents are created.
        inside: path of the folder in the archive, such as ``VOCdevkit/VOC2012``; empty for all of it.
        wanted: whether to unpack a file, by its path below ``inside``.
        track: progress in bytes of the archive.

    Returns:
        Number of files added.

    Raises:
        DatasetError: the archive is damaged, holds no wanted file, or has too many bytes for its size; or it holds a
            link, a device or a path outside of the folder.
        OSError: the files cannot be written.
    """
    target = target.resolve()  # so that it has a name, unlike `.`, and its parent is on the same disk
    temporary = target.with_name(f".{target.name}.unpacking")
    try:
        _remove(temporary)  # from a run that was killed
        temporary.mkdir(parents=True)
        with _open(archive) as (members, raw):
            _write_members(archive, members, raw, temporary, inside, wanted, track)
        return _put_in_place(temporary, target)
    except DatasetError:
        raise
    except Exception as error:  # the standard library raises errors of every kind for damaged bytes
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DatasetError(
                f"{target}: no space to unpack {archive.name}; free about {archive.stat().st_size / 1e9:.1f} GB and "
                "repeat; incomplete files were deleted"
            ) from error
        if isinstance(error, OSError) and error.errno not in OF_BYTES:
            raise
        reason = f"{type(error).__name__}: {error}"[:200]
        raise DatasetError(f"{archive}: is damaged or truncated ({reason}); delete it and download it again") from error
    finally:
        _remove(temporary)


def _remove(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


@contextmanager
def _open(archive: Path) -> Iterator[tuple[Iterator[Member], IO[bytes]]]:
    with archive.open("rb") as raw:
        # zipfile.is_zipfile would also accept a tar whose last file is a zip.
        magic = raw.read(len(ZIP_MAGIC))
        raw.seek(0)
        if magic == ZIP_MAGIC:
            with zipfile.ZipFile(raw) as content:
                yield _zip_members(content), raw
        else:
            with tarfile.open(fileobj=raw, mode="r:*") as content:
                yield _tar_members(content), raw


def _zip_members(content: zipfile.ZipFile) -> Iterator[Member]:
    known = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    for info in content.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if the writer stores no kinds
        name = "folder" if info.is_dir() else known.get(kind, "device")
        yield Member(info.orig_filename, info.file_size, name, partial(content.open, info))


def _tar_members(content: tarfile.TarFile) -> Iterator[Member]:
    for info in content:
        kind = "file" if info.isreg() else "folder" if info.isdir() else "device"
        kind = "link" if info.issym() or info.islnk() else kind
        opened: Any = partial(content.extractfile, info)  # never None for regular files
        yield Member(info.name, info.size, kind, opened)


def _write_members(
    archive: Path,
    members: Iterator[Member],
    raw: IO[bytes],
    folder: Path,
    inside: str,
    wanted: Callable[[str], bool],
    track: Track,
) -> None:
    size = archive.stat().st_size
    remaining, read, written = GROWTH * size + ALLOWANCE, 0, 0
    with track(f"unpack {archive.name}", size) as advance:
        for member in members:
            name = _name_below(archive, member, inside)
            remaining -= member.size  # unwanted files count too, because tar reads them
            if member.size < 0:
                raise EOFError(f"{member.name!r} has {member.size} bytes")
            if remaining < 0:
                raise DatasetError(
                    f"{archive}: holds more than {GROWTH} times its own {size} bytes, counted up to {member.name!r}; "
                    f"{_UNTRUSTED}"
                )
            if name is None or member.kind == "folder" or not wanted(name):
                continue
            if member.kind != "file":
                raise DatasetError(f"{archive}: {member.name!r} is a {member.kind}; {_UNTRUSTED}")
            _write_file(archive, member, folder / name)
            written += 1
            advance(max(0, raw.tell() - read))
            read = max(read, raw.tell())
    if not written:
        raise DatasetError(f"{archive}: has no {inside} with the files needed; give the publisher's archive, unchanged")


_UNTRUSTED = "published archives do not have this: do not trust it, download the publisher's"


def _name_below(archive: Path, member: Member, inside: str) -> str | None:
    """Return the path below ``inside``; ``None`` if it is elsewhere in the archive."""
    name = member.name.removeprefix("./").rstrip("/")
    parts = name.split("/")
    odd = name.startswith("/") or "\\" in name or "\0" in name or ":" in parts[0]
    if odd or (name not in ("", ".") and not {"", ".", ".."}.isdisjoint(parts)):
        raise DatasetError(f"{archive}: {member.name!r} is outside of the folder it is unpacked to; {_UNTRUSTED}")
    if not inside:
        return name
    return name.removeprefix(f"{inside}/") if name.startswith(f"{inside}/") else None


def _write_file(archive: Path, member: Member, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, path.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except (FileExistsError, NotADirectoryError) as error:
        raise DatasetError(f"{archive}: holds {member.name!r} twice, or as file and folder; {_UNTRUSTED}") from error
    except RuntimeError as error:  # raised for encrypted members of a zip
        raise DatasetError(f"{archive}: {member.name!r} cannot be read ({error}); {_UNTRUSTED}") from error
    if path.stat().st_size != member.size:
        raise EOFError(f"{member.name!r} has {path.stat().st_size} bytes of {member.size}")


def _put_in_place(source: Path, target: Path) -> int:
    if not target.exists():
        count = sum(path.is_file() for path in source.rglob("*"))
        source.replace(target)
        return count
    count = 0
    for path in sorted(source.rglob("*")):
        destination = target / path.relative_to(source)
        if path.is_file() and not destination.exists():
            destination.parent.mkdir(parents=True, exist_ok=True)
            path.replace(destination)
            count += 1
    return count
