"""The public functions that take weights, each with names in place of files."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from segmnv2.hub.resolve import resolve_weights
from segmnv2.models import classifier, classifier_file, file, zoo

P = ParamSpec("P")
R = TypeVar("R")


def takes_names(*parameters: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that takes files of weights, so that it takes their names too.

    Args:
        parameters: its arguments that are files; each may be what :func:`segmnv2.hub.resolve.resolve_weights` knows.
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


create_model = takes_names("weights", "backbone_weights")(zoo.create_model)
create_classifier = takes_names("weights", "backbone_weights")(classifier.create_classifier)
load_model = takes_names("path")(file.load_model)
load_weights = takes_names("path")(file.load_weights)
load_classifier = takes_names("path")(classifier_file.load_classifier)
