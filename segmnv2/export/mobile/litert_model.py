"""A LiteRT model as it is put together: tensors, operators, and the FlatBuffers file of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

Array = npt.NDArray[Any]

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
ALIGNMENT = 16  # of constants in the file, which kernels read in place
MOST_DEPRECATED = 127  # operator codes above it stand in a newer field only

TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int8): schema.TensorType.INT8,
}


class Levels(NamedTuple):
    """Meaning of a tensor's integers: ``scale * (integer - zero)``.

    Attributes:
        scale: (n,) positive; one, or one a channel.
        zero: (n,).
        axis: of the channels.
    """

    scale: Array
    zero: Array
    axis: int = 0


class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A constant's bytes; the schema's own class does not align them."""

    def Pack(self, builder: Builder) -> int:  # noqa: N802, the schema's name
        """Write the bytes, aligned, and return their place."""
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
    """One graph, written operator by operator in the order of computation."""

    def __init__(self) -> None:
        """Start with no tensor, and with the empty buffer that tensors without constants share."""
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._codes: dict[tuple[int, int], int] = {}
        self._buffers = [AlignedBuffer()]

    def tensor(self, shape: Sequence[int], kind: npt.DTypeLike, levels: Levels | None = None, name: str = "") -> int:
        """Return the number of a new tensor.

        Args:
            shape: batch first, channels last.
            kind: type of its numbers.
            levels: what they mean, if they are 8-bit levels.
            name: for people; numbered by default.
        """
        return self._add(shape, np.dtype(kind), 0, levels, name)

    def constant(self, values: Array, levels: Levels | None = None, name: str = "") -> int:
        """Return the number of a new tensor that holds ``values``."""
        buffer = self._buffer(np.ascontiguousarray(values).tobytes())
        return self._add(values.shape, values.dtype, buffer, levels, name)

    def tensor_like(self, tensor: int, shape: Sequence[int]) -> int:
        """Return the number of a new tensor that differs from another in shape only."""
        other = self._graph.tensors[tensor]
        number = self._add(shape, np.dtype(np.float32), 0, None, "")
        made = self._graph.tensors[number]
        made.type, made.quantization = other.type, other.quantization
        return number

    def scale(self, tensor: int) -> float:
        """Return the only scale of a tensor's levels."""
        (found,) = self._graph.tensors[tensor].quantization.scale
        return float(found)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return tuple(int(side) for side in self._graph.tensors[tensor].shape)

    def operator(self, name: str, inputs: Sequence[int], output: int, version: int = 1, **options: Any) -> int:
        """Add an operator.

        Args:
            name: as the schema's, as ``CONV_2D``.
            inputs: numbers of the tensors it reads.
            output: number of the tensor it writes.
            version: the first one that can do what is asked of it.
            options: attributes of the schema's class of its options; ``options`` names that class.

        Returns:
            ``output``.
        """
        made = schema.OperatorT()
        key = (getattr(schema.BuiltinOperator, name), version)
        made.opcodeIndex = self._codes.setdefault(key, len(self._codes))
        made.inputs, made.outputs = list(inputs), [output]
        if "options" in options:
            kind = options.pop("options")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            made.builtinOptions = getattr(schema, f"{kind}T")()
            for attribute, value in options.items():
                assert hasattr(made.builtinOptions, attribute), attribute
                setattr(made.builtinOptions, attribute, value)
        self._graph.operators.append(made)
        return output

    def to_bytes(self, inputs: Mapping[str, int], outputs: Mapping[str, int], metadata: Mapping[str, str]) -> bytes:
        """Return the file.

        Args:
            inputs: name -> tensor, of the only signature.
            outputs: the same of what it gives out.
            metadata: texts that are kept under their names.
        """
        model, graph = schema.ModelT(), self._graph
        graph.inputs, graph.outputs, graph.name = list(inputs.values()), list(outputs.values()), "main"
        model.version, model.description, model.subgraphs = SCHEMA_VERSION, "segmnv2", [graph]
        model.operatorCodes = [_operator_code(*key) for key in self._codes]
        model.signatureDefs = [_signature(inputs, outputs)]
        model.metadata = []
        for name, text in metadata.items():
            entry = schema.MetadataT()
            entry.name, entry.buffer = name, self._buffer(text.encode())
            model.metadata.append(entry)
        model.buffers = self._buffers
        builder = Builder(sum(len(each.data or b"") for each in self._buffers) + 2**16)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _add(self, shape: Sequence[int], kind: np.dtype[Any], buffer: int, levels: Levels | None, name: str) -> int:
        made = schema.TensorT()
        number = len(self._graph.tensors)
        made.shape, made.type, made.buffer, made.name = list(shape), TYPES[kind], buffer, name or f"tensor_{number}"
        if levels is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = np.asarray(levels.scale, dtype=np.float32).reshape(-1)
            made.quantization.zeroPoint = np.asarray(levels.zero, dtype=np.int64).reshape(-1)
            made.quantization.quantizedDimension = levels.axis
        self._graph.tensors.append(made)
        return number

    def _buffer(self, content: bytes) -> int:
        made = AlignedBuffer()
        made.data = content
        self._buffers.append(made)
        return len(self._buffers) - 1


def _operator_code(code: int, version: int) -> schema.OperatorCodeT:
    made = schema.OperatorCodeT()
    made.builtinCode, made.version = code, version
    made.deprecatedBuiltinCode = min(code, MOST_DEPRECATED)
    return made


def _signature(inputs: Mapping[str, int], outputs: Mapping[str, int]) -> schema.SignatureDefT:
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = "serving_default", 0
    made.inputs, made.outputs = ([_named(*pair) for pair in side.items()] for side in (inputs, outputs))
    return made


def _named(name: str, tensor: int) -> schema.TensorMapT:
    made = schema.TensorMapT()
    made.name, made.tensorIndex = name, tensor
    return made
