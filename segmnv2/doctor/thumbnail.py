"""Thumbnails that survive compression and scaling, to find copies of images."""

from __future__ import annotations

import cv2
import numpy as np

from segmnv2.data.sample import Image

SIDE = 32
"""Side of the thumbnails that decide."""

KEPT_SIDE = 8
"""Side of the thumbnails kept of every image, block means of the others: the difference of means is never larger than
that of what they are means of, so that they rule out and never miss."""

LARGEST_DIFFERENCE = 4.0
"""Root mean square difference in gray levels up to which two thumbnails are of one image.

Copies recompressed (JPEG quality 30 and up) or scaled between a quarter and 1.7 times differ by up to 3.9; the most
alike of three hundred thousand pairs of PASCAL VOC's images differ by 18.
"""

LEAST_CONTRAST = 8.0
"""Standard deviation in gray levels below which a thumbnail is too plain to distinguish images."""

_ROUNDING = 1.0
"""By how much rounding kept thumbnails to integers may enlarge a difference."""

_ROWS = 4096


def thumbnail(image: Image) -> np.ndarray:
    """Return float32 (32, 32), gray 0..255, whatever the image's aspect."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def kept_thumbnail(image: Image) -> bytes | None:
    """Return the 64 bytes of the small thumbnail; ``None`` for an image too plain to be compared."""
    large = thumbnail(image)
    if large.std() < LEAST_CONTRAST:
        return None
    block = SIDE // KEPT_SIDE
    means = large.reshape(KEPT_SIDE, block, KEPT_SIDE, block).mean(axis=(1, 3))
    return bytes(np.rint(means).astype(np.uint8))


def difference(first: Image, second: Image) -> float:
    """Return the root mean square difference of the thumbnails, in gray levels."""
    return float(np.sqrt(np.mean((thumbnail(first) - thumbnail(second)) ** 2)))


def candidates(first: list[bytes], second: list[bytes], most: int = 5) -> list[tuple[int, int]]:
    """Return (index in ``first``, index in ``second``) of what may be one image, at most ``most`` of each second.

    Args:
        first: kept thumbnails.
        second: kept thumbnails.
        most: the nearest ones are taken.
    """
    if not first or not second:
        return []
    limit = (LARGEST_DIFFERENCE + _ROUNDING) ** 2 * KEPT_SIDE**2
    left, right = _matrix(first), _matrix(second)
    square = (left**2).sum(axis=1)
    result = []
    rows = max(1, _ROWS * _ROWS // len(left))
    for start in range(0, len(right), rows):  # strips, so that memory does not grow with the product
        part = right[start : start + rows]
        distances = square[None] + (part**2).sum(axis=1)[:, None] - 2 * part @ left.T
        for row in np.flatnonzero(distances.min(axis=1) <= limit):
            best = np.argsort(distances[row], kind="stable")[:most]
            result += [(int(i), start + int(row)) for i in best if distances[row, i] <= limit]
    return result


def _matrix(kept: list[bytes]) -> np.ndarray:
    # Around 0, where float32 keeps differences of squares exact enough.
    return np.frombuffer(b"".join(kept), np.uint8).reshape(len(kept), -1).astype(np.float32) - 128
