"""Errors that a user can cause and fix, and parts of messages.

Every message names the file or key, the value found, the allowed values and the remedy. The command line prints only
the message and exits with code 2. Faults of the library itself are assertions.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


class SegmnError(ValueError):
    """Base class of errors that are caused by the input rather than by the library."""


class SegmnWarning(UserWarning):
    """Warning about a result that is still returned; the command line prints only the message."""


class ConfigError(SegmnError):
    """A configuration, an option or a constructor argument is wrong."""


class DatasetError(SegmnError):
    """A data set's folder, split list, image or mask is missing or inconsistent."""


class WeightsError(SegmnError):
    """A checkpoint is missing, damaged or of an unknown kind, or does not fit the model."""


class MediaError(SegmnError):
    """An image or video is missing or damaged, or the file has another format."""


@contextmanager
def naming_key(key: str) -> Iterator[None]:
    """Add an experiment's key to error messages about the file that the key names."""
    try:
        yield
    except (DatasetError, WeightsError) as error:
        raise type(error)(f"{error}\n  (the key {key} sets this path; -o {key}=PATH changes it)") from error


@contextmanager
def converting(what: str, remedy: str) -> Iterator[None]:
    """Turn errors of another library that converts a model into one message.

    Args:
        what: subject of the message, such as "format: 'onnx'".
        remedy: what to give instead.

    Raises:
        ConfigError: the block raised an error of another library, except those of memory and files.
    """
    try:
        yield
    except (SegmnError, OSError, MemoryError):
        raise
    except Exception as error:  # converters have no common error class
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"{what} cannot convert this model ({reason}); {remedy}") from error


def check_positive_integer(name: str, value: object, remedy: str) -> int:
    """Return ``value`` if it is an integer above 0.

    Args:
        name: name of the option.
        value: the given value.
        remedy: what to give instead.

    Raises:
        ConfigError: it is anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ConfigError(f"{name}: {value!r} is not a positive integer; {remedy}")


def describe_value(value: object) -> str:
    """Return the ``repr`` of a value, shortened if it is long or nested, or its type if ``repr`` fails."""
    try:
        return _SHORT.repr(value)
    except Exception:  # for example, an integer with too many digits
        return f"a {type(value).__name__}"


def describe_fault(fault: Mapping[str, Any]) -> str:
    """Return the message of a fault that pydantic found: the key, the value found and the allowed values.

    Args:
        fault: one of ``ValidationError.errors()``.
    """
    key = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{key} is missing"
    if fault["type"] == "extra_forbidden":
        return f"{key} is unknown"
    if fault["type"] == "value_error":
        return f"{key}: {fault['ctx']['error']}"
    wanted = str(fault["msg"]).removeprefix("Input should be ").removeprefix("Input should have ")
    return f"{key} {describe_value(fault['input'])} is not possible; it must be {wanted}"


def counted(number: int, noun: str) -> str:
    """Return "1 image" or "2 images" for the noun "image"."""
    return f"{number} {noun}" + "s" * (number != 1)
