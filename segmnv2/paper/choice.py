"""Choices of a model and its inference settings: their order, and published accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from segmnv2.errors import ConfigError
from segmnv2.inference.canvas import SCALES
from segmnv2.nn.stride import OUTPUT_STRIDES
from segmnv2.paper.table7 import SIZE, TABLE7, PaperRow

WIDTHS = {
    "mobilenet_v1": (0.25, 0.5, 0.75, 1.0),
    "mobilenet_v2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
}
"""Widths with published ImageNet weights. Source: slim/nets/mobilenet_v1.md and slim/nets/mobilenet/README.md."""

SIZES = (129, 193, 257, 321, 385, 513, 641, 769)
SIDE_STEP = 32
"""Sizes are a multiple of this plus 1, so that no output stride needs padding."""
SMALLEST_SIZE = 65

SCALE_SETS = ((1.0,), (0.75, 1.0, 1.25), (0.5, 0.75, 1.0, 1.25, 1.5), SCALES)
"""Scales whose scores are averaged; each set contains the one before."""


@dataclass(frozen=True)
class Choice:
    """A model and its inference settings.

    Attributes:
        backbone: ``"mobilenet_v2"`` or ``"mobilenet_v1"``.
        width: multiplier of the backbone's channels.
        output_stride: 8, 16 or 32.
        aspp: whether the head has ASPP.
        size: side of the canvas, the model's input, in pixels.
        scales: scales of the canvas; their scores are averaged.
        flip: whether each scale is also run mirrored.
    """

    backbone: str
    width: float
    output_stride: int
    aspp: bool
    size: int
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    @property
    def model(self) -> str:
        """Name of the model for :func:`segmnv2.create_model`."""
        return f"deeplabv3_{self.backbone}{'_aspp' if self.aspp else ''}"

    @property
    def passes(self) -> int:
        """Number of passes of the model for one image."""
        return len(self.scales) * (1 + self.flip)

    def at_least(self, other: Choice) -> bool:
        """Return whether this choice is at least as good as another on every axis; mIOU is not compared."""
        return (
            self.backbone == other.backbone
            and self.width >= other.width
            and self.output_stride <= other.output_stride
            and self.aspp >= other.aspp
            and self.size >= other.size
            and set(self.scales) >= set(other.scales)
            and self.flip >= other.flip
        )

    def differences(self, other: Choice) -> int:
        """Return the number of axes on which two choices differ."""
        mine, others = asdict(self), asdict(other)
        return sum(mine[axis] != others[axis] for axis in mine)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"model": self.model, **asdict(self), "scales": list(self.scales)}

    def __str__(self) -> str:
        """Return the choice in words."""
        inference = f"{len(self.scales)} scale{'s' * (len(self.scales) > 1)}{' with flips' if self.flip else ''}"
        head = "with ASPP" if self.aspp else "no ASPP"
        return (
            f"{self.backbone} width {self.width:g}, output stride {self.output_stride}, {head}, size {self.size}, "
            f"{inference}"
        )


def list_choices(
    backbone: str = "mobilenet_v2", widths: Sequence[float] = (), sizes: Sequence[int] = ()
) -> list[Choice]:
    """Return all choices of a backbone, by default of its usual widths and :data:`SIZES`.

    Raises:
        ConfigError: the backbone is unknown, a width is out of range, or a size is not 32 k + 1.
    """
    if backbone not in WIDTHS:
        raise ConfigError(f"backbone {backbone!r} is not known to the planner; give {' or '.join(sorted(WIDTHS))}")
    for width in widths:
        if not 0.05 <= width <= 4.0:
            usual = ", ".join(f"{one:g}" for one in WIDTHS[backbone])
            raise ConfigError(f"width {width!r} is not in 0.05..4.0; usual ones are {usual}")
    for size in sizes:
        if size < SMALLEST_SIZE or size % SIDE_STEP != 1:
            below = max((size - 1) // SIDE_STEP * SIDE_STEP + 1, SMALLEST_SIZE)
            above = f" or {below + SIDE_STEP}" if size > SMALLEST_SIZE else ""
            first = ", ".join(str(SMALLEST_SIZE + step * SIDE_STEP) for step in range(3))
            raise ConfigError(f"size {size!r} is not one of {first}, ...; give {below}{above}")
    axes = (
        sorted(set(widths or WIDTHS[backbone])),
        OUTPUT_STRIDES,
        (False, True),
        sorted(set(sizes or SIZES)),
        SCALE_SETS,
        (False, True),
    )
    return [Choice(backbone, *values) for values in product(*axes)]


def maximal(choices: Sequence[Choice]) -> list[Choice]:
    """Return the maximal choices of one backbone, in their order.

    A choice is maximal if no other one is at least as good on every axis.
    """
    scales = sorted({scale for choice in choices for scale in choice.scales})
    # One row per choice; in every column larger is better.
    rows = [
        (c.width, -c.output_stride, c.aspp, c.size, c.flip, *(scale in c.scales for scale in scales)) for c in choices
    ]
    table = np.array(rows, dtype=np.float64)
    return [choice for choice, row in zip(choices, table, strict=True) if (table >= row).all(axis=1).sum() == 1]


@dataclass(frozen=True)
class Published:
    """A published mIOU of a choice, in percent on VOC 2012 val after pre-training on COCO, and its source."""

    choice: Choice
    miou: float
    source: str


def _published(row: PaperRow) -> Published:
    backbone, scales = row.model.removeprefix("deeplabv3_").removesuffix("_aspp"), SCALES if row.mf else (1.0,)
    choice = Choice(backbone, 1.0, row.output_stride, row.aspp, SIZE, scales, flip=row.mf)
    return Published(choice, row.miou, "paper, Table 7" + ("" if row.aspp else "; DeepLab's model zoo"))


PUBLISHED = tuple(published for row in TABLE7 if (published := _published(row)).choice.backbone in WIDTHS)
"""Source: MobileNetV2, Table 7. tensorflow/models research/deeplab/g3doc/model_zoo.md prints two of them too.

The zoo's model of width 0.5 is omitted: its channels are multiples of 1, and here they are multiples of 8.
"""


def find_published(choice: Choice) -> Published | None:
    """Return the published accuracy of exactly this choice, or ``None``."""
    return next((one for one in PUBLISHED if one.choice == choice), None)


def distance(choice: Choice) -> int:
    """Return the number of axes on which a choice differs from the nearest published one."""
    return min(choice.differences(one.choice) for one in PUBLISHED)
