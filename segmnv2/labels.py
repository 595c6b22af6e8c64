"""Class names, colours and the ignore index: what the integers of a mask mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segmnv2.documents import read_yaml
from segmnv2.errors import ConfigError

Colour = tuple[int, int, int]

IGNORE_INDEX = 255
"""Mask value that neither trains nor counts: VOC's void, and the padding of crops."""


def voc_palette(count: int) -> tuple[Colour, ...]:
    """Colours of PASCAL VOC's masks: bit k of an id's RGB comes from bits 3k, 3k+1, 3k+2 of the id.

    Args:
        count: number of colours, 1..256.

    Returns:
        ``count`` RGB triples, 0..255 each; index 0 is black.

    Source: the VOC development kit's colour map.
    """

    def channel(index: int, offset: int) -> int:
        return sum(((index >> (3 * bit + offset)) & 1) << (7 - bit) for bit in range(8))

    return tuple((channel(i, 0), channel(i, 1), channel(i, 2)) for i in range(count))


@dataclass(frozen=True)
class LabelSet:
    """Names and colours of the classes, in the order of their ids.

    Attributes:
        names: class names; the id of a class is its position.
        palette: one RGB triple, 0..255, for each class.
        ignore_index: mask value outside the classes that is never trained on nor counted.

    Raises:
        ConfigError: no names, a name used twice, palette of another length, colours outside 0..255, or an ignore index
            that is also a class id or does not fit in 8 bits.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= 256:
            raise ConfigError(f"labels: {len(self.names)} class names given; give 1 to 256")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ConfigError(f"labels: class names {twice} occur more than once; give each class its own name")
        if len(self.palette) != len(self.names):
            raise ConfigError(
                f"labels: {len(self.names)} names but {len(self.palette)} colours; give one colour a class"
            )
        for name, colour in zip(self.names, self.palette, strict=True):
            if len(colour) != 3 or not all(isinstance(c, int) and 0 <= c <= 255 for c in colour):
                raise ConfigError(f"labels: colour {colour!r} of class '{name}' is not three integers in 0..255")
        if not len(self.names) <= self.ignore_index <= 255:
            raise ConfigError(
                f"labels: ignore_index {self.ignore_index} is not in {len(self.names)}..255; "
                "choose a value that is no class id and fits in 8 bits (VOC uses 255)"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, background included, ignore index not."""
        return len(self.names)

    @classmethod
    def numbered(cls, num_classes: int) -> LabelSet:
        """Return labels named ``class_0``, ``class_1``, ... in VOC's colours, for models that came without names."""
        return cls(tuple(f"class_{i}" for i in range(num_classes)), voc_palette(num_classes))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "labels") -> LabelSet:
        """Build labels from ``{"names": [...], "palette": [[r, g, b], ...], "ignore_index": 255}``.

        The palette may be left out (VOC's colours) and so may the ignore index (255).

        Args:
            values: the mapping.
            source: file or key that error messages name.

        Raises:
            ConfigError: unknown keys or values as the class forbids.
        """
        unknown = sorted(set(values) - {"names", "palette", "ignore_index"})
        if unknown:
            raise ConfigError(f"{source}: unknown keys {unknown}; allowed are names, palette, ignore_index")
        names = values.get("names")
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{source}: 'names' is {names!r}; give a list of class names, background first")
        palette = values.get("palette", voc_palette(len(names)))
        ignore_index = values.get("ignore_index", IGNORE_INDEX)
        if not isinstance(palette, (list, tuple)) or not all(isinstance(c, (list, tuple)) for c in palette):
            raise ConfigError(f"{source}: 'palette' is {palette!r}; give one [red, green, blue] a class")
        if not isinstance(ignore_index, int):
            raise ConfigError(f"{source}: 'ignore_index' is {ignore_index!r}; give an integer, as 255")
        return cls(tuple(names), tuple(tuple(colour) for colour in palette), ignore_index)

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that :meth:`from_dict` reads."""
        return {
            "names": list(self.names),
            "palette": [list(colour) for colour in self.palette],
            "ignore_index": self.ignore_index,
        }

    @classmethod
    def from_yaml(cls, path: str | Path) -> LabelSet:
        """Read labels from a YAML file with the keys of :meth:`from_dict`.

        Raises:
            ConfigError: the file is missing, is not YAML, or holds something else.
        """
        values = read_yaml(path, "give a file with a 'names' list")
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: holds {type(values).__name__}; give a mapping with a 'names' list")
        return cls.from_dict(values, source=str(path))


VOC_LABELS = LabelSet(
    names=(
        "background",
        "aeroplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ),
    palette=voc_palette(21),
)
"""The 21 classes of PASCAL VOC 2012's segmentation task."""
