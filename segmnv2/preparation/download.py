"""Downloads of archives over HTTP, resumed after lost connections and checked for changed files."""

from __future__ import annotations

import errno
import http.client
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from email.message import Message
from pathlib import Path
from typing import IO, Any

from segmnv2.errors import DatasetError
from segmnv2.files.atomic import atomic_path
from segmnv2.files.checksum import Track, file_checksum, untracked
from segmnv2.files.documents import dump_json, read_json
from segmnv2.files.ownership import claim
from segmnv2.preparation.published_archives import Archive, gigabytes

# torchvision's download_url and torch.hub's download_url_to_file restart from the first byte, have no time-out and do
# not compare sizes. The client of huggingface_hub that resumes is private. So the standard library's is used.

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as lost."""

ATTEMPTS = 5
"""Attempts in a row without a new byte after which a download fails."""

FIRST_WAIT = 1.0
"""Seconds before the second attempt; each further wait is twice as long."""

CHUNK = 1 << 20
TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP codes after which another attempt may succeed."""

OK, PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 200, 206, 416


class Partial:
    """The downloaded part of a file, with the server's identifier of the whole file."""

    def __init__(self, folder: Path, archive: Archive) -> None:
        self.path = folder / f"{archive.name}.partial"
        self._note = folder / f"{archive.name}.partial.json"
        claim(self._note)

    @property
    def size(self) -> int:
        """Number of downloaded bytes."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def version(self) -> str | None:
        """Return the server's identifier of the file; ``None`` if it gave none, or the note is damaged."""
        try:
            version: Any = read_json(self._note, "fetch it again")["version"]
        except (ValueError, KeyError, TypeError):
            return None
        return version if isinstance(version, str) else None

    def begin(self, version: str | None) -> None:
        """Delete the downloaded bytes, and note the identifier of the file to download."""
        self.path.unlink(missing_ok=True)
        with atomic_path(self._note) as temporary:
            temporary.write_text(dump_json({"version": version}), encoding="utf-8")

    def forget(self) -> None:
        """Delete the note."""
        self._note.unlink(missing_ok=True)


def fetch_archive(archive: Archive, folder: Path, *, mirror: str | None = None, track: Track = untracked) -> Path:
    """Return the path of an archive in ``folder``; download it if it is missing.

    The download is written to ``NAME.partial``. A repeated call resumes it if the server's file is unchanged (``ETag``
    or ``Last-Modified``, noted beside it). The file gets its name once its size and checksum are right.

    ``mirror`` is the address of a folder with the same files, which is used instead of the publisher's.

    Raises:
        DatasetError: the server has no such file or one of another size, cannot be reached, the disk is full, or the
            checksum is wrong; an existing file with a wrong checksum stays unchanged.
    """
    target = folder / archive.name
    if target.exists():
        check_archive(archive, target, track)
        return target
    url = archive.url if mirror is None else f"{mirror.rstrip('/')}/{archive.name}"
    partial = Partial(folder, archive)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_room([archive], folder)
        with track(f"download {archive.name}", archive.size) as advance:
            _download(url, archive, partial, advance)
    except OSError as error:
        remedy = "free space" if error.errno == errno.ENOSPC else "choose a folder with write access"
        raise DatasetError(
            f"{partial.path}: cannot be written ({error}); {remedy} and repeat; the downloaded part is kept"
        ) from error
    same_size = partial.size == archive.size
    if not same_size or file_checksum(partial.path, archive.algorithm, track, name=archive.name) != archive.checksum:
        rejected = folder / f"{archive.name}.rejected"
        partial.path.replace(rejected)
        partial.forget()
        check_archive(archive, rejected, track, source=url)
    partial.path.replace(target)
    partial.forget()
    return target


def check_archive(archive: Archive, path: Path, track: Track = untracked, *, source: str | None = None) -> None:
    """Raise an error if a file is not the archive; ``source`` is its address if it was downloaded.

    Raises:
        DatasetError: it is not a file, or has another size or checksum, which the message shows.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: is not a file; move it away, because the archive {archive.name} belongs there")
    size = path.stat().st_size
    remedy = (
        "delete or move it and repeat"
        if source is None
        else f"it was downloaded from {source}: delete it and repeat, or give another folder with --mirror URL"
    )
    if size != archive.size:
        part = "truncated" if size < archive.size else "another file"
        raise DatasetError(f"{path}: has {size} bytes, {archive.name} has {archive.size}: it is {part}; {remedy}")
    checksum = file_checksum(path, archive.algorithm, track)
    if checksum != archive.checksum:
        title = archive.algorithm.upper().replace("SHA", "SHA-")
        raise DatasetError(
            f"{path}: its {title} is {checksum}, that of {archive.name} is {archive.checksum}: it is damaged or "
            f"another file; {remedy}"
        )


def check_room(archives: Sequence[Archive], folder: Path) -> None:
    """Raise an error if the disk has no space for the rest of the downloads.

    Raises:
        DatasetError: the space is too small; the message shows both sizes.
    """
    needed = sum(archive.size - Partial(folder, archive).size for archive in archives)
    disk = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(disk).free
    if free < needed:
        names = ", ".join(archive.name for archive in archives)
        raise DatasetError(
            f"{folder}: has {gigabytes(free)} of free space, {names} need {gigabytes(needed)} more, and about as "
            "much again when unpacked; free space, or give a folder on another disk with --archives DIR"
        )


def _download(url: str, archive: Archive, partial: Partial, advance: Callable[[int], None]) -> None:
    """Download until all bytes are there, or until :data:`ATTEMPTS` attempts in a row bring none."""
    failures = 0
    if partial.size > archive.size:
        partial.begin(None)
    advance(partial.size)
    while partial.size < archive.size:
        before = partial.size
        try:
            _receive(url, archive, partial, advance)
            reason = f"it ended after {partial.size} of {archive.size} bytes"
        except urllib.error.HTTPError as error:
            with error:
                if error.code == RANGE_NOT_SATISFIABLE and before:
                    advance(-before)
                    partial.begin(None)
                elif error.code not in TEMPORARY:
                    raise DatasetError(_refusal(url, archive, f"{error.code} {error.reason}")) from error
                reason = f"{error.code} {error.reason}"
        except urllib.error.URLError as error:
            reason = str(error.reason)
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            reason = f"{type(error).__name__}: {error}"
        failures = 0 if partial.size > before else failures + 1
        if failures == ATTEMPTS:
            raise DatasetError(
                f"{url}: cannot be downloaded, {ATTEMPTS} attempts brought nothing ({reason}); check the network and "
                f"repeat (the {partial.size} downloaded bytes are kept), or download {archive.name} on another machine "
                f"and put it into {partial.path.parent}"
            )
        if failures:
            time.sleep(FIRST_WAIT * 2 ** (failures - 1))


def _refusal(url: str, archive: Archive, answer: str) -> str:
    return (
        f"{url}: the server answers {answer}; if the file has moved, give a folder that has {archive.name} with "
        "--mirror URL, or download it by other means and put it among the archives"
    )


def _receive(url: str, archive: Archive, partial: Partial, advance: Callable[[int], None]) -> None:
    """Make one request and write its bytes; append them if the server's file is unchanged."""
    have, version = partial.size, partial.version()
    headers = {"User-Agent": "segmnv2", "Accept-Encoding": "identity"}
    if have and version is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    try:
        request = urllib.request.Request(url, headers=headers)
    except ValueError as error:
        raise DatasetError(f"{url}: is not an address ({error}); give one such as https://HOST/FOLDER") from error
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        same = _version(response.headers) == version
        resumes = response.status == PARTIAL_CONTENT and same and _span(response.headers) == (have, archive.size)
        if response.status == PARTIAL_CONTENT and not resumes:
            # It is of another file, or not the requested part: request the whole file next.
            advance(-have)
            partial.begin(None)
            return
        if response.status == OK:
            _check_size(url, archive, response.headers)
            advance(-have)
            partial.begin(_version(response.headers))
        elif not resumes:
            raise DatasetError(_refusal(url, archive, str(response.status)))
        _write(response, partial, archive.size, advance)


def _write(response: IO[bytes], partial: Partial, size: int, advance: Callable[[int], None]) -> None:
    room = size - partial.size
    with partial.path.open("ab") as file:
        # The limit protects the disk from a server that sends without end.
        while room and (chunk := response.read(min(CHUNK, room))):
            file.write(chunk)
            room -= len(chunk)
            advance(len(chunk))


def _version(headers: Message) -> str | None:
    """Return the identifier of the server's file, in the form for ``If-Range``."""
    etag = headers.get("ETag")
    if etag and not etag.startswith("W/"):  # weak tags do not promise the same bytes
        return str(etag)
    modified = headers.get("Last-Modified")
    return str(modified) if modified else None


def _span(headers: Message) -> tuple[int, int] | None:
    """Return first byte and size of the whole file from ``Content-Range: bytes 5-9/10``."""
    unit, _, rest = (headers.get("Content-Range") or "").partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    return (int(first), int(total)) if unit == "bytes" and first.isdecimal() and total.isdecimal() else None


def _check_size(url: str, archive: Archive, headers: Message) -> None:
    stated = headers.get("Content-Length")
    if stated is not None and stated.isdecimal() and int(stated) != archive.size:
        raise DatasetError(
            f"{url}: the server offers {stated} bytes, {archive.name} has {archive.size}; it is another file, or a "
            "page that requires a login: give another folder with --mirror URL"
        )
