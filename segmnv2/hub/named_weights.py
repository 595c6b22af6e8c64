"""Download of published weights and repositories of the Hugging Face Hub into the cache."""

from __future__ import annotations

import difflib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from segmnv2.errors import DatasetError, WeightsError
from segmnv2.files.checksum import Track, untracked
from segmnv2.hub.cache import FOLDER, PUBLISHED, Entry, Published, cache_folder
from segmnv2.hub.hugging_face import CONFIG, WEIGHTS, fetch_repository, intact_weights, is_own_repository
from segmnv2.preparation.published_archives import Archive
from segmnv2.telemetry import OFFLINE, is_offline

REPOSITORY = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def find_named_weights(name: str | Path, mirror: str | None = None, track: Track | None = None) -> Path:
    """Return the file of weights of a published name, a folder or a repository; see ``resolve_weights``."""
    path, text = Path(name), str(name)
    if path.is_dir():
        return intact_weights(path) if (path / CONFIG).is_file() and is_own_repository(path) else path
    if text in PUBLISHED:
        published, tracks = PUBLISHED[text], track or untracked
        return _cached(text, lambda entry, fault: _fetch_published(entry, fault, published, mirror, tracks))
    repository = REPOSITORY.fullmatch(text)
    if repository and not text.endswith(".safetensors") and (text.startswith("hf:") or not path.parent.is_dir()):
        return _from_hub(repository[1], repository[2])
    if len(path.parts) > 1 or path.suffix:
        return path
    near = difflib.get_close_matches(text, PUBLISHED, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise WeightsError(
        f"{text}: no file and no published weights have this name; {meant}published are {', '.join(PUBLISHED)}"
    )


def _cached(name: str, make: Callable[[Entry, str], None]) -> Path:
    """Return cached weights. If they are missing or damaged, first call ``make`` with the entry and its fault."""
    entry = Entry(cache_folder(), name)
    if entry.fault() is not None:
        with entry.locked():
            fault = entry.fault()  # another process may have written it in the meantime
            if fault is not None:
                make(entry, fault)
    return entry.path


def _fetch_published(entry: Entry, fault: str, published: Published, mirror: str | None, track: Track) -> None:
    archive, repository = published.archive, published.repository
    if is_offline() and not (archive and (entry.downloads / archive.name).is_file()):
        damaged = f"{entry.path}: {fault}; and" if fault else f"{entry.name}: is not in the cache, and"
        remedy = f"put it into {entry.downloads}" if archive else "use `segmnv2 import` on its folder"
        raise WeightsError(
            f"{damaged} {' or '.join(OFFLINE)} forbids downloads; go online once, or download {published.origin} on "
            f"another machine and {remedy}"
        )
    if archive is not None:
        _fetch(entry, published, archive, mirror, track)
    else:
        assert repository is not None
        folder, revision = fetch_repository(repository, None)
        _convert(folder, entry, {"repository": repository, "revision": revision})


def _fetch(entry: Entry, published: Published, archive: Archive, mirror: str | None, track: Track) -> None:
    from segmnv2.preparation.archive import unpack  # not needed for local files
    from segmnv2.preparation.download import fetch_archive

    try:
        path = fetch_archive(archive, entry.downloads, mirror=mirror, track=track)
        with tempfile.TemporaryDirectory(dir=entry.downloads) as temporary:
            target = Path(temporary) / "unpacked"

            def wanted(member: str) -> bool:
                return member.startswith(f"{published.checkpoint}.")

            unpack(path, target, inside=published.inside, wanted=wanted, track=track)
            origin = {"url": archive.url, f"archive_{archive.algorithm}": archive.checksum}
            _convert(target / published.checkpoint, entry, origin)
    except DatasetError as error:
        raise WeightsError(str(error).replace("--archives DIR", FOLDER)) from error
    path.unlink()  # its checkpoint is in the cache now


def _convert(source: Path, entry: Entry, origin: dict[str, str]) -> None:
    """Import a checkpoint into the cache, under a temporary name until it is complete."""
    from segmnv2.conversion.convert import import_checkpoint  # not needed for local files

    partial = entry.path.with_suffix(".partial")
    try:
        import_checkpoint(source, partial)
        entry.keep(partial, origin)
    finally:
        partial.unlink(missing_ok=True)


def _from_hub(repository: str, revision: str | None) -> Path:
    folder, commit = fetch_repository(repository, revision)
    if is_own_repository(folder):
        return folder / WEIGHTS
    origin = {"repository": repository, "revision": commit}
    return _cached(f"{repository.replace('/', '--')}--{commit}", lambda entry, _: _convert(folder, entry, origin))
