"""Reader and writer of JSON.

The readers of JSON and of YAML (:mod:`segmnv2.files.yaml_documents`) return the same types: mappings with text as keys,
lists, text, 64-bit integers, finite floats, booleans and ``None``. They reject duplicate keys, NaN, infinities, and
values that are nested too deeply, with an error that names the file.
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
"""Largest number of nested mappings and lists."""

TOO_DEEP = f"more than {MOST_LEVELS} nested lists or mappings"
_LONG = "an integer of more than 64 bits"
_SURROGATE = re.compile("[\ud800-\udfff]")
_OTHER_LETTER = re.compile("[^\x00-\x7f]")


def check_values(value: Any, levels: int = MOST_LEVELS) -> Any:
    """Return values read from JSON or YAML if they all have allowed types and sizes.

    Raises:
        ValueError: a value is not allowed.
    """
    if not isinstance(value, (dict, list)):
        _check_leaf(value)
        return value
    if not levels:
        raise ValueError(TOO_DEEP)
    if isinstance(value, dict):
        for key in value:
            _check_leaf(key)
    for item in value.values() if isinstance(value, dict) else value:
        check_values(item, levels - 1)
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
"""Decoder for JSON that is read in parts. Pass its values to :func:`check_values`."""


def parse_json(text: str, source: str | Path, remedy: str, error: type[SegmnError] = SegmnError) -> Any:
    """Return the values in a JSON text.

    Args:
        text: text in JSON.
        source: file or key, for error messages.
        remedy: what to do if the text cannot be used, for error messages.
        error: type of the error.

    Raises:
        SegmnError: of type ``error``: the text is not JSON, or has values that :func:`check_values` rejects.
    """
    try:
        return check_values(JSON_DECODER.decode(text))
    except (ValueError, RecursionError) as fault:
        raise error(f"{source}: is not valid JSON: {reason(fault)}; {remedy}") from fault


def read_json(path: str | Path, remedy: str, error: type[SegmnError] = SegmnError) -> Any:
    """Return the values in a JSON file; see :func:`parse_json`.

    Raises:
        SegmnError: of type ``error``: as for :func:`parse_json`, or the file cannot be read.
    """
    return parse_json(read_text(path, remedy, error), path, remedy, error)


def dump_json(values: Any, indent: int | None = None) -> str:
    r"""Return JSON text in ASCII. Bytes of file names that are not UTF-8 become plain text, such as ``caf\\udce9``."""
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    return _OTHER_LETTER.sub(
        lambda match: ("\\" if _SURROGATE.match(match[0]) else "") + json.dumps(match[0])[1:-1], text
    )


def read_text(path: str | Path, remedy: str, error: type[SegmnError]) -> str:
    """Return the text of a UTF-8 file.

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
    """Return a description of the error of a text."""
    if isinstance(fault, RecursionError):
        return TOO_DEEP
    if str(fault).startswith("Exceeds the limit"):  # Python's limit of digits
        return _LONG
    return str(fault).splitlines()[0] if str(fault) else type(fault).__name__


_SPACE = re.compile(r"[ \t\r\n]*")


def iterate_records(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the key and value of each entry of a JSON mapping. For a list, yield the key with each element.

    The objects of a whole file would take several times the memory of its text. An empty list is yielded as a whole, so
    that its key is not lost. ``ijson`` takes 1.8 times as long (docs/decisions.md).

    Raises:
        ValueError: the text is not JSON, or not a mapping.
        RecursionError: values are nested too deeply.
    """
    position = _skip(text, 0, "{")
    more = _next(text, position) != "}"
    while more:
        key, position = _decode(text, position)
        if not isinstance(key, str):
            raise json.JSONDecodeError("Expecting property name", text, position)
        position = _skip(text, position, ":")
        if _next(text, position) == "[":
            position = yield from _elements(text, position, key)
        else:
            value, position = _decode(text, position)
            yield key, value
        if more := _next(text, position) == ",":
            position = _skip(text, position, ",")
    position = _skip(text, position, "}")
    if _next(text, position):
        raise json.JSONDecodeError("Extra data", text, position)


def _elements(text: str, position: int, key: str) -> Generator[tuple[str, Any], None, int]:
    """Yield the key with each element of a list, and return the position after the list."""
    position = _skip(text, position, "[")
    if _next(text, position) == "]":
        yield key, []
        return _skip(text, position, "]")
    more = True
    while more:
        value, position = _decode(text, position)
        yield key, value
        if more := _next(text, position) == ",":
            position = _skip(text, position, ",")
    return _skip(text, position, "]")


_DECODER = json.JSONDecoder()


def _decode(text: str, position: int) -> tuple[Any, int]:
    return _DECODER.raw_decode(text, _start(text, position))


def _start(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None, "it also matches the empty text"
    return match.end()


def _next(text: str, position: int) -> str:
    start = _start(text, position)
    return text[start : start + 1]


def _skip(text: str, position: int, sign: str) -> int:
    start = _start(text, position)
    if not text.startswith(sign, start):
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, start)
    return start + 1
