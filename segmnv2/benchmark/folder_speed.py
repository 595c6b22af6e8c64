"""Speed from a folder of images to a folder of masks: one by one, pipelined, in streams, and with transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import PIL.Image
import torch

from segmnv2.benchmark.compare import Rate, Row, Table, apart, check_count, describe_memory, paired_ratio
from segmnv2.benchmark.inference_speed import Setting
from segmnv2.benchmark.machine import describe_machine
from segmnv2.benchmark.peers import copy_weights, is_transformers_model
from segmnv2.datasets.shapes import Shapes
from segmnv2.engines.timing import time_in_turns
from segmnv2.errors import ConfigError
from segmnv2.inference.files import ResultFolder, infer_files
from segmnv2.inference.predictor import Predictor
from segmnv2.media.inputs import list_images
from segmnv2.models.segmenter import Segmenter

SINGLE, PIPELINED, TRANSFORMERS = "one by one", "pipelined", "transformers"
GENERATED = (375, 500)
SIDE = 513


def compare_folder(
    setting: Setting,
    images: Path | None = None,
    *,
    count: int = 16,
    rounds: int = 6,
    batches: Sequence[int] = (),
    streams: Sequence[int] = (),
    alone: bool = False,
    overlays: bool = False,
) -> Table:
    """Measure all methods in one run, each in its own process on the same files; all write palette PNGs of class ids.

    Args:
        setting: model, engine and precision of this library.
        images: folder of image files; generated images by default.
        count: images per round.
        rounds: number of measured rounds, after one warm-up round.
        batches: further batch sizes to measure, pipelined.
        streams: numbers of streams to measure.
        alone: whether to omit transformers.
        overlays: whether this library also writes overlays.

    Raises:
        SegmnError: an argument is invalid, or there are no images.
    """
    for name, value in (("--count", count), ("--rounds", rounds)):
        check_count(name, value)
    methods: dict[str, tuple[int, int]] = {SINGLE: (1, 1), PIPELINED: (1, 1)}  # name -> batch, streams
    methods |= {f"{PIPELINED}, batch {batch}": (batch, 1) for batch in batches}
    methods |= {f"{number} streams": (1, number) for number in streams}
    methods |= {} if alone else {TRANSFORMERS: (1, 1)}
    settings = {
        name: replace(setting, options=replace(setting.options, batch=batch, streams=number))
        for name, (batch, number) in methods.items()
    }
    model = setting.model()  # missing files are reported before the measurement
    if not alone and not is_transformers_model(model):
        raise ConfigError(
            "transformers has only deeplabv3_mobilenet_v2 of width 1.0 with the paper's options, and the weights are "
            "of another model; leave transformers out with --alone"
        )
    with TemporaryDirectory() as folder:
        paths = _choose_images(images, count, Path(folder))
        builds = {
            name: (build_method, settings[name], name, paths, Path(folder) / f"results{number}", overlays)
            for number, name in enumerate(methods)
        }
        with apart(builds) as contenders:
            seconds = time_in_turns(contenders, rounds=rounds, warm_up=1)
            memory = {name: contender.finish() for name, contender in contenders.items()}
    environment = {
        **describe_machine("cpu"),
        "images": str(images or "generated"),
        "count": len(paths),
        "rounds": rounds,
        "segmnv2 runs": f"{setting.options.engine} {setting.options.precision}",
        "written": "masks and overlays" if overlays else "masks",
        **describe_memory(memory),
    }
    rows = (Row(name, Rate.of(len(paths), values), _note(name, seconds)) for name, values in seconds.items())
    return Table(tuple(rows), (), environment)


def _note(name: str, seconds: dict[str, list[float]]) -> str:
    if name == TRANSFORMERS:
        return f"{PIPELINED} is {paired_ratio(seconds[name], seconds[PIPELINED]):.2f} times as fast"
    other = SINGLE if name == PIPELINED else PIPELINED
    return "" if name == SINGLE else f"{paired_ratio(seconds[other], seconds[name]):.2f} times as fast as {other}"


def _choose_images(folder: Path | None, count: int, temporary: Path) -> list[Path]:
    """Return the first image files of a folder, or generated ones in a temporary folder."""
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"{folder}: is not a folder; give one with images, or leave it out")
    if folder is None:
        folder = temporary / "images"
        folder.mkdir()
        shapes = Shapes(count, GENERATED)
        for number in range(count):
            PIL.Image.fromarray(shapes[number].image).save(folder / f"{number}.jpg", quality=90)
    return list_images([folder])[:count]


def build_method(
    setting: Setting, name: str, paths: Sequence[Path], out: Path, overlays: bool
) -> Callable[[int], object]:
    """Load the model, and return a function that runs one round of a method, given the number of the round."""
    options = setting.options
    torch.set_num_threads(options.place.threads)
    if name == TRANSFORMERS:
        return Transformers(setting.model(), paths, out)
    predictor, results = Predictor.of(setting.model(), options), ResultFolder(out, overlay=overlays)
    if name == SINGLE:
        return lambda _: [results.write(predictor(path), path.stem) for path in paths]
    return lambda _: infer_files(predictor, paths, results.write, batch=options.batch, streams=options.streams)


class Transformers:
    """transformers' image segmentation, one image after another: processor, model with this library's weights, PIL."""

    def __init__(self, model: Segmenter, paths: Sequence[Path], out: Path) -> None:
        from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation, MobileNetV2ImageProcessor

        settings: dict[str, Any] = {"num_labels": model.num_classes, "output_stride": model.output_stride}
        config = MobileNetV2Config(**settings, image_size=SIDE)
        self.network: Any = MobileNetV2ForSemanticSegmentation(config).eval()  # type: ignore[no-untyped-call]
        copy_weights(model, self.network)
        # Google's settings crop the center; these settings label all pixels, as this library does.
        self.processor = MobileNetV2ImageProcessor(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
        self.palette = np.asarray(model.labels.palette, np.uint8).tobytes()
        self.paths, self.out = paths, out
        out.mkdir()

    def __call__(self, _number: int) -> None:
        """Label all images."""
        for path in self.paths:
            image = PIL.Image.open(path).convert("RGB")
            inputs = self.processor(images=image, return_tensors="pt")
            with torch.no_grad():
                outputs = self.network(**inputs)
            (labels,) = self.processor.post_process_semantic_segmentation(outputs, target_sizes=[image.size[::-1]])
            mask = PIL.Image.fromarray(labels.numpy().astype(np.uint8))
            mask.putpalette(self.palette)
            mask.save(self.out / f"{path.stem}.png")
