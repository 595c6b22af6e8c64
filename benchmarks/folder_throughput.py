"""A folder of image files to a folder of masks: one by one, pipelined, in streams, and as transformers documents it.

    python benchmarks/folder_throughput.py --images data/VOCdevkit/VOC2012/JPEGImages --rounds 8

Each way has its own process and takes its turn on the same files. Without ``--images`` images are generated, without
``--weights`` the network is untrained; speeds hardly depend on either. All write palette PNGs of class ids.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import PIL.Image
import torch
from script import show_table

from segmnv2.benchmark.apart import apart
from segmnv2.benchmark.compare import Rate, check_count, interleave, paired_ratio
from segmnv2.benchmark.machine import describe_machine
from segmnv2.benchmark.peers import copy_weights
from segmnv2.benchmark.result_table import Row, Table
from segmnv2.datasets.shapes import Shapes
from segmnv2.engines.backend import check_streams
from segmnv2.engines.selection import create_backend
from segmnv2.errors import ConfigError
from segmnv2.inference.files import ResultFolder, infer_files
from segmnv2.inference.media import list_images
from segmnv2.inference.pipeline import check_batch
from segmnv2.inference.predictor import Predictor
from segmnv2.labels import VOC_LABELS
from segmnv2.models.model_file import load_model
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model

SINGLE, PIPELINED, TRANSFORMERS = "one by one", "pipelined", "transformers"
GENERATED = (375, 500)
SIDE = 513


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and print its table; 0, or 2 with one message when an argument is at fault."""
    options = parse(arguments)
    return show_table(lambda: compare(options), options.json)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of image files; generated without it")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="model file; an untrained network without it")
    parser.add_argument("--count", type=int, default=16, help="images a round")
    parser.add_argument("--rounds", type=int, default=6, help="measured rounds, after one that is not")
    parser.add_argument("--batches", type=int, nargs="*", default=[], help="pipelined with these batches, too")
    parser.add_argument("--streams", type=int, nargs="*", default=[], help="in so many streams, too")
    parser.add_argument("--alone", action="store_true", help="leave transformers out")
    parser.add_argument("--overlays", action="store_true", help="segmnv2 writes overlays, too")
    parser.add_argument("--backend", default="torch", help="of segmnv2: torch, openvino, onnxruntime or auto")
    parser.add_argument("--precision", default="float32", help="of segmnv2")
    parser.add_argument("--threads", type=int, help="of PyTorch; its own choice by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the table with every measurement")
    return parser.parse_args(arguments)


def compare(options: argparse.Namespace) -> Table:
    """Measure all ways in one run.

    Raises:
        SegmnError: an argument is not possible, or there are no images.
    """
    for name in ("count", "rounds"):
        check_count(f"--{name}", getattr(options, name))
    batches = {f"{PIPELINED}, batch {check_batch(batch)}": (batch, 1) for batch in options.batches}
    streams = {f"{number} streams": (1, check_streams(number)) for number in options.streams}
    ways_of_ours = {SINGLE: (1, 1), PIPELINED: (1, 1), **batches, **streams}
    names = [*ways_of_ours, *([] if options.alone else [TRANSFORMERS])]
    if options.weights is not None:
        load_model(options.weights)  # what is not there is reported before anyone starts
    with TemporaryDirectory() as folder:
        paths = choose_images(options.images, options.count, Path(folder))
        builds = {
            name: (build, options, name, *ways_of_ours.get(name, (1, 1)), paths, Path(folder) / f"results{number}")
            for number, name in enumerate(names)
        }
        with apart(builds) as ways:
            seconds = interleave(ways, rounds=options.rounds, warm_up=1)
            memory = {name: way.finish() for name, way in ways.items()}
    held = ", ".join(f"{name} {megabytes:.0f}" for name, megabytes in memory.items() if megabytes is not None)
    rows = [Row(name, Rate.of(len(paths), values), note(name, seconds)) for name, values in seconds.items()]
    environment = {
        **describe_machine("cpu"),
        "images": str(options.images or "generated"),
        "count": len(paths),
        "rounds": options.rounds,
        "segmnv2 runs": f"{options.backend} {options.precision}",
        "written": "masks and overlays" if options.overlays else "masks",
        "peak memory in MB": held or None,
    }
    return Table(tuple(rows), (), environment)


def note(name: str, seconds: dict[str, list[float]]) -> str:
    """Return how a way compares."""
    if name == PIPELINED:
        return f"{paired_ratio(seconds[SINGLE], seconds[name])} times as fast as {SINGLE}"
    if name == TRANSFORMERS:
        return f"{PIPELINED} is {paired_ratio(seconds[name], seconds[PIPELINED])} times as fast"
    return "" if name == SINGLE else f"{paired_ratio(seconds[PIPELINED], seconds[name])} times as fast as {PIPELINED}"


def choose_images(folder: Path | None, count: int, place: Path) -> list[Path]:
    """Return the first files of a folder, or of generated ones in ``place``.

    Raises:
        SegmnError: it is no folder, or has no images.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder; give one with images, or leave it out")
    if folder is None:
        folder = place / "images"
        folder.mkdir()
        drawn = Shapes(count, GENERATED)
        for number in range(count):
            PIL.Image.fromarray(drawn[number].image).save(folder / f"{number}.jpg", quality=90)
    return list_images([folder])[:count]


def build(
    options: argparse.Namespace, name: str, batch: int, streams: int, paths: Sequence[Path], out: Path
) -> Callable[[int], object]:
    """Return a way, to be called with the number of the round; the network is in memory then."""
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = (
        load_model(options.weights) if options.weights else create_model("deeplabv3_mobilenet_v2", labels=VOC_LABELS)
    )
    if name == TRANSFORMERS:
        return Transformers(model, paths, out)
    backend = create_backend(model.eval(), options.backend, options.precision, options.threads, streams=streams)
    predictor, results = Predictor(model, backend=backend), ResultFolder(out, overlay=options.overlays)
    if name == SINGLE:
        return lambda _: [results.write(predictor(path), path.stem) for path in paths]
    return lambda _: infer_files(predictor, paths, results.write, batch=batch, streams=streams)


class Transformers:
    """transformers' image segmentation, one image after another: processor, network, post-processing, PIL.

    Args:
        model: whose weights its network gets.
        paths: images.
        out: folder of the masks.
    """

    def __init__(self, model: Segmenter, paths: Sequence[Path], out: Path) -> None:
        from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation, MobileNetV2ImageProcessor

        config = MobileNetV2Config(num_labels=model.num_classes, output_stride=model.output_stride, image_size=SIDE)
        self.network = MobileNetV2ForSemanticSegmentation(config).eval()
        copy_weights(model, self.network)
        # Google's own settings cut a square out of the middle; here all pixels are labeled, as ours are.
        self.processor = MobileNetV2ImageProcessor(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
        self.palette = np.asarray(model.labels.palette, np.uint8).tobytes()
        self.paths, self.out = paths, out
        out.mkdir()

    def __call__(self, _number: int) -> None:
        """Label all images."""
        for path in self.paths:
            picture = PIL.Image.open(path).convert("RGB")
            inputs = self.processor(images=picture, return_tensors="pt")
            with torch.no_grad():
                outputs = self.network(**inputs)
            (labels,) = self.processor.post_process_semantic_segmentation(outputs, target_sizes=[picture.size[::-1]])
            mask = PIL.Image.fromarray(labels.numpy().astype(np.uint8))
            mask.putpalette(self.palette)
            mask.save(self.out / f"{path.stem}.png")


if __name__ == "__main__":
    sys.exit(main())
