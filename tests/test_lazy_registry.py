from __future__ import annotations

import pytest

from segmnv2.lazy_registry import Registry


@pytest.fixture
def registry() -> Registry[object]:
    return Registry("segmnv2", {"error": "errors:ConfigError", "missing": "no_such_module:Part", "room": "files"})


def test_names_are_known_in_order_without_an_import(registry: Registry[object]) -> None:
    assert list(registry) == ["error", "missing", "room"]
    assert len(registry) == 3
    assert "missing" in registry
    assert "other" not in registry


def test_a_part_is_imported_when_it_is_looked_up(registry: Registry[object]) -> None:
    from segmnv2 import errors, files

    assert registry["error"] is errors.ConfigError
    assert registry["room"] is files
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        registry["missing"]
    with pytest.raises(KeyError):
        registry["other"]


def test_parts_can_be_added_and_removed(registry: Registry[object]) -> None:
    registry["own"] = own = object()
    del registry["missing"]
    assert list(registry) == ["error", "room", "own"]
    assert registry["own"] is own


def test_a_package_offers_its_parts_as_attributes(registry: Registry[object]) -> None:
    from segmnv2 import errors

    assert registry.attribute("error") is errors.ConfigError
    with pytest.raises(AttributeError, match="module 'segmnv2' has no attribute 'other'"):
        registry.attribute("other")
