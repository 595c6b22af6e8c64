"""Resolution of weights to a file, from a path, a short name, or ``owner/name`` on the Hugging Face Hub.

Public functions with an argument for weights accept all of these.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from segmnv2.errors import WeightsError

if TYPE_CHECKING:
    from segmnv2.files.checksum import Track

P = ParamSpec("P")
R = TypeVar("R")


def resolve_weights(name: str | Path, *, mirror: str | None = None, track: Track | None = None) -> Path:
    """Return the file of weights, and download it into the cache if necessary.

    Weights in the cache are used offline, after a check of their checksum.

    Args:
        name: a file; a folder of ``segmnv2 push --dry-run``; a name of :data:`segmnv2.hub.cache.PUBLISHED`; or
            ``owner/name``, ``owner/name@revision`` or ``hf:owner/name`` on the Hub, in the format of this library or
            of transformers.
        mirror: URL of a folder with archives of the same names, to use instead of the publisher.
        track: progress bar of downloads.

    Returns:
        A safetensors file of this library. A text that looks like a path is returned unchanged, even if the file does
        not exist. The function that reads it then raises the error.

    Raises:
        WeightsError: the name is unknown, or the weights are not in the cache and cannot be downloaded.
    """
    text = str(name)
    try:
        if Path(name).exists() and not Path(name).is_dir():
            return Path(name)
    except (OSError, ValueError) as error:  # too long for a name, or with an invalid character
        raise WeightsError(f"{text[:80]!r}: is not a possible file name ({str(error)[:40]}); check it") from error
    from segmnv2.hub.named_weights import find_named_weights  # not needed for local files

    return find_named_weights(name, mirror, track)


def takes_names(*parameters: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function with arguments for files of weights, so that they also accept names.

    Args:
        parameters: names of these arguments; each then accepts everything that :func:`resolve_weights` does.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given = inspect.signature(function).bind(*args, **kwargs)
            for name in parameters:
                if given.arguments.get(name) is not None:
                    given.arguments[name] = resolve_weights(given.arguments[name])
            return function(*given.args, **given.kwargs)

        return call

    return decorate
