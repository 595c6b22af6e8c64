"""Accuracy and time of engines, precisions and sets of scales on VOC's images, beside PyTorch in float32.

Every fourth val image is for choosing between methods, and the others measure the chosen method. Images that calibrate
int8 are from the train split, so they are in neither part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from segmnv2.benchmark.compare import RESAMPLES, Interval, check_count
from segmnv2.benchmark.machine import describe_machine
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.errors import ConfigError
from segmnv2.evaluation.segmenters import check_same_labels
from segmnv2.inference.canvas import SCALES
from segmnv2.inference.options import InferenceOptions
from segmnv2.inference.predictor import Predictor
from segmnv2.labels import VOC_LABELS
from segmnv2.media.inputs import pick_evenly
from segmnv2.metrics.confusion import confusion_matrix
from segmnv2.models.segmenter import Segmenter

CLASSES = ("background", "person", "cat", "cow", "dog", "horse", "sheep")
"""Names of the classes whose IoU is averaged."""

EVERY = 4
PARTS = ("chosen", "judged")

Scales = Mapping[str, tuple[tuple[float, ...], bool]]
"""Name -> scales, and whether mirrored images are averaged too."""

ONE: Scales = {"1": ((1.0,), False)}

ALL: Scales = {
    **ONE,
    "1, flips": ((1.0,), True),
    "0.75, 1.25": ((0.75, 1.25), False),
    "0.75, 1, 1.25": ((0.75, 1.0, 1.25), False),
    "0.75, 1, 1.25, flips": ((0.75, 1.0, 1.25), True),
    "0.5, 1, 1.5, flips": ((0.5, 1.0, 1.5), True),
    "six": (SCALES, False),
    "six, flips": (SCALES, True),
}

TITLES = (
    "| engine | scales | images | mIOU of seven classes | change (95 %) | equal pixels, % | ms an image |\n"
    "|---|---|---:|---:|---|---:|---:|"
)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy and time of an engine (backend and precision) with a set of scales.

    Attributes:
        engine: backend and precision.
        scales: name of the set of scales.
        images: number of images.
        mean_iou: mean over the seven classes, 0..1.
        change: difference of the mean IoU from the reference's.
        agreement: share of pixels with the reference's label, 0..1.
        seconds: median time of an image, from array to label map.
    """

    engine: str
    scales: str
    images: int
    mean_iou: float
    change: Interval
    agreement: float
    seconds: float

    def __str__(self) -> str:
        """Return a row of the table."""
        return (
            f"| {self.engine} | {self.scales} | {self.images} | {100 * self.mean_iou:.2f} | {self.change * 100:+.2f} "
            f"| {100 * self.agreement:.2f} | {1000 * self.seconds:.1f} |"
        )


@dataclass(frozen=True)
class Labeled:
    """Results of a predictor: for each image the confusion matrix, the label map and the seconds."""

    confusions: Int64[Tensor, "n k k"]
    masks: list[UInt8[np.ndarray, "_ _"]]
    seconds: list[float]


def compare_accuracy(
    model: Segmenter,
    root: Path,
    engines: Sequence[tuple[str, str]],
    options: InferenceOptions,
    *,
    scales: Scales = ONE,
    part: str | None = None,
    limit: int | None = None,
    calibration: int = 100,
    show: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Compare engines, show each row of the table when it is measured, and return the table as JSON values.

    Args:
        model: the model, with VOC's classes.
        root: VOCdevkit.
        engines: (backend, precision) of each engine.
        options: options of all engines.
        scales: sets of scales for each engine, by name; the reference has the last set.
        part: one of :data:`PARTS`; all val images by default.
        limit: number of val images, evenly over the list, before they are divided into parts; all by default.
        calibration: number of train images to calibrate int8.
        show: called with the titles, with each row and with the description of the machine.

    Raises:
        SegmnError: an argument is invalid, or files are missing.
    """
    for name, value in (("--calibration", calibration), ("--limit", limit)):
        if value is not None:
            check_count(name, value)
    val = VocSegmentation(root, "val")
    check_same_labels(model.labels, val.labels)
    rows = choose_rows(len(val), limit, part)
    if not rows:
        raise ConfigError(f"--limit {limit}: leaves no image in --part {part}; give a larger limit")
    if options.output_stride is not None:
        model.set_output_stride(options.output_stride)
    *_, (factors, flip) = scales.values()
    reference = label(Predictor(model, size=options.size, multi_scale=factors, flip=flip), val, rows)
    show(TITLES)
    found, calibrated = [], 0
    for backend, precision in engines:
        shown = _calibration_images(root, calibration) if precision == "int8" else None
        calibrated = max(calibrated, len(shown or ()))
        several = tuple(dict.fromkeys(factor for factors, _ in scales.values() for factor in factors))
        own = replace(options, backend=backend, precision=precision, calibration=shown, multi_scale=several)
        engine = own.prepare(model)
        for name, (factors, flip) in scales.items():
            predictor = Predictor(model, size=options.size, multi_scale=factors, flip=flip, backend=engine)
            found.append(judge(f"{backend} {precision}", name, reference, label(predictor, val, rows)))
            show(str(found[-1]))
    environment = {
        **describe_machine("cpu"),
        "engine threads": options.place.threads,
        "output stride": model.output_stride,
        "size": options.size,
        "images": len(rows),
        "calibration images": calibrated,
    }
    show(f"\nMeasured with: {', '.join(f'{key} {value}' for key, value in environment.items())}.")
    return {"rows": [asdict(row) for row in found], "environment": environment}


def choose_rows(count: int, limit: int | None = None, part: str | None = None) -> list[int]:
    """Return the indices of the images of a part, out of ``count`` images."""
    rows = pick_evenly(range(count), limit)
    parts = {"chosen": rows[::EVERY], "judged": [row for place, row in enumerate(rows) if place % EVERY]}
    return rows if part is None else parts[part]


def _calibration_images(root: Path, count: int) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Return ``count`` images of the train split, evenly distributed over its list."""
    train = VocSegmentation(root, "train")
    return [train[row].image for row in pick_evenly(range(len(train)), count)]


def label(predictor: Predictor, dataset: VocSegmentation, rows: Sequence[int]) -> Labeled:
    """Label images and compare the labels with the masks."""
    predictor(dataset[rows[0]].image)  # a warm-up, in which some engines compile
    confusions, masks, seconds = [], [], []
    for row in rows:
        sample = dataset[row]
        began = time.perf_counter()
        mask = predictor(sample.image).mask
        seconds.append(time.perf_counter() - began)
        confusions.append(confusion_matrix(sample.mask, mask, len(dataset.labels.names)))
        masks.append(mask)
    return Labeled(torch.stack(confusions), masks, seconds)


def judge(engine: str, scales: str, reference: Labeled, found: Labeled) -> Accuracy:
    """Compare label maps with those of the reference for the same images."""
    ids = [VOC_LABELS.names.index(name) for name in CLASSES]
    same = [(one == other).ravel() for one, other in zip(reference.masks, found.masks, strict=True)]
    (mean,) = _mean_iou(np.ones((1, len(same)), dtype=np.int64), found.confusions, ids)
    change = mean_iou_change(reference.confusions, found.confusions, ids)
    agreement = float(np.concatenate(same).mean())
    return Accuracy(engine, scales, len(same), float(mean), change, agreement, float(np.median(found.seconds)))


def mean_iou_change(
    before: Int64[Tensor, "n k k"], after: Int64[Tensor, "n k k"], classes: Sequence[int] | None = None
) -> Interval:
    """Return the change of the mean IoU from one set of predictions to another, with its interval.

    The interval is by a paired bootstrap over the images. Each sample draws the same images, with replacement, for both
    sets, so errors that both make on the same images do not widen the interval. Counts are summed before they are
    divided, as for the mean IoU of a data set.

    Args:
        before: one confusion matrix, [truth, prediction], per image.
        after: the same of the other predictions.
        classes: classes whose IoU is averaged, by default all; a class without pixels in both has no IoU.
    """
    assert before.shape == after.shape
    draws = np.random.default_rng(0).multinomial(len(before), np.full(len(before), 1 / len(before)), RESAMPLES)
    weights = np.vstack([np.ones(len(before), dtype=np.int64), draws])
    found, *drawn = _mean_iou(weights, after, classes) - _mean_iou(weights, before, classes)
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Interval(float(found), float(low), float(high))


def _mean_iou(
    weights: Int64[np.ndarray, "r n"], confusions: Int64[Tensor, "n k k"], classes: Sequence[int] | None
) -> Float64[np.ndarray, " r"]:
    """Return the mean IoU for each row of image weights."""
    hits = confusions.diagonal(dim1=1, dim2=2)
    either = confusions.sum(1) + confusions.sum(2) - hits
    chosen = slice(None) if classes is None else list(classes)
    with np.errstate(invalid="ignore"):
        ious = (weights @ hits.numpy()[:, chosen]) / (weights @ either.numpy()[:, chosen])
    mean: Float64[np.ndarray, " r"] = np.nanmean(ious, axis=1)
    return mean
