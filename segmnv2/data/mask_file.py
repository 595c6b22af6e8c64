"""Mask files, whose values or colors are classes, for training, evaluation and ``check-data``.

The rule: values of palette and 8-bit gray files are class ids; RGB colors are looked up in the palette of the labels.
An ambiguous file is rejected.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from segmnv2.data.raw_mask import LISTED, LOSSY, RawMask, UnknownColorError, color_ids, colors_to_ids, read_raw_mask
from segmnv2.data.sample import Mask
from segmnv2.errors import DatasetError
from segmnv2.files.atomic import write_image
from segmnv2.labels import Color, LabelSet

READ_FORMATS = ("PNG", "BMP", "TIFF")

BINARY_PALETTE = "palette: [[0, 0, 0], [255, 255, 255]]"
"""Line of ``labels.yaml`` that makes black class 0 and white class 1."""

_WHITE = 255
_SAVE_IDS = "save it as palette or 8-bit gray PNG of ids"


class MaskError(DatasetError):
    """A mask that cannot be read as ids.

    Attributes:
        kind: one of :data:`segmnv2.datasets.listing.ERROR_KINDS`.
        reason: the fault.
        remedy: advice to correct it.
    """

    def __init__(self, kind: str, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.kind, self.reason, self.remedy = kind, reason, remedy


def read_mask(path: str | Path, labels: LabelSet) -> Mask:
    """Read a mask and check it.

    Args:
        path: a PNG, BMP or TIFF file; see :func:`mask_ids`.
        labels: the classes.

    Returns:
        uint8 (H, W): ids 0..num_classes-1 and the ignore index.

    Raises:
        DatasetError: the file is missing or damaged, or cannot be read as ids of ``labels``.
    """
    raw = read_raw_mask(path)
    try:
        return mask_ids(raw, labels)
    except MaskError as error:
        raise DatasetError(f"{path}: {error}") from None


def mask_ids(raw: RawMask, labels: LabelSet) -> Mask:
    """Return the ids of a mask file.

    - Palette, 1-bit and 8-bit gray files hold ids. If some values are not ids, but each value has the color of a class,
      the colors are used. A gray value v has the color (v, v, v).
    - RGB files hold the colors of the palette, which ``labels`` must have.
    - Three kinds of files are rejected: files whose values are ids but have the colors of other classes; files of only
      0 and 255, unless ``labels`` state that 255 is ignored; and files that EXIF turns.

    Args:
        raw: the file's content.
        labels: the classes.

    Returns:
        uint8 (H, W): ids 0..num_classes-1 and the ignore index.

    Raises:
        MaskError: the file holds no ids, or is ambiguous.
    """
    if raw.format in LOSSY:
        reason = f"is compressed as {raw.format}, which changes ids along borders"
        raise MaskError("jpeg-mask", reason, "export it again as PNG")
    if raw.format not in READ_FORMATS:
        raise MaskError("mask-format", f"is a {raw.format} file", _SAVE_IDS)
    if raw.is_turned:
        reason = f"has the EXIF orientation {raw.orientation}, which some programs apply to masks and others do not"
        raise MaskError("exif-rotation", reason, "save it in the orientation of its image, without EXIF")
    if raw.changed:
        reason = "holds 2- or 4-bit gray, inverted gray or 16-bit colors, whose values change in decoding"
        raise MaskError("deep-mask", reason, _SAVE_IDS)
    if raw.values.ndim == 3:
        return _ids_of_colors(raw.values, labels)
    if raw.values.dtype != np.uint8:
        reason = f"has {raw.values.dtype} pixels from {raw.values.min()} to {raw.values.max()}, a mask has 8 bits"
        raise MaskError("deep-mask", reason, f"save it as 8-bit gray PNG of ids {labels.allowed}")
    return _ids_of_values(raw.values, raw.palette, labels)


def write_mask(path: str | Path, mask: Mask, labels: LabelSet) -> None:
    """Write a mask as palette PNG in the colors of ``labels``; pixel values are the ids.

    The file is written atomically. ``read_mask(path, labels)`` returns the same mask.

    Args:
        path: the PNG to write.
        mask: uint8 (H, W), ids of ``labels`` or its ignore index.
        labels: classes and colors.

    Raises:
        DatasetError: an id is not a class of ``labels``.
    """
    check_ids(mask, labels, source=str(path))
    palette = np.zeros((256, 3), np.uint8)
    palette[: labels.num_classes] = labels.palette
    palette[labels.ignore_index] = labels.void_color or (0, 0, 0)
    image = PIL.Image.fromarray(mask)
    image.putpalette(palette.tobytes())
    write_image(path, image, "PNG", optimize=False)


def check_ids(mask: Mask, labels: LabelSet, source: str) -> None:
    """Check that a mask holds ids of ``labels`` only.

    Args:
        mask: uint8 (H, W).
        labels: the classes and the ignore index.
        source: name of the file in the message.

    Raises:
        DatasetError: other ids; the message lists them with their pixel counts.
    """
    present = _values_in(mask)
    if (_id_table(labels)[present] < 0).any():
        raise DatasetError(f"{source}: {_unknown_ids_error(mask, present, labels)}")


def _ids_of_colors(values: np.ndarray, labels: LabelSet) -> Mask:
    transparent = int((values[..., 3] != 255).sum())
    if transparent:
        reason = f"{transparent} of {values[..., 3].size} pixels are transparent"
        remedy = "save it without alpha channel, with the background's color in place of transparency"
        raise MaskError("transparent-mask", reason, remedy)
    if "palette" in labels.label_defaults:
        raise MaskError(
            "rgb-mask",
            "holds RGB colors, and the labels have no palette of the classes' colors",
            "give labels.yaml a palette with one [red, green, blue] per class, or save the mask as palette or 8-bit "
            "gray PNG of ids",
        )
    try:
        return colors_to_ids(values[..., :3], labels)
    except UnknownColorError as error:
        remedy = "correct the mask, or the palette of the labels"
        if error.count > LISTED:
            remedy += " (many colors come from smoothed borders: draw and scale masks without antialiasing)"
        else:
            remedy += "; for a color of ignored pixels, set ignore_color in labels.yaml"
        raise MaskError("unknown-colors", str(error), remedy) from None
    except ValueError as error:
        remedy = "give each class its own color in the palette and in the masks"
        raise MaskError("unknown-colors", str(error), remedy) from None


def _ids_of_values(values: Mask, palette: np.ndarray | None, labels: LabelSet) -> Mask:
    present = _values_in(values)
    by_value = _id_table(labels)[present]
    by_color = _ids_by_color(present, palette, labels)
    ignored = present == labels.ignore_index
    # A value clashes if it is the id of one class and has the color of another. In gray files where not all values are
    # both ids and colors of classes, only the ignored value can clash.
    clash = (by_color >= 0) & (by_value >= 0) & (by_color != by_value)
    if palette is None and (np.minimum(by_color, by_value) < 0).any():
        clash &= ignored
    black_white = _is_black_and_white(present, palette, labels)
    if not (clash.any() or black_white or (by_value < 0).any()):
        return values
    if (by_color >= 0).all() and (black_white or (by_value < 0).any()):
        table = np.zeros(256, np.uint8)
        table[present] = by_color
        return np.asarray(table[values])
    if clash.any():
        raise _clash_error(int(present[clash][0]), int(by_color[clash][0]), palette, labels)
    if black_white:
        raise _black_and_white_error(labels)
    raise _unknown_ids_error(values, present, labels)


def _values_in(mask: Mask) -> np.ndarray:
    """Return the values that occur in a mask."""
    return np.flatnonzero(cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel())  # four times as fast as bincount


def _id_table(labels: LabelSet) -> np.ndarray:
    """Return value -> id, with -1 for values that are not ids."""
    table = np.full(256, -1)
    table[: labels.num_classes] = np.arange(labels.num_classes)
    table[labels.ignore_index] = labels.ignore_index
    return table


def _ids_by_color(present: np.ndarray, palette: np.ndarray | None, labels: LabelSet) -> np.ndarray:
    """Return value -> id of the class with the value's color, with -1 if there is no such class or no palette."""
    if "palette" in labels.label_defaults:
        return np.full(len(present), -1)
    colors = np.repeat(np.arange(256)[:, None], 3, axis=1) if palette is None else palette
    try:
        table = color_ids(labels)
    except ValueError:
        table = {}
    by_color = []
    for value in present.tolist():
        color: Color = tuple(colors[value].tolist())
        own = value < labels.num_classes and labels.palette[value] == color
        # Writers fill unused entries with black.
        filled = palette is not None and value == labels.ignore_index and color == (0, 0, 0)
        by_color.append(value if own or filled else table.get(color, -1))
    return np.array(by_color, int)


def _is_black_and_white(present: np.ndarray, palette: np.ndarray | None, labels: LabelSet) -> bool:
    """Return whether a mask holds only 0 and 255, and the labels do not say that 255 is ignored."""
    if _WHITE not in present or not set(present.tolist()) <= {0, _WHITE}:
        return False
    if labels.ignore_index != _WHITE:
        return True
    drawn_as_void = palette is not None and tuple(palette[_WHITE].tolist()) == labels.void_color
    return "ignore_index" in labels.label_defaults and not drawn_as_void


def _black_and_white_error(labels: LabelSet) -> MaskError:
    meaning = "is ignored" if labels.ignore_index == _WHITE else "is no class"
    reason = f"is black and white (0 and 255), and 255 {meaning}, so nothing but '{labels.names[0]}' would be learned"
    if labels.num_classes == 2:
        remedy = f"save 1 ('{labels.names[1]}') in place of 255, or add `{BINARY_PALETTE}` to labels.yaml"
    else:
        remedy = f"save the id of the class that white means, 1..{labels.num_classes - 1}"
    if labels.ignore_index == _WHITE:
        remedy += "; add `ignore_index: 255` to labels.yaml if 255 means ignored"
    return MaskError("binary-masks", reason, remedy)


def _clash_error(value: int, by_color: int, palette: np.ndarray | None, labels: LabelSet) -> MaskError:
    meant = "ignored pixels" if by_color == labels.ignore_index else f"'{labels.names[by_color]}'"
    is_ignored = value == labels.ignore_index
    own = "is ignored" if is_ignored else f"is the id of '{labels.names[value]}'"
    reason = f"value {value} {own} and has the color of {meant}"
    remedy = "save it as RGB if its colors are right; if its values are right, save it with the palette of the labels"
    if palette is None:
        remedy = "save it as RGB if its colors are right, or as palette PNG if its values are ids"
    return MaskError("palette-order", reason, remedy)


def _unknown_ids_error(values: Mask, present: np.ndarray, labels: LabelSet) -> MaskError:
    counts = np.bincount(values.ravel(), minlength=256)
    wrong = present[_id_table(labels)[present] < 0]
    listed = ", ".join(f"{value} ({counts[value]} pixels)" for value in wrong[:LISTED])
    more = f" and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
    reason = f"ids {listed}{more} are no class; allowed are {labels.allowed}"
    return MaskError("ids-out-of-range", reason, _remedy(present.tolist(), wrong.tolist(), labels))


def _remedy(present: list[int], wrong: list[int], labels: LabelSet) -> str:
    if len(wrong) > 1:
        return "correct the mask, or give the labels that it was drawn with"
    remedy = f"correct the mask, or write `ignore_index: {wrong[0]}` into labels.yaml if {wrong[0]} means ignored"
    if wrong == [labels.num_classes]:
        remedy += ", or name one more class"
        if 0 not in present:
            remedy += ", or subtract 1 from all ids if they were numbered from 1"
    return remedy
