"""Lists of the images of a split: text files with one name a line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from segmnv2.errors import DatasetError


def read_split_list(path: Path, what: str = "image id") -> list[str]:
    """Return the names in a list, in its order.

    Args:
        path: text in UTF-8; blank lines are ignored.
        what: a line holds, for messages.

    Raises:
        DatasetError: the list cannot be read, is empty, or has a name twice.
    """
    remedy = f"give one {what} a line"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is no text file ({error}); {remedy}") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error}); {remedy}") from error
    counts = Counter(line.strip() for line in lines if line.strip())
    if not counts:
        raise DatasetError(f"{path}: names no images; {remedy}")
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise DatasetError(f"{path}: {len(twice)} of its entries occur more than once, as {twice[0]!r}; {remedy}, once")
    return list(counts)
