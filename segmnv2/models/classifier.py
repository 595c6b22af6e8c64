"""Classifiers, which map pixels to one logit per class, and their safetensors files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segmnv2.backbones.backbone import BACKBONES, FOREIGN, Backbone, backbone_options, create_backbone
from segmnv2.errors import ConfigError, WeightsError, describe_value
from segmnv2.labels import check_class_name
from segmnv2.models.architecture import MOST_CLASSES, ClassifierArchitecture, check_architecture
from segmnv2.models.model_file import (
    network_metadata,
    read_description,
    read_model_file,
    read_normalization,
    rebuildable,
)
from segmnv2.models.pixels import TENSORFLOW_NORMALIZATION, Normalization, PixelNetwork
from segmnv2.models.zoo import start_model
from segmnv2.nn.conv import draw_truncated_normal
from segmnv2.nn.network import freeze_unused
from segmnv2.weights.loading import build_filled
from segmnv2.weights.safetensors_file import write_safetensors

IMAGENET_CLASSES = 1000
DROPOUT = 0.2
LOGITS_STD = 0.09
CLASSIFIER_STRIDE = 32


class Classifier(PixelNetwork):
    """A backbone, the mean over its last feature map, dropout, and a linear layer.

    Attributes:
        backbone: normalized images -> feature maps.
        logits: the linear layer.
        class_names: one for each logit.
        architecture: the arguments from which the model was built, if it was built by name.

    Source: MobileNetV2, Table 2; ``mobilenet`` of slim/nets/mobilenet/mobilenet.py (keep probability 0.8).
    """

    kind = "classifier"
    logits_name = "logits"
    architecture: ClassifierArchitecture | None

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        *,
        dropout: float = DROPOUT,
        normalization: Normalization = TENSORFLOW_NORMALIZATION,
        architecture: ClassifierArchitecture | None = None,
    ) -> None:
        """Join the parts.

        Args:
            backbone: backbone whose last feature map is classified.
            class_names: one for each logit.
            dropout: share of the pooled features dropped in training.
            normalization: normalization that the weights need; it is stored in buffers and saved with the weights.
            architecture: arguments from which the model is built; without them, it cannot be saved as a model file.

        Raises:
            ConfigError: there is no class, or two classes have the same name.
        """
        super().__init__(normalization)
        for name in class_names:
            check_class_name(name)
        if not class_names or len(set(class_names)) != len(class_names):
            twice = sorted({n for n in class_names if list(class_names).count(n) > 1})
            fault = f"{twice} occur more than once" if twice else "none are given"
            raise ConfigError(f"class_names: {fault}; give each class its own name")
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(backbone.feature_info[-1].channels, len(class_names))
        draw_truncated_normal(self.logits, LOGITS_STD)
        nn.init.zeros_(self.logits.bias)
        self.class_names = tuple(class_names)
        self.architecture = architecture

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return len(self.class_names)

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Return logits (b, num_classes) of RGB pixels (b, 3, h, w), uint8 or float in 0..255, any size.

        Raises:
            ConfigError: the pixels have a wrong shape or data type.
        """
        features = self.backbone(self.normalize(pixels))[-1]
        out: Tensor = self.logits(self.dropout(features.mean((2, 3))))
        return out


def create_classifier(
    name: str,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    normalization: Normalization | None = None,
    weights: str | Path | None = None,
    keep_logits: bool = True,
    backbone_weights: str | Path | None = None,
    **options: Any,
) -> Classifier:
    """Build a classifier on a backbone, with fresh weights or weights from a file.

    The backbone includes the last 1x1 convolution that segmentation omits, such as MobileNetV2's 1280 channels.

    Args:
        name: a name of :data:`segmnv2.backbones.backbone.BACKBONES`.
        num_classes: number of classes; that of ``class_names`` by default, else ImageNet's 1000.
        class_names: one for each class; by default those of ``weights``, else numbers. Weights whose classes have other
            names or another order are refused unless ``keep_logits`` is false.
        normalization: normalization of pixels; by default the one that the weights need, and -1..1 without weights.
        weights: a classifier's safetensors file, as ``segmnv2 train`` writes it.
        keep_logits: whether to load the last layer of ``weights`` too; ``False`` for other classes.
        backbone_weights: a file of which only the backbone is loaded, including its last 1x1 convolution.
        options: arguments of the backbone, such as ``width=1.4``.

    Returns:
        The classifier in training mode; it maps pixels (b, 3, h, w) to logits (b, num_classes).

    Raises:
        ConfigError: a name or option is unknown, the number of names is not that of the classes, or both kinds of
            weights are given.
        WeightsError: a file is missing, damaged or does not fit.
    """
    if weights is not None and backbone_weights is not None:
        raise ConfigError(
            "weights and backbone_weights are both given; name one file, of the whole model or of the backbone"
        )
    if num_classes is not None and (type(num_classes) is not int or not 1 <= num_classes <= MOST_CLASSES):
        raise ConfigError(f"num_classes {describe_value(num_classes)} is not an integer in 1..{MOST_CLASSES}")
    if class_names is None and weights is not None and keep_logits:
        description = read_description(weights)
        names = description["architecture"]["class_names"] if description["kind"] == Classifier.kind else ()
        class_names = names if names and num_classes in (None, len(names)) else None
    if class_names is None:
        class_names = [str(number) for number in range(IMAGENET_CLASSES if num_classes is None else num_classes)]
    check_architecture("classifier", {"name": name, "class_names": class_names})
    if num_classes is not None and num_classes != len(class_names):
        raise ConfigError(f"num_classes {num_classes} and {len(class_names)} class_names disagree; give one of them")
    architecture = ClassifierArchitecture(name, tuple(class_names), options)
    model = build_classifier(architecture)  # refuses wrong options before they are used
    start_model(model, architecture, normalization, weights or backbone_weights, keep_logits, weights is None)
    return model


def build_classifier(
    architecture: ClassifierArchitecture, *, normalization: Normalization = TENSORFLOW_NORMALIZATION
) -> Classifier:
    """Build a classifier with fresh weights from its description.

    Raises:
        ConfigError: a name is unknown, or the backbone refuses a value.
    """
    check_architecture("classifier", architecture.to_dict())
    last = {"last_conv": True} if has_last_conv(architecture.name) else {}
    backbone = create_backbone(architecture.name, output_stride=CLASSIFIER_STRIDE, **{**last, **architecture.backbone})
    if architecture.name in FOREIGN:
        freeze_unused(backbone, lambda x: backbone(x)[-1:])
    return Classifier(backbone, architecture.class_names, normalization=normalization, architecture=architecture)


def has_last_conv(name: str) -> bool:
    """Return whether a backbone has a last 1x1 convolution that segmentation omits."""
    return name in BACKBONES and "last_conv" in backbone_options(name)


def save_classifier(path: str | Path, model: Classifier, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write a classifier that was built by name.

    Args:
        path: file to write; an existing one is replaced only when the new one is complete.
        model: the classifier.
        provenance: origin of the weights, as JSON values.

    Returns:
        The path. ``create_model(..., backbone_weights=path)`` starts a segmentation model from it.

    Raises:
        ConfigError: the model was joined from parts and so cannot be rebuilt, or its last layer does not have one
            output for each class name.
        WeightsError: the file cannot be written.
    """
    architecture = {
        **rebuildable(model, "create_classifier"),
        "class_names": list(model.class_names),
        "output_stride": model.backbone.output_stride,
    }
    metadata = network_metadata(model.kind, architecture, model.normalization, provenance)
    return write_safetensors(path, model.state_dict(), metadata)


def load_classifier(path: str | Path) -> Classifier:
    """Build the classifier that a file describes and load its weights.

    Args:
        path: a safetensors file of :func:`save_classifier`.

    Returns:
        The classifier in evaluation mode, on the CPU.

    Raises:
        WeightsError: the file is missing or damaged, holds no classifier, or its tensors do not fit its description.
    """
    tensors, metadata = read_model_file(path)
    if metadata["kind"] != Classifier.kind:
        raise WeightsError(
            f"{path}: holds a {metadata['kind']}, not a classifier; give a file that `segmnv2 train` wrote for "
            "an experiment in classification, or save_classifier"
        )
    try:
        values = dict(metadata["architecture"])
        output_stride = values.pop("output_stride", CLASSIFIER_STRIDE)
        architecture = ClassifierArchitecture(**{**values, "class_names": tuple(values["class_names"])})
        pixels = read_normalization(metadata)
        model = build_filled(lambda: build_classifier(architecture, normalization=pixels), tensors, str(path))
        if output_stride != model.backbone.output_stride:
            model.backbone.set_output_stride(output_stride)
    except ConfigError as error:
        raise WeightsError(f"{path}: no model can be built from its description ({error}); train it again") from error
    return model.eval()
