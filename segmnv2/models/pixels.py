"""Base class of networks, which take RGB pixels and normalize them themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segmnv2.backbones.base import Backbone
from segmnv2.errors import ConfigError
from segmnv2.models.architecture import NetworkArchitecture
from segmnv2.models.normalization import Normalization
from segmnv2.models.pixel_range import check_range
from segmnv2.nn.norms import NormedNetwork


class PixelNetwork(NormedNetwork):
    """A module with the normalization its weights were trained for, kept as buffers and so saved with them.

    Attributes:
        kind: what files of such networks are called.
        logits_name: of the last layer, the one that belongs to the classes.
        backbone: normalized images -> feature maps.
        architecture: what the network was built from, if it was built by name.
        class_names: one for each logit.
    """

    kind: ClassVar[str]
    logits_name: ClassVar[str]
    backbone: Backbone
    architecture: NetworkArchitecture | None
    class_names: Sequence[str]
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, normalization: Normalization) -> None:
        """Keep the normalization.

        Args:
            normalization: what the weights need.
        """
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(normalization.mean).view(1, 3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(normalization.std).view(1, 3, 1, 1))

    @property
    def device(self) -> torch.device:
        """Device of the weights, on which the network computes."""
        return self.pixel_mean.device

    @property
    def normalization(self) -> Normalization:
        """The normalization that the buffers hold, in the fewest decimals that give their float32 values back."""
        mean, std = (
            [float(str(value)) for value in buffer.detach().float().cpu().flatten().numpy()]
            for buffer in (self.pixel_mean, self.pixel_std)
        )
        return Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    @property
    def mean_pixel(self) -> tuple[float, float, float]:
        """RGB, 0..255, of the pixel that normalization turns to 0: what images are padded with."""
        return self.normalization.mean

    def check_classes(self) -> None:
        """Make sure that each class has a name.

        Raises:
            ConfigError: the last layer was replaced by one of another number of classes, or the labels were.
        """
        logits = self.get_parameter(f"{self.logits_name}.weight").shape[0]
        if logits != len(self.class_names):
            raise ConfigError(
                f"the last layer of the model, {self.logits_name}, has {logits} classes, and {len(self.class_names)} "
                f"have names; name each, or build the model with num_classes={logits}, weights=FILE, keep_logits=False"
            )

    def set_normalization(self, normalization: Normalization) -> None:
        """Change how pixels are normalized, as weights trained elsewhere need it."""
        self.pixel_mean.copy_(torch.tensor(normalization.mean).view(1, 3, 1, 1))
        self.pixel_std.copy_(torch.tensor(normalization.std).view(1, 3, 1, 1))

    def normalize(self, pixels: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Turn RGB pixels (b, 3, h, w), uint8 or float in 0..255, into what the backbone needs.

        Raises:
            ConfigError: another shape or another type of number.
        """
        if pixels.dim() != 4 or pixels.shape[1] != 3 or 0 in pixels.shape:
            raise ConfigError(f"pixels have shape {tuple(pixels.shape)}; give (batch, 3, height, width), RGB")
        if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
            raise ConfigError(f"pixels are {pixels.dtype}; give uint8, or floats in 0..255")
        check_range(self, pixels, 255)
        return (pixels.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
