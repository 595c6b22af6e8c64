"""Samples, and the interface of data sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from segmnv2.labels import LabelSet

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
        name: what files made from the sample are called, without suffix.
    """

    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]
    name: str


class SegmentationDataset(Protocol):
    """Samples by index, whose masks hold ids of ``labels`` only; what cannot be read raises a ``SegmnError``."""

    @property
    def labels(self) -> LabelSet:
        """Names and colors of the classes, and the ignore index."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...
