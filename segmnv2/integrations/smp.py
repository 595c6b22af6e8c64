"""Backbones as encoders of segmentation_models_pytorch (smp), for all of its architectures."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from segmentation_models_pytorch.encoders import encoders
from segmentation_models_pytorch.encoders._base import EncoderMixin
from segmentation_models_pytorch.encoders._utils import patch_first_conv
from torch import Tensor, nn

from segmnv2.backbones.backbone import BACKBONES, FOREIGN, Backbone, create_backbone
from segmnv2.errors import ConfigError
from segmnv2.models.model_file import load_backbone_weights
from segmnv2.models.pixels import Normalization

PREFIX = "segmnv2-"
STRIDES = (2, 4, 8, 16, 32)
RGB = 3


class BackboneEncoder(nn.Module, EncoderMixin):  # type: ignore[misc]
    """A backbone with smp's interface: the image, then the last feature map at each of the strides 2 to 32.

    Output strides below 32 use the backbone's own dilations, those of the paper. The function of smp dilates the first
    block of a stage differently. All layers are computed for any depth, but only the maps up to it are returned.

    Attributes:
        backbone: normalized images -> feature maps.
    """

    _is_torch_scriptable = False  # TorchScript does not know shapes in signatures; torch.export does

    def __init__(self, *, backbone: str, depth: int = 5, output_stride: int = 32, **options: Any) -> None:
        """Build the encoder with random weights.

        Args:
            backbone: a name of :data:`segmnv2.backbones.backbone.BACKBONES`.
            depth: number of maps, 1 to 5.
            output_stride: 8, 16 or 32.
            options: arguments of the backbone.

        Raises:
            ConfigError: the depth is not in 1..5, or the backbone does not accept an argument.
        """
        super().__init__()
        if not 1 <= depth <= len(STRIDES):
            raise ConfigError(f"encoder_depth {depth} is not in 1..{len(STRIDES)}; give a number of maps, such as 5")
        self.backbone = create_backbone(backbone, output_stride=output_stride, **options)
        self.name, self.options = backbone, options
        self._taps = _last_maps(self.backbone)
        self._depth, self._in_channels, self._output_stride = depth, RGB, output_stride
        self._out_channels = [RGB, *(self.backbone.nominal_features[tap].channels for tap in self._taps)]

    def make_dilated(self, output_stride: int) -> None:
        """Change the stride of the last map, on request of smp.

        Raises:
            ConfigError: the output stride is not 8, 16 or 32.
        """
        self.backbone.set_output_stride(output_stride)
        self._output_stride = output_stride

    def forward(self, x: Float[Tensor, "b _n h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """Return the image and its maps, finest first.

        Args:
            x: normalized images (b, in_channels, h, w); smp needs sides that are multiples of the output stride.
        """
        features = self.backbone(x)
        return [x, *(features[tap] for tap in self._taps[: self._depth])]


def register_encoders() -> tuple[str, ...]:
    """Make every backbone of this library an encoder of smp, and return the names, such as ``segmnv2-mobilenet_v2``."""
    return tuple(register_encoder(f"{PREFIX}{name}", name) for name in BACKBONES if name not in FOREIGN)


def register_encoder(name: str, backbone: str, **options: Any) -> str:
    """Make a backbone with custom arguments an encoder of smp.

    Args:
        name: name of the encoder in smp; must begin with ``segmnv2-``, so that it cannot replace an encoder of smp.
        backbone: a name of :data:`segmnv2.backbones.backbone.BACKBONES`.
        options: arguments of the backbone, such as ``width=0.5``.

    Returns:
        The name.

    Raises:
        ConfigError: the name begins differently, the backbone or an option is unknown, or the backbone has no map at
            one of the strides.
    """
    if not name.startswith(PREFIX):
        raise ConfigError(f"encoder {name!r}: the name could be one of smp's; begin it with {PREFIX!r}")
    with torch.device("meta"):
        BackboneEncoder(backbone=backbone, **options)
    encoders[name] = {
        "encoder": BackboneEncoder,
        "params": {"backbone": backbone, **options},
        "pretrained_settings": {},
    }
    return name


def load_encoder_weights(encoder: nn.Module, path: str | Path) -> Normalization:
    """Load the backbone of a file into the encoder of an smp model.

    Args:
        encoder: ``model.encoder``, an encoder of this module. If it does not have three input channels, the weights of
            the first layer are summed or repeated, as in smp.
        path: a file of ``segmnv2 import`` or ``segmnv2 train``, of any kind.

    Returns:
        The normalization of pixels 0..255 for these weights, which smp does not apply itself.

    Raises:
        ConfigError: the encoder is not one of this module.
        WeightsError: the file is missing or damaged, or does not fit.
    """
    if not isinstance(encoder, BackboneEncoder):
        raise ConfigError(
            f"encoder is {type(encoder).__name__}, not one of this library; give the encoder of a model such as "
            f"smp.Unet('{PREFIX}mobilenet_v2', encoder_weights=None)"
        )
    channels = encoder._in_channels
    filled = copy.deepcopy(encoder.backbone)  # a wrong file must not change the encoder
    if channels != RGB:
        patch_first_conv(filled, RGB, default_in_channels=channels, pretrained=False)
    normalization = load_backbone_weights(filled, encoder.name, encoder.options, path, segments=True)
    if channels != RGB:
        patch_first_conv(filled, channels, pretrained=True)
    encoder.backbone.load_state_dict(filled.state_dict())
    return normalization


def _last_maps(backbone: Backbone) -> list[int]:
    """Return the index of the last map at each of :data:`STRIDES`, without dilation."""
    last_index = {info.stride: index for index, info in enumerate(backbone.nominal_features)}
    missing = [stride for stride in STRIDES if stride not in last_index]
    if missing:
        raise ConfigError(
            f"{type(backbone).__name__} has no map at stride {', '.join(map(str, missing))}; smp's architectures need "
            f"one at each of {', '.join(map(str, STRIDES))}"
        )
    return [last_index[stride] for stride in STRIDES]
