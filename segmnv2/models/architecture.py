"""The description from which a network can be built again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build a network again, weights apart.

    Attributes:
        name: a key of :data:`segmnv2.models.catalogue.MODELS`.
        num_classes: number of logits.
        output_stride: 8, 16 or 32.
        backbone: arguments of the backbone's constructor that were given.
    """

    name: str
    num_classes: int = 21
    output_stride: int = 16
    backbone: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as JSON values."""
        return asdict(self)
