"""LiteRT models under construction: the FlatBuffers file of tensors and operators, and tensors for torch's graph.

LiteRT computes channels last, and an activation is part of the operator before it. In 8 bits its operators read and
write levels (8-bit integers). torch's graph instead has an operation on floats, between a conversion from levels and a
conversion to levels. Such operations are recognized here; others stay in floats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder
from torch import fx

from segmnv2.errors import ConfigError
from segmnv2.export.deployable import LEAST_HALVED

Array = npt.NDArray[Any]

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
ALIGNMENT = 16  # of constants in the file, which kernels read in place
MOST_DEPRECATED = 127  # larger operator codes are only in a newer field
TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int8): schema.TensorType.INT8,
}

NONE, RELU, RELU6 = 0, 1, 3  # the schema's numbers of activations
CLAMPS = {(0.0, 6.0): RELU6, (0.0, None): RELU, (0.0, float("inf")): RELU}

TO_LEVELS = "quantized_decomposed.quantize_per_tensor.default"
FROM_LEVELS = "quantized_decomposed.dequantize_per_tensor.default"
FROM_CHANNEL_LEVELS = "quantized_decomposed.dequantize_per_channel.default"

Write = Callable[[list[int], int, int, bool], None]
"""(input tensors, output tensor, activation, whether the tensors are levels) -> nothing; adds an operator."""


class Levels(NamedTuple):
    """Quantization of a tensor: an integer has the value ``scale * (integer - zero)``."""

    scale: Array
    zero: Array
    axis: int = 0


class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """The bytes of a constant, which the schema's own class does not align."""

    def Pack(self, builder: Builder) -> int:  # noqa: N802, the schema's name
        """Write the aligned bytes and return their offset."""
        data = None
        if self.data is not None:
            builder.StartVector(1, len(self.data), ALIGNMENT)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


class LiteRtModel:
    """A graph that is written operator by operator in the order of computation. Tensors are referred to by numbers."""

    def __init__(self) -> None:
        """Start without tensors, and with the empty buffer that all tensors without constants share."""
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._codes: dict[tuple[int, int], int] = {}
        self._buffers = [AlignedBuffer()]

    def tensor(self, shape: Sequence[int], kind: npt.DTypeLike, levels: Levels | None = None, name: str = "") -> int:
        """Add a tensor, channels last, of 8-bit ``levels`` or other numbers, and return its number."""
        return self._add(shape, np.dtype(kind), 0, levels, name)

    def constant(self, values: Array, levels: Levels | None = None, name: str = "") -> int:
        """Add a tensor with constant values, and return its number."""
        buffer = self._buffer(np.ascontiguousarray(values).tobytes())
        return self._add(values.shape, values.dtype, buffer, levels, name)

    def tensor_like(self, tensor: int, shape: Sequence[int]) -> int:
        """Add a tensor that differs from another only in its shape, and return its number."""
        other, number = self._graph.tensors[tensor], self.tensor(shape, np.float32)
        _set(self._graph.tensors[number], type=other.type, quantization=other.quantization)
        return number

    def scale(self, tensor: int) -> float:
        """Return the only scale of a tensor's levels."""
        (found,) = self._graph.tensors[tensor].quantization.scale
        return float(found)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return tuple(int(side) for side in self._graph.tensors[tensor].shape)

    def operator(self, name: str, inputs: Sequence[int], output: int, version: int = 1, **options: Any) -> int:
        """Add an operator and return ``output``.

        Args:
            name: name in the schema, such as ``CONV_2D``.
            inputs: tensors that it reads.
            output: tensor that it writes.
            version: lowest version of the operator that supports the types and options.
            options: attributes of its options; the key ``options`` names the schema's class of them.
        """
        key = (getattr(schema.BuiltinOperator, name), version)
        code = self._codes.setdefault(key, len(self._codes))
        made = _set(schema.OperatorT(), opcodeIndex=code, inputs=list(inputs), outputs=[output])
        if "options" in options:
            kind = options.pop("options")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            made.builtinOptions = _set(getattr(schema, f"{kind}T")(), **options)
        self._graph.operators.append(made)
        return output

    def to_bytes(self, inputs: Mapping[str, int], outputs: Mapping[str, int], metadata: Mapping[str, str]) -> bytes:
        """Return the file.

        Args:
            inputs: name -> input tensor of the only signature.
            outputs: name -> output tensor of the only signature.
            metadata: name -> text that is stored in the file.
        """
        model, graph = schema.ModelT(), self._graph
        graph.inputs, graph.outputs, graph.name = list(inputs.values()), list(outputs.values()), "main"
        model.version, model.description, model.subgraphs = SCHEMA_VERSION, "segmnv2", [graph]
        model.operatorCodes = [
            _set(schema.OperatorCodeT(), builtinCode=code, deprecatedBuiltinCode=old, version=version)
            for code, old, version in ((code, min(code, MOST_DEPRECATED), version) for code, version in self._codes)
        ]
        named_inputs, named_outputs = (
            [_set(schema.TensorMapT(), name=name, tensorIndex=tensor) for name, tensor in side.items()]
            for side in (inputs, outputs)
        )
        signature = _set(schema.SignatureDefT(), signatureKey="serving_default", subgraphIndex=0)
        model.signatureDefs = [_set(signature, inputs=named_inputs, outputs=named_outputs)]
        model.metadata = [
            _set(schema.MetadataT(), name=name, buffer=self._buffer(text.encode())) for name, text in metadata.items()
        ]
        model.buffers = self._buffers
        builder = Builder(sum(len(each.data or b"") for each in self._buffers) + 2**16)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _add(self, shape: Sequence[int], kind: np.dtype[Any], buffer: int, levels: Levels | None, name: str) -> int:
        number = len(self._graph.tensors)
        made = _set(
            schema.TensorT(), shape=list(shape), type=TYPES[kind], buffer=buffer, name=name or f"tensor_{number}"
        )
        if levels is not None:
            made.quantization = _set(
                schema.QuantizationParametersT(),
                scale=np.asarray(levels.scale, dtype=np.float32).reshape(-1),
                zeroPoint=np.asarray(levels.zero, dtype=np.int64).reshape(-1),
                quantizedDimension=levels.axis,
            )
        self._graph.tensors.append(made)
        return number

    def _buffer(self, content: bytes) -> int:
        self._buffers.append(_set(AlignedBuffer(), data=content))
        return len(self._buffers) - 1


def _set(made: Any, **attributes: Any) -> Any:
    """Return an object of the schema with some of its attributes set."""
    for name, value in attributes.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


class GraphTensors:
    """Tensors of a LiteRT model for the nodes of a torch program."""

    def __init__(self, program: torch.export.ExportedProgram, model: LiteRtModel, *, half: bool = False) -> None:
        """Read the program's constants; ``half`` stores large ones in 16 bits, and layers compute in 32 bits."""
        self.model = model
        self._half = half
        self._constants = _read_constants(program)
        self._floats: dict[fx.Node, int] = {}
        self._levels: dict[fx.Node, int] = {}

    def set(self, node: fx.Node, tensor: int) -> None:
        """Store the number of the tensor with an operation's result in floats."""
        self._floats[node] = tensor

    def is_known(self, node: fx.Node) -> bool:
        """Return whether an operation has its operator already, or gets one only when its result is read."""
        lazy = str(node.target) in (FROM_LEVELS, FROM_CHANNEL_LEVELS)
        return lazy or node in self._floats or node in self._levels or node.name in self._constants

    def values(self, node: fx.Node) -> Array:
        """Return the values of a constant, in torch's order."""
        return self._constants[node.name]

    def float_of(self, value: fx.Node | float) -> int:
        """Return the float tensor of an operation's result or of a constant."""
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
        """Return a new tensor of float constants, which are in LiteRT's order."""
        if not self._half or values.size < LEAST_HALVED:
            return self.model.constant(values.astype(np.float32))
        half = self.model.constant(values.astype(np.float16))
        return self.model.operator("DEQUANTIZE", [half], self.model.tensor(values.shape, np.float32), version=3)

    def like(self, node: fx.Node, levels: Levels | None = None) -> int:
        """Return a new tensor for an operation's result, of floats or of the given levels."""
        batch, channels, height, width = node.meta["val"].shape
        return self.model.tensor((batch, height, width, channels), np.int8 if levels else np.float32, levels)

    def to_levels(self, node: fx.Node) -> None:
        """Add the operator that converts floats to levels."""
        output = self.like(node, _levels(node))
        self._levels[node] = self.model.operator("QUANTIZE", [self.float_of(_node(node.args[0]))], output)

    def add(self, node: fx.Node, inputs: Sequence[fx.Node], write: Write) -> None:
        """Add an operator with the activation after it, on levels if all its inputs and its output are levels."""
        last, activation = _fused(node)
        reader = next(iter(last.users), None)
        from_levels = all(str(each.target) == FROM_LEVELS for each in inputs)
        if from_levels and reader is not None and len(last.users) == 1 and str(reader.target) == TO_LEVELS:
            output = self.like(node, _levels(reader))
            write([self._levels[_node(each.args[0])] for each in inputs], output, activation, True)
            self._levels[reader] = output
        else:
            output = self.like(node)
            write([self.float_of(each) for each in inputs], output, activation, False)
        self._floats[node] = self._floats[last] = output  # if it has levels, no other operation reads it


def activation_of(node: fx.Node) -> int:
    """Return the number of the activation that an operation computes, or :data:`NONE` if it computes none.

    Raises:
        ConfigError: LiteRT does not have the activation.
    """
    name = str(node.target)
    if name == "aten.relu.default":
        return RELU
    if name not in ("aten.hardtanh.default", "aten.clamp.default"):
        return NONE
    bounds: Any = (*node.args[1:], None, None)[:2]
    if bounds not in CLAMPS:
        raise ConfigError(
            f"format: 'litert' does not support clamping to {bounds[0]}..{bounds[1]}, which this model needs; export "
            "another format"
        )
    return CLAMPS[bounds]


def _fused(node: fx.Node) -> tuple[fx.Node, int]:
    """Return the activation that is the only reader of an operation's result, and its number.

    Without such an activation, return the operation itself and :data:`NONE`.
    """
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
    """Return the values of the graph's constants, which are inputs of the graph, by name."""
    tensors = {**program.state_dict, **program.constants}
    specs = [each for each in program.graph_signature.input_specs if each.target is not None]
    return {each.arg.name: tensors[each.target].detach().numpy() for each in specs}
