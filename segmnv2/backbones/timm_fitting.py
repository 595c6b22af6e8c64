"""Arguments with which timm's models give the required feature maps."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from segmnv2.backbones.backbone import FeatureInfo
from segmnv2.errors import ConfigError
from segmnv2.nn.stride import OUTPUT_STRIDES

NATIVE_STRIDE = max(OUTPUT_STRIDES)
SIDE_MULTIPLE = NATIVE_STRIDE
"""Padded sides are multiples of it."""

_ODD_SIDES = (4 * SIDE_MULTIPLE + 1, 3 * SIDE_MULTIPLE + 1)
_EVEN_SIDES = (4 * SIDE_MULTIPLE, 3 * SIDE_MULTIPLE)

# Sizes other than the pretraining's: vision transformers resample their positions, Swin builds new windows.
_FREE_SIZES: tuple[dict[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})


@dataclass(frozen=True)
class Fit:
    """Arguments of a timm model at an output stride, and its observed maps.

    Attributes:
        arguments: keyword arguments of ``timm.create_model``, as pairs.
        features: channels and strides of its maps.
        padded: it takes multiples of 32 as sides, or rounds sizes down, so its images are padded first.
        channels_last: its maps are (b, h, w, c).
    """

    arguments: tuple[tuple[str, Any], ...]
    features: tuple[FeatureInfo, ...]
    padded: bool
    channels_last: bool


class _UnfitError(Exception):
    """A model with these arguments does not give usable maps."""


def check_name(model: str) -> None:
    """Refuse a model, or weights of a model, that the installed timm does not have.

    Raises:
        ConfigError: with the names closest to it.
    """
    import timm

    name, _, tag = model.partition(".")
    if name not in timm.list_models():
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() has them all"
        raise ConfigError(f"backbone.model {model!r} is not a model of the installed timm {timm.__version__}; {hint}")
    tags = sorted(t.partition(".")[2] for t in timm.list_models(f"{name}.*", pretrained=True))
    if tag and tag not in tags:
        has = ", ".join(tags) or "no weights"
        raise ConfigError(f"backbone.model {model!r} names weights that timm does not have; for {name!r} it has {has}")


def fit(model: str, output_stride: int) -> Fit:
    """Find out how timm builds a model with an output stride.

    The model is built and run without memory or arithmetic (on torch's "meta" device) where it can be.

    Args:
        model: a name that :func:`check_name` accepts.
        output_stride: 8, 16 or 32.

    Raises:
        ConfigError: the model cannot have it; the message says which it can have.
    """
    found = _find(model, output_stride)
    if isinstance(found, Fit):
        return found
    ways = {stride: _find(model, stride) for stride in OUTPUT_STRIDES}
    possible = [str(stride) for stride, way in ways.items() if isinstance(way, Fit)]
    if possible:
        raise ConfigError(
            f"output_stride {output_stride} is not possible with timm's {model!r}, which can have "
            f"{' or '.join(possible)}; use that, or another model"
        )
    reasons = "; ".join(dict.fromkeys(str(way) for way in ways.values()))
    raise ConfigError(
        f"timm's {model!r} does not serve as a backbone at any output_stride ({reasons}); "
        f"choose a model with a pyramid of feature maps, as resnet50, mobilenetv3_large_100 or convnext_tiny"
    )


def fit_native(model: str) -> Fit:
    """Find out how timm builds a model by default, at the largest output stride it can have.

    Raises:
        ConfigError: it cannot have any.
    """
    for output_stride in sorted(OUTPUT_STRIDES, reverse=True):
        if isinstance(found := _find(model, output_stride), Fit):
            return found
    return fit(model, NATIVE_STRIDE)


def build_empty(model: str, found: Fit) -> nn.Module:
    """Build the network for tensors that another one holds; its own have no meaning, the random state stays."""
    return _build(model, dict(found.arguments), empty=True)


def build(model: str, found: Fit, *, pretrained: bool) -> nn.Module:
    """Build the network with timm's fresh or pretrained weights."""
    return _build(model, {**dict(found.arguments), "pretrained": pretrained})


@lru_cache(maxsize=256)
def _find(model: str, output_stride: int) -> Fit | str:
    """Return the first way that works, or why none does."""
    reason = "its maps have other strides"
    for arguments in _attempts(output_stride):
        try:
            return _try(model, arguments, output_stride)
        except _UnfitError as error:
            reason = str(error) or reason
    return reason


def _attempts(output_stride: int) -> Iterator[dict[str, Any]]:
    """Yield arguments to try; a model that knows no ``output_stride`` may have the wanted one by itself."""
    for free_size in _FREE_SIZES:
        if output_stride != NATIVE_STRIDE:
            yield {"output_stride": output_stride, **free_size}
        yield free_size


def _try(model: str, arguments: dict[str, Any], output_stride: int) -> Fit:
    try:
        network = _build(model, arguments, empty=True).eval()
    except TypeError as error:  # no such argument: says nothing about the model as it is
        raise _UnfitError(str(error) if not arguments else "") from error
    except Exception as error:  # timm asserts, or raises what its layers raise
        raise _UnfitError(_short(error)) from error
    info: Any = network.feature_info
    features = tuple(FeatureInfo(c, r) for c, r in zip(info.channels(), info.reduction(), strict=True))
    if features[-1].stride != output_stride:
        raise _UnfitError(f"its last map has a stride of {features[-1].stride}")
    channels_last = str(getattr(getattr(network, "output_fmt", "NCHW"), "value", "NCHW")) == "NHWC"
    if any(SIDE_MULTIPLE % f.stride for f in features):
        raise _UnfitError(f"its maps have strides of {', '.join(str(f.stride) for f in features)}")
    for sides, padded in ((_ODD_SIDES, False), (_EVEN_SIDES, True)):
        try:
            shapes = _run(network, sides, channels_last)
        except Exception as error:
            reason = _short(error)
            continue
        if shapes == [(f.channels, -(-sides[0] // f.stride), -(-sides[1] // f.stride)) for f in features]:
            return Fit(tuple(arguments.items()), features, padded, channels_last)
        reason = f"an image of {sides[0]} x {sides[1]} gives maps of {shapes}, not those that timm states"
    raise _UnfitError(reason)


def _run(network: nn.Module, sides: tuple[int, int], channels_last: bool) -> list[tuple[int, ...]]:
    """Return (channels, height, width) of each map."""
    device = next(network.parameters()).device
    with torch.no_grad():
        maps: list[Tensor] = list(network(torch.zeros(1, 3, *sides, device=device)))
    return [tuple((m.permute(0, 3, 1, 2) if channels_last else m).shape[1:]) for m in maps]


def _build(model: str, arguments: dict[str, Any], *, empty: bool = False) -> nn.Module:
    import timm

    def create() -> nn.Module:
        network: nn.Module = timm.create_model(model, features_only=True, **arguments)
        return network

    if not empty:
        return create()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                return create()
        except (RuntimeError, NotImplementedError):  # some read a tensor's value while they are built
            return create()


def _short(error: Exception) -> str:
    """Return the first line of an error's message, or its kind."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
