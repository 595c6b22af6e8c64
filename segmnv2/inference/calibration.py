"""The images that 8-bit networks choose their ranges by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from segmnv2.data.image_file import read_image
from segmnv2.errors import ConfigError
from segmnv2.inference.canvas import DEFAULT_SIZE, MEAN_PIXEL, Size, check_image, check_several, make_canvas
from segmnv2.inference.media import list_images, spread_evenly
from segmnv2.nn.resize import resize_bilinear, scaled_side

MOST = 100
"""Images of a folder that are used; more change little and take longer."""


def calibration_pixels(
    images: str | Path | Sequence[UInt8[np.ndarray, "_ _ 3"]],
    output_stride: int,
    *,
    size: Size = DEFAULT_SIZE,
    scales: Sequence[float] = (1.0,),
    mean_pixel: Sequence[float] = MEAN_PIXEL,
) -> list[Float[Tensor, "1 3 _ _"]]:
    """Return what the network will see of some images.

    Args:
        images: a folder, of which every n-th image is taken if it has more than :data:`MOST`, or uint8 RGB arrays.
        output_stride: of the network.
        size: the canvas that will be used.
        scales: that will be used; one image after another is shown at one of them after another.
        mean_pixel: RGB, 0..255, of the padding: the network's.

    Returns:
        RGB pixels (1, 3, height, width), 0..255, sides k * output_stride + 1.

    Raises:
        ConfigError: it is no folder, or there are no images.
        MediaError: a file or an array is no image, the folder has none, or ``images`` is a single array.
    """
    if isinstance(images, str | Path):
        pictures = [read_image(path) for path in sample_folder(Path(images))]
    else:
        pictures = [check_image(image, "calibration") for image in check_several(images)]
    if not pictures:
        raise ConfigError("calibration: no images given; give 50 or more, like those that will be seen")
    found = []
    with torch.inference_mode():
        for number, picture in enumerate(pictures):
            pixels = make_canvas(picture, size, output_stride, mean_pixel).pixels
            scale = scales[number % len(scales)]
            if scale != 1:
                height, width = pixels.shape[-2:]
                pixels = resize_bilinear(pixels, (scaled_side(height, scale), scaled_side(width, scale)))
            found.append(pixels)
    return found


def sample_folder(folder: Path) -> list[Path]:
    """Return at most :data:`MOST` of a folder's images, evenly over their order.

    Raises:
        ConfigError: it is no folder.
        MediaError: it has no images.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder; give one with 50 or more images like those to come")
    return spread_evenly(list_images([folder]), MOST)
