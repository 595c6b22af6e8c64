"""Diagnosis of one mask: types that the parts of the doctor share."""

from __future__ import annotations

from dataclasses import dataclass

from segmnv2.data.sample import Mask

NEAR_SHARE = 0.8
"""Share of a smoothed mask's pixels that must be near a class's color, or near black or white."""

CAUSE = "smoothed when drawn or scaled, or once saved as JPEG"

SMOOTH = "draw and scale masks without antialiasing (nearest neighbor), save them as PNG"


@dataclass(frozen=True)
class Fault:
    """A finding without its place: see :class:`segmnv2.datasets.finding.Finding`."""

    kind: str
    reason: str
    remedy: str
    repair: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """Diagnosis of one mask.

    Attributes:
        ids: uint8 (H, W) as training reads them, or as the faults' repairs would make them; ids of no class may be
            among them. ``None`` where it is unknown.
        faults: all that is wrong; without an error among them, training reads the mask as ``ids``.
    """

    ids: Mask | None
    faults: tuple[Fault, ...] = ()
