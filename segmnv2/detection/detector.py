"""Detectors with class names and architecture, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backbones.backbone import FOREIGN, Backbone
from segmnv2.detection.families import FAMILIES, Family, check_options, detector_options
from segmnv2.detection.features import PIXEL_RANGE, image_statistics
from segmnv2.errors import ConfigError, WeightsError, describe_value
from segmnv2.hub.resolve import takes_names
from segmnv2.labels import check_class_name
from segmnv2.models.architecture import check_architecture
from segmnv2.models.compatibility import check_same_backbone, check_same_classes
from segmnv2.models.model_file import network_metadata, read_model_file, read_normalization
from segmnv2.models.pixels import Normalization, check_range
from segmnv2.models.zoo import without_pretrained
from segmnv2.nn.network import Network, freeze_unused
from segmnv2.weights.loading import build_filled, load_strict
from segmnv2.weights.safetensors_file import write_safetensors

Detections = dict[str, Tensor]
"""``boxes`` float (n, 4), x1, y1, x2, y2 in pixels of an image; ``labels`` int64 (n,); ``scores`` (n,) 0..1."""


@dataclass(frozen=True)
class DetectorArchitecture:
    """Description of a detector: everything except the weights that is needed to rebuild it.

    The fields are the arguments of :func:`create_detector`, except for these two.

    Attributes:
        name: name of the backbone.
        backbone: the given arguments of the backbone's constructor.
    """

    detector: str
    name: str
    class_names: Mapping[int, str]
    size: int
    output_stride: int = 32
    backbone: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all arguments as JSON values."""
        return {**asdict(self), "class_names": {str(number): name for number, name in self.class_names.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DetectorArchitecture:
        """Return the inverse of :meth:`to_dict`.

        The values must pass :func:`segmnv2.models.architecture.check_architecture`.
        """
        return cls(**{**values, "class_names": {int(number): name for number, name in values["class_names"].items()}})


class Detector(Network):
    """One of torchvision's detectors on a backbone of this library.

    Attributes:
        network: torchvision's ``SSD`` or ``FasterRCNN``.
        architecture: the arguments from which it was built.
    """

    kind: ClassVar[str] = "detector"
    network: Any

    def __init__(self, network: nn.Module, architecture: DetectorArchitecture) -> None:
        """Wrap torchvision's detector."""
        super().__init__()
        self.network = network
        self.architecture = architecture

    @property
    def class_names(self) -> Mapping[int, str]:
        """Category id -> name."""
        return self.architecture.class_names

    @property
    def family(self) -> Family:
        """Kind of the detector."""
        return FAMILIES[self.architecture.detector]

    @property
    def backbone(self) -> Backbone:
        """The backbone: normalized images -> feature maps."""
        backbone = self.network.backbone.backbone
        assert isinstance(backbone, Backbone)
        return backbone

    @property
    def normalization(self) -> Normalization:
        """Normalization of the pixels."""
        statistics = (self.network.transform.image_mean, self.network.transform.image_std)
        mean, std = ([float(f"{PIXEL_RANGE * value:.12g}") for value in values] for values in statistics)
        return Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    def set_normalization(self, normalization: Normalization) -> None:
        """Change the normalization of pixels to the one that loaded weights need."""
        vars(self.network.transform).update(image_statistics(normalization))

    def forward(self, images: Sequence[Float[Tensor, "3 _h _w"]], targets: Any = None) -> Any:
        """Return a dict of losses in training mode, else a dict of boxes, labels and scores for each image.

        Args:
            images: float RGB (3, h, w) in 0..1, of any sizes.
            targets: in training mode, a dict with ``boxes`` (n, 4) and ``labels`` (n,) for each image.
        """
        images = list(images)
        if images:
            check_range(self, images[0], 1)
        return self.network(images, targets)


@takes_names("backbone_weights")
def create_detector(
    detector: str,
    backbone: str = "mobilenet_v2",
    *,
    class_names: Mapping[int, str],
    size: int | None = None,
    output_stride: int = 32,
    normalization: Normalization | None = None,
    backbone_weights: str | Path | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Detector:
    """Build a detector with class names.

    Args:
        detector: ``ssdlite`` or ``faster_rcnn``.
        backbone: a name of :data:`segmnv2.backbones.backbone.BACKBONES`.
        class_names: category id -> name; ids begin at 1 and may have gaps, such as COCO's 1 to 90.
        size: input size: side of the square for SSDLite, 320 by default, or shorter side for Faster R-CNN, 800.
        output_stride: output stride of the backbone, 8, 16 or 32.
        normalization: normalization of the pixels; by default that of the weights.
        backbone_weights: a file of which only the backbone is loaded, such as one trained on ImageNet.
        backbone_options: arguments of the backbone, such as ``{"width": 0.5}``.
        options: options of torchvision's class, such as ``score_thresh``.

    Returns:
        The detector in training mode.

    Raises:
        ConfigError: a name or option is unknown, or a value is not possible.
        WeightsError: the file is missing, damaged or does not fit.
    """
    if not isinstance(detector, str) or detector not in FAMILIES:
        raise ConfigError(f"detector {detector!r} is unknown; available are {', '.join(FAMILIES)}")
    mappings: dict[str, object] = {"class_names": class_names, "backbone_options": backbone_options or {}}
    for key, value in mappings.items():
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} {describe_value(value)} is not a mapping; give a dict")
    if not class_names or not all(type(number) is int and number > 0 for number in class_names):
        raise ConfigError(f"class_names {describe_value(class_names)} are not possible; number the classes from 1")
    for name in class_names.values():
        check_class_name(name)
    family = FAMILIES[detector]
    unknown = sorted(options.keys() - set(detector_options(detector)))
    if unknown:
        raise ConfigError(
            f"{detector} has no option {', '.join(unknown)}; it has {', '.join(detector_options(detector))}"
        )
    side = family.size if size is None else size
    check_options(detector, side, options)
    given = without_pretrained(backbone_options or {})  # a saved file contains the weights
    architecture = DetectorArchitecture(detector, backbone, dict(class_names), side, output_stride, given, options)
    check_architecture("detector", architecture.to_dict())
    try:
        network = family.build(
            backbone,
            num_classes=max(class_names) + 1,
            output_stride=output_stride,
            backbone_weights=backbone_weights,
            backbone_options=dict(backbone_options or {}),
            **({"size": (side, side)} if detector == "ssdlite" else {"min_size": side}),
            **options,
        )
    except AssertionError as error:  # of torchvision, if two options exclude each other
        raise ConfigError(
            f"{detector} cannot have the options {describe_value(options)}: {error}; change them"
        ) from error
    model = Detector(network, architecture)
    if backbone in FOREIGN:
        freeze_unused(model.network.backbone, lambda x: model.network.backbone(x).values())
    if normalization is not None:
        model.set_normalization(normalization)
    return model


def save_detector(path: str | Path, model: Detector, provenance: Mapping[str, Any] | None = None) -> Path:
    """Write a detector.

    Args:
        path: file to write; an existing one is replaced only when the new one is complete.
        model: the detector; its current output stride is stored too.
        provenance: origin of the weights, as JSON values.

    Returns:
        The path. ``backbone_weights=path`` starts any other model on the same backbone from it.

    Raises:
        WeightsError: the file cannot be written.
    """
    architecture = {**model.architecture.to_dict(), "output_stride": model.backbone.output_stride}
    metadata = network_metadata(model.kind, architecture, model.normalization, provenance)
    return write_safetensors(path, model.network.state_dict(), metadata)


@takes_names("path")
def load_detector(path: str | Path) -> Detector:
    """Build the detector that a file describes and load its weights.

    Args:
        path: a safetensors file of :func:`save_detector`.

    Returns:
        The detector in evaluation mode, on the CPU; ``.network`` is torchvision's.

    Raises:
        WeightsError: the file is missing or damaged, holds no detector, or its tensors do not fit its description.
    """
    tensors, metadata = _read(path)
    try:
        architecture = DetectorArchitecture.from_dict(metadata["architecture"])
        build = partial(
            create_detector,
            architecture.detector,
            architecture.name,
            class_names=architecture.class_names,
            size=architecture.size,
            output_stride=architecture.output_stride,
            normalization=read_normalization(metadata),
            backbone_options=architecture.backbone,
            **architecture.options,
        )
        model = build_filled(build, {f"network.{name}": tensor for name, tensor in tensors.items()}, str(path))
    except ConfigError as error:
        raise WeightsError(f"{path}: no model can be built from its description ({error}); train it again") from error
    return model.eval()


def load_detector_weights(model: Detector, path: str | Path, *, keep_logits: bool = True) -> None:
    """Load the weights and normalization of a file into a detector of the same kind on the same backbone.

    Without ``keep_logits`` the layers of the classes are not loaded, so that the detector can be trained on others.

    Raises:
        WeightsError: the file is missing or damaged, has another kind of detector or backbone, or other classes.
    """
    tensors, metadata = _read(path)
    own, theirs = model.architecture, metadata["architecture"]
    if theirs.get("detector") != own.detector:
        raise WeightsError(f"{path}: holds a {theirs.get('detector')}, not a {own.detector}; give a file of that kind")
    check_same_backbone(own.name, own.backbone, metadata, str(path))
    if keep_logits:
        here, there = (
            [f"{number} {name}" for number, name in sorted((int(number), name) for number, name in names.items())]
            for names in (own.class_names, theirs["class_names"])
        )
        check_same_classes(here, there, str(path))
    else:
        fresh = {k: v for k, v in model.network.state_dict().items() if k.startswith(model.family.predictor)}
        tensors = {**tensors, **fresh}
    load_strict(model.network, tensors, str(path))
    model.set_normalization(read_normalization(metadata))


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    tensors, metadata = read_model_file(path)
    if metadata["kind"] != Detector.kind:
        raise WeightsError(
            f"{path}: holds a {metadata['kind']}, not a detector; give a file that `segmnv2 train` wrote for an "
            "experiment in detection, or save_detector"
        )
    return tensors, metadata
