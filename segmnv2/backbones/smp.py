"""Any encoder of segmentation_models_pytorch (smp) as a feature extractor."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

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
from segmnv2.nn.network import evaluating
from segmnv2.nn.stride import OUTPUT_STRIDES, check_output_stride

NATIVE_STRIDE = max(OUTPUT_STRIDES)
TIMM = "tu-"
"""Prefix of smp's names of timm's models."""

PROBE = (2 * NATIVE_STRIDE, 3 * NATIVE_STRIDE)
"""Sides in pixels of the image with which an encoder is tested."""


class SmpBackbone(Backbone):
    """An encoder of smp at full depth, with all its maps at strides 2 to 32.

    Images may have any size. They are padded at the right and bottom with zeros (the mean color) to multiples of 32,
    which smp needs. The maps are cropped to ceil(side / stride).

    This library, not smp, sets output strides below 32. smp's function gives the first layers of a stage the dilation
    of the later ones. Here a layer whose stride is replaced keeps the dilation of the layers before it. So finer
    features contain the coarser ones exactly in plain convolutional encoders (resnet, resnext, mobilenet_v2, mobileone,
    dpn). This is only approximate with squeeze and excitation, attention, or padding that depends on the size (se-,
    efficientnet, skresnet, mit).
    """

    def __init__(self, *, encoder: str, pretrained: str | None = None, output_stride: int = 32) -> None:
        """Build the encoder.

        Args:
            encoder: one of ``segmentation_models_pytorch.encoders.get_encoder_names()``.
            pretrained: name of smp's weights, such as ``"imagenet"``, from the cache or else by a download.
            output_stride: 8, 16 or 32; encoders that reduce the size by pooling can have only 32.

        Raises:
            ConfigError: the encoder or the name of the weights is unknown, or the output stride is not possible.
            WeightsError: the weights cannot be loaded.
        """
        super().__init__()
        check_output_stride(output_stride)
        check_options(encoder=encoder, pretrained=pretrained)
        _check_name(encoder, pretrained)
        self.encoder = encoder
        self.network = _build(encoder, pretrained)
        strides = [2**depth for depth in range(len(self.network.out_channels))]
        channels = [int(count) for count in self.network.out_channels]
        self._taps = [depth for depth in range(1, len(strides)) if channels[depth]]  # some begin at stride 4
        self._nominal = tuple(FeatureInfo(channels[depth], strides[depth]) for depth in self._taps)
        self._layers = _striding_stages(self.network)
        self.output_stride = NATIVE_STRIDE
        self.set_output_stride(output_stride)

    def _apply_output_stride(self, output_stride: int) -> None:
        self._set_strides_and_dilations(output_stride)
        reason = self._misfit(output_stride)
        if reason:
            self._set_strides_and_dilations(self.output_stride)
            raise ConfigError(
                f"output_stride {output_stride} is not possible with smp's {self.encoder!r} ({reason}); "
                f"use {NATIVE_STRIDE}, or another encoder, such as resnet34"
            )

    def _set_strides_and_dilations(self, output_stride: int) -> None:
        dilation = 1
        for stage_stride, layers in self._layers.items():
            replaced = stage_stride > output_stride
            previous, dilation = dilation, 2 * dilation if replaced else dilation
            after_stride = False
            for layer in layers:
                strided = layer.stride != (1, 1)
                factor = dilation if after_stride and not strided else previous
                layer.set_stride_and_dilation((1, 1) if replaced else layer.stride, factor)
                after_stride = after_stride or strided

    def _misfit(self, output_stride: int) -> str:
        """Return the reason if the maps do not match the output stride, else an empty text."""
        if output_stride != NATIVE_STRIDE and not self._layers:
            return "it reduces the size by other layers than convolutions"
        first = next(self.network.parameters())
        try:
            with torch.no_grad(), evaluating(self.network):
                maps = self.network(first.new_zeros(1, 3, *PROBE))
        except (RuntimeError, AssertionError) as error:
            return first_line(error)
        for depth, info in zip(self._taps, self._nominal, strict=True):
            stride = min(info.stride, output_stride)
            if tuple(maps[depth].shape[-2:]) != tuple(side // stride for side in PROBE):
                return f"an image of {PROBE} pixels gives a map of {tuple(maps[depth].shape[-2:])}"
        return ""

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _c _h _w"], ...]:
        """Map normalized images (b, 3, h, w), by :func:`smp_normalization`, to the feature maps, finest first."""
        bottom, right = (-side % NATIVE_STRIDE for side in x.shape[-2:])
        maps = self.network(F.pad(x, (0, right, 0, bottom)) if bottom or right else x)
        return crop_maps([maps[depth] for depth in self._taps], self.feature_info, x)


def smp_normalization(encoder: str, pretrained: str | None) -> tuple[Triple, Triple]:
    """Return the mean and standard deviation of smp's weights, each red, green, blue in 0..255.

    Args:
        encoder: name of the encoder.
        pretrained: name of its weights; without weights, ImageNet's usual values are returned.

    Raises:
        WeightsError: the weights' description cannot be loaded.
    """
    if not pretrained:
        return scale_normalization(*IMAGENET)
    from segmentation_models_pytorch.encoders import get_preprocessing_params

    try:
        settings = get_preprocessing_params(encoder, pretrained)
    except (OSError, ValueError) as error:  # the Hub's own errors derive from these
        raise _unavailable(encoder, pretrained, error) from error
    return scale_normalization(settings["mean"], settings["std"], 255.0 / float(settings["input_range"][1]))


def _check_name(encoder: str, pretrained: str | None) -> None:
    from segmentation_models_pytorch.encoders import encoders

    if encoder.startswith(TIMM):
        raise ConfigError(
            f"backbone.encoder {encoder!r} is timm's {encoder.removeprefix(TIMM)!r}; use the backbone timm "
            f"(deeplabv3_timm) with model={encoder.removeprefix(TIMM)!r}"
        )
    if encoder not in encoders:
        hint = suggest(encoder, encoders, "smp.encoders.get_encoder_names() lists them all")
        raise ConfigError(f"backbone.encoder {encoder!r} is not an encoder of the installed smp; {hint}")
    known = encoders[encoder]["pretrained_settings"]
    if pretrained is not None and pretrained not in known:
        raise ConfigError(
            f"backbone.pretrained {pretrained!r} is not possible for smp's {encoder!r}; give {' or '.join(known)}, or "
            "null for none"
        )


def _build(encoder: str, pretrained: str | None) -> Any:
    from segmentation_models_pytorch.encoders import get_encoder

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`timm-` encoders are deprecated", DeprecationWarning)
        try:
            return get_encoder(encoder, weights=pretrained)
        except (OSError, ValueError) as error:  # the Hub's own errors derive from these
            if pretrained is None:
                raise
            raise _unavailable(encoder, pretrained, error) from error


def _unavailable(encoder: str, pretrained: str, error: Exception) -> WeightsError:
    reason = " ".join(str(error).split())
    return WeightsError(
        f"weights {pretrained!r} of smp's {encoder!r} cannot be loaded ({reason}); give pretrained: null, or download "
        "them once with network access"
    )


@dataclass(frozen=True)
class Layer:
    """A convolution of any kind, with its original settings."""

    conv: Any
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Any
    static: nn.Module | None  # in EfficientNets, the layer that pads instead of the convolution

    def set_stride_and_dilation(self, stride: tuple[int, ...], factor: int) -> None:
        """Set the stride, the dilation (``factor`` times the original), and the padding that fits them."""
        self.conv.stride, self.conv.dilation = stride, tuple(factor * own for own in self.dilation)
        unchanged = stride == self.stride and factor == 1
        sides = zip(self.conv.kernel_size, self.conv.dilation, strict=True)
        self.conv.padding = self.padding if unchanged else tuple(reach * (side - 1) // 2 for side, reach in sides)
        if self.static is not None:
            self.conv.static_padding = self.static if unchanged else nn.Identity()


def _striding_stages(network: Any) -> dict[int, list[Layer]]:
    """Return the convolutions, in order, of the stages that end at strides 16 and 32; none if smp cannot list them."""
    try:
        stages: dict[int, Any] = network.get_stages()
    except NotImplementedError:
        return {}
    return {
        stride: [
            Layer(conv, tuple(conv.stride), tuple(conv.dilation), conv.padding, getattr(conv, "static_padding", None))
            for module in modules
            for conv in module.modules()
            if isinstance(conv, nn.Conv2d)
        ]
        for stride, modules in sorted(stages.items())
    }
