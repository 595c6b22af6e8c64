"""``segmnv2 evaluate --dataset image-folder``."""

from __future__ import annotations

from pathlib import Path

from segmnv2.backends.device import choose_device
from segmnv2.cli.progress import image_progress
from segmnv2.cli.show_result import show_result
from segmnv2.datasets.image_folder import ImageFolder
from segmnv2.engine import evaluate_classifier as engine
from segmnv2.errors import ConfigError
from segmnv2.models.classifier_file import load_classifier


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
    trained, central = engine.trained_crop(weights)
    data = ImageFolder(root)
    with image_progress(len(data) if limit is None else min(limit, len(data))) as advance:
        result = engine.evaluate_classifier(
            model,
            data,
            crop_size=trained if size is None else int(size),
            central=central,
            limit=limit,
            progress=advance,
        )
    show_result(result, weights, {"dataset": "image-folder", "root": str(root)}, json_out)
