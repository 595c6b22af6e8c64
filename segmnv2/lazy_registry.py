"""Registry of parts of the library, each of which is imported when it is first used."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TypeVar

Part = TypeVar("Part")


class Registry(MutableMapping[str, Part]):
    """Mapping of names to parts, in the given order. A look-up imports a part; iteration over the names does not."""

    def __init__(self, package: str, places: Mapping[str, str]) -> None:
        """Store the location of each part.

        Args:
            package: package of all modules, such as ``"segmnv2.backbones"``.
            places: name -> module and object, such as ``"mobilenet_v2:MobileNetV2"``.
        """
        self._package = package
        self._parts: dict[str, Part | str] = {name: f"{package}.{place}" for name, place in places.items()}

    def __getitem__(self, name: str) -> Part:
        part = self._parts[name]
        if isinstance(part, str):
            part = self._parts[name] = pkgutil.resolve_name(part)
        return part

    def attribute(self, name: str) -> Part:
        """Return a part. A package can use this method as its ``__getattr__``.

        Raises:
            AttributeError: the name is unknown.
        """
        if name not in self._parts:
            raise AttributeError(f"module '{self._package}' has no attribute '{name}'")
        return self[name]

    def __setitem__(self, name: str, part: Part) -> None:
        self._parts[name] = part

    def __delitem__(self, name: str) -> None:
        del self._parts[name]

    def __contains__(self, name: object) -> bool:  # that of MutableMapping imports the part
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
