"""The paper's Figure 6 at a small scale: effects of linear bottlenecks and shortcuts, on generated images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.errors import ConfigError
from segmnv2.models.classifier import Classifier, create_classifier
from segmnv2.models.cost import count_parameters
from segmnv2.paper.drawing import GRAY, INK, MARKERS, PALETTE, SMALL_SIZE, TEXT_SIZE, new_figure, style_axes

VARIANTS: dict[str, dict[str, Any]] = {
    "linear bottleneck, shortcut between bottlenecks": {},
    "ReLU6 in the bottleneck": {"bottleneck_activation": True},
    "shortcut between expansions": {"shortcut": "expansion"},
    "no shortcut": {"shortcut": "none"},
}
"""Label of a curve -> options of its model. The first is the paper's and belongs to both panels."""

_PAPERS, _RELU6, _EXPANSION, _NONE = VARIANTS
PANELS = {
    "a: non-linearity in the bottleneck": (_PAPERS, _RELU6),
    "b: shortcuts": (_PAPERS, _EXPANSION, _NONE),
}

CLASS_NAMES = SHAPES_LABELS.names[1:]
SIDE = 33
WIDTH = 0.35
BATCH = 32
LEARNING_RATE = 0.005
"""Learning rate of AdamW. With SGD and momentum, the accuracies of equal models differ by tens of percent."""

NORM_MOMENTUM = 0.1
"""Momentum of the running statistics. The models' own 0.003 would need thousands of steps."""

HELD_OUT = 256
HELD_OUT_SEED = 1_000_000
STEPS = 300
SEEDS = 3
EVALUATIONS = 12
DATA = (
    f"generated images of {SIDE} x {SIDE} with one to four shapes; the task: which of {', '.join(CLASS_NAMES)} covers "
    f"most; {HELD_OUT} held-out images"
)


@dataclass(frozen=True)
class Curve:
    """Training curves of one kind of model.

    Attributes:
        variant: a key of :data:`VARIANTS`.
        accuracy: for each seed, the percentage of correct held-out images after each of the ``evaluated`` steps.
    """

    variant: str
    accuracy: tuple[tuple[float, ...], ...]

    def mean(self) -> list[float]:
        """Return the mean over the seeds at each evaluated step."""
        return [sum(values) / len(values) for values in zip(*self.accuracy, strict=True)]

    def span(self) -> list[tuple[float, float]]:
        """Return the smallest and the largest value of the seeds at each evaluated step."""
        return [(min(values), max(values)) for values in zip(*self.accuracy, strict=True)]


@dataclass(frozen=True)
class Figure6:
    """The figure's content and the settings of the training.

    Attributes:
        data: description of the images and the task.
        steps: updates of each model.
        batch: images per update.
        seeds: number of trainings of each kind of model; a seed determines the images.
        width: multiplier of MobileNetV2's channels.
        parameters: trainable values, the same number in each model.
        chance: accuracy in percent if the most frequent class is always chosen.
        evaluated: the steps after which accuracy was measured.
        curves: one for each of :data:`VARIANTS`.
    """

    data: str
    steps: int
    batch: int
    seeds: int
    width: float
    parameters: int
    chance: float
    evaluated: tuple[int, ...]
    curves: tuple[Curve, ...]


def figure6(*, steps: int = STEPS, seeds: int = SEEDS, progress: Callable[[int, int], None] | None = None) -> Figure6:
    """Train small classifiers that differ only by the options of Figure 6, from equal weights on equal images.

    This is a small replication, which allows no conclusions about ImageNet. Differences within the range over the seeds
    are not significant. The state of torch's generator is unchanged afterwards.

    Args:
        steps: updates of each model, at least 1.
        seeds: number of trainings of each kind of model, each from other weights on other images, at least 1.
        progress: called after every update with the number of updates so far and their total, over all models.

    Raises:
        ConfigError: a number is below 1.
    """
    if steps < 1 or seeds < 1:
        raise ConfigError(f"figure6: steps {steps}, seeds {seeds}; give at least 1 of each")
    held_out = _read_images(HELD_OUT, HELD_OUT_SEED)
    evaluated = tuple(sorted({round(steps * (n + 1) / EVALUATIONS) for n in range(EVALUATIONS)} - {0}))
    total, done, parameters, curves = len(VARIANTS) * seeds * steps, 0, 0, []
    for variant, options in VARIANTS.items():
        runs = []
        for seed in range(seeds):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = _create(options)
                parameters = count_parameters(model)
                accuracy = []
                for step in _train(model, steps, seed):
                    done += 1
                    if step in evaluated:
                        accuracy.append(_accuracy(model, held_out))
                    if progress is not None:
                        progress(done, total)
            runs.append(tuple(accuracy))
        curves.append(Curve(variant, tuple(runs)))
    chance = 100 * int(held_out[1].bincount().max()) / HELD_OUT
    return Figure6(DATA, steps, BATCH, seeds, WIDTH, parameters, chance, evaluated, tuple(curves))


def _create(options: dict[str, Any]) -> Classifier:
    model = create_classifier("mobilenet_v2", class_names=CLASS_NAMES, width=WIDTH, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = NORM_MOMENTUM
    return model


def _read_images(count: int, seed: int, start: int = 0) -> tuple[Tensor, Tensor]:
    """Return uint8 pixels (n, 3, SIDE, SIDE) and the class that covers most of each image (n,)."""
    shapes = Shapes(start + count, (SIDE, SIDE), seed)
    pixels, targets = [], []
    for index in range(start, start + count):
        sample = shapes[index]
        assert sample.mask is not None
        pixels.append(sample.image.transpose(2, 0, 1))
        areas = np.bincount(sample.mask.ravel(), minlength=SHAPES_LABELS.num_classes)
        targets.append(int(areas[1 : SHAPES_LABELS.num_classes].argmax()))
    return torch.from_numpy(np.stack(pixels)), torch.tensor(targets)


def _train(model: Classifier, steps: int, seed: int) -> Iterator[int]:
    """Update the model ``steps`` times, each time on new images, and yield the number of updates after each."""
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        pixels, targets = _read_images(BATCH, seed, start=(step - 1) * BATCH)
        model.train()
        optimizer.zero_grad()
        loss: Tensor = F.cross_entropy(model(pixels), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        yield step


@torch.no_grad()
def _accuracy(model: Classifier, images: tuple[Tensor, Tensor]) -> float:
    """Return the percentage of images that are classified correctly."""
    pixels, targets = images
    return 100 * int((model.eval()(pixels).argmax(1) == targets).sum()) / len(targets)


def to_markdown(result: Figure6) -> str:
    """Return a table of the accuracies with one row per kind of model, with an explanation."""
    half = (len(result.evaluated) - 1) // 2
    middle, end = (f"% after {result.evaluated[index]} steps (span)" for index in (half, -1))
    lines = [
        f"| Figure 6 | Network | {middle} | {end} |",
        "|---|---|---:|---:|",
    ]
    for curve in result.curves:
        panels = " and ".join(f"6{title[0]}" for title, variants in PANELS.items() if curve.variant in variants)
        cells = [
            f"{curve.mean()[index]:.1f} ({curve.span()[index][0]:.1f} to {curve.span()[index][1]:.1f})"
            for index in (half, -1)
        ]
        lines.append(f"| {panels} | {curve.variant} | {cells[0]} | {cells[1]} |")
    return "\n".join([*lines, "", describe(result)])


def describe(result: Figure6) -> str:
    """Describe the training and the limits of its results."""
    return (
        f"A small-scale replication, not ImageNet: MobileNetV2 of width {result.width:g} ({result.parameters} "
        f"parameters in every model) on {result.data}. {result.steps} steps of AdamW with {result.batch} images; "
        f"means of {result.seeds} trainings from other weights on other images, and their span. A difference within "
        f"the span is not significant. Always choosing the most frequent class gives {result.chance:.1f} %. The paper "
        "prints its curves without numbers; the layers that each option changes are this library's interpretation."
    )


def draw(result: Figure6) -> Figure:
    """Draw accuracies over steps, with one panel for 6a and one for 6b."""
    figure = new_figure(
        "Linear bottlenecks and shortcuts at a small scale",
        f"After MobileNetV2, Figure 6; not ImageNet: MobileNetV2 of width {result.width:g} on generated images of "
        f"shapes, {result.steps} steps of {result.batch}.\nLines: means of {result.seeds} trainings. Shaded: their "
        f"span. Dotted: always the most frequent class, {result.chance:.0f} %.",
        width=12,
        height=5.6,
    )
    curves = {curve.variant: curve for curve in result.curves}
    looks = dict(zip(VARIANTS, zip(PALETTE, MARKERS, strict=False), strict=False))
    for axes, (title, variants) in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS.items(), strict=True):
        style_axes(axes, x_label="Steps", y_label="Accuracy, percent" if title.startswith("a") else "")
        axes.set_title(title, loc="left", fontsize=TEXT_SIZE, fontweight="bold", color=INK)
        axes.axhline(result.chance, color=GRAY, linestyle=":")
        for variant in variants:
            color, marker = looks[variant]
            lows, highs = zip(*curves[variant].span(), strict=True)
            axes.fill_between(result.evaluated, lows, highs, color=color, alpha=0.15, linewidth=0)
            axes.plot(result.evaluated, curves[variant].mean(), color=color, marker=marker, label=variant)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)  # room for the legend below the curves
        axes.legend(loc="lower right", fontsize=SMALL_SIZE, frameon=False)
    return figure
