"""Images to measure speeds on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from segmnv2.data.image_file import read_image
from segmnv2.datasets.shapes import Shapes
from segmnv2.inference.calibration import sample_folder

GENERATED = 16


def square_images(folder: Path | None, side: int) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Return RGB images, 0..255, all of one size, so that every library does the same work.

    Args:
        folder: of images, scaled to the size, at most 100 of them; generated shapes by default.
        side: height and width in pixels, at least 16.

    Raises:
        ConfigError: there is no such folder, or the side is too small.
        MediaError: a file is no image, or the folder has none.
    """
    if folder is None:
        drawn = Shapes(GENERATED, (side, side))
        return [drawn[index].image for index in range(GENERATED)]
    return [cv2.resize(read_image(path), (side, side), interpolation=cv2.INTER_AREA) for path in sample_folder(folder)]
