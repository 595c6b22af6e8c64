"""COCO's boxes, for detectors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int64
from pycocotools.coco import COCO
from torch import Tensor

from segmnv2.data.image_file import read_image
from segmnv2.errors import DatasetError

Picture = Float[Tensor, "3 h w"]


class Target(TypedDict):
    """What is in an image, as torchvision's detectors take it.

    ``boxes``: x1, y1, x2, y2 in pixels. ``labels``: COCO's category ids, 1 to 90 with gaps. ``image_id``: COCO's.
    """

    boxes: Float[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    image_id: int


class CocoBoxes:
    """Images of COCO with the boxes of their things; crowds and boxes without an area are left out.

    Args:
        root: folder with ``annotations/`` and the images' folders.
        split: ``train2017`` or ``val2017``.

    Attributes:
        coco: the annotations, as pycocotools holds them.
        ids: of the images, rising.

    Raises:
        DatasetError: a file is missing or no annotations.

    Source: what is left out: ``convert_coco_poly_to_mask`` and ``_coco_remove_images_without_annotations`` of
    torchvision's references/detection/coco_utils.py (images without a box are kept here).
    """

    def __init__(self, root: str | Path, split: str) -> None:
        self.folder = Path(root) / split
        path = Path(root) / "annotations" / f"instances_{split}.json"
        for place in (self.folder, path):
            if not place.exists():
                raise DatasetError(f"{place}: does not exist; give the folder that holds COCO's annotations and images")
        try:
            with redirect_stdout(StringIO()):  # pycocotools tells its progress
                self.coco = COCO(str(path))
            self.ids: list[int] = sorted(self.coco.imgs)
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise DatasetError(f"{path}: holds no annotations of instances ({error}); fetch it again") from error

    @property
    def class_names(self) -> dict[int, str]:
        """COCO's categories: id -> name."""
        return {number: each["name"] for number, each in sorted(self.coco.cats.items())}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> tuple[Picture, Target]:
        """Return an image, float RGB (3, H, W) in 0..1, and what is in it.

        Raises:
            MediaError: the image cannot be read.
        """
        number = self.ids[index]
        image = read_image(self.folder / self.coco.imgs[number]["file_name"])
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        return pixels, self._target(number, image.shape[:2])

    def _target(self, number: int, size: Sequence[int]) -> Target:
        kept: list[dict[str, Any]] = [each for each in self.coco.imgToAnns[number] if not each.get("iscrowd")]
        boxes = np.array([each["bbox"] for each in kept], np.float32).reshape(-1, 4)
        labels = np.array([each["category_id"] for each in kept], np.int64)
        boxes[:, 2:] += boxes[:, :2]  # COCO has width and height
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, size[1])
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, size[0])
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return {
            "boxes": torch.from_numpy(boxes[solid]),
            "labels": torch.from_numpy(labels[solid]),
            "image_id": number,
        }
