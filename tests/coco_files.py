"""A tiny data set in COCO's format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL.Image

CATEGORIES: Mapping[int, str] = {1: "square", 3: "oblong"}
SIDE = 96


def write_coco_boxes(root: Path, split: str = "val2017", images: int = 4) -> Path:
    """Write images of one bright square or oblong each, on noise, and return the root."""
    (root / split).mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    infos, things = [], []
    for number in range(images):
        generator = np.random.default_rng(number)
        category = (1, 3)[number % 2]
        width, height = (36, 36) if category == 1 else (60, 24)
        left, top = int(generator.integers(0, SIDE - width)), int(generator.integers(0, SIDE - height))
        pixels = generator.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[top : top + height, left : left + width] = (230, 40 * category, 60)
        name = f"{number:012}.png"
        PIL.Image.fromarray(pixels).save(root / split / name)
        infos.append({"id": number, "file_name": name, "height": SIDE, "width": SIDE})
        box = {"bbox": [left, top, width, height], "area": width * height, "iscrowd": 0}
        things.append({"id": number + 1, "image_id": number, "category_id": category, **box})
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    content = {"images": infos, "annotations": things, "categories": categories}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root
