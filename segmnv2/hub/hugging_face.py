"""Download of repositories of the Hugging Face Hub into the cache of its client, and checks of their weights."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from segmnv2.conversion.import_source import WEIGHT_FILES, find_weights, read_json
from segmnv2.errors import WeightsError
from segmnv2.files.checksum import file_sha256
from segmnv2.telemetry import is_offline

CONFIG, WEIGHTS = "config.json", WEIGHT_FILES[0]
LIBRARY = "segmnv2"
ATTEMPTS = 3
HTTP_LIBRARIES = ("http", "httpcore", "httpx", "httpx2", "requests", "urllib3")
SHA256 = re.compile(r"[0-9a-f]{64}")


def is_own_repository(folder: Path) -> bool:
    """Return whether a folder has this library's format rather than that of transformers or timm."""
    return read_json(folder / CONFIG).get("library_name") == LIBRARY


def fetch_repository(name: str, revision: str | None) -> tuple[Path, str]:
    """Return the folder of a repository in the client's cache, and its commit.

    Interrupted downloads are resumed. The checksum of the weights is compared with that in ``config.json`` for
    repositories of this library, and with that of the Hub for others. A damaged file is downloaded once more.

    Raises:
        WeightsError: the repository or a file does not exist, cannot be downloaded, or has a wrong checksum.
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
    """Return the fault of the weights in a folder of this library or of the client's cache, or ``None``.

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
        # In the client's cache, weights are links to files that are named by their checksum.
        return f"{folder / CONFIG}: has no sha256 of the weights" if own else None
    actual = file_sha256(path)
    return None if actual == stated else f"{path}: is damaged: its SHA-256 is {actual}, not {stated}"


def intact_weights(folder: Path) -> Path:
    """Return the file of weights in a folder of this library's format.

    Raises:
        WeightsError: the file is missing or damaged.
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
        raise WeightsError(f"{fault}; delete the file and try again later, or ask the owner of the repository {name}")


def _fetch_optional(name: str, file: str, commit: str) -> bool:
    """Download a file that may be missing in the repository, and return whether it exists."""
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

    source: dict[str, Any] = {"cache_dir": os.environ.get("HF_HUB_CACHE"), "endpoint": os.environ.get("HF_ENDPOINT")}
    for attempt in range(ATTEMPTS):
        try:
            path = hf_hub_download(
                name, file, revision=revision, force_download=again, local_files_only=is_offline(), **source
            )
            return Path(path)
        except Exception as error:  # the client's versions use different HTTP libraries
            if _is_broken_connection(error) and attempt + 1 < ATTEMPTS:
                continue  # the client resumes the download
            reason = " ".join(str(error).split())
            where = f"{name}@{revision}" if revision else name
            raise WeightsError(
                f"{where}: {file} is neither in the cache nor available on the Hugging Face Hub ({reason}); check the "
                "name, the connection, and for a private repository the token (`hf auth login`)"
            ) from error
    raise AssertionError("the last attempt returns or raises")


def _is_broken_connection(error: Exception) -> bool:
    """Return whether an error is a broken connection rather than a response of the Hub or the cache."""
    from huggingface_hub.errors import HfHubHTTPError

    library = type(error).__module__.partition(".")[0]
    return library in HTTP_LIBRARIES and not isinstance(error, HfHubHTTPError)
