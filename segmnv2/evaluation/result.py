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
from segmnv2.media.inputs import spread_evenly

Kind = TypeVar("Kind", bound="Result")

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Result(ABC):
    """Figures, with the protocol by which they were measured and the network, as JSON values."""

    protocol: dict[str, Any]
    network: dict[str, Any]

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: figures in percent, ``None`` where there is none, and how they came about."""

    @abstractmethod
    def to_markdown(self) -> str:
        """Return a table and the figures in words."""

    def of(self: Kind, weights: Path, place: Mapping[str, Any]) -> Kind:
        """Return the same with the file of the network, and where the images are, added to the figures."""
        return replace(self, protocol={**self.protocol, **place}, network={**self.network, "file": str(weights)})

    def write_json(self, path: str | Path) -> None:
        """Write :meth:`to_dict` to a file, whole or not at all."""
        with atomic_path(path) as partial:
            partial.write_text(dump_json(self.to_dict(), indent=1) + "\n", encoding="utf-8")


def spread_samples(dataset: Indexed[Item], limit: int | None) -> Subset[Item]:
    """Return at most ``limit`` samples, evenly distributed: where they are in order of class, of all classes.

    Raises:
        ConfigError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit {limit} is not positive; leave it out to count all {len(dataset)} images")
    return Subset(dataset, spread_evenly(range(len(dataset)), limit))  # type: ignore[arg-type]  # any with a length
