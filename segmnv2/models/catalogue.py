"""The networks of this library by name, and how one is built from its description."""

from __future__ import annotations

from dataclasses import dataclass

from segmnv2.backbones.registry import FOREIGN, create_backbone
from segmnv2.errors import ConfigError
from segmnv2.heads.deeplab_v3 import DeepLabV3Head
from segmnv2.labels import VOC_LABELS, LabelSet
from segmnv2.models.architecture import Architecture
from segmnv2.models.metadata import check_architecture
from segmnv2.models.normalization import TENSORFLOW_NORMALIZATION, Normalization
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.unused import freeze_unused


@dataclass(frozen=True)
class ModelSpec:
    """One network of the zoo: which backbone, and whether its head has ASPP."""

    backbone: str
    aspp: bool
    summary: str


_SUMMARIES = {
    "mobilenet_v1": "MNet V1, with ASPP a row of the paper's Table 7",
    "mobilenet_v2": "MNet V2*, the paper's own; without ASPP its mobile choice",
    "nasnet_a_mobile": "NASNet-A (4 @ 1056), of the paper's Table 4",
    "resnet101": "ResNet-101 as DeepLab's beta variant, with ASPP a row of the paper's Table 7",
    "shufflenet_v1": "ShuffleNet, of the paper's Table 4",
    "shufflenet_v2": "torchvision's ShuffleNetV2",
    "smp": "any encoder of segmentation_models_pytorch, as encoder='resnet34'",
    "timm": "any convolutional pyramid of timm, as model='resnet50'",
}
"""For each backbone, what a network on it is."""

MODELS: dict[str, ModelSpec] = {
    f"deeplabv3_{backbone}{'_aspp' if aspp else ''}": ModelSpec(backbone, aspp=aspp, summary=summary)
    for backbone, summary in _SUMMARIES.items()
    for aspp in (False, True)
}


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
    if spec.backbone in FOREIGN:
        freeze_unused(backbone, lambda x: backbone(x)[-1:])  # the head reads the last map alone
    channels = backbone.feature_info[-1].channels
    head = DeepLabV3Head(channels, architecture.num_classes, aspp=spec.aspp, output_stride=architecture.output_stride)
    if labels is None and architecture.num_classes == VOC_LABELS.num_classes:
        labels = VOC_LABELS
    return Segmenter(backbone, head, labels=labels, normalization=normalization, architecture=architecture)
