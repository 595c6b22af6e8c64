"""Segmentation models, which map pixels to class logits of the same size: class, names and construction."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from segmnv2.backbones.backbone import BACKBONES, FOREIGN, Backbone, create_backbone
from segmnv2.errors import ConfigError
from segmnv2.heads.head import HEADS, Head, create_head, model_name
from segmnv2.labels import VOC_LABELS, LabelSet
from segmnv2.models.architecture import Architecture, check_architecture
from segmnv2.models.pixels import TENSORFLOW_NORMALIZATION, Normalization, PixelNetwork
from segmnv2.nn.network import freeze_unused
from segmnv2.nn.stride import upsample_logits


class Segmenter(PixelNetwork):
    """A backbone and a head, with the normalization that their weights need.

    Attributes:
        backbone: normalized images -> feature maps.
        head: feature maps -> logits at its own stride.
        labels: names and colors of the classes.
        architecture: the arguments from which the model was built, if it was built by name.
    """

    kind = "model"
    architecture: Architecture | None

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        *,
        labels: LabelSet | None = None,
        normalization: Normalization = TENSORFLOW_NORMALIZATION,
        architecture: Architecture | None = None,
    ) -> None:
        """Join the parts.

        Args:
            backbone: backbone whose feature maps the head reads.
            head: the head; it is set to the output stride of the backbone.
            labels: one for each logit; by default they are numbered.
            normalization: normalization that the weights need; it is stored in buffers and saved with the weights.
            architecture: arguments from which the model is built; without them, it cannot be saved as a model file.

        Raises:
            ConfigError: the number of labels is not that of the logits, or the head needs other channels.
        """
        super().__init__(normalization)
        labels = labels or LabelSet.numbered(head.num_classes)
        if labels.num_classes != head.num_classes:
            raise ConfigError(f"{labels.num_classes} labels for {head.num_classes} classes; give one for each class")
        given = tuple(backbone.feature_info[index].channels for index in head.reads)
        if head.in_channels != given:
            raise ConfigError(
                f"the head reads {_join(head.in_channels)} channels, the backbone has {_join(given)} there; build the "
                f"head for {_join(given)}"
            )
        self.backbone = backbone
        self.head = head
        self.labels = labels
        self.architecture = architecture
        head.set_output_stride(backbone.output_stride)

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the classes, in the order of their ids."""
        return self.labels.names

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self.labels.num_classes

    @property
    def logits_name(self) -> str:  # type: ignore[override]
        """Name of the layer whose output channels are the classes."""
        return f"head.{self.head.last_layer}"

    @property
    def output_stride(self) -> int:
        """Pixels between two samples of the backbone's last feature map."""
        return self.backbone.output_stride

    @property
    def logits_stride(self) -> int:
        """Pixels between two logits before upsampling: the head's stride."""
        return self.head.logits_stride

    def set_output_stride(self, output_stride: int) -> None:
        """Change the strides, dilations and ASPP rates of backbone and head together; the weights stay.

        Args:
            output_stride: 8, 16 or 32; smaller values give finer logits and are slower.

        Raises:
            ConfigError: any other value.
        """
        self.backbone.set_output_stride(output_stride)
        self.head.set_output_stride(output_stride)

    def raw_logits(self, pixels: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Return the logits before upsampling.

        The normalized image is first padded with zeros (the mean pixel) at the right and bottom. At the resulting sides
        of k * output_stride + 1, the grids of all strides include the corners of the image.

        Args:
            pixels: RGB (b, 3, h, w), uint8 or float in 0..255, any size.

        Returns:
            (b, num_classes, rows, columns); sample (i, j) is at pixel (i, j) * logits_stride.
        """
        x = self.normalize(pixels)
        bottom, right = (-(side - 1) % self.output_stride for side in x.shape[-2:])
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom))
        out: Tensor = self.head(self.head.select(self.backbone(x)))
        return out

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Return logits at the size of the image.

        Args:
            pixels: RGB (b, 3, h, w), uint8 or float in 0..255, any size down to 1 x 1.

        Returns:
            (b, num_classes, h, w), bilinear from the logits' grid with aligned corners.

        Raises:
            ConfigError: the pixels have a wrong shape or data type.
        """
        height, width = pixels.shape[-2:]
        return upsample_logits(self.raw_logits(pixels), self.logits_stride, (height, width))


def _join(channels: tuple[int, ...]) -> str:
    return " and ".join(map(str, channels))


class ModelSpec(NamedTuple):
    """Names of a model's backbone and head."""

    backbone: str
    head: str


MODELS = {model_name(head, backbone): ModelSpec(backbone, head) for backbone in BACKBONES for head in HEADS}
"""Every head on every backbone."""


def list_models() -> tuple[str, ...]:
    """Return the names that :func:`segmnv2.create_model` knows, sorted."""
    return tuple(sorted(MODELS))


def build_model(
    architecture: Architecture,
    *,
    labels: LabelSet | None = None,
    normalization: Normalization = TENSORFLOW_NORMALIZATION,
) -> Segmenter:
    """Build a model with fresh weights from its description.

    By default its labels are VOC's for 21 classes and numbers otherwise.

    Raises:
        ConfigError: the name is unknown, or backbone or head refuse a value.
    """
    check_architecture("model", architecture.to_dict())
    if architecture.name not in MODELS:
        raise ConfigError(f"model '{architecture.name}' is unknown; available are {', '.join(list_models())}")
    spec = MODELS[architecture.name]
    backbone = create_backbone(spec.backbone, output_stride=architecture.output_stride, **architecture.backbone)
    head = create_head(
        spec.head,
        [info.channels for info in backbone.nominal_features],
        [info.stride for info in backbone.nominal_features],
        architecture.num_classes,
        output_stride=architecture.output_stride,
        options=architecture.head,
    )
    if spec.backbone in FOREIGN:
        freeze_unused(backbone, lambda x: head.select(backbone(x)))
    if labels is None and architecture.num_classes == VOC_LABELS.num_classes:
        labels = VOC_LABELS
    return Segmenter(backbone, head, labels=labels, normalization=normalization, architecture=architecture)
