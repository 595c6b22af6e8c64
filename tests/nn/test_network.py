from __future__ import annotations

import torch
from torch import Tensor, nn

from segmnv2.nn.network import freeze_unused


class Forked(nn.Module):
    """Two outputs from a shared layer, and a third layer without an output."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.first, self.second, self.other = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.shared(x)
        return self.first(x), self.second(x)


def learning(network: nn.Module) -> set[str]:
    return {name.partition(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_only_parameters_that_no_output_depends_on_are_frozen() -> None:
    network = Forked().train()
    network.shared[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    freeze_unused(network, network)
    assert learning(network) == {"shared", "first", "second"}
    freeze_unused(network, lambda x: network(x)[-1:])
    assert learning(network) == {"shared", "second"}
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())


def test_frozen_parameters_stay_frozen_and_inference_mode_changes_nothing() -> None:
    network = Forked()
    network.shared.requires_grad_(False)
    with torch.no_grad():
        freeze_unused(network, network)
    assert learning(network) == {"first", "second"}
    with torch.inference_mode():
        built = Forked()
        freeze_unused(built, built)
    assert learning(built) == {"shared", "first", "second", "other"}
