"""Is a file the archive that its publisher offers."""

from __future__ import annotations

import hashlib
from pathlib import Path

from segmnv2.data.sources import Archive
from segmnv2.data.tracking import Track, untracked
from segmnv2.errors import DatasetError

CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256, hexadecimal."""
    return file_checksum(path, "sha256")


def file_checksum(path: Path, algorithm: str, track: Track = untracked, *, name: str | None = None) -> str:
    """Return a file's checksum, hexadecimal; the progress bar says ``name``, or the file's own."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file, track(f"check {name or path.name}", path.stat().st_size) as advance:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def matches(archive: Archive, path: Path, track: Track = untracked) -> bool:
    """Return whether a file has an archive's size and checksum."""
    if path.stat().st_size != archive.size:
        return False
    return file_checksum(path, archive.algorithm, track, name=archive.name) == archive.checksum


def check_archive(archive: Archive, path: Path, track: Track = untracked, *, source: str | None = None) -> None:
    """Refuse a file that is not the archive.

    Args:
        archive: what it should be.
        path: the file.
        track: called with bytes, for a progress bar.
        source: address it was downloaded from, if it was.

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
