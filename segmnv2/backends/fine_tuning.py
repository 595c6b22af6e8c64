"""Quantization-aware fine-tuning through torchao: weights learn to live with 8 bits, without labels.

The unchanged network, in float, is the teacher. The pupil is its copy with torchao's fake quantizers
(prepare_qat_pt2e) before each convolution and in its weights, whose rounding passes gradients straight on. What is
learned is put back as the float weights of an ordinary network, which every engine then quantizes as usual.

Source: the loss is distillation's (Hinton et al. 2015), at temperature 1, on logits at output stride.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from segmnv2.backends.fake_quantization import check_torchao, fake_quantized, hold_ranges
from segmnv2.backends.network import GridNetwork
from segmnv2.errors import ConfigError

BATCH = 2
SIDE = 321
"""Pixels of the crops that are learned from; a multiple of every output stride, and 1."""

WEIGHTS_RATE, BIASES_RATE = 1e-6, 2e-4
"""Adam's first steps. Biases take up what rounding shifts on average; weights must stay near the teacher's, which a few
hundred steps on a few images do not pin down."""

MEASURED = 64
"""Crops that ranges of activations are taken from."""


def fine_tune_int8(
    network: GridNetwork,
    images: Sequence[Float[Tensor, "1 3 _ _"]],
    *,
    steps: int,
    seed: int = 0,
    weights_rate: float = WEIGHTS_RATE,
    biases_rate: float = BIASES_RATE,
    report: Callable[[int, float], object] | None = None,
) -> GridNetwork:
    """Return a copy of a network whose weights lose less when they and the activations are rounded to 8 bits.

    Args:
        network: with norms folded; it is not changed.
        images: RGB pixels, 0..255, sides k * output_stride + 1, like those to come; no labels are needed.
        steps: of Adam, each on two random crops, mirrored half the time; 0 returns an unchanged copy.
        seed: of the crops.
        weights_rate: of learning, at first; it falls to 0 along a half cosine.
        biases_rate: the same for biases.
        report: called with each step's number, from 1, and loss.

    Raises:
        ConfigError: torchao is not installed, there are no images, or the number of steps is below 0.
    """
    check_fine_tuning(steps)
    tuned = copy.deepcopy(network)
    if steps == 0:
        return tuned
    if not images:
        raise ConfigError("fine-tuning: no images given; give 50 or more, like those to come")
    crops = _draw_crops(images, seed)
    pupil = fake_quantized(network, next(crops))
    with torch.no_grad():
        for _ in range(max(1, MEASURED // BATCH)):
            pupil(next(crops))
    hold_ranges(pupil)
    learned = dict(pupil.named_parameters())
    biases = [parameter for name, parameter in learned.items() if name.endswith("bias")]
    weights = [parameter for name, parameter in learned.items() if not name.endswith("bias")]
    optimizer = torch.optim.Adam([{"params": weights, "lr": weights_rate}, {"params": biases, "lr": biases_rate}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        pixels = next(crops)
        loss = distance(network(pixels), pupil(pixels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if report is not None:
            report(step + 1, float(loss.detach()))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            parameter.copy_(learned[name])
    return tuned


def check_fine_tuning(steps: int) -> None:
    """Make sure that so many steps can be done here.

    Raises:
        ConfigError: the number is below 0, or torchao is not installed.
    """
    if steps < 0:
        raise ConfigError(f"fine-tuning: {steps} steps; give 0 for none, or some hundreds")
    if steps:
        check_torchao()


def distance(teacher: Float[Tensor, "b k i j"], pupil: Float[Tensor, "b k i j"]) -> Float[Tensor, ""]:
    """Return the mean Kullback-Leibler divergence, in nats a position, of what two sets of logits say."""
    positions = teacher.shape[0] * teacher.shape[2] * teacher.shape[3]
    return F.kl_div(pupil.log_softmax(1), teacher.log_softmax(1), reduction="sum", log_target=True) / positions


def _draw_crops(images: Sequence[Float[Tensor, "1 3 _ _"]], seed: int) -> Iterator[Float[Tensor, "b 3 h w"]]:
    """Draw batches of crops for ever, all of one size: as large as :data:`SIDE` and the smallest image allow."""
    generator = torch.Generator().manual_seed(seed)

    def draw(bound: int) -> int:
        return int(torch.randint(bound, (), generator=generator))

    height, width = (min(SIDE, *(image.shape[axis] for image in images)) for axis in (2, 3))
    while True:
        crops = []
        for _ in range(BATCH):
            image = images[draw(len(images))]
            top, left = draw(image.shape[2] - height + 1), draw(image.shape[3] - width + 1)
            crop = image[:, :, top : top + height, left : left + width]
            crops.append(crop.flip(-1) if draw(2) else crop)
        yield torch.cat(crops).contiguous(memory_format=torch.channels_last)
