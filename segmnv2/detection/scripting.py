"""Detectors in TorchScript, which runs them without Python.

TorchScript compiles source code, but supports neither shapes in signatures nor generators. So ``torch.fx`` records the
operations of the backbone. One layer has a padding that depends on the size; it is written here for TorchScript.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from segmnv2.detection.detector import Detector
from segmnv2.nn.conv import PooledBatchNorm2d, SameConv2d


def script_detector(model: nn.Module) -> torch.jit.ScriptModule:
    """Return a detector as a TorchScript module, for images of any sizes.

    Args:
        model: a detector of ``ssdlite``, ``faster_rcnn`` or ``create_detector``; it is put in evaluation mode and
            otherwise stays unchanged.

    Returns:
        A module that returns ``(losses, detections)``, like torchvision's scripted detectors. ``torch.jit`` can save
        and load it.
    """
    network: Any = (model.network if isinstance(model, Detector) else model).eval()
    scriptable = with_scriptable_layers(network)
    scriptable.backbone = record_features(scriptable.backbone)
    module = torch.jit.script(scriptable)
    assert isinstance(module, torch.jit.ScriptModule)
    return module


def record_features(features: nn.Module) -> fx.GraphModule:
    """Record a module of named feature maps as a graph that TorchScript supports.

    Args:
        features: module from (b, 3, h, w) to a dict of maps, in evaluation mode, with scriptable layers.
    """
    graph = _Recorder().trace(features)
    for node in graph.nodes:
        node.type = None  # removes the shapes in signatures
    return fx.GraphModule(features, graph)


def with_scriptable_layers(network: Any) -> Any:
    """Return a copy of a model in evaluation mode without the layers that TorchScript cannot compile."""
    copied = copy.deepcopy(network)
    for name, layer in list(copied.named_modules()):
        if isinstance(layer, SameConv2d):
            copied.set_submodule(name, ScriptableConv2d(layer))
        elif isinstance(layer, PooledBatchNorm2d):  # differs from batch norm in training only
            norm = nn.BatchNorm2d(layer.num_features, layer.eps)
            norm.load_state_dict(layer.state_dict())
            copied.set_submodule(name, norm.eval())
    return copied


class _Recorder(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, ScriptableConv2d) or super().is_leaf_module(m, module_qualified_name)


class ScriptableConv2d(nn.Module):
    """Equivalent of a :class:`segmnv2.nn.conv.SameConv2d` at its current stride and dilation."""

    def __init__(self, layer: SameConv2d) -> None:
        """Copy the settings of a layer and share its weights."""
        super().__init__()
        symmetric = layer.same_padding == "symmetric" or layer.stride == (1, 1)
        self.step = 0 if symmetric else layer.stride[0]
        self.reach = layer.dilation[0] * (layer.kernel_size[0] - 1)
        self.conv = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size[0],
            layer.stride[0],
            (self.reach // 2, self.reach // 2) if symmetric else 0,
            layer.dilation[0],
            layer.groups,
            bias=layer.bias is not None,
        )
        self.conv.weight, self.conv.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (b, c, h, w) to (b, d, ceil(h / stride), ceil(w / stride))."""
        if self.step > 0:
            # TensorFlow's padding: (ceil(size / step) - 1) * step + reach + 1 - size, at least 0.
            rows = max(((x.size(2) - 1) // self.step) * self.step + self.reach + 1 - x.size(2), 0)
            columns = max(((x.size(3) - 1) // self.step) * self.step + self.reach + 1 - x.size(3), 0)
            x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        out: Tensor = self.conv(x)
        return out
