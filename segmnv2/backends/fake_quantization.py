"""A network that rounds as 8 bits do and can learn, through torchao's PT2E."""

from __future__ import annotations

import dataclasses
import importlib.util
import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from segmnv2.backends.folding import plain_convolutions
from segmnv2.backends.network import GridNetwork
from segmnv2.errors import ConfigError

PACKAGE = "torchao"
EPSILON = 2**-12
"""Smallest scale, as in torchao's own configuration."""


def fake_quantized(network: GridNetwork, example: Float[Tensor, "b 3 h w"]) -> nn.Module:
    """Return a copy that rounds as 8 bits do and lets gradients pass, for inputs of the example's shape.

    Each convolution's input is rounded to unsigned levels with one scale, and its weights to signed ones with one
    scale a channel. The inputs' ranges are the smallest and largest values seen, until :func:`hold_ranges`.

    Raises:
        ConfigError: torchao is not installed.
    """
    check_torchao()
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what will be deprecated some day
        recorded = torch.export.export(plain_convolutions(network), (example,)).module()
        before = [norm.args[5:] for norm in _norms(recorded)]  # training, momentum, epsilon, cuDNN
        pupil: Any = prepare_qat_pt2e(recorded, _quantizer())
        # torchao rewrites the norms that could not be folded: their statistics would move, with another epsilon.
        for norm, arguments in zip(_norms(pupil), before, strict=True):
            norm.args = (*norm.args[:5], *arguments)
        pupil.recompile()
    found: nn.Module = pupil.requires_grad_(True)
    return found


def _norms(recorded: Any) -> list[fx.Node]:
    return [node for node in recorded.graph.nodes if node.target is torch.ops.aten.batch_norm.default]


def check_torchao() -> None:
    """Make sure that torchao is here.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise ConfigError(f"fine-tuning for int8 needs {PACKAGE}, not installed here; run: pip install {PACKAGE}")


def hold_ranges(pupil: nn.Module) -> None:
    """Let ranges of activations stay unchanged; those of weights, which have one a channel, follow the weights."""
    from torchao.quantization.pt2e.fake_quantize import FakeQuantize

    for module in pupil.modules():
        if isinstance(module, FakeQuantize) and not module.is_per_channel:
            module.disable_observer()


def _quantizer() -> Any:
    """Return torchao's quantizer for x86 with fake quantizers.

    Its configuration for training looks for convolutions with batch norms only, of which none is left here; the one
    for trained networks looks for those without.
    """
    from torchao.quantization.pt2e.fake_quantize import FakeQuantize
    from torchao.quantization.pt2e.observer import MinMaxObserver
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    config = get_default_x86_inductor_quantization_config(is_qat=True)
    ranges = FakeQuantize.with_args(observer=MinMaxObserver, eps=EPSILON)
    activation = dataclasses.replace(config.input_activation, observer_or_fake_quant_ctr=ranges)
    return X86InductorQuantizer().set_global(
        dataclasses.replace(config, is_qat=False, input_activation=activation, output_activation=activation)
    )
