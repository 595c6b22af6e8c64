"""``segmnv2 evaluate --dataset coco``."""

from __future__ import annotations

from pathlib import Path

from segmnv2.backends.device import choose_device
from segmnv2.cli.progress import image_progress
from segmnv2.cli.show_result import show_result
from segmnv2.datasets.coco_boxes import CocoBoxes
from segmnv2.detection.file import load_detector
from segmnv2.engine import evaluate_detector as engine
from segmnv2.errors import ConfigError


def evaluate_detector(
    weights: Path,
    root: Path,
    split: str | None,
    annotations: Path | None,
    limit: int | None,
    json_out: Path | None,
    detections_out: Path | None,
    device: str,
) -> None:
    """Print COCO's average precision.

    Args:
        weights: a detector's file.
        root: the folder of COCO, or with ``annotations`` that of the images.
        split: part of COCO, ``val2017`` by default.
        annotations: JSON file of your own data.
        limit: number of images, evenly over the set.
        json_out: file for the figures.
        detections_out: file for what was found, in COCO's format of results.
        device: its name, or ``"auto"``.

    Raises:
        ConfigError: an option is missing or not possible.
        SegmnError: weights or data cannot be used.
    """
    if annotations is not None and split is not None:
        raise ConfigError(f"--split {split} and --annotations {annotations} exclude each other; give one of them")
    model = load_detector(weights).to(choose_device(device))
    split = split or "val2017"
    data = CocoBoxes.of_split(root, split) if annotations is None else CocoBoxes(root, annotations)
    with image_progress(len(data) if limit is None else min(limit, len(data))) as advance:
        result = engine.evaluate_detector(model, data, limit=limit, progress=advance)
    if detections_out is not None:
        result.write_detections(detections_out)
    part = {"split": split} if annotations is None else {"annotations": str(annotations)}
    show_result(result, weights, {"dataset": "coco", "root": str(root), **part}, json_out)
