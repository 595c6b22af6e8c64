"""Generated data set of colored shapes on cloudy backgrounds, which needs no download."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from segmnv2.data.sample import Sample
from segmnv2.datasets.dataset_kinds import DataSource
from segmnv2.datasets.listing import Listing, Pair
from segmnv2.errors import ConfigError
from segmnv2.labels import LabelSet
from segmnv2.section import PositiveInt, Seed

SHAPES_LABELS = LabelSet(
    names=("background", "circle", "square", "triangle", "star"),
    palette=((0, 0, 0), (224, 82, 70), (66, 133, 214), (76, 175, 80), (245, 190, 65)),
)
"""Classes of :class:`Shapes`, background first."""

MAX_SHAPES = 4
HUE_BOUND = 0.75
"""Share of shapes with the hue of their class; the others have a random hue, so color helps but is not enough."""

_HUES = {1: 0.0, 2: 0.6, 3: 0.35, 4: 0.13}  # red, blue, green, yellow, as shares of the color circle
_SUBPIXEL_BITS = 4


class ShapesSource(DataSource):
    """Generated images of shapes.

    Attributes:
        length: number of images.
        size: height and width in pixels.
        seed: number that selects the images; training and validation need different seeds.
    """

    evaluation: ClassVar = {"length": 100, "size": 129, "seed": 2}  # the validation set of configs/shapes.yaml

    kind: Literal["shapes"] = "shapes"
    length: PositiveInt
    size: Annotated[int, Field(ge=16)] = 161
    seed: Seed = 0

    def open(self, labels: LabelSet | None = None) -> Shapes:
        """Return the images."""
        return Shapes(self.length, (self.size, self.size), self.seed)

    def listing(self, split: str) -> Listing:
        """List the images."""
        dataset, root = self.open(), Path("shapes")
        pairs = tuple(Pair(name, root / name, None) for name in dataset.names)
        return Listing(split, root, dataset.labels, pairs, dataset=dataset)


class Shapes:
    """Circles, squares, triangles and stars with exact masks, and an ignored ring along their borders as in VOC.

    An image has one to four shapes with any rotation, drawn antialiased, later ones over earlier ones. Their area is
    that of a circle whose radius is 0.12 to 0.25 of the shorter side. Three quarters have a hue near that of their
    class, so that a few hundred steps from scratch give a useful model. The others have a random hue, so that only the
    form shows the class.

    Sample ``i`` is a pure function of ``(seed, i)`` and the size; data sets of different seeds share no image.

    Raises:
        ConfigError: a length below 1, a side (height, width) below 16 pixels or a negative seed.
    """

    labels = SHAPES_LABELS

    def __init__(self, length: int, size: tuple[int, int] = (161, 161), seed: int = 0) -> None:
        if length < 1 or min(size) < 16 or seed < 0:
            raise ConfigError(
                f"shapes: length {length}, size {tuple(size)}, seed {seed}; "
                "length must be at least 1, both sides at least 16 and the seed at least 0"
            )
        self.length = length
        self.size = (size[0], size[1])
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    @property
    def names(self) -> list[str]:
        """Names of the samples, in order."""
        return [f"shapes_{self.seed}_{index:06d}" for index in range(self.length)]

    def __getitem__(self, index: int, /) -> Sample:
        """Draw one sample."""
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} of a data set of {self.length} shapes images")
        rng = np.random.default_rng([self.seed, index])
        image = _cloud(rng, self.size, brightness=28.0, color=9.0) + rng.uniform(60, 200)
        mask = np.zeros(self.size, np.uint8)
        for _ in range(rng.integers(1, MAX_SHAPES + 1)):
            _paint_shape(rng, image, mask)
        image += rng.normal(0, 4, image.shape).astype(np.float32)
        return Sample(np.clip(image, 0, 255).astype(np.uint8), mask, f"shapes_{self.seed}_{index:06d}")


def _cloud(rng: np.random.Generator, size: tuple[int, int], brightness: float, color: float) -> np.ndarray:
    """Return smooth noise, float32 (H, W, 3) around 0, with the given standard deviations in gray and in color."""
    coarse = (rng.normal(0, brightness, (5, 5, 1)) + rng.normal(0, color, (5, 5, 3))).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC))


def _paint_shape(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> None:
    """Draw one random shape into a float32 (H, W, 3) image and its mask, in place."""
    height, width = mask.shape
    kind = int(rng.integers(1, SHAPES_LABELS.num_classes))
    radius = rng.uniform(0.12, 0.25) * min(height, width)
    center = rng.uniform(0.1, 0.9, 2) * (width, height)
    corners = _outline(kind, rng.uniform(0, 2 * np.pi)) * radius + center
    coverage = np.zeros(mask.shape, np.uint8)
    fixed_point = np.round(corners * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(coverage, [fixed_point], (255,), lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)

    surface = _cloud(rng, (height, width), brightness=14.0, color=4.0) + _color(rng, kind)
    alpha = coverage[:, :, None].astype(np.float32) / 255
    image += alpha * (surface - image)

    inside = (coverage >= 128).astype(np.uint8)
    ring = 2 * max(1, round(min(height, width) / 128)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (ring, ring))
    mask[inside > 0] = kind
    mask[cv2.dilate(inside, kernel) > cv2.erode(inside, kernel)] = SHAPES_LABELS.ignore_index


def _outline(kind: int, angle: float) -> np.ndarray:
    """Return the corners (n, 2) of a class's form, turned by ``angle`` radians, with the area of the unit circle.

    A star inside the unit circle would have only two fifths of its area, and would be learned much later.
    """
    corners = {1: 72, 2: 4, 3: 3, 4: 10}[kind]
    turns = angle + np.arange(corners) * (2 * np.pi / corners)
    radii = np.where(np.arange(corners) % 2, 0.42, 1.0) if kind == 4 else np.ones(corners)
    x, y = radii * np.cos(turns), radii * np.sin(turns)
    area = float(abs(np.sum(x * np.roll(y, 1) - np.roll(x, 1) * y))) / 2
    return np.stack([x, y], axis=1) * float(np.sqrt(np.pi / area))


def _color(rng: np.random.Generator, kind: int) -> np.ndarray:
    """Draw a strong color, float32 RGB 0..255, near the class's hue three times out of four."""
    hue = _HUES[kind] + rng.normal(0, 0.03) if rng.random() < HUE_BOUND else rng.random()
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.55, 0.95), rng.uniform(0.6, 1.0)), np.float32)
