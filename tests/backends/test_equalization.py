from __future__ import annotations

import pytest
import torch

from segmnv2.backends.channel_space import find_spaces
from segmnv2.backends.equalization import equalize_channels, input_peaks
from segmnv2.backends.network import GridNetwork

CASES = [
    ("deeplabv3_mobilenet_v2", {"width": 0.35}),
    ("deeplabv3_mobilenet_v2_aspp", {"width": 0.35, "output_stride": 8}),
    ("deeplabv3_mobilenet_v1", {"width": 0.25}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
@torch.inference_mode()
def test_the_function_on_the_calibration_images_stays(make_model, pictures, name, options):
    network = GridNetwork(make_model(name, **options)).double()  # the law is not about rounding
    images = [pictures((1, 3, 65, 65), seed=seed).double() for seed in range(2)]
    equal = equalize_channels(network, images)
    changed = [not torch.equal(*pair) for pair in zip(network.parameters(), equal.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 4
    for pixels in images:
        torch.testing.assert_close(equal(pixels), network(pixels))


@torch.inference_mode()
def test_channels_that_a_depthwise_layer_reads_get_one_peak(model, pictures):
    network = GridNetwork(model)
    images = [pictures((1, 3, 65, 65), seed=seed) for seed in range(2)]
    equal = equalize_channels(network, images)
    for block in (1, 5, 16):
        name = f"backbone.blocks.{block}.depthwise.conv"
        before, after = (input_peaks(net, {name: net.get_submodule(name)}, images)[name] for net in (network, equal))
        heard = before > 6 / 32  # those that need no factor above the largest allowed
        assert heard.any()
        assert before[heard].min() < 5
        torch.testing.assert_close(after[heard], torch.full_like(after[heard], 6.0), rtol=1e-3, atol=1e-3)


def test_only_what_convolutions_alone_read_may_be_scaled(model):
    spaces = {space.producer: space for space in find_spaces(GridNetwork(model), torch.zeros(1, 3, 65, 65))}
    assert spaces["backbone.stem.conv"].consumers == {"backbone.blocks.0.depthwise.conv"}
    assert spaces["backbone.blocks.5.expand.conv"].ceiling == 6.0
    assert spaces["head.aspp.pointwise.conv"].consumers == {"head.aspp.local"}
    assert spaces["head.aspp.pointwise.conv"].ceiling == float("inf")
    for summed in (
        "backbone.blocks.2.project.conv",
        "head.aspp.local",
        "backbone.blocks.16.project.conv",
        "head.logits",
    ):
        assert summed not in spaces


class Odd(torch.nn.Module):
    """What may not be scaled: a concatenation, a sigmoid, a sum, a clamp not at 0, and grouped channels."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (torch.nn.Conv2d(4, 4, 1) for _ in range(5))
        self.grouped = torch.nn.Conv2d(4, 4, 1, groups=2)
        self.joined = torch.nn.Conv2d(8, 4, 1)

    def forward(self, x):
        y = self.b(torch.sigmoid(self.a(x)))
        y = self.d(torch.nn.functional.hardtanh(self.c(y) + y))
        z = self.grouped(torch.relu(self.e(y)))
        return self.joined(torch.cat([z, y], 1))


def test_what_may_not_be_scaled_is_left():
    assert find_spaces(Odd(), torch.zeros(1, 4, 5, 5)) == []
