"""Errors that a user can cause and can fix, and the words of messages.

Every message names the file or key, the value found, what is allowed and the remedy. The command line prints the
message alone and exits with code 2. Broken invariants of the library itself are assertions, not these.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


class SegmnError(ValueError):
    """Base of every error that is the input's fault rather than the library's."""


class SegmnWarning(UserWarning):
    """Warning about a result that is given all the same; the command line prints the message alone."""


class ConfigError(SegmnError):
    """A configuration, an option or a constructor argument is wrong."""


class DatasetError(SegmnError):
    """A data set's folder, split list, image or mask is missing or inconsistent."""


class WeightsError(SegmnError):
    """A checkpoint is missing, damaged, of an unknown kind, or does not fit the model."""


class MediaError(SegmnError):
    """An image to read is missing, damaged or not an image."""


@contextmanager
def naming_key(key: str) -> Iterator[None]:
    """Add to a message about a file the key of the experiment that names it."""
    try:
        yield
    except (DatasetError, WeightsError) as error:
        raise type(error)(f"{error}\n  (the path is that of the key {key}; -o {key}=PATH changes it)") from error


@contextmanager
def converting(what: str, remedy: str) -> Iterator[None]:
    """Turn the errors of another library, which cannot convert a network, into one message.

    Args:
        what: cannot take the network, as "format: 'onnx'".
        remedy: what to give instead.

    Raises:
        ConfigError: the block raised an error of any class but of this library's, or of memory and files.
    """
    try:
        yield
    except (SegmnError, OSError, MemoryError):
        raise
    except Exception as error:  # converters have no common class of errors
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"{what} cannot take this network ({reason}); {remedy}") from error


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
    """Return a value as Python writes it, shortened where it is long, nested or has no such form."""
    try:
        return _SHORT.repr(value)
    except Exception:  # as of integers with more digits than Python converts
        return f"a {type(value).__name__}"


def describe_fault(fault: Mapping[str, Any]) -> str:
    """Return what pydantic found wrong: the key, the value found and what is allowed.

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
