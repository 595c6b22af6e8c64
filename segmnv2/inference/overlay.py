"""Images of a label map: class colors, the image under them, outlines, and the confidence as gray."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from segmnv2.errors import ConfigError
from segmnv2.inference.legend import add_legend, writable_names
from segmnv2.labels import VOID_COLOR, Color, LabelSet

DEFAULT_OPACITY = 0.6


def color_table(labels: LabelSet) -> UInt8[np.ndarray, "256 3"]:
    """Return the RGB color, 0..255, of every 8-bit id."""
    table = np.empty((256, 3), dtype=np.uint8)
    table[:] = labels.void_color or VOID_COLOR
    table[: labels.num_classes] = labels.palette
    return table


def colorize(mask: UInt8[np.ndarray, "h w"], labels: LabelSet) -> UInt8[np.ndarray, "h w 3"]:
    """Return the mask in its classes' colors, RGB 0..255; ids without a class in the color of void."""
    return np.take(color_table(labels), mask, axis=0)


def check_opacity(opacity: float) -> float:
    """Return ``opacity``.

    Raises:
        ConfigError: it is not in 0..1.
    """
    if not 0 <= opacity <= 1:
        raise ConfigError(f"opacity: {opacity!r} is not in 0..1; give 0 for outlines only, 1 for plain colors")
    return opacity


def is_background(labels: LabelSet, index: int) -> bool:
    """Return whether a class is what is left when nothing is found: it is named "background"."""
    return index < labels.num_classes and labels.names[index].lower() == "background"


def blend(
    image: UInt8[np.ndarray, "h w 3"],
    mask: UInt8[np.ndarray, "h w"],
    labels: LabelSet,
    opacity: float = DEFAULT_OPACITY,
) -> UInt8[np.ndarray, "h w 3"]:
    """Lay the classes' colors over the image, with a thin outline in the full color around each region.

    A class named "background" leaves the image unchanged.

    Args:
        image: RGB, 0..255.
        mask: class ids; other ids are drawn in the color of void.
        labels: colors and names.
        opacity: 0 shows outlines only, 1 plain colors.

    Raises:
        ConfigError: ``opacity`` is not in 0..1.
    """
    check_opacity(opacity)
    colors = color_table(labels)
    outlined = np.ones(256, dtype=bool)
    image = np.ascontiguousarray(image)
    result = image.copy()
    groups = np.minimum(mask, labels.num_classes)  # all ids without a class look alike
    for index in np.flatnonzero(cv2.calcHist([groups], [0], None, [256], [0, 256])):
        if is_background(labels, int(index)):
            outlined[index] = False
            continue
        tinted = cv2.LUT(image, _tint_table(colors[index], opacity))
        cv2.copyTo(tinted, (groups == index).astype(np.uint8), result)
    lines = np.flatnonzero(outlines(mask))
    ids = mask.ravel()[lines]
    shown = outlined[ids]
    result.reshape(-1, 3)[lines[shown]] = colors[ids[shown]] // 2 + 127
    return result


def _tint_table(color: UInt8[np.ndarray, "3"], opacity: float) -> UInt8[np.ndarray, "256 1 3"]:
    """Return what each value 0..255 of each channel becomes under a color."""
    strength = np.float32(opacity)
    values = np.arange(256, dtype=np.float32)[:, None, None]
    return np.rint(values * (1 - strength) + color * strength).astype(np.uint8)


def outlines(mask: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels next to another class: one pixel deep, and one more for each 500 pixels of mean side."""
    depth = 1 + int((mask.shape[0] * mask.shape[1]) ** 0.5 // 500)
    kernel = np.ones((2 * depth + 1, 2 * depth + 1), dtype=np.uint8)
    return np.asarray(cv2.dilate(mask, kernel) != cv2.erode(mask, kernel), dtype=bool)


def overlay_picture(
    image: UInt8[np.ndarray, "h w 3"],
    mask: UInt8[np.ndarray, "h w"],
    labels: LabelSet,
    opacity: float = DEFAULT_OPACITY,
    legend: bool = True,
) -> Image.Image:
    """Return the blended image as RGB, with a legend beside it (never on it) if requested.

    Raises:
        ConfigError: ``opacity`` is not in 0..1.
    """
    picture = Image.fromarray(blend(image, mask, labels, opacity))
    return add_legend(picture, legend_entries(mask, labels)) if legend else picture


def legend_entries(mask: UInt8[np.ndarray, "h w"], labels: LabelSet) -> list[tuple[str, Color | None, float]]:
    """Return (name, color, share 0..1 of the pixels) of what occurs in the mask, the largest share first.

    A name that no font can write is ``class ID (no font)``. A background has no color, as it has none in the overlay;
    all ids without a class are one entry, "void".
    """
    counts = np.bincount(mask.ravel(), minlength=256)
    entries: list[tuple[str, Color | None, float]] = [
        (name, None if is_background(labels, index) else color, int(counts[index]) / mask.size)
        for index, (name, color) in enumerate(zip(writable_names(labels.names), labels.palette, strict=True))
        if counts[index]
    ]
    void = int(counts[labels.num_classes :].sum())
    if void:
        entries.append(("void", labels.void_color or VOID_COLOR, void / mask.size))
    return sorted(entries, key=lambda entry: -entry[2])


def confidence_picture(confidence: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return confidence 0..1 as gray 0..255, to the nearest."""
    return np.asarray(np.rint(confidence * 255), dtype=np.uint8)
