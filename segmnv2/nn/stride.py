"""Output stride: which there are, and how nominal strides become strides and dilations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from segmnv2.errors import ConfigError, describe_value

OUTPUT_STRIDES = (8, 16, 32)


@runtime_checkable
class Strided(Protocol):
    """A layer whose stride and dilation can be changed."""

    def set_stride_and_dilation(self, stride: int, dilation: int) -> None:
        """Change both, keeping the weights."""


def plan_strides_and_dilations(strides: Sequence[int], output_stride: int) -> list[tuple[int, int]]:
    """Turn nominal strides into (stride, dilation) pairs so that the whole chain has ``output_stride``.

    Once the output stride is reached, a layer that would stride stays put instead and uses the dilation reached so
    far; only the layers after it are dilated by its stride.

    Args:
        strides: nominal strides of the layers in order.
        output_stride: largest product of strides to keep.

    Source: ``mobilenet_base`` of slim/nets/mobilenet/mobilenet.py.
    """
    rates, current, dilation = [], 1, 1
    for stride in strides:
        if current == output_stride:
            rates.append((1, dilation))
            dilation *= stride
        else:
            rates.append((stride, 1))
            current *= stride
    return rates


def check_output_stride(output_stride: int) -> None:
    """Refuse an output stride that no network here has.

    Raises:
        ConfigError: it is not 8, 16 or 32.
    """
    if type(output_stride) is not int or output_stride not in OUTPUT_STRIDES:
        allowed = ", ".join(map(str, OUTPUT_STRIDES))
        found = describe_value(output_stride)
        raise ConfigError(f"output_stride {found} is not possible; allowed are {allowed} (16 is the usual one)")
