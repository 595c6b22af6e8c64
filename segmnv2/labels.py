"""Class names, colors and the ignored value: the meaning of the integers and colors of masks."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from segmnv2.errors import ConfigError, describe_value

Color = tuple[int, int, int]

IGNORE_INDEX = 255
"""Mask value that neither trains nor counts: VOC's void, and the padding of crops."""

VOID_COLOR: Color = (224, 224, 192)
"""Color of ignored pixels where the labels give no other, as in VOC's own files."""

_DEFAULTS = ("palette", "ignore_index")

UNSHOWN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of characters that break a line or have no form: controls, surrogates, separators."""


def voc_palette(count: int) -> tuple[Color, ...]:
    """Colors of PASCAL VOC's masks: bit k of an id's RGB comes from bits 3k, 3k+1, 3k+2 of the id.

    Args:
        count: number of colors, 1..256.

    Returns:
        ``count`` RGB triples, 0..255 each; index 0 is black.

    Source: the VOC development kit's color map.
    """

    def channel(index: int, offset: int) -> int:
        return sum(((index >> (3 * bit + offset)) & 1) << (7 - bit) for bit in range(8))

    return tuple((channel(i, 0), channel(i, 1), channel(i, 2)) for i in range(count))


@dataclass(frozen=True)
class LabelSet:
    """Names and colors of the classes, in the order of their ids.

    Attributes:
        names: class names; the id of a class is its position.
        palette: one RGB triple, 0..255, for each class.
        ignore_index: mask value outside the classes that is never trained on nor counted.
        ignore_color: RGB triple of ignored pixels in masks drawn in colors; ``None`` for VOC's, (224, 224, 192).
        label_defaults: which of ``palette`` and ``ignore_index`` nobody gave. A default palette says nothing about the
            colors of masks, and a default ignore index nothing about masks of 0 and 255 alone. Not compared.

    Raises:
        ConfigError: no names, a name used twice, palette of another length, colors outside 0..255, an ignore index
            that is also a class id or does not fit in 8 bits, or an ignore color that is also a class's.
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int = IGNORE_INDEX
    ignore_color: Color | None = None
    label_defaults: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= 255:
            raise ConfigError(f"labels: {len(self.names)} class names given; give 1 to 255")
        for name in self.names:
            check_class_name(name)
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ConfigError(f"labels: class names {twice} occur more than once; give each class its own name")
        if len(self.palette) != len(self.names):
            raise ConfigError(f"labels: {len(self.names)} names but {len(self.palette)} colors; give one color a class")
        for name, color in zip(self.names, self.palette, strict=True):
            _check_color(color, f"of class '{name}'")
        if self.ignore_color is not None:
            _check_color(self.ignore_color, "of ignored pixels")
            if self.ignore_color in self.palette:
                name = self.names[self.palette.index(self.ignore_color)]
                raise ConfigError(
                    f"labels: ignore_color {list(self.ignore_color)} is also the color of class '{name}'; give each "
                    "its own"
                )
        if not len(self.names) <= self.ignore_index <= 255:
            raise ConfigError(
                f"labels: ignore_index {self.ignore_index} is not in {len(self.names)}..255; "
                "choose a value that is no class id and fits in 8 bits (VOC uses 255)"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, background included, ignore index not."""
        return len(self.names)

    @property
    def allowed(self) -> str:
        """The ids that masks may hold, for messages."""
        return f"0..{self.num_classes - 1} and {self.ignore_index} (ignored)"

    @property
    def void_color(self) -> Color | None:
        """Color of ignored pixels in masks drawn in colors; ``None`` where VOC's is the color of a class."""
        return self.ignore_color or (None if VOID_COLOR in self.palette else VOID_COLOR)

    def differences(self, other: LabelSet, there: str, here: str) -> str:
        """Return in which values the labels differ, for messages; an empty text where they are equal.

        Args:
            other: the other labels.
            there: name of the other labels in messages.
            here: name of these labels in messages.
        """
        if self.names != other.names:
            return describe_difference(self.names, other.names, there, here)
        colors = zip(self.names, other.palette, self.palette, strict=True)
        values: list[tuple[str, object, object]] = [(f"the color of '{name}'", a, b) for name, a, b in colors]
        values += [(key, getattr(other, key), getattr(self, key)) for key in ("ignore_index", "ignore_color")]
        found = [f"{what} is {its} in {there}, {mine} in {here}" for what, its, mine in values if its != mine]
        more = f" and {len(found) - 3} more differences" if len(found) > 3 else ""
        return "; ".join(found[:3]) + more

    @classmethod
    def numbered(cls, num_classes: int) -> LabelSet:
        """Return labels named ``class_0``, ``class_1``, ... in VOC's colors, for models that came without names."""
        names = tuple(f"class_{i}" for i in range(num_classes))
        return cls(names, voc_palette(num_classes), label_defaults=_DEFAULTS)

    @property
    def unnamed(self) -> bool:
        """Whether the names are those of :meth:`numbered`, so that nothing is known of the classes' order."""
        return self.names == LabelSet.numbered(self.num_classes).names

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "labels") -> LabelSet:
        """Build labels from ``{"names": [...], "palette": [[r, g, b], ...], "ignore_index": 255}``.

        The palette may be left out (VOC's colors) and so may the ignore index (255). ``ignore_color`` is optional.

        Args:
            values: the mapping.
            source: file or key that error messages name.

        Raises:
            ConfigError: unknown keys or values as the class forbids.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: {describe_value(values)} is no mapping; give one with a 'names' list")
        unknown = sorted(set(values) - {"names", "palette", "ignore_index", "ignore_color", "label_defaults"})
        if unknown:
            raise ConfigError(
                f"{source}: unknown keys {unknown}; allowed are names, palette, ignore_index, ignore_color"
            )
        names = values.get("names")
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise ConfigError(
                f"{source}: 'names' is {describe_value(names)}; give a list of class names, background first"
            )
        palette = values.get("palette", voc_palette(len(names)))
        ignore_index = values.get("ignore_index", IGNORE_INDEX)
        ignore_color = values.get("ignore_color")
        if not isinstance(palette, (list, tuple)) or not all(isinstance(c, (list, tuple)) for c in palette):
            raise ConfigError(f"{source}: 'palette' is {describe_value(palette)}; give one [red, green, blue] a class")
        if not isinstance(ignore_index, int) or isinstance(ignore_index, bool):
            raise ConfigError(f"{source}: 'ignore_index' is {ignore_index!r}; give an integer, as 255")
        if not isinstance(ignore_color, (list, tuple, type(None))):
            raise ConfigError(f"{source}: 'ignore_color' is {ignore_color!r}; give [red, green, blue]")
        defaults = values.get("label_defaults", [key for key in _DEFAULTS if key not in values])
        if not isinstance(defaults, (list, tuple)) or not all(key in _DEFAULTS for key in defaults):
            raise ConfigError(f"{source}: 'label_defaults' is {defaults!r}; leave it out")
        color = None if ignore_color is None else tuple(ignore_color)
        return cls(tuple(names), tuple(tuple(color) for color in palette), ignore_index, color, tuple(defaults))

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping that :meth:`from_dict` reads."""
        values: dict[str, Any] = {
            "names": list(self.names),
            "palette": [list(color) for color in self.palette],
            "ignore_index": self.ignore_index,
        }
        if self.ignore_color is not None:
            values["ignore_color"] = list(self.ignore_color)
        if self.label_defaults:
            values["label_defaults"] = list(self.label_defaults)
        return values

    @classmethod
    def from_yaml(cls, path: str | Path) -> LabelSet:
        """Read labels from a YAML file with the keys of :meth:`from_dict`.

        Raises:
            ConfigError: the file is missing, is not YAML, or holds something else.
        """
        from segmnv2.files.yaml_documents import read_yaml  # model files hold their labels as JSON

        values = read_yaml(path, "give a file with a 'names' list")
        return cls.from_dict(values, source=str(path))


def check_class_name(name: str) -> None:
    """Raise an error if a class name cannot be shown on one line.

    Raises:
        ConfigError: it is blank or has a line break or another control character.
    """
    if not name.strip() or any(unicodedata.category(letter) in UNSHOWN for letter in name):
        raise ConfigError(f"labels: class name {name!a} is blank or has control characters; give letters on one line")


def table_cell(name: str) -> str:
    """Return a name as a Markdown table shows it; a bare ``|`` would end its cell and shift the numbers after it."""
    return name.replace("|", "\\|")


def describe_difference(own: Sequence[str], theirs: Sequence[str], there: str, here: str) -> str:
    """Return in words how two lists of class names differ.

    Args:
        own: names of the classes here, in the order of their ids.
        theirs: those of the other.
        there: name of the other labels in messages.
        here: name of these labels in messages.
    """
    pairs = enumerate(zip_longest(theirs, own))
    number, (other, name) = next((index, pair) for index, pair in pairs if pair[0] != pair[1])
    kind = "the same classes in another order" if sorted(own) == sorted(theirs) else "other classes"
    other, name = ("missing" if each is None else repr(each) for each in (other, name))
    return (
        f"{there} has {kind}: {len(theirs)} in {there}, {len(own)} in {here}; class {number} is {other} in {there}, "
        f"{name} in {here}"
    )


def _check_color(color: Color, whose: str) -> None:
    if len(color) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in color):
        raise ConfigError(f"labels: color {color!r} {whose} is not three integers in 0..255")


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
