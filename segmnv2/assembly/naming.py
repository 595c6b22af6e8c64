"""The files that an experiment names: where they are, and which key a faulty one is named by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segmnv2.errors import DatasetError, WeightsError
from segmnv2.hub.resolve import resolve_weights


def given_weights(named: Path | None, wanted: bool) -> Path | None:
    """Return the file of weights that an experiment names, fetched if it is a name of published ones.

    Args:
        named: the file, a short name, or ``owner/name`` on the Hub.
        wanted: whether it is loaded at all.

    Raises:
        WeightsError: there is no such name, or it can neither be fetched nor is it in the cache.
    """
    return resolve_weights(named) if named is not None and wanted else None


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Add to a message about a file the key of the experiment that names it."""
    try:
        yield
    except (DatasetError, WeightsError) as error:
        raise type(error)(f"{error}\n  (the path is that of the key {key}; -o {key}=PATH changes it)") from error
