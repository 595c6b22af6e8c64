"""The mIOUs that were published for a choice as it stands here: all that is known of accuracy."""

from __future__ import annotations

from dataclasses import dataclass

from segmnv2.inference.multi_scale import SCALES
from segmnv2.paper.choice import Choice

SIZE = 513


@dataclass(frozen=True)
class Published:
    """A choice's mIOU in percent, on VOC 2012 val after pre-training on COCO, and where it was printed."""

    choice: Choice
    miou: float
    source: str


def _row(backbone: str, output_stride: int, aspp: bool, mf: bool, miou: float, also: str = "") -> Published:
    scales = SCALES if mf else (1.0,)
    choice = Choice(backbone, 1.0, output_stride, aspp, SIZE, scales, flip=mf)
    return Published(choice, miou, "paper, Table 7" + also)


PUBLISHED = (
    _row("mobilenet_v1", 16, True, False, 75.29),
    _row("mobilenet_v1", 8, True, True, 78.56),
    _row("mobilenet_v2", 16, True, False, 75.70),
    _row("mobilenet_v2", 8, True, True, 78.42),
    _row("mobilenet_v2", 16, False, False, 75.32, "; DeepLab's model zoo"),
    _row("mobilenet_v2", 8, False, True, 77.33, "; DeepLab's model zoo"),
)
"""Source: MobileNetV2, Table 7; tensorflow/models research/deeplab/g3doc/model_zoo.md, which prints two of them too.

The zoo's network of width 0.5 is left out: it rounds channels to multiples of 1, those planned here to multiples of 8.
"""


def find_published(choice: Choice) -> Published | None:
    """Return what was published of exactly this choice."""
    return next((one for one in PUBLISHED if one.choice == choice), None)


def distance(choice: Choice) -> int:
    """Return in how many axes a choice differs from the nearest published one."""
    return min(choice.differences(one.choice) for one in PUBLISHED)
