"""The backbones as encoders of segmentation_models_pytorch (smp), below each of its architectures."""

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
    """A backbone with smp's interface: the image itself, then the last map at each of the strides 2 to 32.

    Output strides below 32 are the backbone's own, with the paper's dilations; smp's function gives the first block of
    a stage another dilation than TensorFlow does.

    All layers are computed whatever the depth; the maps beyond it are not returned.

    Attributes:
        backbone: normalized images -> feature maps.
    """

    _is_torch_scriptable = False  # shapes in signatures are not in TorchScript's language; torch.export takes them

    def __init__(self, *, backbone: str, depth: int = 5, output_stride: int = 32, **options: Any) -> None:
        """Build the encoder with fresh weights.

        Args:
            backbone: a name of :data:`segmnv2.backbones.backbone.BACKBONES`.
            depth: number of maps, 1 to 5.
            output_stride: 8, 16 or 32.
            options: arguments of the backbone.

        Raises:
            ConfigError: a depth outside 1..5, or what the backbone refuses.
        """
        super().__init__()
        if not 1 <= depth <= len(STRIDES):
            raise ConfigError(f"encoder_depth {depth} is not in 1..{len(STRIDES)}; give a number of maps, as 5")
        self.backbone = create_backbone(backbone, output_stride=output_stride, **options)
        self.name, self.options = backbone, options
        self._taps = _last_maps(self.backbone)
        self._depth, self._in_channels, self._output_stride = depth, RGB, output_stride
        self._out_channels = [RGB, *(self.backbone.nominal_features[tap].channels for tap in self._taps)]

    def make_dilated(self, output_stride: int) -> None:
        """Change the stride of the last map, as smp requests it.

        Raises:
            ConfigError: not 8, 16 or 32.
        """
        self.backbone.set_output_stride(output_stride)
        self._output_stride = output_stride

    def forward(self, x: Float[Tensor, "b _n h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """Return the image and its maps, finest first.

        Args:
            x: normalized images (b, in_channels, h, w); smp needs sides of multiples of the output stride.
        """
        features = self.backbone(x)
        return [x, *(features[tap] for tap in self._taps[: self._depth])]


def register_encoders() -> tuple[str, ...]:
    """Make every backbone of this library an encoder of smp, and return their names, as ``segmnv2-mobilenet_v2``."""
    return tuple(register_encoder(f"{PREFIX}{name}", name) for name in BACKBONES if name not in FOREIGN)


def register_encoder(name: str, backbone: str, **options: Any) -> str:
    """Make a backbone with your own arguments an encoder of smp.

    Args:
        name: what smp shall call it; it begins with ``segmnv2-``, so that it hides none of smp's own.
        backbone: a name of :data:`segmnv2.backbones.backbone.BACKBONES`.
        options: arguments of the backbone, as ``width=0.5``.

    Returns:
        The name.

    Raises:
        ConfigError: another beginning, or a backbone or an option that does not exist or has no maps at all strides.
    """
    if not name.startswith(PREFIX):
        raise ConfigError(f"encoder {name!r} would look like one of smp's; begin its name with {PREFIX!r}")
    with torch.device("meta"):
        BackboneEncoder(backbone=backbone, **options)
    encoders[name] = {
        "encoder": BackboneEncoder,
        "params": {"backbone": backbone, **options},
        "pretrained_settings": {},
    }
    return name


def load_encoder_weights(encoder: nn.Module, path: str | Path) -> Normalization:
    """Load a file's backbone into the encoder of a model of smp.

    Args:
        encoder: ``model.encoder``, of this module's encoders. With another number of image channels than three, the
            first layer's weights are summed or repeated, as smp does with its own.
        path: a file of any kind, as ``segmnv2 import`` or ``segmnv2 train`` writes it.

    Returns:
        How pixels 0..255 are normalized for these weights; smp leaves that to its user.

    Raises:
        ConfigError: an encoder of smp's own.
        WeightsError: the file is missing, damaged or does not fit.
    """
    if not isinstance(encoder, BackboneEncoder):
        raise ConfigError(
            f"encoder is {type(encoder).__name__}, not one of this library's; give the encoder of a model that was "
            f"built as smp.Unet('{PREFIX}mobilenet_v2', encoder_weights=None)"
        )
    channels = encoder._in_channels
    filled = copy.deepcopy(encoder.backbone)  # so that a file that is refused leaves the encoder as it was
    if channels != RGB:
        patch_first_conv(filled, RGB, default_in_channels=channels, pretrained=False)
    normalization = load_backbone_weights(filled, encoder.name, encoder.options, path, segments=True)
    if channels != RGB:
        patch_first_conv(filled, channels, pretrained=True)
    encoder.backbone.load_state_dict(filled.state_dict())
    return normalization


def _last_maps(backbone: Backbone) -> list[int]:
    """Return the index of the last map at each of the strides, without dilation."""
    found = {info.stride: index for index, info in enumerate(backbone.nominal_features)}
    missing = [stride for stride in STRIDES if stride not in found]
    if missing:
        raise ConfigError(
            f"{type(backbone).__name__} has no map at stride {', '.join(map(str, missing))}; smp's architectures need "
            f"one at each of {', '.join(map(str, STRIDES))}"
        )
    return [found[stride] for stride in STRIDES]
