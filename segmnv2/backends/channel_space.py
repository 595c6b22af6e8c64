"""Groups of convolutions that write and read the same channels, found by recording a network."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

UNBOUNDED = float("inf")
CEILINGS = {"relu": UNBOUNDED, "relu6": 6.0}


@dataclass(eq=False)
class Space:
    """The output of a convolution, before and after its clamp.

    Attributes:
        producer: name of that convolution.
        consumers: names of the convolutions that read it.
        ceiling: of the clamp; infinite for ReLU and where there is none.
        pinned: whether something else reads it, so that its channels must stay unchanged.
    """

    producer: str
    consumers: set[str] = field(default_factory=set)
    ceiling: float = UNBOUNDED
    pinned: bool = False


def find_spaces(network: nn.Module, example: Float[Tensor, "b c h w"]) -> list[Space]:
    """Return the spaces whose channels may be multiplied by any numbers above 0 if those who read them divide again.

    Left out are those that anything but a convolution reads: sums, means, concatenations, the network's output.

    Args:
        network: in evaluation mode, with norms folded.
        example: an input of it.
    """
    program = torch.export.export(network, (example,))
    parameters = program.graph_signature.inputs_to_parameters
    spaces: dict[fx.Node, Space] = {}
    for node in program.graph.nodes:
        read = [spaces[each] for each in node.all_input_nodes if each in spaces]
        kind = str(node.target).removeprefix("aten.").split(".")[0].rstrip("_")
        ceiling = _ceiling(kind, node)
        if kind == "conv2d":
            name = parameters[node.args[1].name].removesuffix(".weight")
            layer = network.get_submodule(name)
            assert isinstance(layer, nn.Conv2d)
            for each in read:
                each.consumers.add(name)
                each.pinned |= layer.groups not in (1, layer.out_channels)
            spaces[node] = Space(name)
        elif ceiling is not None and read:
            spaces[node] = read[0]
            read[0].ceiling = min(read[0].ceiling, ceiling)
        else:
            for each in read:
                each.pinned = True
    return [space for space in dict.fromkeys(spaces.values()) if space.consumers and not space.pinned]


def _ceiling(kind: str, node: fx.Node) -> float | None:
    """Return what a clamp at 0 from below clamps at from above; ``None`` for everything else."""
    if kind == "hardtanh" and node.args[1:2] == (0,):
        return float(str(node.args[2]))
    return CEILINGS.get(kind)
