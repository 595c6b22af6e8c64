"""Tensors of a LiteRT model for the results of torch's graph, in floats or in 8-bit levels.

LiteRT has channels last, and activations inside the operator before them. In 8 bits its operators read and write
levels. torch writes the same as an operation on floats, which come from levels and become levels again; that is
recognized here. What is not recognized stays in floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from segmnv2.errors import ConfigError
from segmnv2.export.mobile.litert_model import Array, Levels, LiteRtModel

NONE, RELU, RELU6 = 0, 1, 3  # the schema's numbers of activations
CLAMPS = {(0.0, 6.0): RELU6, (0.0, None): RELU, (0.0, float("inf")): RELU}

TO_LEVELS = "quantized_decomposed.quantize_per_tensor.default"
FROM_LEVELS = "quantized_decomposed.dequantize_per_tensor.default"
FROM_CHANNEL_LEVELS = "quantized_decomposed.dequantize_per_channel.default"

LEAST_HALVED = 1024  # numbers of a constant below which keeping it in 16 bits saves less than its conversion costs
Write = Callable[[list[int], int, int, bool], None]
"""(tensors read, tensor written, activation, whether they are levels) -> nothing; adds an operator."""


class GraphTensors:
    """The tensors of one network.

    Attributes:
        model: that they are part of.
    """

    def __init__(self, program: torch.export.ExportedProgram, model: LiteRtModel, *, half: bool = False) -> None:
        """Start with the network's constants.

        Args:
            program: the network in core operations, with one input.
            model: to add tensors to.
            half: keep large constants in 16 bits, to be computed with in 32 all the same.
        """
        self.model = model
        self._half = half
        self._constants = _read_constants(program)
        self._floats: dict[fx.Node, int] = {}
        self._levels: dict[fx.Node, int] = {}

    def set(self, node: fx.Node, tensor: int) -> None:
        """Note which tensor holds an operation's result in floats."""
        self._floats[node] = tensor

    def is_known(self, node: fx.Node) -> bool:
        """Return whether an operation needs no operator of its own any more, or only when its result is read."""
        lazy = str(node.target) in (FROM_LEVELS, FROM_CHANNEL_LEVELS)
        return lazy or node in self._floats or node in self._levels or node.name in self._constants

    def values(self, node: fx.Node) -> Array:
        """Return what a constant holds, in torch's order."""
        return self._constants[node.name]

    def float_of(self, value: fx.Node | float) -> int:
        """Return the tensor of an operation's result, or of a constant, in floats."""
        if not isinstance(value, fx.Node):
            return self.model.constant(np.array([value], dtype=np.float32))
        if value not in self._floats:
            self._floats[value] = self._new_float(value)
        return self._floats[value]

    def _new_float(self, node: fx.Node) -> int:
        if str(node.target) == FROM_LEVELS:
            levels = self._levels[_node(node.args[0])]
            return self.model.operator("DEQUANTIZE", [levels], self.like(node), version=2)
        values = self.values(node)
        return self.constant(values.transpose(0, 2, 3, 1) if values.ndim == 4 else values)

    def constant(self, values: Array) -> int:
        """Return the tensor of float constants in LiteRT's order."""
        if not self._half or values.size < LEAST_HALVED:
            return self.model.constant(values.astype(np.float32))
        half = self.model.constant(values.astype(np.float16))
        return self.model.operator("DEQUANTIZE", [half], self.model.tensor(values.shape, np.float32), version=3)

    def like(self, node: fx.Node, levels: Levels | None = None) -> int:
        """Return a new tensor for an operation's result, of floats or of the levels given."""
        batch, channels, height, width = node.meta["val"].shape
        return self.model.tensor((batch, height, width, channels), np.int8 if levels else np.float32, levels)

    def to_levels(self, node: fx.Node) -> None:
        """Add the operator that turns floats into levels."""
        output = self.like(node, _levels(node))
        self._levels[node] = self.model.operator("QUANTIZE", [self.float_of(_node(node.args[0]))], output)

    def add(self, node: fx.Node, inputs: Sequence[fx.Node], write: Write) -> None:
        """Add an operator with the activation after it, on levels if all it reads, and what it writes, are such.

        Args:
            node: the operation.
            inputs: whose results it reads.
            write: adds the operator.
        """
        last, activation = _fused(node)
        reader = next(iter(last.users), None)
        within = all(str(each.target) == FROM_LEVELS for each in inputs)
        if within and reader is not None and len(last.users) == 1 and str(reader.target) == TO_LEVELS:
            output = self.like(node, _levels(reader))
            write([self._levels[_node(each.args[0])] for each in inputs], output, activation, True)
            self._levels[reader] = output
        else:
            output = self.like(node)
            write([self.float_of(each) for each in inputs], output, activation, False)
        self._floats[node] = self._floats[last] = output  # of levels nothing else reads it


def activation_of(node: fx.Node) -> int:
    """Return the activation that an operation is, :data:`NONE` for any other operation.

    Raises:
        ConfigError: it is one that LiteRT does not have.
    """
    name = str(node.target)
    if name == "aten.relu.default":
        return RELU
    if name not in ("aten.hardtanh.default", "aten.clamp.default"):
        return NONE
    bounds: Any = (*node.args[1:], None, None)[:2]
    if bounds not in CLAMPS:
        raise ConfigError(
            f"format: 'litert' has no operator that clamps to {bounds[0]}..{bounds[1]}, as this network does; export "
            "another format"
        )
    return CLAMPS[bounds]


def _fused(node: fx.Node) -> tuple[fx.Node, int]:
    """Return the activation that alone reads an operation's result, with what it is; else the operation itself."""
    if len(node.users) == 1:
        (reader,) = node.users
        if (found := activation_of(reader)) != NONE:
            return reader, found
    return node, NONE


def _levels(node: fx.Node) -> Levels:
    return Levels(np.array([node.args[1]]), np.array([node.args[2]]))


def _node(value: Any) -> fx.Node:
    assert isinstance(value, fx.Node)
    return value


def _read_constants(program: torch.export.ExportedProgram) -> dict[str, Array]:
    """Return what the inputs of the graph hold that are not inputs of the network, by their names."""
    tensors = {**program.state_dict, **program.constants}
    specs = [each for each in program.graph_signature.input_specs if each.target is not None]
    return {each.arg.name: tensors[each.target].detach().numpy() for each in specs}
