"""Base class of the results of evaluations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from torch.utils.data import Subset

from segmnv2.data.loader import Indexed
from segmnv2.errors import ConfigError
from segmnv2.files.atomic import atomic_path
from segmnv2.files.documents import dump_json
from segmnv2.media.inputs import pick_evenly

Kind = TypeVar("Kind", bound="Result")

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Result(ABC):
    """Figures, with the protocol of their measurement and the model, as JSON values."""

    protocol: dict[str, Any]
    network: dict[str, Any]

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: figures in percent (``None`` if undefined), protocol and model."""

    @abstractmethod
    def to_markdown(self) -> str:
        """Return a table and the figures in words."""

    def of(self: Kind, weights: Path, location: Mapping[str, Any]) -> Kind:
        """Return the same result with the file of the model, and the location of the images, added."""
        return replace(self, protocol={**self.protocol, **location}, network={**self.network, "file": str(weights)})

    def write_json(self, path: str | Path) -> None:
        """Write :meth:`to_dict` to a JSON file, atomically."""
        with atomic_path(path) as partial:
            partial.write_text(dump_json(self.to_dict(), indent=1) + "\n", encoding="utf-8")


def pick_samples(dataset: Indexed[Item], limit: int | None) -> Subset[Item]:
    """Return at most ``limit`` samples, evenly distributed, so that samples sorted by class give all classes.

    Raises:
        ConfigError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit {limit} is not positive; leave it out to count all {len(dataset)} images")
    return Subset(dataset, pick_evenly(range(len(dataset)), limit))  # type: ignore[arg-type]  # any with a length
