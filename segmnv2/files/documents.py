"""JSON from files: plain values of bounded size, or an error that names the file.

This reader and that of YAML (:mod:`segmnv2.files.yaml_documents`) return the same types: mappings with text as keys,
lists, text, 64-bit integers, finite floats, booleans and None. Everything else is an error: other types, duplicate
keys, NaN, infinities and values nested too deeply.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from segmnv2.errors import SegmnError

MOST_LEVELS = 32
"""Mappings and lists inside one another."""

TOO_DEEP = f"more than {MOST_LEVELS} lists or mappings inside one another"
_LONG = "an integer of more than 64 bits"
_SURROGATE = re.compile("[\ud800-\udfff]")
_OTHER_LETTER = re.compile("[^\x00-\x7f]")


def check_values(value: Any, levels: int = MOST_LEVELS) -> Any:
    """Return values read from JSON or YAML if all of them are of the allowed types and sizes.

    Raises:
        ValueError: one is not.
    """
    if not isinstance(value, (dict, list)):
        _check_leaf(value)
        return value
    if not levels:
        raise ValueError(TOO_DEEP)
    if isinstance(value, dict):
        for key in value:
            _check_leaf(key)
    for each in value.values() if isinstance(value, dict) else value:
        check_values(each, levels - 1)
    return value


def _check_leaf(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value or _SURROGATE.search(value):
            raise ValueError(f"text that is not valid Unicode: {value[:40]!a}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value}, which is not a finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(_LONG)


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"key {key[:80]!r} is given twice")
        mapping[key] = value
    return mapping


def _refuse(name: str) -> None:
    raise ValueError(f"{name}, which is not a finite number")


JSON_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
"""Decoder of :func:`parse_json`, for texts that are read in parts; :func:`check_values` does the rest."""


def parse_json(text: str, source: str | Path, remedy: str, error: type[SegmnError] = SegmnError) -> Any:
    """Return the values in a JSON text.

    Args:
        text: the JSON.
        source: file or key that error messages name.
        remedy: what to do if the text cannot be used, for messages.
        error: type of the error.

    Raises:
        SegmnError: of type ``error``: the text is not JSON, or holds values that :func:`check_values` refuses.
    """
    try:
        return check_values(JSON_DECODER.decode(text))
    except (ValueError, RecursionError) as fault:
        raise error(f"{source}: is not valid JSON: {reason(fault)}; {remedy}") from fault


def read_json(path: str | Path, remedy: str, error: type[SegmnError] = SegmnError) -> Any:
    """Return the values in a JSON file, as :func:`parse_json`.

    Raises:
        SegmnError: of type ``error``: as there, or the file cannot be read.
    """
    return parse_json(read_text(path, remedy, error), path, remedy, error)


def dump_json(values: Any, indent: int | None = None) -> str:
    r"""Return ASCII JSON text. Bytes of file names that are no UTF-8 are text for any reader (``caf\\udce9``)."""
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    return _OTHER_LETTER.sub(
        lambda found: ("\\" if _SURROGATE.match(found[0]) else "") + json.dumps(found[0])[1:-1], text
    )


def read_text(path: str | Path, remedy: str, error: type[SegmnError]) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        SegmnError: of type ``error``: the file cannot be read.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise error(f"{path}: there is no such file; {remedy}") from None
    except (OSError, ValueError) as fault:
        raise error(f"{path}: cannot be read ({fault}); {remedy}") from fault


def reason(fault: Exception) -> str:
    """Return in words why a text was refused."""
    if isinstance(fault, RecursionError):
        return TOO_DEEP
    if str(fault).startswith("Exceeds the limit"):  # Python's own, on digits
        return _LONG
    return str(fault).splitlines()[0] if str(fault) else type(fault).__name__


_SPACE = re.compile(r"[ \t\r\n]*")


def iterate_records(text: str) -> Iterator[tuple[str, Any]]:
    """Yield key and value of the entries of a JSON mapping; of an entry that is a list, key and each element.

    The objects of a whole file would take several times the memory of its text. An empty list is yielded unchanged, so
    that its key is known to be there. ``ijson`` takes 1.8 times as long (docs/decisions.md).

    Raises:
        ValueError: it is no JSON, or no mapping.
        RecursionError: values are nested too deeply.
    """
    place = _skip(text, 0, "{")
    more = _next(text, place) != "}"
    while more:
        key, place = _decode(text, place)
        if not isinstance(key, str):
            raise json.JSONDecodeError("Expecting property name", text, place)
        place = _skip(text, place, ":")
        if _next(text, place) == "[":
            place = yield from _elements(text, place, key)
        else:
            value, place = _decode(text, place)
            yield key, value
        if more := _next(text, place) == ",":
            place = _skip(text, place, ",")
    place = _skip(text, place, "}")
    if _next(text, place):
        raise json.JSONDecodeError("Extra data", text, place)


def _elements(text: str, place: int, key: str) -> Generator[tuple[str, Any], None, int]:
    """Yield the elements of a list; return where it ends."""
    place = _skip(text, place, "[")
    if _next(text, place) == "]":
        yield key, []
        return _skip(text, place, "]")
    more = True
    while more:
        value, place = _decode(text, place)
        yield key, value
        if more := _next(text, place) == ",":
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
    if not text.startswith(sign, start):
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, start)
    return start + 1
