"""Parts of the library by name, each imported when it is first used."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TypeVar

Part = TypeVar("Part")


class Registry(MutableMapping[str, Part]):
    """Parts by name, in the order of their lines. A look-up imports the part; a list of the names imports nothing."""

    def __init__(self, package: str, places: Mapping[str, str]) -> None:
        """Keep the places.

        Args:
            package: the package of all modules, such as ``"segmnv2.backbones"``.
            places: name -> module and object, as ``"mobilenet_v2:MobileNetV2"``.
        """
        self._package = package
        self._parts: dict[str, Part | str] = {name: f"{package}.{place}" for name, place in places.items()}

    def __getitem__(self, name: str) -> Part:
        part = self._parts[name]
        if isinstance(part, str):
            part = self._parts[name] = pkgutil.resolve_name(part)
        return part

    def attribute(self, name: str) -> Part:
        """Return a part as an attribute of the package, as whose ``__getattr__`` this can be.

        Raises:
            AttributeError: there is none of that name.
        """
        if name not in self._parts:
            raise AttributeError(f"module '{self._package}' has no attribute '{name}'")
        return self[name]

    def __setitem__(self, name: str, part: Part) -> None:
        self._parts[name] = part

    def __delitem__(self, name: str) -> None:
        del self._parts[name]

    def __contains__(self, name: object) -> bool:  # a mapping's own looks the part up
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
