"""Contenders in inference; each is built in its own process and returns its step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8

from segmnv2.benchmark.peers import PEERS
from segmnv2.inference.canvas import make_canvas
from segmnv2.inference.multi_scale import SCALES
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
        options: how networks are run; the images have their size, and peers follow batch, threads, device and stride.
        weights: model file; untrained weights of the paper's network without ASPP by default.
        burst: batches that a contender does in its turn; the first finds others' numbers in the caches.
    """

    options: InferenceOptions
    weights: str | None = None
    burst: int = 1

    @property
    def output_stride(self) -> int:
        """Output stride of the networks that let one choose."""
        return self.options.output_stride or 16

    def repeat(self, step: Step) -> Step:
        """Return what does a whole turn."""
        return lambda number: [step(number * self.burst + place) for place in range(self.burst)]

    def model(self) -> Segmenter:
        """Return the network."""
        if self.weights is not None:
            return load_model(self.weights, output_stride=self.output_stride).eval()
        torch.manual_seed(0)
        return create_model("deeplabv3_mobilenet_v2", output_stride=self.output_stride, labels=VOC_LABELS).eval()

    def pick(self, images: Images, number: int) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """Return the images of a round."""
        batch = self.options.batch
        return [images[(number * batch + place) % len(images)] for place in range(batch)]


def build_ours(setting: Setting, images: Images, options: InferenceOptions) -> Step:
    """Return a step of this library's predictor, by options of its own."""
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
    same = model.architecture is not None and model.architecture.name == "deeplabv3_mobilenet_v2"
    weights = setting.weights if same else None
    peer = PEERS[name].build(model.num_classes, setting.output_stride, weights).to(place.device)
    run = torch.compile(peer) if compiled else peer

    def step(number: int) -> object:
        import torch._inductor.config as inductor

        pixels = peer.prepare(np.stack(setting.pick(images, number))).to(place.device)
        with inductor.patch(freezing=compiled), torch.inference_mode():
            return run(pixels).to(torch.uint8).cpu().numpy()

    return setting.repeat(step)


def build_eager_loop(setting: Setting, images: Images) -> Step:
    """Return a step of the plain form: eager PyTorch, pass after pass, probabilities enlarged and added up."""
    place = setting.options.place
    torch.set_num_threads(place.threads)
    model = setting.model().to(place.device)

    def step(number: int) -> object:
        found = []
        for image in setting.pick(images, number):
            canvas = make_canvas(image, setting.options.size, setting.output_stride, model.mean_pixel)
            pixels = canvas.pixels.contiguous().to(place.device)
            with torch.inference_mode():
                found.append(_add_up(model, pixels)[0].cpu().numpy())
        return found

    return setting.repeat(step)


def _add_up(model: Segmenter, pixels: torch.Tensor) -> torch.Tensor:
    height, width = pixels.shape[-2:]
    total: torch.Tensor | None = None
    for scale in SCALES:
        scaled = resize_bilinear(pixels, (scaled_side(height, scale), scaled_side(width, scale)))
        for mirrored in (False, True):
            logits = model.raw_logits(scaled.flip(-1) if mirrored else scaled)
            logits = logits.flip(-1) if mirrored else logits
            chances = F.interpolate(logits, (height, width), mode="bilinear", align_corners=True).softmax(1)
            total = chances if total is None else total + chances
    assert total is not None
    return total.argmax(1).to(torch.uint8)
