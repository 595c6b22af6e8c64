"""Missing parts of a data set, and their archives: on disk, or from the network if allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segmnv2.errors import DatasetError
from segmnv2.files.atomic import check_folder
from segmnv2.files.reading import Track, untracked
from segmnv2.preparation.download import check_room, fetch_archive
from segmnv2.preparation.published_archives import Archive


@dataclass(frozen=True)
class Need:
    """A part of a data set that is not there.

    Attributes:
        target: folder that it becomes.
        archive: what holds it.
        reason: what is wrong, in a message's words; that it is missing, by default.
    """

    target: Path
    archive: Archive
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.reason or f'{self.target}: missing'}; it comes with {self.archive}"


def obtain(
    needs: Sequence[Need], folder: Path, *, download: bool, mirror: str | None = None, track: Track = untracked
) -> list[Path]:
    """Return the archives of what is needed, present ones without touching the network.

    Args:
        needs: what is needed.
        folder: where archives lie.
        download: fetch those that are not in ``folder``.
        mirror: as for :func:`fetch_archive`.
        track: called with bytes, for a progress bar.

    Raises:
        ConfigError: a folder cannot be written.
        DatasetError: some are not there and ``download`` is false, or there is no room for them, before anything is
            done; or as :func:`fetch_archive`.
    """
    for place in (folder, *(need.target for need in needs)) if needs else ():
        check_folder(place)
    absent = [need for need in needs if not (folder / need.archive.name).exists()]
    if absent and not download:
        lines = "\n  ".join(map(str, absent))
        raise DatasetError(
            f"data is missing:\n  {lines}\n--download fetches it; or put the archives themselves into {folder}"
        )
    if absent:
        check_room([need.archive for need in absent], folder)
    return [fetch_archive(need.archive, folder, mirror=mirror, track=track) for need in needs]
