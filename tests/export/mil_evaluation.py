"""Evaluation of Core ML's intermediate programs in torch, because Core ML runs only on Apple's systems.

Each operation follows its definition in coremltools' documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F


def evaluate(program: Any, image: torch.Tensor) -> torch.Tensor:
    """Return the only output of a program for its only input."""
    function = program.functions["main"]
    (name,) = function.inputs
    values: dict[str, Any] = {name: image}
    for operation in function.operations:
        if operation.op_type == "const":
            values[operation.outputs[0].name] = _constant(operation.outputs[0].val)
            continue
        inputs = {key: _read(var, values) for key, var in operation.inputs.items() if var is not None}
        values[operation.outputs[0].name] = OPERATIONS[operation.op_type](inputs)
    return values[function.outputs[0].name]


def _read(var: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(var, list | tuple):
        return [_read(each, values) for each in var]
    return values[var.name] if var.name in values else _constant(var.val)


def _constant(value: Any) -> Any:
    return torch.as_tensor(value) if hasattr(value, "dtype") and getattr(value, "ndim", False) else value


def _pairs(pads: torch.Tensor) -> list[int]:
    """Return torch's padding, last axis first, for pairs (before, after) of the axes, first axis first."""
    rows = torch.as_tensor(pads).reshape(-1, 2).tolist()
    return [value for row in reversed(rows) for value in row]


def _convolve(inputs: Mapping[str, Any]) -> torch.Tensor:
    x, kind = inputs["x"], str(inputs["pad_type"])
    stride, dilation = (torch.as_tensor(inputs[key]).tolist() for key in ("strides", "dilations"))
    if kind == "custom":
        x = F.pad(x, _pairs(inputs["pad"]))
    else:
        assert kind == "valid", kind
    return F.conv2d(x, inputs["weight"], inputs.get("bias"), stride, 0, dilation, int(inputs["groups"]))


OPERATIONS = {
    "add": lambda v: v["x"] + v["y"],
    "sub": lambda v: v["x"] - v["y"],
    "mul": lambda v: v["x"] * v["y"],
    "real_div": lambda v: v["x"] / v["y"],
    "clip": lambda v: v["x"].clamp(float(v["alpha"]), float(v["beta"])),
    "relu": lambda v: v["x"].relu(),
    "relu6": lambda v: v["x"].clamp(0, 6),
    "concat": lambda v: torch.cat(v["values"], int(v["axis"])),
    "conv": _convolve,
    "pad": lambda v: F.pad(v["x"], _pairs(v["pad"]), str(v["mode"]), float(v["constant_val"])),
    "reduce_mean": lambda v: v["x"].mean(torch.as_tensor(v["axes"]).tolist(), keepdim=bool(v["keep_dims"])),
    "matmul": lambda v: (v["x"].mT if v["transpose_x"] else v["x"]) @ (v["y"].mT if v["transpose_y"] else v["y"]),
    "reduce_argmax": lambda v: v["x"].argmax(int(v["axis"]), keepdim=bool(v["keep_dims"])),
}
