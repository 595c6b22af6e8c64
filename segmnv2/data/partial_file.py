"""A download that is not whole yet, and of what it is a part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segmnv2.atomic import atomic_path
from segmnv2.data.sources import Archive
from segmnv2.documents import dump_json, read_json
from segmnv2.ownership import claim


class Partial:
    """The downloaded part of a file, with the server's mark of the whole.

    Args:
        folder: where it is.
        archive: what it becomes.
    """

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
