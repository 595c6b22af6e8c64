"""Translation of a model's torch operations to LiteRT's operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import fx

from segmnv2.errors import ConfigError
from segmnv2.export.mobile.litert_tensors import (
    FROM_CHANNEL_LEVELS,
    NONE,
    RELU,
    RELU6,
    TO_LEVELS,
    Array,
    GraphTensors,
    Levels,
    LiteRtModel,
    activation_of,
)

SAME, VALID = 0, 1  # the schema's numbers of paddings
KERNEL_ORDER = {False: (0, 2, 3, 1), True: (1, 2, 3, 0)}
"""Whether depthwise -> order in LiteRT of the axes of torch's kernels (out, in, rows, columns)."""


def write_network(program: torch.export.ExportedProgram, model: LiteRtModel, pixels: int, *, half: bool = False) -> int:
    """Add a program of core operations to a LiteRT model, and return the tensor of its result, (1, i, j, k).

    Args:
        program: the program, with one input, (1, 3, h, w).
        model: the LiteRT model that is extended.
        pixels: tensor of the input, (1, h, w, 3).
        half: whether to store large constants in 16 bits; layers still compute in 32 bits.

    Raises:
        ConfigError: the program has an operation that is not supported.
    """
    tensors = GraphTensors(program, model, half=half)
    for node in program.graph.nodes:
        if node.op == "placeholder" and not tensors.is_known(node):
            tensors.set(node, pixels)
        elif node.op == "call_function" and not tensors.is_known(node):
            _add(tensors, node)
    ((result,),) = program.graph.output_node().args
    return tensors.float_of(result)


def _add(tensors: GraphTensors, node: fx.Node) -> None:
    name = str(node.target)
    if name not in OPERATIONS:
        raise ConfigError(f"format: 'litert' does not support {name}, which this backbone needs; export another format")
    OPERATIONS[name](tensors, node)


def _convolution(tensors: GraphTensors, node: fx.Node) -> None:
    image, weight, bias, stride, padding, dilation, transposed, _, groups = _args(node)
    channels, *sides = image.meta["val"].shape[1:]
    if transposed or groups not in (1, channels):
        raise ConfigError("format: 'litert' does not support grouped convolutions; export another format")
    depthwise = groups != 1
    rule, pads = _padding(sides, weight.meta["val"].shape[2:], stride, dilation, padding)
    options: dict[str, Any] = {"options": "Conv2DOptions", "padding": rule}
    options |= dict(
        zip(("strideH", "strideW", "dilationHFactor", "dilationWFactor"), (*stride, *dilation), strict=True)
    )
    if depthwise:
        options |= {"options": "DepthwiseConv2DOptions", "depthMultiplier": node.meta["val"].shape[1] // channels}

    def write(inputs: list[int], output: int, activation: int, levels: bool) -> None:
        source = inputs[0] if pads is None else _pad(tensors.model, inputs[0], pads)
        add_weights = _level_weights if levels else _float_weights
        constants = add_weights(tensors, source, weight, bias, depthwise)
        name, version = ("DEPTHWISE_CONV_2D", 2) if depthwise else ("CONV_2D", 1)
        version = 3 if levels else version
        tensors.model.operator(
            name, [source, *constants], output, version, fusedActivationFunction=activation, **options
        )

    tensors.add(node, [image], write)


def _float_weights(
    tensors: GraphTensors, _source: int, weight: fx.Node, bias: fx.Node | None, depthwise: bool
) -> tuple[int, int]:
    if str(weight.target) == FROM_CHANNEL_LEVELS:
        levels, scales = (tensors.values(each) for each in _args(weight)[:2])
        values: Array = levels * scales[:, None, None, None]
    else:
        values = tensors.values(weight)
    offsets = np.zeros(len(values)) if bias is None else tensors.values(bias)
    return tensors.constant(values.transpose(KERNEL_ORDER[depthwise])), tensors.constant(offsets)


def _level_weights(
    tensors: GraphTensors, source: int, weight: fx.Node, bias: fx.Node | None, depthwise: bool
) -> tuple[int, int]:
    """Return kernel and bias in levels; the scale of the bias is the source's scale times the kernel's."""
    values, scales, zeros = (tensors.values(each) for each in _args(weight)[:3])
    steps = tensors.model.scale(source) * scales.astype(np.float64)
    offsets = np.zeros(len(values)) if bias is None else tensors.values(bias)
    limits = np.iinfo(np.int32)
    sums = np.clip(np.round(offsets / steps), limits.min, limits.max).astype(np.int32)
    kernel = values.astype(np.int8).transpose(KERNEL_ORDER[depthwise])
    model = tensors.model
    return (
        model.constant(kernel, Levels(scales, zeros, 3 if depthwise else 0)),
        model.constant(sums, Levels(steps, np.zeros(len(steps)))),
    )


def _padding(
    sides: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], pads: Sequence[int]
) -> tuple[int, tuple[int, int] | None]:
    """Return LiteRT's padding rule for a convolution, and the rows and columns to pad before if no rule suffices."""
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    total = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(sides, stride, reach, strict=True)]
    if all(each == 2 * pad for each, pad in zip(total, pads, strict=True)):
        return SAME, None
    return VALID, (pads[0], pads[1]) if any(pads) else None


def _pad(model: LiteRtModel, source: int, pads: tuple[int, int]) -> int:
    """Return a map padded with zeros: ``pads`` rows above and below, and columns at the left and right."""
    batch, height, width, channels = model.shape(source)
    rows, columns = pads
    table = model.constant(np.array([[0, 0], [rows, rows], [columns, columns], [0, 0]], dtype=np.int32))
    padded = model.tensor_like(source, (batch, height + 2 * rows, width + 2 * columns, channels))
    return model.operator("PAD", [source, table], padded, version=2, options="PadOptions")


def _arithmetic(tensors: GraphTensors, node: fx.Node, *, name: str, options: str) -> None:
    def write(inputs: list[int], output: int, activation: int, levels: bool) -> None:
        version = 2 if levels else 1
        operands = inputs if len(inputs) == 2 else [*inputs, tensors.float_of(second)]
        tensors.model.operator(name, operands, output, version, options=options, fusedActivationFunction=activation)

    assert not node.kwargs  # such as a factor of the second operand
    first, second = _args(node)
    tensors.add(node, [first, second] if isinstance(second, fx.Node) else [first], write)


def _mean(tensors: GraphTensors, node: fx.Node) -> None:
    image, axes, kept = _args(node)
    assert sorted(axis % 4 for axis in axes) == [2, 3]
    assert kept
    rows_and_columns = tensors.model.constant(np.array([1, 2], dtype=np.int32))

    def write(inputs: list[int], output: int, activation: int, levels: bool) -> None:
        assert activation == NONE
        version = 2 if levels else 1
        inputs = [*inputs, rows_and_columns]
        tensors.model.operator("MEAN", inputs, output, version, options="ReducerOptions", keepDims=True)

    tensors.add(node, [image], write)


def _join(tensors: GraphTensors, node: fx.Node) -> None:
    parts, axis = _args(node)
    assert axis == 1

    def write(inputs: list[int], output: int, activation: int, levels: bool) -> None:
        options = {"options": "ConcatenationOptions", "axis": 3, "fusedActivationFunction": activation}
        tensors.model.operator("CONCATENATION", inputs, output, 2 if levels else 1, **options)

    tensors.add(node, list(parts), write)


def _resize(tensors: GraphTensors, node: fx.Node) -> None:
    """Add a bilinear resizing, which is computed in float."""
    image, _, align_corners, *_ = _args(node)
    sides = tensors.model.constant(np.array(node.meta["val"].shape[2:], dtype=np.int32))
    options = {"alignCorners": align_corners, "halfPixelCenters": not align_corners}
    source = tensors.float_of(image)
    output = tensors.like(node)
    tensors.set(
        node,
        tensors.model.operator(
            "RESIZE_BILINEAR", [source, sides], output, version=3, options="ResizeBilinearOptions", **options
        ),
    )


def _clamp(tensors: GraphTensors, node: fx.Node) -> None:
    """Add an activation that is not part of the operator before it."""
    name = {RELU: "RELU", RELU6: "RELU6"}[activation_of(node)]
    source = tensors.float_of(_args(node)[0])
    tensors.set(node, tensors.model.operator(name, [source], tensors.like(node)))


def _skip(tensors: GraphTensors, node: fx.Node) -> None:
    """Use the tensor that an operation reads as its result, because the operation changes no value."""
    if node.users:
        tensors.set(node, tensors.float_of(_args(node)[0]))


def _args(node: fx.Node) -> Sequence[Any]:
    return node.args


OPERATIONS: dict[str, Callable[[GraphTensors, fx.Node], None]] = {
    TO_LEVELS: GraphTensors.to_levels,
    "aten.convolution.default": _convolution,
    "aten.add.Tensor": partial(_arithmetic, name="ADD", options="AddOptions"),
    "aten.sub.Tensor": partial(_arithmetic, name="SUB", options="SubOptions"),
    "aten.mul.Tensor": partial(_arithmetic, name="MUL", options="MulOptions"),
    "aten.div.Tensor": partial(_arithmetic, name="DIV", options="DivOptions"),
    "aten.mean.dim": _mean,
    "aten.cat.default": _join,
    "aten.upsample_bilinear2d.vec": _resize,
    "aten.relu.default": _clamp,
    "aten.hardtanh.default": _clamp,
    "aten.clamp.default": _clamp,
    "aten._assert_tensor_metadata.default": _skip,
    "aten._to_copy.default": _skip,
    "aten.alias.default": _skip,
    "aten.clone.default": _skip,
}
"""Core operation -> function that adds its operator."""
