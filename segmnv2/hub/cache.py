"""The cache of weights on this machine, with a checksum for each file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from segmnv2.errors import WeightsError
from segmnv2.files.atomic import atomic_path
from segmnv2.files.documents import dump_json, read_json
from segmnv2.files.ownership import claim
from segmnv2.files.reading import file_sha256

FOLDER, XDG, OFFLINE = "SEGMNV2_CACHE", "XDG_CACHE_HOME", ("SEGMNV2_OFFLINE", "HF_HUB_OFFLINE")
TRUE = ("1", "on", "yes", "true")


def cache_folder() -> Path:
    """Return ``$SEGMNV2_CACHE``, else ``$XDG_CACHE_HOME/segmnv2``, else ``~/.cache/segmnv2``."""
    own, general = os.environ.get(FOLDER), os.environ.get(XDG)
    if own:
        return Path(own).expanduser()
    return (Path(general).expanduser() if general else Path.home() / ".cache") / "segmnv2"


def is_offline() -> bool:
    """Return whether ``SEGMNV2_OFFLINE`` or ``HF_HUB_OFFLINE`` turns network access off."""
    return any(os.environ.get(name, "").lower() in TRUE for name in OFFLINE)


IMPORTER = 3
"""Changes whenever an import gives another network, so that files converted before are not used."""


@dataclass(frozen=True)
class Entry:
    """One file of weights in the cache, with a note beside it that holds its checksum.

    Attributes:
        folder: of the cache.
        name: of the weights.
    """

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        """Path of the file, which need not exist."""
        return self.folder / "weights" / f"{self.name}.safetensors"

    @property
    def note(self) -> Path:
        """Path of its checksum."""
        return self.path.with_suffix(".json")

    @property
    def downloads(self) -> Path:
        """Folder of archives and partial downloads."""
        return self.folder / "downloads"

    def fault(self) -> str | None:
        """Return what is wrong with the file, ``None`` if nothing is, and "" if it is missing or outdated."""
        if not self.path.is_file():
            return ""
        try:
            note = read_json(self.note, "fetch it again")
            stated, importer = note["sha256"], note.get("importer")
        except (ValueError, KeyError, TypeError, AttributeError):
            return "the note with its checksum is missing or damaged"
        if importer != IMPORTER:
            return ""
        found = file_sha256(self.path)
        return None if found == stated else f"its SHA-256 is {found}, noted is {stated}: it is damaged"

    def keep(self, made: Path, origin: dict[str, str]) -> None:
        """Move a complete file into its place, with its note.

        Raises:
            WeightsError: the folder cannot be written.
        """
        claim(self.folder)
        note = {**origin, "importer": IMPORTER, "sha256": file_sha256(made)}
        try:
            with atomic_path(self.note) as partial:
                partial.write_text(dump_json(note, indent=1), encoding="utf-8")
            made.replace(self.path)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process fetch the same meanwhile.

        Raises:
            WeightsError: the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path.with_suffix(".lock"))
            lock.acquire()
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        try:
            yield
        finally:
            lock.release()


def _unwritable(folder: Path, error: OSError) -> WeightsError:
    return WeightsError(f"{folder}: cannot be written ({error}); name another folder for weights by {FOLDER}")
