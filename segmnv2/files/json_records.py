"""Large JSON files, record by record: their objects would take several times the memory of their text.

``ijson`` takes 1.8 times as long (docs/decisions.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")


def iterate_records(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a JSON mapping in their order; of an entry that is a list, each element by itself.

    An empty list is yielded unchanged, so that its key is known to be there.

    Args:
        text: JSON whose outermost value is a mapping.

    Yields:
        Key and value, or key and element.

    Raises:
        ValueError: it is no JSON, or no mapping.
        RecursionError: values are nested too deeply.
    """
    place = _skip(text, 0, "{")
    if _next(text, place) == "}":
        place = _skip(text, place, "}")
    else:
        while True:
            key, place = _decode(text, place)
            if not isinstance(key, str):
                raise json.JSONDecodeError("Expecting property name", text, place)
            place = _skip(text, place, ":")
            if _next(text, place) == "[":
                place = yield from _elements(text, place, key)
            else:
                value, place = _decode(text, place)
                yield key, value
            if _next(text, place) != ",":
                place = _skip(text, place, "}")
                break
            place = _skip(text, place, ",")
    if _next(text, place):
        raise json.JSONDecodeError("Extra data", text, place)


def _elements(text: str, place: int, key: str) -> Generator[tuple[str, Any], None, int]:
    """Yield the elements of a list; return where it ends."""
    place = _skip(text, place, "[")
    if _next(text, place) == "]":
        yield key, []
        return _skip(text, place, "]")
    while True:
        value, place = _decode(text, place)
        yield key, value
        if _next(text, place) != ",":
            break
        place = _skip(text, place, ",")
    return _skip(text, place, "]")


_DECODER = json.JSONDecoder()


def _decode(text: str, place: int) -> tuple[Any, int]:
    return _DECODER.raw_decode(text, _start(text, place))


def _start(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found is not None, "matches nothing, too"
    return found.end()


def _next(text: str, place: int) -> str:
    start = _start(text, place)
    return text[start : start + 1]


def _skip(text: str, place: int, sign: str) -> int:
    start = _start(text, place)
    if text[start : start + 1] != sign:
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, start)
    return start + 1
