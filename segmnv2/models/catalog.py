"""The networks of this library by name, and how one is built from its description."""

from __future__ import annotations

from typing import NamedTuple

from segmnv2.backbones.backbone import BACKBONES, FOREIGN, create_backbone
from segmnv2.errors import ConfigError
from segmnv2.heads.head import HEADS, create_head, model_name
from segmnv2.labels import VOC_LABELS, LabelSet
from segmnv2.models.architecture import Architecture, check_architecture
from segmnv2.models.pixels import TENSORFLOW_NORMALIZATION, Normalization
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.network import freeze_unused


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
    """Build a network with fresh weights from its description.

    Args:
        architecture: what to build.
        labels: one for each class; VOC's for 21 classes and numbered ones otherwise, by default.
        normalization: of the pixels.

    Raises:
        ConfigError: an unknown name or a value that a part refuses.
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
