"""Published data sets with fixed folders: Cityscapes with 19 classes, ADE20K with 150."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from segmnv2.datasets.dataset_kinds import FileSource
from segmnv2.datasets.listing import Finding, Listing, Pair
from segmnv2.errors import ConfigError
from segmnv2.labels import LabelSet


class LayoutSource(FileSource):
    """A published data set with a fixed layout and fixed classes, in which each split is a folder.

    Attributes:
        splits: names of the splits, training set first.
        images_in: folder of the splits' images; ``masks_in`` is that of their masks.
        image_end: end of an image's file name; the name of its mask ends in ``mask_end`` instead.
        classes: the classes; the ids in mask files are those of ``file_classes``.
        table: uint8 (256,), maps ids of ``file_classes`` to ids of ``classes``.
    """

    splits: ClassVar[tuple[str, ...]]
    images_in: ClassVar[str]
    masks_in: ClassVar[str]
    image_end: ClassVar[str]
    mask_end: ClassVar[str]
    classes: ClassVar[LabelSet]
    file_classes: ClassVar[LabelSet]
    table: ClassVar[np.ndarray]

    split: str

    def listing(self, split: str) -> Listing:
        """Pair images and masks whose names differ only in their ends; other files are ignored."""
        by_name: list[dict[str, Path]] = []
        images, masks = self.root / self.images_in / self.split, self.root / self.masks_in / self.split
        for folder, end in ((images, self.image_end), (masks, self.mask_end)):
            files = sorted(folder.rglob(f"*{end}"))
            if not files:
                remedy = f"unpack the data set there: {images} holds NAME{self.image_end}, {masks} NAME{self.mask_end}"
                missing = Finding("empty", str(folder), f"holds no file NAME{end}", remedy, split)
                return self._listing(split, [], [missing])
            by_name.append({str(file.relative_to(folder))[: -len(end)]: file for file in files})
        of_images, of_masks = by_name
        remedy = "unpack it there, or move the other file away"
        findings = [
            Finding("missing-mask", str(of_images[key]), f"there is no {masks / key}{self.mask_end}", remedy, split)
            for key in sorted(of_images.keys() - of_masks.keys())
        ]
        findings += [
            Finding("missing-image", str(of_masks[key]), f"there is no {images / key}{self.image_end}", remedy, split)
            for key in sorted(of_masks.keys() - of_images.keys())
        ]
        pairs = [Pair(Path(key).name, of_images[key], of_masks[key]) for key in of_images if key in of_masks]
        return self._listing(split, pairs, findings)

    def _listing(self, split: str, pairs: list[Pair], findings: list[Finding]) -> Listing:
        common = split, self.root, self.classes, tuple(pairs), tuple(findings)
        return Listing(*common, file_labels=self.file_classes, table=self.table)

    @classmethod
    def found_in(cls, root: Path, splits: Sequence[str], labels: Path | None) -> Sequence[LayoutSource]:
        """Return a source for each split of a folder in this layout."""
        present = [name for name in cls.splits if (root / cls.masks_in / name).is_dir()]
        if not present or not (root / cls.images_in).is_dir():
            return ()
        wrong = sorted(set(splits) - set(cls.splits))
        if labels or wrong:
            given = f"--labels {labels}" if labels else f"--split {wrong[0]}"
            raise ConfigError(f"{given}: {root} has fixed classes and the splits {', '.join(cls.splits)}; leave it out")
        return [cls.model_validate({"root": root, "split": name}) for name in splits or present]


CITYSCAPES = {
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
"""Id in Cityscapes' files -> name and color of each evaluated class; all other ids are ignored.

Source: the table of labels in Cityscapes' own scripts (``helpers/labels.py``).
"""

CITYSCAPES_LABELS = LabelSet(
    tuple(name for name, _ in CITYSCAPES.values()), tuple(color for _, color in CITYSCAPES.values()), 255, (0, 0, 0)
)


class CityscapesSource(LayoutSource):
    """Unpacked Cityscapes with its fine masks, ``gtFine``; ``segmnv2 evaluate`` does not scale its images.

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
    table[list(CITYSCAPES)] = range(len(CITYSCAPES))

    kind: Literal["cityscapes"] = "cityscapes"
    split: Literal["train", "val"]


ADE20K_NAMES = """
    wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth,
    door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug,
    field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column,
    signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path,
    stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, coffee table,
    toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar,
    arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth, television
    receiver, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, poster,
    stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket,
    waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal,
    bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan,
    pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""
"""Names of the classes in the order of their ids in masks, 1 to 150; id 0 means no class.

Source: ``objectInfo150.txt`` of the benchmark, the first name of each class.
"""

ADE20K_COLORS = """
    787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33
    ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff
    08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff
    eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff
    0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad
    0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2
    00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa
    8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3
    ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff
    00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""
"""Red, green and blue of each class, in hexadecimal digits.

Source: ``color150.mat`` of the benchmark.
"""

ADE20K_LABELS = LabelSet(
    tuple(" ".join(name.split()) for name in ADE20K_NAMES.split(",")),
    tuple((color[0], color[1], color[2]) for color in map(bytes.fromhex, ADE20K_COLORS.split())),
    255,
    (0, 0, 0),
)


class Ade20kSource(LayoutSource):
    """ADE20K's unpacked scene parsing benchmark, ``ADEChallengeData2016``.

    Attributes:
        root: folder with ``images/`` and ``annotations/``.
        split: ``training`` or ``validation``.
    """

    evaluation: ClassVar = {"split": "validation"}
    root_is: ClassVar = "the folder ADEChallengeData2016"

    splits: ClassVar = ("training", "validation")
    images_in: ClassVar = "images"
    masks_in: ClassVar = "annotations"
    image_end: ClassVar = ".jpg"
    mask_end: ClassVar = ".png"
    classes: ClassVar = ADE20K_LABELS
    file_classes: ClassVar = LabelSet.numbered(151)
    table: ClassVar = np.full(256, ADE20K_LABELS.ignore_index, np.uint8)
    table[1:151] = range(150)

    kind: Literal["ade20k"] = "ade20k"
    split: Literal["training", "validation"]
