"""A choice: which network looks at how large an image, how often; which are better, and what was published."""

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
"""Widths for which there are ImageNet weights. Source: slim/nets/mobilenet_v1.md and slim/nets/mobilenet/README.md."""

SIZES = (129, 193, 257, 321, 385, 513, 641, 769)
SIDE_STEP = 32
"""Sizes are a multiple of it and one, for which no output stride pads."""
SMALLEST_SIZE = 65

SCALE_SETS = ((1.0,), (0.75, 1.0, 1.25), (0.5, 0.75, 1.0, 1.25, 1.5), SCALES)
"""Scales to average over; each set contains the one before."""


@dataclass(frozen=True)
class Choice:
    """A network and how it is used.

    Attributes:
        backbone: ``"mobilenet_v2"`` or ``"mobilenet_v1"``.
        width: multiplier of the backbone's channels.
        output_stride: 8, 16 or 32.
        aspp: whether the head has ASPP.
        size: side of the canvas, the network's input, in pixels.
        scales: scales of the canvas, over which is averaged.
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
        """Name of the network for :func:`segmnv2.create_model`."""
        return f"deeplabv3_{self.backbone}{'_aspp' if self.aspp else ''}"

    @property
    def passes(self) -> int:
        """Number of passes of the network for one image."""
        return len(self.scales) * (1 + self.flip)

    def at_least(self, other: Choice) -> bool:
        """Return whether this choice is as good as another in every axis; of mIOU it says nothing."""
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
        """Return in how many axes two choices differ."""
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
    """Return all choices of a backbone, of its usual widths and :data:`SIZES` unless others are given.

    Raises:
        ConfigError: an unknown backbone, a width that no network has, or a size that is not 32 k + 1.
    """
    if backbone not in WIDTHS:
        raise ConfigError(f"backbone {backbone!r} cannot be planned with; give {' or '.join(sorted(WIDTHS))}")
    for width in widths:
        if not 0.05 <= width <= 4.0:
            usual = ", ".join(f"{one:g}" for one in WIDTHS[backbone])
            raise ConfigError(f"width {width!r} is not in 0.05..4.0; usual ones are {usual}")
    for size in sizes:
        if size < SMALLEST_SIZE or size % SIDE_STEP != 1:
            below = max((size - 1) // SIDE_STEP * SIDE_STEP + 1, SMALLEST_SIZE)
            above = f" or {below + SIDE_STEP}" if size > SMALLEST_SIZE else ""
            raise ConfigError(
                f"size {size!r} is not {SIDE_STEP} k + 1 and at least {SMALLEST_SIZE}; give {below}{above}"
            )
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
    """Return those of a backbone's choices than which no other is at least as good in every axis and better in one."""
    scales = sorted({scale for choice in choices for scale in choice.scales})
    # A row for each choice, in which larger is better in every column.
    rows = [
        (c.width, -c.output_stride, c.aspp, c.size, c.flip, *(scale in c.scales for scale in scales)) for c in choices
    ]
    table = np.array(rows, dtype=np.float64)
    alone = [(table >= row).all(axis=1).sum() == 1 for row in table]  # no row but itself is at least as good
    return [choice for choice, is_maximal in zip(choices, alone, strict=True) if is_maximal]


@dataclass(frozen=True)
class Published:
    """A choice's mIOU in percent, on VOC 2012 val after pre-training on COCO, and where it was printed."""

    choice: Choice
    miou: float
    source: str


def _published(row: PaperRow) -> Published:
    backbone, scales = row.model.removeprefix("deeplabv3_").removesuffix("_aspp"), SCALES if row.mf else (1.0,)
    choice = Choice(backbone, 1.0, row.output_stride, row.aspp, SIZE, scales, flip=row.mf)
    return Published(choice, row.miou, "paper, Table 7" + ("" if row.aspp else "; DeepLab's model zoo"))


PUBLISHED = tuple(published for row in TABLE7 if (published := _published(row)).choice.backbone in WIDTHS)
"""Source: MobileNetV2, Table 7; tensorflow/models research/deeplab/g3doc/model_zoo.md, which prints two of them too.

The zoo's network of width 0.5 is left out: it rounds channels to multiples of 1, those planned here to multiples of 8.
"""


def find_published(choice: Choice) -> Published | None:
    """Return what was published of exactly this choice."""
    return next((one for one in PUBLISHED if one.choice == choice), None)


def distance(choice: Choice) -> int:
    """Return in how many axes a choice differs from the nearest published one."""
    return min(choice.differences(one.choice) for one in PUBLISHED)
