"""Demonstration in a few minutes, without a download: training on generated shapes, evaluation and inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from segmnv2.config.segmentation_schema import Experiment
from segmnv2.data.mask_file import read_mask
from segmnv2.data.sample import Sample
from segmnv2.datasets.dataset_kinds import open_dataset
from segmnv2.datasets.shapes import Shapes
from segmnv2.evaluation.segmenters import Evaluation, evaluate
from segmnv2.files.atomic import write_image
from segmnv2.inference.files import MASKS, ResultFolder, infer_files
from segmnv2.inference.overlay import add_legend, colorize, find_font
from segmnv2.inference.predictor import Predictor
from segmnv2.labels import LabelSet
from segmnv2.paper.table7 import table7, to_markdown
from segmnv2.training.run import train

PICTURES = 6
PICTURES_SEED = 1000
"""Seed of the shown images, which are not in the training and validation sets."""

TILE = 192
GAP = 8
HEADING = 26
PAPER = (255, 255, 255)
INK = (32, 32, 32)


@dataclass(frozen=True)
class DemoResult:
    """Result of the demonstration.

    Attributes:
        evaluation: evaluation of the trained model on the validation images.
        weights: file of the trained model.
        picture: file of an image that shows inputs, true masks and predicted masks.
    """

    evaluation: Evaluation
    weights: Path
    picture: Path


def run_demo(
    experiment: Experiment,
    out: str | Path,
    *,
    report: Callable[[str], None] = print,
    console: Console | None = None,
) -> DemoResult:
    """Train, evaluate, infer, draw, and print the evaluation and the paper's Table 7.

    Args:
        experiment: experiment on generated shapes, such as ``configs/shapes.yaml``.
        out: folder of all results; an earlier demonstration in it is replaced.
        report: called with each message.
        console: terminal of the progress bar.

    Raises:
        SegmnError: as for :func:`segmnv2.training.run.train`.
    """
    out = Path(out)
    run = train(experiment, out=out / "run", overwrite=True, report=report, console=console)
    report(f"trained in {run.seconds:.0f} s\n")

    predictor = Predictor.load(run.folder.best, size=experiment.validation.size)
    val = open_dataset(experiment.data.val, "data.val")
    evaluation = evaluate(predictor, val, limit=experiment.validation.limit)
    report(f"{run.folder.best} on the {evaluation.images} validation images:\n\n{evaluation.to_markdown()}\n")

    shown = Shapes(PICTURES, val[0].mask.shape, PICTURES_SEED)
    samples = [shown[index] for index in range(len(shown))]
    masks = _infer(predictor, samples, out)
    picture = out / "demo.png"
    write_image(picture, draw_comparison(samples, masks, shown.labels), "PNG")
    report(f"{picture}: {PICTURES} new images, their masks and the predictions")
    report(f"{out / 'results'}: the masks and overlays that `segmnv2 infer` writes\n")
    report(f"The paper's Table 7, with the costs of this library's models:\n\n{to_markdown(table7())}")
    return DemoResult(evaluation, run.folder.best, picture)


def _infer(predictor: Predictor, samples: Sequence[Sample], out: Path) -> list[np.ndarray]:
    """Write the images to disk, run inference on the files, and read the masks back."""
    paths = [out / "pictures" / f"{sample.name}.png" for sample in samples]
    for sample, path in zip(samples, paths, strict=True):
        write_image(path, Image.fromarray(sample.image), "PNG")
    infer_files(predictor, paths, ResultFolder(out / "results").write)
    return [read_mask(out / "results" / MASKS / path.name, predictor.model.labels) for path in paths]


def draw_comparison(samples: Sequence[Sample], predictions: Sequence[np.ndarray], labels: LabelSet) -> Image.Image:
    """Return one image with a row per sample (image, true mask, predicted mask), and a legend of the classes.

    Args:
        samples: images and true masks.
        predictions: (H, W) class ids of each sample.
        labels: names and colors of the classes.
    """
    titles = ("image", "truth", "prediction")
    sheet = Image.new("RGB", (len(titles) * (TILE + GAP) + GAP, len(samples) * (TILE + GAP) + HEADING + GAP), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.truetype(find_font([]), 16)
    for column, title in enumerate(titles):
        left = GAP + column * (TILE + GAP)
        draw.text((left + TILE / 2, GAP + HEADING / 2), title, fill=INK, font=font, anchor="mm")
    for row, (sample, prediction) in enumerate(zip(samples, predictions, strict=True)):
        tiles = (sample.image, colorize(sample.mask, labels), colorize(prediction.astype(np.uint8), labels))
        for column, tile in enumerate(tiles):
            resampling = Image.Resampling.BILINEAR if column == 0 else Image.Resampling.NEAREST
            corner = (GAP + column * (TILE + GAP), GAP + HEADING + row * (TILE + GAP))
            sheet.paste(Image.fromarray(tile).resize((TILE, TILE), resampling), corner)
    pixels = np.stack([sample.mask for sample in samples])
    shares = [float((pixels == index).mean()) for index in range(labels.num_classes)]
    return add_legend(sheet, list(zip(labels.names, labels.palette, shares, strict=True)))
