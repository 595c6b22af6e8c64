"""Small copies of images, as addresses inside an HTML page."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import PIL.Image

from segmnv2.files.atomic import encode_image

QUALITY = 80


def shrink(values: np.ndarray, longest_side: int, *, smooth: bool = True) -> np.ndarray:
    """Return an image or mask whose longest side is at most ``longest_side`` pixels.

    Args:
        values: (H, W) or (H, W, C).
        longest_side: in pixels.
        smooth: average pixels, for images; else take the nearest, for masks.
    """
    height, width = values.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA if smooth else cv2.INTER_NEAREST))


def data_address(image: np.ndarray) -> str:
    """Return an RGB image (H, W, 3), 0..255, as a ``data:`` address of a JPEG."""
    content = encode_image(PIL.Image.fromarray(image), "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()
