"""Helpers that write data sets without faults and examine them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import yaml

from segmnv2.checks.examination import Examination, examine, listings_of
from segmnv2.data.mask_file import read_mask, write_mask
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.labels import LabelSet

TRAIN, VAL = 8, 3
SIZE = (48, 64)
TWO = LabelSet(("ground", "crop"), ((0, 0, 0), (0, 200, 0)))


def write_folder(
    root: Path,
    labels: LabelSet = SHAPES_LABELS,
    train: int = TRAIN,
    recode: Callable[[np.ndarray], np.ndarray] = np.array,
) -> Path:
    """Write shapes as a plain folder with the lists train and val; ``recode`` changes each mask.

    The labels state an ignore index of 255, except ``TWO``.
    """
    for folder in ("images", "masks", "splits"):
        (root / folder).mkdir(parents=True)
    shapes = Shapes(train + VAL, SIZE, seed=4)
    for index in range(len(shapes)):
        sample = shapes[index]
        PIL.Image.fromarray(sample.image).save(root / "images" / f"{index}.png")
        mask = np.asarray(recode(sample.mask), np.uint8)
        write_mask(root / "masks" / f"{index}.png", mask, labels)
    values = labels.to_dict()
    if labels is TWO:
        del values["ignore_index"]
    (root / "labels.yaml").write_text(yaml.safe_dump(values))
    (root / "splits" / "train.txt").write_text("".join(f"{i}\n" for i in range(train)))
    (root / "splits" / "val.txt").write_text("".join(f"{i}\n" for i in range(train, train + VAL)))
    return root


def two_classes(mask: np.ndarray) -> np.ndarray:
    """Make all shapes one class, without ignored pixels."""
    return np.where((mask > 0) & (mask < 255), 1, 0)


def mask_path(root: Path, index: int = 0) -> Path:
    return root / "masks" / f"{index}.png"


def ids(root: Path, index: int = 0) -> np.ndarray:
    return read_mask(mask_path(root, index), LabelSet.numbered(255))


def all_masks(root: Path) -> list[Path]:
    return sorted((root / "masks").iterdir())


def save(path: Path, values: np.ndarray, **options: Any) -> None:
    PIL.Image.fromarray(np.asarray(values)).save(path, **options)


def save_gray(path: Path, values: np.ndarray) -> None:
    save(path, np.asarray(values, np.uint8))


def in_colors(mask: np.ndarray, labels: LabelSet = SHAPES_LABELS) -> np.ndarray:
    table = np.zeros((256, 3), np.uint8)
    table[: labels.num_classes] = labels.palette
    table[255] = (224, 224, 192)
    return table[mask]


def check(root: Path, splits: Sequence[str] = (), workers: int = 1) -> Examination:
    return examine(listings_of(root, splits=splits), workers=workers)


def kinds(examination: Examination) -> set[str]:
    return {finding.kind for finding in examination.findings}
