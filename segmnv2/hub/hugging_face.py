"""Repositories on the Hugging Face Hub: fetched once, checked, and used from its client's cache without a network."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from segmnv2.conversion.import_source import WEIGHT_FILES, find_weights, read_json
from segmnv2.errors import WeightsError
from segmnv2.files.checksum import file_sha256
from segmnv2.hub.cache import is_offline

CONFIG, WEIGHTS = "config.json", WEIGHT_FILES[0]
LIBRARY = "segmnv2"
ATTEMPTS = 3
HTTP_LIBRARIES = ("http", "httpcore", "httpx", "httpx2", "requests", "urllib3")
SHA256 = re.compile(r"[0-9a-f]{64}")


def is_own_repository(folder: Path) -> bool:
    """Return whether a folder has this library's format rather than transformers' or timm's."""
    return read_json(folder / CONFIG).get("library_name") == LIBRARY


def fetch_repository(name: str, revision: str | None) -> tuple[Path, str]:
    """Return the folder of a repository in the client's cache, and its commit.

    Interrupted downloads resume where they were. The weights' checksum is compared with the one in ``config.json`` in
    repositories of this library, and with the Hub's own in others; a file that is damaged is fetched once more.

    Raises:
        WeightsError: there is no such repository or file, it is not in the cache and cannot be fetched, or the checksum
            is wrong.
    """
    folder = _fetch(name, CONFIG, revision).parent
    commit = folder.name
    weights = WEIGHTS
    if not is_own_repository(folder):
        _fetch_optional(name, "preprocessor_config.json", commit)
        if not _fetch_optional(name, WEIGHTS, commit):
            weights = WEIGHT_FILES[1]
    _fetch_checked(name, weights, commit)
    return folder, commit


def check_weights(folder: Path) -> str | None:
    """Return the fault of the weights in a folder of this library or of the client's cache; ``None`` if there is none.

    Raises:
        WeightsError: ``config.json`` is missing or damaged.
    """
    values = read_json(folder / CONFIG)
    path = find_weights(folder)
    if path is None:
        return f"{folder} has no {WEIGHTS}"
    own = values.get("library_name") == LIBRARY
    stated = values.get("sha256") if own else path.resolve().name
    if not isinstance(stated, str) or not SHA256.fullmatch(stated):
        # Others' checksums are known where the cache has links to files that are named by them.
        return f"{folder / CONFIG}: has no sha256 of the weights" if own else None
    found = file_sha256(path)
    return None if found == stated else f"{path}: its SHA-256 is {found}, it should be {stated}: it is damaged"


def intact_weights(folder: Path) -> Path:
    """Return the file of weights in a folder of this library's format.

    Raises:
        WeightsError: it is missing, or not what the folder describes.
    """
    if fault := check_weights(folder):
        raise WeightsError(f"{fault}; write or copy the folder again")
    return folder / WEIGHTS


def _fetch_checked(name: str, file: str, commit: str) -> None:
    path = _fetch(name, file, commit)
    fault = check_weights(path.parent)
    if fault and not is_offline():
        path = _fetch(name, file, commit, again=True)
        fault = check_weights(path.parent)
    if fault:
        raise WeightsError(
            f"{fault}; the repository {name} or the way to it is at fault: delete the file and try again later, or ask "
            "its owner"
        )


def _fetch_optional(name: str, file: str, commit: str) -> bool:
    """Fetch a file that a repository may lack; return whether it has it."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        _fetch(name, file, commit)
    except WeightsError as error:
        if isinstance(error.__cause__, EntryNotFoundError):
            return False
        raise
    return True


def _fetch(name: str, file: str, revision: str | None, *, again: bool = False) -> Path:
    from huggingface_hub import hf_hub_download

    places: dict[str, Any] = {"cache_dir": os.environ.get("HF_HUB_CACHE"), "endpoint": os.environ.get("HF_ENDPOINT")}
    for attempt in range(ATTEMPTS):
        try:
            path = hf_hub_download(
                name, file, revision=revision, force_download=again, local_files_only=is_offline(), **places
            )
            return Path(path)
        except Exception as error:  # whatever the HTTP library of the client's version raises
            if _may_pass(error) and attempt + 1 < ATTEMPTS:
                continue  # the client keeps what has arrived and resumes there
            reason = " ".join(str(error).split())
            where = f"{name}@{revision}" if revision else name
            raise WeightsError(
                f"{where}: {file} can be had neither from the Hugging Face Hub nor from its cache ({reason}); check "
                "the spelling, the network, and for private repositories the token (`hf auth login`)"
            ) from error
    raise AssertionError("the last attempt returns or raises")


def _may_pass(error: Exception) -> bool:
    """Return whether an error is a broken connection and not a refusal by the Hub or the cache."""
    from huggingface_hub.errors import HfHubHTTPError

    library = type(error).__module__.partition(".")[0]
    return library in HTTP_LIBRARIES and not isinstance(error, HfHubHTTPError)
