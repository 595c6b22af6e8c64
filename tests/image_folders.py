"""Small folders of images to classify: one color a class, with noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

COLORS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (210, 40, 50)}


def write_image_folder(root: Path, images: int = 4, size: tuple[int, int] = (40, 48), seed: int = 0) -> Path:
    """Write so many images of each color, PNG, height and width as given."""
    chance = np.random.default_rng(seed)
    for name, color in COLORS.items():
        (root / name).mkdir(parents=True)
        for number in range(images):
            noise = chance.normal(0, 30, (*size, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root
