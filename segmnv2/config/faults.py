"""Error messages for the faults of an experiment: key, value found, and allowed values."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from segmnv2.errors import describe_value
from segmnv2.section import Section

Path = tuple[str, ...]

TAG = "kind"


def describe_faults(error: ValidationError, values: Any, schema: type[Section]) -> list[str]:
    """Return one line per faulty key, in the order of the schema.

    Args:
        error: the error of the validation.
        values: the validated values.
        schema: the schema.
    """
    lines: dict[Path, str] = {}
    for fault in error.errors(include_url=False):
        path = _path_in(values, fault["loc"])
        if path in lines:  # pydantic reports each member of a union
            lines[path] += f" or {_wanted(fault['msg'])}"
        else:
            lines[path] = _describe(path, fault, values, schema)
    return list(lines.values())


def _path_in(values: Any, location: Sequence[int | str]) -> Path:
    """Return the keys that lead to a fault, without the names of union members, which pydantic adds."""
    path: list[str] = []
    for number, key in enumerate(location):
        last = number == len(location) - 1
        if isinstance(values, dict) and (key in values or (last and key != values.get(TAG))):
            values = values.get(key)
        elif isinstance(values, list) and isinstance(key, int) and key < len(values):
            values = values[key]
        else:
            continue
        path.append(str(key))
    return tuple(path)


def _describe(path: Path, fault: Any, values: Any, schema: type[Section]) -> str:
    key, kind = ".".join(path), fault["type"]
    context = fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"{key}: unknown key; {_suggest(path, values, schema)}"
    if kind == "missing":
        return f"{key}: is missing; it has no default"
    if kind == "union_tag_not_found":
        return f"{key}.{TAG}: is missing; give {_either(_tags(path, schema))}"
    if kind == "union_tag_invalid":
        return f"{key}.{TAG}: {context['tag']!r} is not possible; give {_either(_tags(path, schema))}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{key}: {describe_value(fault['input'])} is not possible; give a mapping of keys to values"
    if kind == "value_error" and isinstance(fault["input"], dict):
        return f"{key}: {context['error']}"
    if kind == "value_error":
        return f"{key}: {describe_value(fault['input'])} is not possible; {context['error']}"
    return f"{key}: {describe_value(fault['input'])} is not possible; it must be {_wanted(fault['msg'])}"


def _wanted(message: str) -> str:
    return message.removeprefix("Input should be ").removeprefix("Input should have ")


def _either(names: Sequence[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)


def _suggest(path: Path, values: Any, schema: type[Section]) -> str:
    """Return a hint: a similar key of the same section, or a key of the same name in another section."""
    section = _section_at(path[:-1], values, schema)
    siblings = list(section.model_fields) if section else []
    similar = difflib.get_close_matches(path[-1], siblings, n=1)
    elsewhere = [".".join(other) for other in _all_keys(schema) if other[-1] == path[-1]]
    hint = similar or elsewhere[:1]
    meant = f"did you mean '{hint[0]}'? " if hint else ""
    return f"{meant}allowed {'here are' if len(path) > 1 else 'are'} {', '.join(siblings)}"


def _section_at(path: Path, values: Any, schema: type[Section]) -> type[Section] | None:
    section = schema
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
        members = _sections(section.model_fields[key].annotation) if key in section.model_fields else []
        tag = values.get(TAG) if isinstance(values, dict) else None
        chosen = [m for m in members if len(members) == 1 or tag in get_args(m.model_fields[TAG].annotation)]
        if not chosen:
            return None
        section = chosen[0]
    return section


def _sections(annotation: Any) -> list[type[Section]]:
    # In Python 3.10, tuple[...] counts as a class.
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def _tags(path: Path, schema: type[Section]) -> list[str]:
    parent = _section_at(path[:-1], {}, schema)
    assert parent is not None
    return [
        get_args(member.model_fields[TAG].annotation)[0]
        for member in _sections(parent.model_fields[path[-1]].annotation)
    ]


def _all_keys(section: type[Section], prefix: Path = ()) -> Iterator[Path]:
    for name, field in section.model_fields.items():
        yield (*prefix, name)
        for member in _sections(field.annotation):
            yield from _all_keys(member, (*prefix, name))
