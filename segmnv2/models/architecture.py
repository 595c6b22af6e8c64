"""The description from which a network can be built again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


class NetworkArchitecture(Protocol):
    """Common fields of the descriptions of networks."""

    @property
    def name(self) -> str:
        """A model's name, or a backbone's."""
        ...

    @property
    def backbone(self) -> Mapping[str, Any]:
        """Arguments of the backbone's constructor that were given."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return all arguments as JSON values."""
        ...


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build a network again, weights apart.

    Attributes:
        name: a key of :data:`segmnv2.models.catalog.MODELS`.
        num_classes: number of logits.
        output_stride: 8, 16 or 32.
        backbone: arguments of the backbone's constructor that were given.
        head: options of the head that were given.
    """

    name: str
    num_classes: int = 21
    output_stride: int = 16
    backbone: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as JSON values; ``head`` only where an option was given."""
        return {key: value for key, value in asdict(self).items() if key != "head" or value}


@dataclass(frozen=True)
class ClassifierArchitecture:
    """All that is needed to build a classifier again, weights apart.

    Attributes:
        name: a backbone's name.
        class_names: one for each logit.
        backbone: arguments of the backbone's constructor that were given, and those a classifier adds.
    """

    name: str
    class_names: Sequence[str]
    backbone: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as JSON values."""
        return {**asdict(self), "class_names": list(self.class_names)}
