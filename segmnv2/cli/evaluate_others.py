"""``segmnv2 evaluate`` of classifiers and detectors."""

from __future__ import annotations

from pathlib import Path

from segmnv2.cli.progress import image_progress
from segmnv2.cli.show_result import show_result
from segmnv2.coco.boxes import CocoBoxes
from segmnv2.datasets.image_folder import ImageFolder
from segmnv2.detection.detector_file import load_detector
from segmnv2.engines.device import choose_device
from segmnv2.errors import ConfigError
from segmnv2.evaluation import classifiers, detectors
from segmnv2.models.classifier import load_classifier


def evaluate_classifier(
    weights: Path,
    root: Path,
    size: str | None,
    limit: int | None,
    json_out: Path | None,
    device: str,
) -> None:
    """Print top-1 and top-5 accuracy.

    Args:
        weights: a classifier's file.
        root: the folder that holds a folder for each class.
        size: side of the crop, or ``None`` for the one in training.
        limit: number of images, evenly over the set.
        json_out: file for the figures.
        device: its name, or ``"auto"``.

    Raises:
        ConfigError: an option is missing or not possible.
        SegmnError: weights or data cannot be used.
    """
    if size is not None and not size.isdecimal():
        raise ConfigError(f"--size {size!r} is not possible for a classifier; give pixels, as 224")
    model = load_classifier(weights).to(choose_device(device))
    trained, central = classifiers.trained_crop(weights)
    data = ImageFolder(root)
    with image_progress(len(data) if limit is None else min(limit, len(data))) as advance:
        result = classifiers.evaluate_classifier(
            model,
            data,
            crop_size=trained if size is None else int(size),
            central=central,
            limit=limit,
            progress=advance,
        )
    show_result(result, weights, {"dataset": "image-folder", "root": str(root)}, json_out)


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
        result = detectors.evaluate_detector(model, data, limit=limit, progress=advance)
    if detections_out is not None:
        result.write_detections(detections_out)
    part = {"split": split} if annotations is None else {"annotations": str(annotations)}
    show_result(result, weights, {"dataset": "coco", "root": str(root), **part}, json_out)
