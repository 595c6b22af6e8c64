from __future__ import annotations

import importlib.util
import itertools

import pytest
import torch

from segmnv2.backends import fake_quantization, fine_tuning
from segmnv2.backends.fine_tuning import distance, fine_tune_int8
from segmnv2.backends.network import GridNetwork
from segmnv2.errors import ConfigError
from segmnv2.models.zoo import create_model
from tests.backbones.reference import randomise_norms

needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")


@pytest.fixture(scope="module")
def network(model):
    return GridNetwork(model)


@pytest.fixture(scope="module")
def images(pictures):
    return [pictures((1, 3, 65, 81), seed=seed) for seed in range(4)]


def rounded(network, images):
    """The network as 8 bits compute it."""
    pupil = fake_quantization.fake_quantized(network, images[0])
    with torch.no_grad():
        for pixels in images:
            pupil(pixels)
    fake_quantization.hold_ranges(pupil)
    return pupil


@needs_torchao
@pytest.mark.slow
def test_learning_brings_the_rounded_network_nearer_to_the_teacher(network, images, monkeypatch):
    monkeypatch.setattr(fine_tuning, "MEASURED", 8)
    before = [parameter.clone() for parameter in network.parameters()]
    losses: list[float] = []
    report = lambda _, loss: losses.append(loss)  # noqa: E731
    tuned = fine_tune_int8(network, images, steps=20, weights_rate=1e-4, report=report)
    assert len(losses) == 20
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))
    teacher = [network(pixels) for pixels in images]
    pupils = [rounded(each, images) for each in (network, tuned)]
    with torch.no_grad():
        far, near = (
            sum(float(distance(logits, pupil(pixels))) for logits, pixels in zip(teacher, images, strict=True))
            for pupil in pupils
        )
    assert near < 0.9 * far


@needs_torchao
@pytest.mark.slow
def test_norms_that_are_not_folded_keep_their_statistics(images):
    from torchao.quantization.pt2e.fake_quantize import FakeQuantize

    torch.manual_seed(0)
    model = create_model("deeplabv3_smp", num_classes=3, output_stride=32, encoder="efficientnet-b0")
    randomise_norms(model)
    network = GridNetwork(model)
    pupil = fake_quantization.fake_quantized(network, images[0])
    for module in pupil.modules():
        if isinstance(module, FakeQuantize):
            module.disable_fake_quant()
    with torch.no_grad():
        torch.testing.assert_close(pupil(images[0]), network(images[0]), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(pupil(images[0]), network(images[0]), rtol=1e-3, atol=1e-4)


@needs_torchao
def test_every_convolution_is_rounded(network, images):
    pupil = rounded(network, images)
    layers = sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    kinds = [type(module).__name__ for module in pupil.modules()]
    assert kinds.count("FusedMovingAvgObsFakeQuantize") == layers  # the weights'
    levels = pupil(images[0])
    assert float((levels - network(images[0])).abs().mean()) > 0


def test_the_distance_is_that_of_the_probabilities():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(2, 4, 3, 5, generator=generator) for _ in range(2))
    p, q = one.softmax(1), other.softmax(1)
    assert float(distance(one, other)) == pytest.approx(float((p * (p / q).log()).sum(1).mean()), rel=1e-5)
    assert float(distance(one, one + 3)) == pytest.approx(0, abs=1e-6)


def test_crops_are_of_one_size_and_drawn_anew(pictures):
    images = [pictures((1, 3, 65, 401)), pictures((1, 3, 337, 81))]
    crops = list(itertools.islice(fine_tuning._draw_crops(images, 0), 3))
    assert {tuple(each.shape) for each in crops} == {(2, 3, 65, 81)}
    assert not torch.equal(crops[0], crops[1])
    again = next(fine_tuning._draw_crops(images, 0))
    assert torch.equal(crops[0], again)


def test_no_steps_leave_the_weights_and_bad_ones_are_refused(network, images):
    same = fine_tune_int8(network, images, steps=0)
    assert all(torch.equal(*pair) for pair in zip(same.parameters(), network.parameters(), strict=True))
    with pytest.raises(ConfigError, match="-1 steps; give 0"):
        fine_tune_int8(network, images, steps=-1)
    with pytest.raises(ConfigError, match="no images given"):
        fine_tune_int8(network, [], steps=1)


def test_a_missing_torchao_is_named(network, images, monkeypatch):
    monkeypatch.setattr(fake_quantization, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match=r"needs no_such_package, not installed here; run: pip install"):
        fine_tune_int8(network, images, steps=1)
