"""Accuracy and speed of 8 bits, on VOC's images.

    python benchmarks/int8_accuracy.py --weights voc.safetensors --root data/VOCdevkit

Of the val images every fourth is for choosing how to quantize (``--part chosen`` shows those alone), and the others
judge what was chosen. Images to calibrate on are of the train split, so they are in neither part.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from script import write_values

from segmnv2.benchmark.compare import Ratio, check_count, interleave, paired_ratio
from segmnv2.benchmark.machine import describe_machine
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.engines.backend import Backend, check_threads
from segmnv2.engines.selection import choose_engine, create_backend
from segmnv2.inference.media import spread_evenly
from segmnv2.inference.options import calibration_pixels
from segmnv2.inference.scores import predict_labels
from segmnv2.labels import VOC_LABELS
from segmnv2.metrics.confusion import confusion_matrix, iou_per_class
from segmnv2.metrics.resampling import Change, mean_iou_change
from segmnv2.models.model_file import load_model

CLASSES = ("background", "person", "cat", "cow", "dog", "horse", "sheep")
"""What the mean IoU is over."""

EVERY = 4
PARTS = ("chosen", "judged")


@dataclass(frozen=True)
class Seen:
    """What an engine made of a part's images.

    Attributes:
        confusions: (images, classes, classes), one matrix an image.
        labels: of each image.
    """

    confusions: torch.Tensor
    labels: list[np.ndarray]


@dataclass(frozen=True)
class Result:
    """int8 beside float32 on one part.

    Attributes:
        backend: the engine.
        part: ``"chosen"`` or ``"judged"``.
        images: how many.
        float32: mean IoU, 0..1.
        change: of it in int8.
        agreement: share of pixels with the same label, 0..1.
    """

    backend: str
    part: str
    images: int
    float32: float
    change: Change
    agreement: float

    def __str__(self) -> str:
        """Return a row of the table."""
        return (
            f"| {self.backend} | {self.part} | {self.images} | {100 * self.float32:.2f} | {self.change} "
            f"| {100 * self.agreement:.2f} |"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and print its tables; 0, or 2 with one message when an argument is at fault."""
    options = parse(arguments)
    return write_values(lambda: compare(options), options.json)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="model file with VOC's classes")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="VOCdevkit")
    parser.add_argument("--backends", default="openvino,onnxruntime", help="engines, with commas between")
    parser.add_argument("--output-stride", type=int, help="in place of the file's own")
    parser.add_argument("--part", choices=PARTS, help="this part alone; both by default")
    parser.add_argument("--calibration", type=int, default=100, metavar="N", help="train images to calibrate on")
    parser.add_argument("--limit", type=int, metavar="N", help="val images, evenly over the list; all by default")
    parser.add_argument("--size", type=int, default=513, help="canvas' side")
    parser.add_argument("--rounds", type=int, default=40, help="timed images of each precision")
    parser.add_argument("--threads", type=int, help="of the engines; PyTorch's own choice by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the results")
    return parser.parse_args(arguments)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Print the tables while they grow, and return them as JSON values.

    Raises:
        SegmnError: an argument is not possible, or files are missing.
    """
    for name in ("calibration", "rounds", *(["limit"] if options.limit is not None else [])):
        check_count(f"--{name}", getattr(options, name))
    threads = check_threads(options.threads)
    names = [choose_engine(name, "int8", torch.device("cpu")) for name in options.backends.split(",")]
    model = load_model(options.weights, output_stride=options.output_stride).eval()
    parts = split(VocSegmentation(options.root, "val"), options.limit)
    parts = {part: rows for part, rows in parts.items() if options.part in (None, part)}
    pixels = calibration(options, model.output_stride)
    val = VocSegmentation(options.root, "val")
    reference = create_backend(model, "torch", threads=threads)
    truth = {part: look(reference, val, rows, options.size) for part, rows in parts.items()}
    print("| backend | part | images | float32 mIOU | change in int8 (95 %) | equal pixels, % |")
    print("|---|---|---:|---:|---|---:|")
    results, speeds = [], {}
    for name in names:
        plain = create_backend(model, name, threads=threads)
        small = create_backend(model, name, "int8", threads, "cpu", pixels)
        for part, rows in parts.items():
            results.append(judge(name, part, truth[part], look(small, val, rows, options.size)))
            print(results[-1], flush=True)
        speeds[name] = speed(plain, small, val, options)
    print("\n| backend | float32, ms | int8, ms | int8 is faster by |\n|---|---:|---:|---|")
    for name, (ratio, *milliseconds) in speeds.items():
        print(f"| {name} | {milliseconds[0]:.1f} | {milliseconds[1]:.1f} | {ratio} |")
    environment = {
        **describe_machine("cpu"),
        "engine threads": threads,
        "output stride": model.output_stride,
        "size": options.size,
        "calibration images": len(pixels),
    }
    print(f"\nMeasured with: {', '.join(f'{key} {value}' for key, value in environment.items())}.")
    return {
        "accuracy": [asdict(result) for result in results],
        "speed": {name: {"ratio": asdict(row[0]), "milliseconds": row[1:]} for name, row in speeds.items()},
        "environment": environment,
    }


def split(dataset: VocSegmentation, limit: int | None = None) -> dict[str, list[int]]:
    """Return the indices of both parts; with a limit, so many images in all, evenly over the list."""
    rows = spread_evenly(range(len(dataset)), limit)
    return {"chosen": rows[::EVERY], "judged": [row for place, row in enumerate(rows) if place % EVERY]}


def calibration(
    options: argparse.Namespace, output_stride: int, scales: Sequence[float] = (1.0,)
) -> list[torch.Tensor]:
    """Return the train split's images as the network sees them, evenly over its list."""
    train = VocSegmentation(options.root, "train")
    pictures = [train[row].image for row in spread_evenly(range(len(train)), options.calibration)]
    return calibration_pixels(pictures, output_stride, size=options.size, scales=scales)


def look(engine: Backend, dataset: VocSegmentation, rows: Sequence[int], size: int) -> Seen:
    """Label images and compare them with the truth."""
    confusions, labels = [], []
    for row in rows:
        sample = dataset[row]
        found = predict_labels(engine, sample.image, size=size)
        confusions.append(confusion_matrix(sample.mask, found, len(dataset.labels.names)))
        labels.append(found)
    return Seen(torch.stack(confusions), labels)


def judge(backend: str, part: str, plain: Seen, small: Seen) -> Result:
    """Compare int8 with float32 on the same images."""
    ids = [VOC_LABELS.names.index(name) for name in CLASSES]
    same = [one == other for one, other in zip(plain.labels, small.labels, strict=True)]
    return Result(
        backend,
        part,
        len(same),
        float(iou_per_class(plain.confusions.sum(0))[ids].nanmean()),
        mean_iou_change(plain.confusions, small.confusions, ids),
        float(np.concatenate([each.ravel() for each in same]).mean()),
    )


def speed(
    plain: Backend, small: Backend, dataset: VocSegmentation, options: argparse.Namespace
) -> tuple[Ratio, float, float]:
    """Return how many times as fast int8 is, and milliseconds an image of both, from array to label map."""
    images = [dataset[row].image for row in range(min(8, len(dataset)))]

    def run(engine: Backend, number: int) -> object:
        return predict_labels(engine, images[number % len(images)], size=options.size)

    contenders = {"float32": lambda number: run(plain, number), "int8": lambda number: run(small, number)}
    seconds = interleave(contenders, rounds=options.rounds)
    middle = [1000 * float(np.median(seconds[name])) for name in ("float32", "int8")]
    return paired_ratio(seconds["float32"], seconds["int8"]), middle[0], middle[1]


if __name__ == "__main__":
    sys.exit(main())
