"""Speed of inference by engine and precision, beside other libraries; each contender has its own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8

from segmnv2.benchmark.compare import Rate, Row, Table, apart, check_count, paired_ratio
from segmnv2.benchmark.machine import describe_machine
from segmnv2.benchmark.peers import PEERS, is_transformers_model
from segmnv2.engines.backend import check_precision
from segmnv2.engines.selection import ENGINES, UNPICKED, check_backend, choose_engine, refuse_engine
from segmnv2.engines.timing import time_in_turns
from segmnv2.errors import ConfigError
from segmnv2.inference.canvas import SCALES, make_canvas
from segmnv2.inference.options import InferenceOptions
from segmnv2.inference.predictor import Predictor
from segmnv2.labels import VOC_LABELS
from segmnv2.models.model_file import load_model
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from segmnv2.nn.stride import resize_bilinear, scaled_side

Images = Sequence[UInt8[np.ndarray, "_ _ 3"]]
Step = Callable[[int], object]


@dataclass(frozen=True)
class Setting:
    """Settings of all contenders.

    Attributes:
        options: inference options; peers use their batch, threads, device and output stride.
        weights: model file; by default the paper's network without ASPP, with untrained weights.
        burst: batches per turn of a contender. Only the first batch finds data of another contender in the caches.
    """

    options: InferenceOptions
    weights: str | None = None
    burst: int = 1

    @property
    def output_stride(self) -> int:
        """Output stride of the models whose stride can be set."""
        return self.options.output_stride or 16

    def repeat(self, step: Step) -> Step:
        """Return a function that runs a step for each batch of a turn."""
        return lambda number: [step(number * self.burst + place) for place in range(self.burst)]

    def model(self) -> Segmenter:
        """Return the model."""
        if self.weights is not None:
            return load_model(self.weights, output_stride=self.options.output_stride).eval()
        torch.manual_seed(0)
        return create_model("deeplabv3_mobilenet_v2", output_stride=self.output_stride, labels=VOC_LABELS).eval()

    def pick(self, images: Images, number: int) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """Return the images of a round."""
        batch = self.options.batch
        return [images[(number * batch + place) % len(images)] for place in range(batch)]


def build_ours(setting: Setting, images: Images, options: InferenceOptions) -> Step:
    """Return a step of this library's predictor with the given options."""
    predictor = Predictor.of(setting.model(), options)

    def step(number: int) -> object:
        prepared = [predictor.prepare(each) for each in setting.pick(images, number)]
        return [each.mask for each in predictor.predict(prepared)]

    return setting.repeat(step)


def build_peer(setting: Setting, images: Images, name: str, compiled: bool) -> Step:
    """Return a step of another library."""
    place = setting.options.place
    torch.set_num_threads(place.threads)
    model = setting.model()
    weights = setting.weights if is_transformers_model(model) else None
    peer = PEERS[name].build(model.num_classes, setting.output_stride, weights).to(place.device)
    run = torch.compile(peer) if compiled else peer

    def step(number: int) -> object:
        import torch._inductor.config as inductor

        pixels = peer.prepare(np.stack(setting.pick(images, number))).to(place.device)
        with inductor.patch(freezing=compiled), torch.inference_mode():
            return run(pixels).to(torch.uint8).cpu().numpy()

    return setting.repeat(step)


def build_eager_loop(setting: Setting, images: Images) -> Step:
    """Return a step of a plain loop: eager PyTorch, one pass after another, with summed probabilities."""
    place = setting.options.place
    torch.set_num_threads(place.threads)
    model = setting.model().to(place.device)

    def step(number: int) -> object:
        found = []
        for image in setting.pick(images, number):
            canvas = make_canvas(image, setting.options.size, setting.output_stride, model.mean_pixel)
            pixels = canvas.pixels.contiguous().to(place.device)
            with torch.inference_mode():
                found.append(_label_by_sum(model, pixels)[0].cpu().numpy())
        return found

    return setting.repeat(step)


def _label_by_sum(model: Segmenter, pixels: torch.Tensor) -> torch.Tensor:
    height, width = pixels.shape[-2:]
    total: torch.Tensor | None = None
    for scale in SCALES:
        scaled = resize_bilinear(pixels, (scaled_side(height, scale), scaled_side(width, scale)))
        for mirrored in (False, True):
            logits = model.raw_logits(scaled.flip(-1) if mirrored else scaled)
            logits = logits.flip(-1) if mirrored else logits
            scores = F.interpolate(logits, (height, width), mode="bilinear", align_corners=True).softmax(1)
            total = scores if total is None else total + scores
    assert total is not None
    return total.argmax(1).to(torch.uint8)


Builds = dict[str, tuple[Any, ...]]

REST = 0.05
"""Seconds before each turn."""

EAGER_LOOP = "eager loop"


def parse_engines(
    text: str | None,
    device: torch.device,
    *,
    compiled: bool = False,
    on_skip: Callable[[str], None] = lambda reason: None,
) -> Sequence[tuple[str, str]]:
    """Parse ``--engines``: BACKEND:PRECISION, separated by commas.

    Args:
        text: value of the option, or ``None`` for everything that runs on the device.
        device: the device.
        compiled: whether ``None`` includes torch.compile, which takes long.
        on_skip: called with the reason for each known engine that cannot run here.

    Raises:
        ConfigError: an engine or precision is unknown, or none of the given ones can run here.
    """
    if text is None:
        return [
            (name, precision)
            for name, engine in ENGINES.items()
            for precision in engine.precisions
            if (compiled or name not in UNPICKED) and refuse_engine(name, precision, device) is None
        ]
    found: list[tuple[str, str]] = []
    reasons = []
    for word in filter(None, text.split(",")):
        name, _, precision = word.strip().partition(":")
        wanted = check_precision(precision or "float32")
        check_backend(name)
        try:
            found.append((choose_engine(name, wanted, device), wanted))
        except ConfigError as error:
            reasons.append(f"{word.strip()} is skipped: {error}")
    if reasons and not found:
        raise ConfigError("; ".join(reasons))
    for reason in reasons:
        on_skip(reason)
    return found


def parse_peers(text: str | None) -> list[str]:
    """Parse ``--peers``: names separated by commas; ``None`` is all peers, and an empty text is none.

    Raises:
        ConfigError: a name is unknown.
    """
    names = list(PEERS) if text is None else [word.strip() for word in text.split(",") if word.strip()]
    for name in names:
        if name not in PEERS:
            raise ConfigError(f"--peers {name!r}: is not known; give some of {', '.join(PEERS)}")
    return names


@dataclass(frozen=True)
class Choice:
    """The contenders to compare.

    Attributes:
        engines: (backend, precision) of this library's contenders.
        peers: names of :data:`segmnv2.benchmark.peers.PEERS`; peers that are not installed, or lack the output stride,
            are omitted.
        compiled: whether to measure the peers also compiled with frozen weights.
    """

    engines: Sequence[tuple[str, str]]
    peers: Sequence[str] = tuple(PEERS)
    compiled: bool = False


def benchmark_inference(
    images: Images,
    setting: Setting,
    choice: Choice,
    *,
    rounds: int = 20,
    calibration: Images = (),
    on_skip: Callable[[str], None] | None = None,
) -> Table:
    """Time all contenders in one run, each in its own process while the others wait.

    A step starts with uint8 RGB arrays in memory and ends with label maps of their size in memory.

    Args:
        images: images of one size; each round takes the next ones.
        setting: settings that all contenders have in common.
        choice: the contenders.
        rounds: number of measured rounds, after two warm-up rounds.
        calibration: images to calibrate int8; ``images`` by default.
        on_skip: see :func:`segmnv2.benchmark.compare.apart`.

    Raises:
        ConfigError: an engine is not installed or lacks the precision, there are no rounds, or no contender can be
            built.
        WeightsError: the weights cannot be read.
    """
    check_count("rounds", rounds)
    model = setting.model()  # faulty weights are reported before processes start
    builds = contenders(images, setting, choice, calibration or images)
    with apart(builds, on_skip) as steps:
        seconds = time_in_turns(steps, rounds=rounds, warm_up=2, rest=REST)
        memory = {name: step.finish() for name, step in steps.items()}
    options, place = setting.options, setting.options.place
    rows = [
        Row(name, Rate.of(options.batch * setting.burst, values), _note(name, seconds, memory[name]))
        for name, values in seconds.items()
    ]
    notes = {name: PEERS[name].note for name in choice.peers if name in steps}
    if "transformers" in notes and not is_transformers_model(model):
        notes["transformers"] = "MobileNetV2ForSemanticSegmentation, another network: of width 1.0, without ASPP"
    differences = [f"{name}: {note}." for name, note in notes.items()]
    environment = {
        **describe_machine(str(place.device)),
        "threads": place.threads,
        "device": str(place.device),
        "output stride": setting.output_stride,
        "size": options.size,
        "batch": options.batch,
        "passes": len(options.scales) * (1 + options.flip),
        "rounds": rounds,
        "batches a turn": setting.burst,
    }
    return Table(tuple(rows), tuple(differences), environment)


def contenders(images: Images, setting: Setting, choice: Choice, calibration: Images) -> Builds:
    """Return the arguments of :class:`segmnv2.benchmark.compare.Apart` for each contender, peers first."""
    builds: Builds = {}
    if len(setting.options.scales) > 1:
        builds[EAGER_LOOP] = (build_eager_loop, setting, images)
    else:
        for name in choice.peers:
            peer = PEERS[name]
            if not peer.installed or setting.output_stride not in peer.strides:
                continue
            builds[name] = (build_peer, setting, images, name, False)
            if choice.compiled:
                builds[f"{name}, compiled"] = (build_peer, setting, images, name, True)
    for backend, precision in choice.engines:
        shown = calibration if precision == "int8" else None
        options = replace(setting.options, backend=backend, precision=precision, calibration=shown)
        builds[f"segmnv2 {backend} {precision}"] = (build_ours, setting, images, options)
    return builds


def _note(name: str, seconds: Mapping[str, Sequence[float]], memory: float | None) -> str:
    """Return a contender's speed relative to the first one, eager and compiled, and its peak memory."""
    first = next(iter(seconds))
    others = [each for each in (first, f"{first}, compiled") if each in seconds and name not in (first, each)]
    ratios = [f"{paired_ratio(seconds[other], seconds[name]):.2f} times as fast as {other}" for other in others]
    return "; ".join([*ratios, *([] if memory is None else [f"peak {memory:.0f} MB"])])
