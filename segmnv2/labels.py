"""Labels: the class names, the colors and the ignored value, which define the values of masks."""

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
"""Mask value that training and evaluation ignore: VOC's void, and the padding of crops."""

VOID_COLOR: Color = (224, 224, 192)
"""Default color of ignored pixels, the one in VOC's files."""

_DEFAULTS = ("palette", "ignore_index")

UNSHOWN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of characters that break a line or are invisible: controls, surrogates, separators."""


def voc_palette(count: int) -> tuple[Color, ...]:
    """Return the colors of PASCAL VOC's masks.

    Bit 7 - k of red, green and blue is bit 3 k, 3 k + 1 and 3 k + 2 of the id, respectively.

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
        palette: RGB triple, 0..255, of each class.
        ignore_index: mask value that is not a class id and that training and evaluation ignore.
        ignore_color: RGB triple of ignored pixels in RGB masks; ``None`` for that of VOC, (224, 224, 192).
        label_defaults: those of ``palette`` and ``ignore_index`` that have default values. Default values do not
            describe the user's masks, so fewer checks apply. ``==`` ignores this field.

    Raises:
        ConfigError: there are no names, or a name occurs twice. The palette has another length, or a color is outside
            0..255. The ignore index is a class id or above 255, or the ignore color is the color of a class.
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
            raise ConfigError(
                f"labels: {len(self.names)} names but {len(self.palette)} colors; give one color per class"
            )
        for name, color in zip(self.names, self.palette, strict=True):
            _check_color(color, f"of class '{name}'")
        if self.ignore_color is not None:
            _check_color(self.ignore_color, "of ignored pixels")
            if self.ignore_color in self.palette:
                name = self.names[self.palette.index(self.ignore_color)]
                raise ConfigError(
                    f"labels: ignore_color {list(self.ignore_color)} is also the color of class '{name}'; give another "
                    "color"
                )
        if not len(self.names) <= self.ignore_index <= 255:
            raise ConfigError(
                f"labels: ignore_index {self.ignore_index} is not in {len(self.names)}..255; "
                "choose a value up to 255 that is not a class id (VOC uses 255)"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, including background, without the ignore index."""
        return len(self.names)

    @property
    def allowed(self) -> str:
        """The allowed values of masks, for messages."""
        return f"0..{self.num_classes - 1} and {self.ignore_index} (ignored)"

    @property
    def void_color(self) -> Color | None:
        """Color of ignored pixels in RGB masks; ``None`` if a class has VOC's color of ignored pixels."""
        return self.ignore_color or (None if VOID_COLOR in self.palette else VOID_COLOR)

    def differences(self, other: LabelSet, there: str, here: str) -> str:
        """Return a description of the differences to other labels, for messages; an empty text if they are equal.

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
        texts = [f"{what} is {theirs} in {there}, {own} in {here}" for what, theirs, own in values if theirs != own]
        more = f" and {len(texts) - 3} more differences" if len(texts) > 3 else ""
        return "; ".join(texts[:3]) + more

    @classmethod
    def numbered(cls, num_classes: int) -> LabelSet:
        """Return labels named ``class_0``, ``class_1``, ... in VOC's colors, for models without class names."""
        names = tuple(f"class_{i}" for i in range(num_classes))
        return cls(names, voc_palette(num_classes), label_defaults=_DEFAULTS)

    @property
    def unnamed(self) -> bool:
        """Whether the names are those of :meth:`numbered`, so that the meaning of the classes is unknown."""
        return self.names == LabelSet.numbered(self.num_classes).names

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "labels") -> LabelSet:
        """Build labels from ``{"names": [...], "palette": [[r, g, b], ...], "ignore_index": 255}``.

        Only ``names`` is required. The default palette is VOC's, and the default ignore index is 255.

        Args:
            values: the mapping.
            source: file or key, for error messages.

        Raises:
            ConfigError: a key is unknown, or a value is not allowed.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"{source}: {describe_value(values)} is not a mapping; give one with a 'names' list")
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
            raise ConfigError(f"{source}: 'palette' is {describe_value(palette)}; give [red, green, blue] per class")
        if not isinstance(ignore_index, int) or isinstance(ignore_index, bool):
            raise ConfigError(f"{source}: 'ignore_index' is {ignore_index!r}; give an integer, such as 255")
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
            ConfigError: the file is missing or not YAML, or a key or value is wrong.
        """
        from segmnv2.files.yaml_documents import read_yaml  # not needed for model files, whose labels are in JSON

        values = read_yaml(path, "give a file with a 'names' list")
        return cls.from_dict(values, source=str(path))


def check_class_name(name: str) -> None:
    """Check that a class name can be shown on one line.

    Raises:
        ConfigError: the name is blank, or has a line break or another control character.
    """
    if not name.strip() or any(unicodedata.category(letter) in UNSHOWN for letter in name):
        raise ConfigError(f"labels: class name {name!a} is blank or has control characters; give letters on one line")


def table_cell(name: str) -> str:
    """Return a name for a cell of a Markdown table, with each ``|`` escaped so that it does not end the cell."""
    return name.replace("|", "\\|")


def describe_difference(own: Sequence[str], theirs: Sequence[str], there: str, here: str) -> str:
    """Return a description of the difference of two lists of class names.

    Args:
        own: names of these classes, in the order of their ids.
        theirs: names of the other classes.
        there: name of the other labels in messages.
        here: name of these labels in messages.
    """
    pairs = enumerate(zip_longest(theirs, own))
    number, (other, name) = next((index, pair) for index, pair in pairs if pair[0] != pair[1])
    kind = "the same classes in another order" if sorted(own) == sorted(theirs) else "other classes"
    other, name = ("missing" if value is None else repr(value) for value in (other, name))
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
