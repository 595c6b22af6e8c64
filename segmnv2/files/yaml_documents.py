"""Reader and writer of YAML; see :mod:`segmnv2.files.documents` for the allowed values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from segmnv2.errors import ConfigError, SegmnError
from segmnv2.files.documents import MOST_LEVELS, TOO_DEEP, check_values, read_text, reason

MOST_YAML = 2**18
"""Largest number of characters of a YAML text, and of its values after aliases are resolved."""

_TAG = "tag:yaml.org,2002:"
_PLAIN: tuple[tuple[str, re.Pattern[str], Callable[[str], Any]], ...] = (
    ("null", re.compile(r"null|Null|NULL|~|"), lambda text: None),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    ("int", re.compile(r"[-+]?[0-9]+"), int),
    ("float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
)
"""Types of YAML 1.2's core schema that JSON also has: name, pattern and conversion."""


def parse_yaml(text: str, source: str | Path, remedy: str, error: type[SegmnError] = ConfigError) -> Any:
    """Return the values in a YAML text.

    The types of plain values are those of YAML 1.2: ``1e-2`` is a number, ``no`` is text. Keys are always text. Aliases
    and merge keys are supported. An empty text is ``None``.

    The arguments are those of :func:`segmnv2.files.documents.parse_json`.

    Raises:
        SegmnError: of type ``error``: the text is not YAML, or has values that :func:`check_values` rejects.
    """
    try:
        if len(text) > MOST_YAML:
            raise ValueError(f"more than {MOST_YAML} characters")
        return check_values(_Composer(text).document())
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as fault:
        raise error(f"{source}: is not valid YAML: {_reason(fault)}; {remedy}") from fault


def read_yaml(path: str | Path, remedy: str, error: type[SegmnError] = ConfigError) -> Any:
    """Return the values in a YAML file; see :func:`parse_yaml`.

    Raises:
        SegmnError: of type ``error``: as for :func:`parse_yaml`, or the file cannot be read.
    """
    return parse_yaml(read_text(path, remedy, error), path, remedy, error)


def dump_yaml(values: Any) -> str:
    """Return YAML text that :func:`parse_yaml` reads back as the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _reason(fault: Exception) -> str:
    if isinstance(fault, yaml.MarkedYAMLError) and fault.problem_mark:
        mark = fault.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {fault.problem or fault.context}"
    return reason(fault)


def _plain(text: str) -> Any:
    """Return the value of a scalar without quotes and tag."""
    for _, pattern, build in _PLAIN:
        if pattern.fullmatch(text):
            return build(text)
    return text


class _Composer:
    """Builds the values of one YAML document from PyYAML's events, with a limited depth and number."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0

    def document(self) -> Any:
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), 0)
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise _fault("the text has a second document; give one", event)
        return value

    def _value(self, event: Any, level: int) -> Any:
        before = self._count
        self._count += 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _fault(f"alias {str(event.anchor)[:80]!r} has no anchor before it", event)
            value, size = self._anchors[event.anchor]
            self._count += size
        elif isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        elif level == MOST_LEVELS:
            raise _fault(TOO_DEEP, event)
        elif isinstance(event, yaml.SequenceStartEvent):
            _check_tag(event, "seq")
            value = [self._value(item, level + 1) for item in self._until(yaml.SequenceEndEvent)]
        else:
            _check_tag(event, "map")
            value = self._mapping(level)
        if self._count > MOST_YAML:
            raise _fault(f"more than {MOST_YAML} values after aliases are resolved", event)
        if isinstance(event, yaml.AliasEvent):
            return deepcopy(value)
        if event.anchor:
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _mapping(self, level: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: list[Any] = []
        for event in self._until(yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _fault("a key is not text", event)
            value = self._value(next(self._events), level + 1)
            if event.value == "<<" and event.implicit[0]:
                merged += value if isinstance(value, list) else [value]
            elif event.value in values:
                raise _fault(f"key {event.value[:80]!r} is given twice", event)
            else:
                values[event.value] = value
        if not all(isinstance(mapping, dict) for mapping in merged):
            raise ValueError("'<<' merges a value that is not a mapping")
        return {**{key: mapping[key] for mapping in reversed(merged) for key in mapping}, **values}

    def _until(self, end: type[Any]) -> Iterator[Any]:
        return takewhile(lambda event: not isinstance(event, end), self._events)


def _fault(problem: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _check_tag(event: Any, kind: str) -> None:
    if event.tag not in (None, "!", _TAG + kind):
        raise _fault(f"type {event.tag.replace(_TAG, '!!')[:80]} is not possible; allowed are those of JSON", event)


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.implicit[0]:
        return _plain(text)
    for kind, pattern, build in _PLAIN:
        if event.tag == _TAG + kind:
            if not pattern.fullmatch(text):
                raise _fault(f"{text[:80]!r} is not of type !!{kind}", event)
            return build(text)
    _check_tag(event, "str")
    return text


class _Dumper(yaml.SafeDumper):
    """Writes text in quotes if it would otherwise be read as another type."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_safe = text.isprintable() and isinstance(_plain(text), str)
    return dumper.represent_scalar(_TAG + "str", text, style=None if is_safe else '"')


_Dumper.add_representer(str, _represent_text)
