"""Accuracy and time of fewer scales than the paper's six, on VOC's images.

    python benchmarks/multi_scale.py --weights voc.safetensors --root data/VOCdevkit --engines openvino:bfloat16

Each row is an engine with a set of scales: its mean IoU over seven classes, the share of pixels whose label is that of
eager PyTorch with all six scales and flips, and the time of an image.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from int8_accuracy import CLASSES, calibration
from script import write_values

from segmnv2.benchmark.compare import check_count
from segmnv2.benchmark.inference_speed import parse_engines
from segmnv2.benchmark.machine import describe_machine
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.engines.backend import check_threads
from segmnv2.engines.selection import create_backend
from segmnv2.inference.media import spread_evenly
from segmnv2.inference.multi_scale import SCALES, DenseModel
from segmnv2.inference.scores import predict_labels
from segmnv2.labels import VOC_LABELS
from segmnv2.metrics.confusion import confusion_matrix, iou_per_class
from segmnv2.models.model_file import load_model

SETS: dict[str, tuple[tuple[float, ...], bool]] = {
    "1": ((1.0,), False),
    "1, flips": ((1.0,), True),
    "0.75, 1.25": ((0.75, 1.25), False),
    "0.75, 1, 1.25": ((0.75, 1.0, 1.25), False),
    "0.75, 1, 1.25, flips": ((0.75, 1.0, 1.25), True),
    "0.5, 1, 1.5, flips": ((0.5, 1.0, 1.5), True),
    "six": (SCALES, False),
    "six, flips": (SCALES, True),
}
"""Name -> scales, and whether mirrored too."""


@dataclass(frozen=True)
class Result:
    """An engine with a set of scales.

    Attributes:
        engine: backend and precision.
        scales: name of :data:`SETS`.
        mean_iou: over the seven classes, 0..1.
        agreement: share of pixels labeled as by eager PyTorch with six scales and flips, 0..1.
        seconds: median of an image, from array to label map.
    """

    engine: str
    scales: str
    mean_iou: float
    agreement: float
    seconds: float

    def __str__(self) -> str:
        """Return a row of the table."""
        return (
            f"| {self.engine} | {self.scales} | {100 * self.mean_iou:.2f} | {100 * self.agreement:.2f} "
            f"| {self.seconds:.3f} |"
        )


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 0, or 2 with one message when an argument is at fault."""
    options = parse(arguments)
    return write_values(lambda: compare(options), options.json)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="model file with VOC's classes")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="VOCdevkit")
    parser.add_argument("--engines", default="openvino:float32", help="BACKEND:PRECISION with commas between")
    parser.add_argument("--output-stride", type=int, default=8)
    parser.add_argument("--images", type=int, default=40, metavar="N", help="val images, evenly over the list")
    parser.add_argument("--calibration", type=int, default=60, metavar="N", help="train images to calibrate int8 on")
    parser.add_argument("--size", type=int, default=513, help="canvas' side")
    parser.add_argument("--threads", type=int, help="of the engines; PyTorch's own choice by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the results")
    return parser.parse_args(arguments)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Print the rows while they come, and return them, with where they were measured, as JSON values.

    Raises:
        SegmnError: an argument is not possible, or files are missing.
    """
    check_count("--images", options.images)
    threads = check_threads(options.threads)
    engines = parse_engines(options.engines, torch.device("cpu"))
    model = load_model(options.weights, output_stride=options.output_stride).eval()
    val = VocSegmentation(options.root, "val")
    rows = spread_evenly(range(len(val)), options.images)
    reference = [predict_labels(model, val[row].image, size=options.size, scales=SCALES, flip=True) for row in rows]
    print("| engine | scales | mIOU of seven classes | pixels as with all, % | s an image |\n|---|---|---:|---:|---:|")
    results = []
    for backend, precision in engines:
        pixels = calibration(options, model.output_stride, SCALES) if precision == "int8" else None
        engine = create_backend(model, backend, precision, threads, "cpu", pixels)
        for name in SETS:
            results.append(judge(engine, f"{backend} {precision}", name, val, rows, reference, options.size))
            print(results[-1], flush=True)
    environment = {
        **describe_machine("cpu"),
        "engine threads": threads,
        "output stride": options.output_stride,
        "size": options.size,
        "images": len(rows),
    }
    print(f"\nMeasured with: {', '.join(f'{key} {value}' for key, value in environment.items())}.")
    return {"rows": [asdict(result) for result in results], "environment": environment}


def judge(
    engine: DenseModel,
    name: str,
    scales: str,
    val: VocSegmentation,
    rows: list[int],
    reference: list[np.ndarray],
    size: int,
) -> Result:
    """Label the images with one set of scales."""
    factors, flip = SETS[scales]
    predict_labels(engine, val[rows[0]].image, size=size, scales=factors, flip=flip)  # compiles for each size
    total, same, seconds = 0, [], []
    for row, expected in zip(rows, reference, strict=True):
        sample = val[row]
        began = time.perf_counter()
        found = predict_labels(engine, sample.image, size=size, scales=factors, flip=flip)
        seconds.append(time.perf_counter() - began)
        total = confusion_matrix(sample.mask, found, len(val.labels.names)) + total
        same.append((found == expected).ravel())
    ids = [VOC_LABELS.names.index(each) for each in CLASSES]
    iou = float(iou_per_class(total)[ids].nanmean())
    return Result(name, scales, iou, float(np.concatenate(same).mean()), float(np.median(seconds)))


if __name__ == "__main__":
    sys.exit(main())
