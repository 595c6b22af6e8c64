"""Samples, and the interface of data sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np
from jaxtyping import Float, Int64, UInt8

from segmnv2.labels import LabelSet

if TYPE_CHECKING:
    from torch import Tensor

Image = UInt8[np.ndarray, "h w 3"]
"""RGB, 0..255."""

Mask = UInt8[np.ndarray, "h w"]
"""Class ids, or the ignore index of the labels."""


@dataclass(frozen=True)
class Sample:
    """An image with its mask.

    Attributes:
        image: uint8 (H, W, 3), RGB, 0..255.
        mask: uint8 (H, W), class ids or the ignore index.
        name: name of result files of the sample, without ending.
    """

    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]
    name: str


@dataclass(frozen=True)
class LabeledImage:
    """An image with its class.

    Attributes:
        image: uint8 (H, W, 3), RGB, 0..255.
        label: index of its class.
        name: path of its file below the data set's folder.
    """

    image: UInt8[np.ndarray, "h w 3"]
    label: int
    name: str


class Target(TypedDict):
    """Boxes and classes of an image, in torchvision's format.

    ``boxes``: x1, y1, x2, y2 in pixels. ``labels``: category ids, COCO's 1 to 90 with gaps. ``image_id``: id of
    the image. ``name``: file of the image.
    """

    boxes: Float[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    image_id: int
    name: str


class SegmentationDataset(Protocol):
    """Samples by index, with ids of ``labels`` in their masks; an unreadable sample raises a ``SegmnError``."""

    @property
    def labels(self) -> LabelSet:
        """Names and colors of the classes, and the ignore index."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...
