"""Cityscapes: streets in 19 classes."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from segmnv2.datasets.source import LayoutSource
from segmnv2.labels import LabelSet

CLASSES = {
    7: ("road", (128, 64, 128)),
    8: ("sidewalk", (244, 35, 232)),
    11: ("building", (70, 70, 70)),
    12: ("wall", (102, 102, 156)),
    13: ("fence", (190, 153, 153)),
    17: ("pole", (153, 153, 153)),
    19: ("traffic light", (250, 170, 30)),
    20: ("traffic sign", (220, 220, 0)),
    21: ("vegetation", (107, 142, 35)),
    22: ("terrain", (152, 251, 152)),
    23: ("sky", (70, 130, 180)),
    24: ("person", (220, 20, 60)),
    25: ("rider", (255, 0, 0)),
    26: ("car", (0, 0, 142)),
    27: ("truck", (0, 0, 70)),
    28: ("bus", (0, 60, 100)),
    31: ("train", (0, 80, 100)),
    32: ("motorcycle", (0, 0, 230)),
    33: ("bicycle", (119, 11, 32)),
}
"""Of each evaluated class the id in Cityscapes' files, its name and its color; the other ids are ignored.

Source: the table of labels in Cityscapes' own scripts (``helpers/labels.py``).
"""

CITYSCAPES_LABELS = LabelSet(
    tuple(name for name, _ in CLASSES.values()), tuple(color for _, color in CLASSES.values()), 255, (0, 0, 0)
)


class CityscapesSource(LayoutSource):
    """Cityscapes with its fine masks, ``gtFine``, as unpacked; ``segmnv2 evaluate`` takes whole images.

    Attributes:
        root: folder with ``leftImg8bit/`` and ``gtFine/``.
        split: ``train`` or ``val``; the masks of ``test`` are not published.
    """

    evaluation: ClassVar = {"split": "val"}
    root_is: ClassVar = "the folder that holds leftImg8bit and gtFine"
    canvas: ClassVar = "native"

    splits: ClassVar = ("train", "val")
    images_in: ClassVar = "leftImg8bit"
    masks_in: ClassVar = "gtFine"
    image_end: ClassVar = "_leftImg8bit.png"
    mask_end: ClassVar = "_gtFine_labelIds.png"
    classes: ClassVar = CITYSCAPES_LABELS
    file_classes: ClassVar = LabelSet.numbered(34)
    table: ClassVar = np.full(256, CITYSCAPES_LABELS.ignore_index, np.uint8)
    table[list(CLASSES)] = range(len(CLASSES))

    kind: Literal["cityscapes"] = "cityscapes"
    split: Literal["train", "val"]
