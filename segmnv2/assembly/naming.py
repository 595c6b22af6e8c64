"""Which key of an experiment a faulty file is named by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from segmnv2.errors import DatasetError, WeightsError


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Add to a message about a file the key of the experiment that names it."""
    try:
        yield
    except (DatasetError, WeightsError) as error:
        raise type(error)(f"{error}\n  (the path is that of the key {key}; -o {key}=PATH changes it)") from error
