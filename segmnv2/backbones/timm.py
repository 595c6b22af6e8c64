"""Any timm model with a pyramid of feature maps as a feature extractor."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from segmnv2.backbones.backbone import (
    IMAGENET,
    Backbone,
    FeatureInfo,
    Triple,
    check_options,
    crop_maps,
    first_line,
    scale_normalization,
    suggest,
)
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.nn.stride import OUTPUT_STRIDES, check_output_stride

FORCE, FORBID = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextmanager
def never_unpickling() -> Iterator[None]:
    """Let every call of ``torch.load`` read tensors only while the block runs.

    Some versions of timm let torch unpickle all objects in files that are not in safetensors format.
    """
    before = {key: os.environ.pop(key, None) for key in (FORCE, FORBID)}
    os.environ[FORCE] = "1"
    try:
        yield
    finally:
        del os.environ[FORCE]
        os.environ.update({key: value for key, value in before.items() if value is not None})


class TimmBackbone(Backbone):
    """A model of timm that ends at its last feature map (``features_only``).

    Its maps are those of timm, with the channels and strides of timm's ``feature_info``. Most models have five maps at
    strides 2 to 32. ConvNeXt and Swin have four from stride 4 on, and plain vision transformers have several at 16.

    Images may have any size. Some models need sides that are multiples of 32, or round sizes down, such as ConvNeXt,
    VGG, HRNet and Swin. For these the image is padded at the right and bottom with zeros (the mean color). The maps are
    cropped to ceil(side / stride).

    A change of the output stride builds timm's model again, with the same parameters and buffers. Optimizers, frozen
    weights, training modes, settings of batch norms and the keys of ``state_dict`` stay valid. Forward hooks on inner
    modules other than batch norms are lost.

    Finer features contain the coarser ones exactly (see :meth:`Backbone.set_output_stride`) in plain convolutional
    models, such as resnet, resnext, mobilenetv2, mobilenetv4_conv, regnetx, repvgg and xception. In others they do not,
    so weights must be trained at the output stride of their use. docs/timm.md gives the reason for each family.
    """

    def __init__(self, *, model: str, pretrained: bool | str | None = False, output_stride: int = 32) -> None:
        """Build the model.

        Args:
            model: name in ``timm.list_models()``, such as ``"resnet18"``; a name of weights may follow, as in
                ``"resnet18.a1_in1k"``.
            pretrained: whether to load timm's weights, from the cache or else by a download; text is refused.
            output_stride: 8, 16 or 32; many models can have only 32.

        Raises:
            ConfigError: the model is unknown, or the output stride is not possible; the message lists possible ones.
            WeightsError: the weights do not exist, cannot be downloaded, or are a file that runs code when it is read.
        """
        super().__init__()
        check_output_stride(output_stride)
        check_options(model=model, pretrained=pretrained)
        if pretrained not in (True, False, None):  # timm treats any text as true
            fault = f"backbone.pretrained {pretrained!r} is not possible for timm's {model!r}"
            raise ConfigError(f"{fault}; give true or false")
        check_name(model)
        self.model = model
        self._nominal = fit_native(model).features
        self._fit = fit(model, output_stride)
        try:
            with never_unpickling():
                self.network = build(model, {**self._fit.arguments, "pretrained": bool(pretrained)})
        except Exception as error:  # download clients raise errors of many kinds
            if not pretrained:
                raise
            raise WeightsError(
                f"weights of timm's {model!r} cannot be loaded ({error}); "
                "give pretrained: false, another model, or download them once with network access"
            ) from error
        self.output_stride = output_stride

    def _apply_output_stride(self, output_stride: int) -> None:
        if output_stride == self.output_stride:
            return
        new_fit = fit(self.model, output_stride)
        network = build(self.model, new_fit.arguments, empty=True)
        _move_tensors(self.network, network, self.model)
        self.network, self._fit = network, new_fit

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _c _h _w"], ...]:
        """Map normalized images (b, 3, h, w), by :func:`timm_normalization`, to the feature maps, finest first."""
        bottom, right = (-side % SIDE_MULTIPLE for side in x.shape[-2:])
        features = list(self.network(F.pad(x, (0, right, 0, bottom)) if self._fit.padded else x))
        if self._fit.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return crop_maps(features, self._fit.features, x) if self._fit.padded else tuple(features)


def timm_normalization(model: str) -> tuple[Triple, Triple]:
    """Return the mean and the standard deviation, each red, green, blue in 0..255, that a timm model was trained with.

    Raises:
        ConfigError: timm does not have the model.
    """
    import timm

    check_name(model)
    config = timm.get_pretrained_cfg(model)
    mean, std = (config.mean, config.std) if config is not None else IMAGENET
    return scale_normalization(mean, std)


def _move_tensors(source: nn.Module, target: nn.Module, model: str) -> None:
    """Move the parameters, buffers, batch norms and modes of a model to one with the same ``state_dict`` keys."""
    if source.state_dict().keys() != target.state_dict().keys():
        raise ConfigError(
            f"timm's {model!r} has other weights at the new output_stride, or its layers were changed; build the "
            "backbone with that output_stride instead"
        )
    modules = dict(target.named_modules())
    for name, old in source.named_modules():
        if (new := modules.get(name)) is None:
            continue
        new.training = old.training
        for key, parameter in old.named_parameters(recurse=False, remove_duplicate=False):
            setattr(new, key, parameter)
        for key, buffer in old.named_buffers(recurse=False, remove_duplicate=False):
            setattr(new, key, buffer)
        if isinstance(old, _NormBase) and name:
            target.set_submodule(name, old)


NATIVE_STRIDE = max(OUTPUT_STRIDES)
SIDE_MULTIPLE = NATIVE_STRIDE
"""Divisor of padded sides."""

_ODD_SIDES = (4 * SIDE_MULTIPLE + 1, 3 * SIDE_MULTIPLE + 1)
_EVEN_SIDES = (4 * SIDE_MULTIPLE, 3 * SIDE_MULTIPLE)

# For other sizes than in the pretraining, vision transformers resample their positions and Swin builds new windows.
_FREE_SIZES: tuple[dict[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})


class Fit(NamedTuple):
    """Arguments that give a timm model an output stride, and the properties of its maps.

    Attributes:
        arguments: keyword arguments of ``timm.create_model``.
        features: channels and strides of its maps.
        padded: whether to pad images, because the model needs multiples of 32 or rounds sizes down.
        channels_last: whether its maps are (b, h, w, c).
    """

    arguments: dict[str, Any]
    features: tuple[FeatureInfo, ...]
    padded: bool
    channels_last: bool


class _UnfitError(Exception):
    """A model with these arguments does not give usable maps."""


def check_name(model: str) -> None:
    """Refuse a model or weights that the installed timm does not have; the message names the most similar ones."""
    import timm

    name, _, tag = model.partition(".")
    if name not in timm.list_models():
        hint = suggest(name, timm.list_models(), "timm.list_models() lists them all")
        raise ConfigError(f"backbone.model {model!r} is not a model of the installed timm {timm.__version__}; {hint}")
    tags = sorted(t.partition(".")[2] for t in timm.list_models(f"{name}.*", pretrained=True))
    if tag and tag not in tags:
        has = ", ".join(tags) or "no weights"
        raise ConfigError(f"backbone.model {model!r} names weights that timm does not have; for {name!r} it has {has}")


def fit(model: str, output_stride: int) -> Fit:
    """Find the arguments that give a timm model an output stride, on the meta device if possible.

    Raises:
        ConfigError: the model cannot have this output stride; the message lists possible ones.
    """
    result = _find(model, output_stride)
    if isinstance(result, Fit):
        return result
    results = {stride: _find(model, stride) for stride in OUTPUT_STRIDES}
    possible = [str(stride) for stride, other in results.items() if isinstance(other, Fit)]
    if possible:
        raise ConfigError(
            f"output_stride {output_stride} is not possible with timm's {model!r}, which can have "
            f"{' or '.join(possible)}; use that, or another model"
        )
    reasons = "; ".join(dict.fromkeys(str(other) for other in results.values()))
    raise ConfigError(
        f"timm's {model!r} does not serve as a backbone at any output_stride ({reasons}); "
        "choose a model with a pyramid of feature maps, such as resnet50, mobilenetv3_large_100 or convnext_tiny"
    )


def fit_native(model: str) -> Fit:
    """Return :func:`fit` for the largest possible output stride of a model, which is its default."""
    for output_stride in sorted(OUTPUT_STRIDES, reverse=True):
        if isinstance(result := _find(model, output_stride), Fit):
            return result
    return fit(model, NATIVE_STRIDE)


@lru_cache(maxsize=256)
def _find(model: str, output_stride: int) -> Fit | str:
    """Return the first arguments that work, or the reason why none do."""
    reason = "its maps have other strides"
    # A model without the argument `output_stride` may have this output stride by default.
    own: list[dict[str, Any]] = [{}] if output_stride == NATIVE_STRIDE else [{"output_stride": output_stride}, {}]
    for arguments in ({**stride, **free_size} for free_size in _FREE_SIZES for stride in own):
        try:
            return _try(model, arguments, output_stride)
        except _UnfitError as error:
            reason = str(error) or reason
    return reason


def _try(model: str, arguments: dict[str, Any], output_stride: int) -> Fit:
    try:
        network = build(model, arguments, empty=True).eval()
    except TypeError as error:  # no such argument; the model may still work without it
        raise _UnfitError(str(error) if not arguments else "") from error
    except Exception as error:  # assertions of timm, or errors of any kind from its layers
        raise _UnfitError(first_line(error)) from error
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
            reason = first_line(error)
            continue
        if shapes == [(f.channels, -(-sides[0] // f.stride), -(-sides[1] // f.stride)) for f in features]:
            return Fit(arguments, features, padded, channels_last)
        reason = f"an image of {sides[0]} x {sides[1]} gives maps of {shapes}, not those that timm states"
    raise _UnfitError(reason)


def _run(network: nn.Module, sides: tuple[int, int], channels_last: bool) -> list[tuple[int, ...]]:
    """Return (channels, height, width) of each map of an image with these sides."""
    device = next(network.parameters()).device
    with torch.no_grad():
        maps: list[Tensor] = list(network(torch.zeros(1, 3, *sides, device=device)))
    return [tuple((m.permute(0, 3, 1, 2) if channels_last else m).shape[1:]) for m in maps]


def build(model: str, arguments: dict[str, Any], *, empty: bool = False) -> nn.Module:
    """Build a model by ``timm.create_model``.

    An ``empty`` model has no memory for its tensors; another model provides them. The random state is not changed.
    """
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
        except (RuntimeError, NotImplementedError):  # some models read a tensor's value while they are built
            return create()
