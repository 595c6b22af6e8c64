"""Fetching an archive over HTTP so that neither a dropped line nor a changed file spoils it."""

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

# torchvision's download_url and torch.hub's download_url_to_file begin again from the first byte, know no time-out and
# do not compare sizes; the client in huggingface_hub that resumes is private. Hence the standard library's.

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as lost."""

ATTEMPTS = 5
"""Tries in a row that bring no byte before giving up."""

FIRST_WAIT = 1.0
"""Seconds before the second try, twice as many before each further one."""

CHUNK = 1 << 20
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP codes after which another try may succeed."""

OK, PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 200, 206, 416


class Partial:
    """The downloaded part of a file, with the server's mark of the whole."""

    def __init__(self, folder: Path, archive: Archive) -> None:
        self.path = folder / f"{archive.name}.partial"
        self._note = folder / f"{archive.name}.partial.json"
        claim(self._note)

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def version(self) -> str | None:
        """Return the server's mark of the file that the bytes are of; None if it gave none, or the note is damaged."""
        try:
            version: Any = read_json(self._note, "fetch it again")["version"]
        except (ValueError, KeyError, TypeError):
            return None
        return version if isinstance(version, str) else None

    def begin(self, version: str | None) -> None:
        """Drop what has arrived and note of which file the next bytes are."""
        self.path.unlink(missing_ok=True)
        with atomic_path(self._note) as temporary:
            temporary.write_text(dump_json({"version": version}), encoding="utf-8")

    def forget(self) -> None:
        """Drop the note."""
        self._note.unlink(missing_ok=True)


def fetch_archive(archive: Archive, folder: Path, *, mirror: str | None = None, track: Track = untracked) -> Path:
    """Return an archive that is in ``folder``, downloaded if it is not there.

    A download grows in ``NAME.partial`` and resumes there when repeated, provided that the server's file is still the
    same (``ETag`` or ``Last-Modified``, noted beside it). It gets its name once its size and checksum are right.

    ``mirror`` is the address of a folder that offers the same files in the publisher's place.

    Raises:
        DatasetError: the server has no such file or one of another size, cannot be reached, the disk is full, or the
            checksum is wrong; a present file with a wrong checksum is left unchanged.
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
        remedy = "make room" if error.errno == errno.ENOSPC else "choose a folder with write access"
        raise DatasetError(
            f"{partial.path}: cannot be written ({error}); {remedy} and repeat, what is there is kept"
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
    """Refuse a file that is not the archive; ``source`` is the address it was downloaded from, if it was.

    Raises:
        DatasetError: it is no file, or has another size or checksum; both are named.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: is no file; move it away, the archive {archive.name} belongs there")
    size = path.stat().st_size
    remedy = (
        "delete or move it and repeat"
        if source is None
        else f"it is what {source} sent, kept: delete it and repeat, or name another folder by --mirror URL"
    )
    if size != archive.size:
        part = "truncated" if size < archive.size else "another file"
        raise DatasetError(f"{path}: has {size} bytes, {archive.name} has {archive.size}: it is {part}; {remedy}")
    found = file_checksum(path, archive.algorithm, track)
    if found != archive.checksum:
        title = archive.algorithm.upper().replace("SHA", "SHA-")
        raise DatasetError(
            f"{path}: its {title} is {found}, that of {archive.name} is {archive.checksum}: it is damaged or another "
            f"file; {remedy}"
        )


def check_room(archives: Sequence[Archive], folder: Path) -> None:
    """Refuse to begin downloads for which the disk has no room, less what has arrived of them.

    Raises:
        DatasetError: it has not; both numbers are named.
    """
    needed = sum(archive.size - Partial(folder, archive).size for archive in archives)
    disk = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(disk).free
    if free < needed:
        names = ", ".join(archive.name for archive in archives)
        raise DatasetError(
            f"{folder}: has {gigabytes(free)} of free space, {names} take {gigabytes(needed)} more, and unpacked about "
            "as much again; make room, or name a folder on another disk by --archives DIR"
        )


def _download(url: str, archive: Archive, partial: Partial, advance: Callable[[int], None]) -> None:
    """Try until all bytes are there, or nothing has come :data:`ATTEMPTS` times in a row."""
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
                elif error.code not in PASSING:
                    raise DatasetError(_refusal(url, archive, f"{error.code} {error.reason}")) from error
                reason = f"{error.code} {error.reason}"
        except urllib.error.URLError as error:
            reason = str(error.reason)
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            reason = f"{type(error).__name__}: {error}"
        failures = 0 if partial.size > before else failures + 1
        if failures == ATTEMPTS:
            raise DatasetError(
                f"{url}: cannot be downloaded, {ATTEMPTS} tries brought nothing ({reason}); check the network and "
                f"repeat, the {partial.size} bytes that have arrived are kept; or fetch {archive.name} on another "
                f"machine and put it into {partial.path.parent}"
            )
        if failures:
            time.sleep(FIRST_WAIT * 2 ** (failures - 1))


def _refusal(url: str, archive: Archive, answer: str) -> str:
    return (
        f"{url}: the server answers {answer}; if the file has moved, name a folder that has {archive.name} by "
        "--mirror URL, or fetch it by other means and put it among the archives"
    )


def _receive(url: str, archive: Archive, partial: Partial, advance: Callable[[int], None]) -> None:
    """Make one request and write what comes, after what is there if it is of the same file."""
    have, version = partial.size, partial.version()
    headers = {"User-Agent": "segmnv2", "Accept-Encoding": "identity"}
    if have and version is not None:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    try:
        request = urllib.request.Request(url, headers=headers)
    except ValueError as error:
        raise DatasetError(f"{url}: is no address ({error}); give one as https://HOST/FOLDER") from error
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        same = _version(response.headers) == version
        goes_on = response.status == PARTIAL_CONTENT and same and _span(response.headers) == (have, archive.size)
        if response.status == PARTIAL_CONTENT and not goes_on:
            # Of another file, or another part than requested: the next request is for the whole.
            advance(-have)
            partial.begin(None)
            return
        if response.status == OK:
            _check_size(url, archive, response.headers)
            advance(-have)
            partial.begin(_version(response.headers))
        elif not goes_on:
            raise DatasetError(_refusal(url, archive, str(response.status)))
        _write(response, partial, archive.size, advance)


def _write(response: IO[bytes], partial: Partial, size: int, advance: Callable[[int], None]) -> None:
    room = size - partial.size
    with partial.path.open("ab") as file:
        # A server that sends without end fills no disk.
        while room and (chunk := response.read(min(CHUNK, room))):
            file.write(chunk)
            room -= len(chunk)
            advance(len(chunk))


def _version(headers: Message) -> str | None:
    """Return what identifies the server's file, in the form that ``If-Range`` takes."""
    etag = headers.get("ETag")
    if etag and not etag.startswith("W/"):  # weak marks do not promise the same bytes
        return str(etag)
    modified = headers.get("Last-Modified")
    return str(modified) if modified else None


def _span(headers: Message) -> tuple[int, int] | None:
    """Return first byte and size of the whole from ``Content-Range: bytes 5-9/10``."""
    unit, _, rest = (headers.get("Content-Range") or "").partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    return (int(first), int(total)) if unit == "bytes" and first.isdecimal() and total.isdecimal() else None


def _check_size(url: str, archive: Archive, headers: Message) -> None:
    stated = headers.get("Content-Length")
    if stated is not None and stated.isdecimal() and int(stated) != archive.size:
        raise DatasetError(
            f"{url}: the server offers {stated} bytes, {archive.name} has {archive.size}; it is another file, or a "
            "page that requires a login: name another folder by --mirror URL"
        )
