"""Strict loading: each tensor of a checkpoint is used once and each one of the network is filled, or none changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from segmnv2.errors import WeightsError

Network = TypeVar("Network", bound=nn.Module)

FREE_SUFFIXES = ("num_batches_tracked", "pixel_mean", "pixel_std")
"""Entries of a network that foreign checkpoints do not have: batch-norm's step count and the input's normalization."""

SHOWN = 6


@dataclass(frozen=True)
class LoadReport:
    """Comparison of a checkpoint's tensors with a network's.

    Attributes:
        matched: the network's names of tensors that match.
        missing: names of the network that the checkpoint lacks.
        unexpected: names of the checkpoint that the network does not have.
        mismatched: (name, shape in the checkpoint, shape in the network) where the shapes differ.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def fits(self) -> bool:
        """Whether every tensor of the checkpoint and of the network is matched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} tensors fit"]
        lines += _listing("missing in the checkpoint", self.missing)
        lines += _listing("unexpected in the checkpoint", self.unexpected)
        shapes = [f"{name}: checkpoint {a}, network {b}" for name, a, b in self.mismatched]
        lines += _listing("of another shape", shapes)
        return "\n".join(lines)


def _listing(title: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = [f"    ... and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return [f"  {len(names)} {title}:", *(f"    {name}" for name in names[:SHOWN]), *more]


def compare(network: Mapping[str, Tensor], checkpoint: Mapping[str, Tensor]) -> LoadReport:
    """Compare names and shapes; entries ending in :data:`FREE_SUFFIXES` may be absent from the checkpoint."""
    wanted = [name for name in network if name in checkpoint or not name.endswith(FREE_SUFFIXES)]
    shapes = {n: (tuple(checkpoint[n].shape), tuple(network[n].shape)) for n in wanted if n in checkpoint}
    return LoadReport(
        matched=tuple(name for name, (theirs, ours) in shapes.items() if theirs == ours),
        missing=tuple(name for name in wanted if name not in checkpoint),
        unexpected=tuple(name for name in checkpoint if name not in network),
        mismatched=tuple((name, *pair) for name, pair in shapes.items() if pair[0] != pair[1]),
    )


def load_strict(network: nn.Module, checkpoint: Mapping[str, Tensor], source: str, remedy: str = "") -> LoadReport:
    """Copy all tensors of a checkpoint, which have the network's names, into the network; return the report.

    Nothing is copied if the checkpoint does not fit. Error messages name ``source``, and the ``remedy`` in that case.

    Raises:
        WeightsError: a tensor is missing, unexpected, of another shape, or holds values that are not finite.
    """
    report = _check_fit(network, checkpoint, source, remedy)
    state = network.state_dict()
    typed = {name: _converted(checkpoint[name], state[name], f"{source}: {name}") for name in report.matched}
    broken = [name for name, tensor in typed.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise WeightsError(
            f"{source}: {len(broken)} tensors hold NaN or infinity, the first is {broken[0]}; "
            "the file is damaged or its training diverged: take an earlier checkpoint"
        )
    network.load_state_dict(typed, strict=False)
    return report


def build_filled(
    build: Callable[[], Network], checkpoint: Mapping[str, Tensor], source: str, *, all_stored: bool = False
) -> Network:
    """Build a network and copy a checkpoint's tensors into it.

    Where possible, the network is first built on the meta device. So a description that does not match the tensors is
    refused before gigabytes of memory are allocated.

    ``all_stored`` says that the network has no tensors except those of its state dict. If the checkpoint has all of
    them, the network is built only once, without initial values.

    Raises:
        WeightsError: as for :func:`load_strict`.
    """
    network = None
    with suppress(RuntimeError, NotImplementedError):  # some of timm's read a tensor's value while they are built
        with torch.device("meta"):
            plan = build()
        _check_fit(plan, checkpoint, source)
        if all_stored and len(checkpoint) == len(plan.state_dict()):
            # `to_empty` waits 0.6 s for sympy, which `empty_like` imports for tensors without memory.
            network = plan._apply(  # type: ignore[no-untyped-call]
                lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype)
            )
    network = network or build()
    load_strict(network, checkpoint, source)
    return network


def _check_fit(network: nn.Module, checkpoint: Mapping[str, Tensor], source: str, remedy: str = "") -> LoadReport:
    report = compare(network.state_dict(), checkpoint)
    if not report.fits:
        raise WeightsError(
            f"{source}: does not fit {type(network).__name__}: {report}" + (f"\n  {remedy}" if remedy else "")
        )
    return report


def _converted(tensor: Tensor, own: Tensor, source: str) -> Tensor:
    """Return a tensor in the type of the network's own; float64 may become infinite there."""
    usual = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if tensor.dtype not in usual if own.is_floating_point() else tensor.is_floating_point() or tensor.is_complex():
        raise WeightsError(
            f"{source} is of type {tensor.dtype}, the network's is {own.dtype}; save the weights as float32"
        )
    return tensor.to(own.dtype)
