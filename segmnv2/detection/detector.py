"""A detector with the names of its classes and what it was built from, so that it can be saved, trained and shown."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.ssd import SSD

from segmnv2.backbones.backbone import Backbone
from segmnv2.backbones.registry import FOREIGN
from segmnv2.detection.detector_backbone import PIXEL_RANGE
from segmnv2.detection.faster_rcnn import faster_rcnn
from segmnv2.detection.ssdlite import ssdlite
from segmnv2.errors import ConfigError, describe_value
from segmnv2.hub.resolve import takes_names
from segmnv2.labels import check_class_name
from segmnv2.models.architecture import check_architecture
from segmnv2.models.pixels import Normalization, check_range
from segmnv2.models.zoo import without_pretrained
from segmnv2.nn.network import Network, freeze_unused

Detections = dict[str, Tensor]
"""Of one image: ``boxes`` float (n, 4) as x1, y1, x2, y2 in its pixels, ``labels`` int64 (n,), ``scores`` (n,) 0..1."""


@dataclass(frozen=True)
class Family:
    """A kind of detector.

    Attributes:
        build: its function in this package.
        network: torchvision's class.
        size: side or shorter side of the network's input, in pixels, unless another is given.
        predictor: what the names of tensors begin with that belong to the classes.
    """

    build: Callable[..., nn.Module]
    network: type[nn.Module]
    size: int
    predictor: str


FAMILIES = {
    "faster_rcnn": Family(faster_rcnn, FasterRCNN, 800, "roi_heads.box_predictor."),
    "ssdlite": Family(ssdlite, SSD, 320, "head.classification_head."),
}
"""Of :func:`create_detector`, by name."""


@dataclass(frozen=True)
class DetectorArchitecture:
    """All that is needed to build a detector again, weights apart.

    Attributes:
        detector: a key of :data:`FAMILIES`.
        name: of the backbone.
        class_names: category id -> name.
        size: side (SSDLite) or shorter side (Faster R-CNN) of the network's input, in pixels.
        output_stride: of the backbone.
        backbone: arguments of the backbone's constructor that were given.
        options: of torchvision's class.
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
        """Undo :meth:`to_dict`.

        Args:
            values: its values, which :func:`segmnv2.models.architecture.check_architecture` accepts.
        """
        return cls(**{**values, "class_names": {int(number): name for number, name in values["class_names"].items()}})


class Detector(Network):
    """One of torchvision's detectors on a backbone of this library.

    Attributes:
        network: torchvision's ``SSD`` or ``FasterRCNN``.
        architecture: what it was built from.
    """

    kind: ClassVar[str] = "detector"
    network: Any

    def __init__(self, network: nn.Module, architecture: DetectorArchitecture) -> None:
        """Keep a network and what it was built from."""
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
        found = self.network.backbone.backbone
        assert isinstance(found, Backbone)
        return found

    @property
    def normalization(self) -> Normalization:
        """Normalization of the pixels."""
        values = (self.network.transform.image_mean, self.network.transform.image_std)
        mean, std = ([float(f"{PIXEL_RANGE * v:.12g}") for v in each] for each in values)
        return Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    def set_normalization(self, normalization: Normalization) -> None:
        """Change how pixels are normalized, as weights trained elsewhere need it."""
        self.network.transform.image_mean = [value / PIXEL_RANGE for value in normalization.mean]
        self.network.transform.image_std = [value / PIXEL_RANGE for value in normalization.std]

    def forward(self, images: Sequence[Float[Tensor, "3 _h _w"]], targets: Any = None) -> Any:
        """Return a dict of losses in training, and a dict of boxes, labels and scores for each image in evaluation.

        Args:
            images: float RGB (3, h, w) in 0..1, of any sizes.
            targets: in training, a dict with ``boxes`` (n, 4) and ``labels`` (n,) for each image.
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
    """Build a detector that knows its classes.

    Args:
        detector: ``ssdlite`` or ``faster_rcnn``.
        backbone: a name of :data:`segmnv2.backbones.registry.BACKBONES`.
        class_names: category id -> name; ids from 1, gaps allowed, as COCO's 1 to 90.
        size: side of the square that SSDLite sees, 320 by default; shorter side of what Faster R-CNN sees, 800.
        output_stride: 8, 16 or 32, of the backbone's last map.
        normalization: of the pixels; by default that of the weights.
        backbone_weights: a file of which the backbone is taken, as the ImageNet one.
        backbone_options: arguments of the backbone, as ``{"width": 0.5}``.
        options: of torchvision's class, as ``score_thresh``.

    Returns:
        The detector in training mode.

    Raises:
        ConfigError: an unknown name or option, or a value that a part refuses.
        WeightsError: a file that is missing, damaged or does not fit.
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
    _check_options(detector, side, options)
    given = without_pretrained(backbone_options or {})  # what is saved holds the weights
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
    except AssertionError as error:  # of torchvision, where two options exclude each other
        raise ConfigError(
            f"{detector} cannot have the options {describe_value(options)}: {error}; change them"
        ) from error
    found = Detector(network, architecture)
    if backbone in FOREIGN:
        freeze_unused(found.network.backbone, lambda x: found.network.backbone(x).values())
    if normalization is not None:
        found.set_normalization(normalization)
    return found


def _check_options(detector: str, size: int, options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(FAMILIES[detector].network).parameters
    for name, value in options.items():
        usual = True if name == "fpn" else parameters[name].default
        if type(value) is not type(usual) and not (isinstance(usual, float) and type(value) is int):
            kind = {bool: "true or false", int: "an integer"}.get(type(usual), "a number")
            raise ConfigError(f"{detector} takes {kind} as {name}, not {describe_value(value)}; the usual is {usual}")
        if name.endswith("thresh") and not 0 <= value <= 1:
            raise ConfigError(f"{detector} takes 0 to 1 as {name}, not {value}; the usual is {usual}")
        if name.endswith("fraction") and not 0 < value <= 1:
            raise ConfigError(f"{detector} takes above 0 up to 1 as {name}, not {value}; the usual is {usual}")
        if type(usual) is int and value < 1:
            raise ConfigError(f"{detector} takes 1 or more as {name}, not {value}; the usual is {usual}")
    longest = options.get("max_size", parameters["max_size"].default) if "max_size" in parameters else size
    if type(size) is int and size > longest:  # images would be scaled down to max_size without a word
        raise ConfigError(
            f"size {size} is above max_size {longest}, the bound of the longer side; give the option max_size too, as "
            f"{size * 5 // 3}"
        )


def detector_options(detector: str) -> tuple[str, ...]:
    """Return the numbers that torchvision's class takes, as ``score_thresh``.

    Args:
        detector: a key of :data:`FAMILIES`.
    """
    parameters = inspect.signature(FAMILIES[detector].network).parameters
    numbers = [name for name, each in parameters.items() if isinstance(each.default, int | float)]
    own = ["fpn"] if detector == "faster_rcnn" else []
    return tuple(own + [name for name in numbers if name not in ("size", "min_size")])
