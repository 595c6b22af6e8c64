"""Which layers of a network share their channels, found by recording it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

_INFINITE = float("inf")
_KINDS = {
    "conv2d": ("convolution", _INFINITE),
    "add": ("sum", _INFINITE),
    "mean": ("keeping", _INFINITE),
    "relu": ("keeping", _INFINITE),
    "relu6": ("keeping", 6.0),
}
"""Operators that are known, with what they do to channels and the ceiling that they set."""


@dataclass(eq=False)
class Space:
    """Tensors with the same channels: those before and after a clamp or a mean, and all that are added together.

    Attributes:
        producers: names of convolutions whose output lies in it.
        consumers: names of convolutions whose input lies in it.
        ceiling: of the ReLU6 in it; infinite without one.
        pinned: whether something else reads or writes it, so that its channels must stay as they are.
    """

    producers: set[str] = field(default_factory=set)
    consumers: set[str] = field(default_factory=set)
    ceiling: float = _INFINITE
    pinned: bool = False


def find_spaces(network: nn.Module, example: Float[Tensor, "b c h w"]) -> list[Space]:
    """Return the spaces whose channels may be multiplied by any numbers above 0 if those who read them divide again.

    Left out are those that anything else touches: inputs and outputs, concatenations, layers that are neither
    convolution nor clamp, and sums in which something was cut by ReLU6.

    Args:
        network: in evaluation mode, with norms folded.
        example: an input of it.
    """
    program = torch.export.export(network, (example,))
    parameters = program.graph_signature.inputs_to_parameters
    spaces: dict[fx.Node, Space] = {}
    for node in program.graph.nodes:
        if node.name in parameters:
            continue
        read = [spaces[each] for each in node.all_input_nodes if each in spaces]
        kind, ceiling = _kind(node)
        if kind == "convolution":
            name = parameters[node.args[1].name].removesuffix(".weight")
            layer = network.get_submodule(name)
            assert isinstance(layer, nn.Conv2d)
            read[0].consumers.add(name)
            read[0].pinned |= _mixes_groups(layer)
            spaces[node] = Space(producers={name}, pinned=_mixes_groups(layer))
        elif kind == "sum" and len(read) == 2:
            spaces[node] = _join(spaces, *read)
        elif kind == "keeping":
            spaces[node] = read[0]
            read[0].ceiling = min(read[0].ceiling, ceiling)
        else:
            for each in read:
                each.pinned = True
            spaces[node] = Space(pinned=True)
    return [space for space in dict.fromkeys(spaces.values()) if space.consumers and not space.pinned]


def _kind(node: fx.Node) -> tuple[str, float]:
    """Return what a step does to channels: "convolution", "sum", "keeping" or "other"; and the ceiling it sets."""
    name = str(node.target).removeprefix("aten.").split(".")[0].rstrip("_")
    if name in ("hardtanh", "clamp") and len(node.args) == 3 and node.args[1] == 0:
        return "keeping", float(str(node.args[2]))
    return _KINDS.get(name, ("other", _INFINITE))


def _mixes_groups(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is neither dense nor depthwise."""
    return not (conv.groups == 1 or conv.groups == conv.in_channels == conv.out_channels)


def _join(spaces: dict[fx.Node, Space], one: Space, other: Space) -> Space:
    """Make one space of two, everywhere."""
    ceiling = min(one.ceiling, other.ceiling)
    both = Space(
        one.producers | other.producers,
        one.consumers | other.consumers,
        ceiling,
        one.pinned or other.pinned or ceiling < _INFINITE,
    )
    for node, space in spaces.items():
        if space in (one, other):
            spaces[node] = both
    return both
