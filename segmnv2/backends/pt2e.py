"""A network in 8 bits for torch.compile, through torchao's PT2E, and its form while it is calibrated or trained."""

from __future__ import annotations

import dataclasses
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backends.folding import plain_convolutions
from segmnv2.backends.network import GridNetwork
from segmnv2.errors import ConfigError

PACKAGE = "torchao"
EPSILON = 2**-12
"""Smallest scale, as in torchao's own configuration."""


def quantize_network(network: GridNetwork, calibration: Sequence[Float[Tensor, "1 3 _ _"]]) -> nn.Module:
    """Return the network with 8-bit weights and activations, for torch.compile and images of any size.

    Args:
        network: with norms folded; it is not changed.
        calibration: RGB pixels, 0..255, sides k * output_stride + 1, that ranges are chosen by.

    Raises:
        ConfigError: torchao is not installed.
    """
    check_torchao("precision: 'int8' of torch-compile")
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    with _quiet(), torch.no_grad():
        prepared = prepare_pt2e(record(network, torch.cat([calibration[0]] * 2), dynamic=True), x86_quantizer())
        for pixels in calibration:
            prepared(pixels)
        converted: nn.Module = convert_pt2e(prepared)
    return converted


def fake_quantized(network: GridNetwork, example: Float[Tensor, "b 3 h w"]) -> nn.Module:
    """Return a copy that rounds as 8 bits do and lets gradients pass, for inputs of the example's shape.

    Its activations' ranges are the smallest and largest values seen, until :func:`hold_ranges`.

    Raises:
        ConfigError: torchao is not installed.
    """
    check_torchao("fine-tuning for int8")
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    with _quiet():
        pupil: nn.Module = prepare_qat_pt2e(record(network, example), x86_quantizer(learning=True))
    return pupil.requires_grad_(True)


def hold_ranges(pupil: nn.Module) -> None:
    """Let ranges of activations stay as they are; those of weights, which have one a channel, follow the weights."""
    from torchao.quantization.pt2e.fake_quantize import FakeQuantize

    for module in pupil.modules():
        if isinstance(module, FakeQuantize) and not module.is_per_channel:
            module.disable_observer()


def x86_quantizer(*, learning: bool = False) -> Any:
    """Return torchao's quantiser for x86: unsigned activations with one scale, signed weights with one a channel.

    Ranges of activations are the smallest and largest values seen; its own choice, by histograms, keeps fewer labels.

    Args:
        learning: with fake quantisers. Its configuration for training looks for convolutions with batch norms only,
            of which none is left, so the patterns are those for trained networks.
    """
    from torchao.quantization.pt2e.fake_quantize import FakeQuantize
    from torchao.quantization.pt2e.observer import MinMaxObserver
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    config = get_default_x86_inductor_quantization_config(is_qat=learning)
    observer = MinMaxObserver.with_args(eps=EPSILON)
    if learning:
        observer = FakeQuantize.with_args(observer=MinMaxObserver, eps=EPSILON)
    activation = dataclasses.replace(config.input_activation, observer_or_fake_quant_ctr=observer)
    return X86InductorQuantizer().set_global(
        dataclasses.replace(config, is_qat=False, input_activation=activation, output_activation=activation)
    )


def record(network: GridNetwork, example: Float[Tensor, "b 3 h w"], *, dynamic: bool = False) -> nn.Module:
    """Return the network as torch.export's graph, for the example's shape or any."""
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 2: free, 3: free},) if dynamic else None
    return torch.export.export(plain_convolutions(network), (example,), dynamic_shapes=shapes).module()


def check_torchao(what: str) -> None:
    """Refuse what needs torchao where it is not installed.

    Raises:
        ConfigError: it is not.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise ConfigError(f"{what} needs {PACKAGE}, not installed here; run: pip install {PACKAGE}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings of what will be deprecated some day to themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
