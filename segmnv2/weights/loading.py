"""Strict loading of checkpoints: all tensors of checkpoint and model must match, or nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from segmnv2.errors import WeightsError

Model = TypeVar("Model", bound=nn.Module)

FREE_SUFFIXES = ("num_batches_tracked", "pixel_mean", "pixel_std")
"""Ends of tensor names that a checkpoint may lack: step counts of batch norms, and normalization of pixels."""

SHOWN = 6


@dataclass(frozen=True)
class LoadReport:
    """Comparison of a checkpoint's tensors with those of a model.

    Attributes:
        matched: names of tensors that match.
        missing: names of the model that the checkpoint does not have.
        unexpected: names of the checkpoint that the model does not have.
        mismatched: (name, shape in the checkpoint, shape in the model) if the shapes differ.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def fits(self) -> bool:
        """Whether all tensors of the checkpoint and of the model match."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} tensors fit"]
        lines += _listing("missing in the checkpoint", self.missing)
        lines += _listing("unexpected in the checkpoint", self.unexpected)
        shapes = [f"{name}: checkpoint {a}, model {b}" for name, a, b in self.mismatched]
        lines += _listing("of another shape", shapes)
        return "\n".join(lines)


def _listing(title: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = [f"    ... and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return [f"  {len(names)} {title}:", *(f"    {name}" for name in names[:SHOWN]), *more]


def compare(model: Mapping[str, Tensor], checkpoint: Mapping[str, Tensor]) -> LoadReport:
    """Compare names and shapes; entries ending in :data:`FREE_SUFFIXES` may be absent from the checkpoint."""
    needed = [name for name in model if name in checkpoint or not name.endswith(FREE_SUFFIXES)]
    shapes = {n: (tuple(checkpoint[n].shape), tuple(model[n].shape)) for n in needed if n in checkpoint}
    return LoadReport(
        matched=tuple(name for name, (theirs, ours) in shapes.items() if theirs == ours),
        missing=tuple(name for name in needed if name not in checkpoint),
        unexpected=tuple(name for name in checkpoint if name not in model),
        mismatched=tuple((name, *pair) for name, pair in shapes.items() if pair[0] != pair[1]),
    )


def load_strict(model: nn.Module, checkpoint: Mapping[str, Tensor], source: str, remedy: str = "") -> LoadReport:
    """Copy all tensors of a checkpoint, which have the model's names, into the model; return a report.

    Nothing is copied if the checkpoint does not fit. Messages name the ``source``, and then also the ``remedy``.

    Raises:
        WeightsError: a tensor is missing, unexpected, of another shape, or holds values that are not finite.
    """
    report = _check_fit(model, checkpoint, source, remedy)
    state = model.state_dict()
    typed = {name: _converted(checkpoint[name], state[name], f"{source}: {name}") for name in report.matched}
    broken = [name for name, tensor in typed.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise WeightsError(
            f"{source}: {len(broken)} tensors hold NaN or infinity, the first is {broken[0]}; "
            "the file is damaged or its training diverged: use an earlier checkpoint"
        )
    model.load_state_dict(typed, strict=False)
    return report


def build_filled(
    build: Callable[[], Model], checkpoint: Mapping[str, Tensor], source: str, *, all_stored: bool = False
) -> Model:
    """Build a model and copy a checkpoint's tensors into it.

    If possible, the model is first built on the meta device. So a description that does not match the tensors is
    refused before gigabytes of memory are allocated.

    ``all_stored`` states that the model has no tensors except those of its state dict. If the checkpoint has all of
    them, the model is built only once, without initial values.

    Raises:
        WeightsError: as for :func:`load_strict`.
    """
    model = None
    with suppress(RuntimeError, NotImplementedError):  # some timm models read a tensor's value in their constructor
        with torch.device("meta"):
            plan = build()
        _check_fit(plan, checkpoint, source)
        if all_stored and len(checkpoint) == len(plan.state_dict()):
            # `to_empty` waits 0.6 s for sympy, which `empty_like` imports for tensors without memory.
            model = plan._apply(  # type: ignore[no-untyped-call]
                lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype)
            )
    model = model or build()
    load_strict(model, checkpoint, source)
    return model


def _check_fit(model: nn.Module, checkpoint: Mapping[str, Tensor], source: str, remedy: str = "") -> LoadReport:
    report = compare(model.state_dict(), checkpoint)
    if not report.fits:
        raise WeightsError(
            f"{source}: does not fit {type(model).__name__}: {report}" + (f"\n  {remedy}" if remedy else "")
        )
    return report


def _converted(tensor: Tensor, own: Tensor, source: str) -> Tensor:
    """Return a tensor in the data type of the model's own; float64 values may become infinite."""
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if tensor.dtype not in floats if own.is_floating_point() else tensor.is_floating_point() or tensor.is_complex():
        raise WeightsError(
            f"{source} is of type {tensor.dtype}, the model's is {own.dtype}; save the weights as float32"
        )
    return tensor.to(own.dtype)
