from __future__ import annotations

from types import SimpleNamespace

import pytest

from segmnv2.benchmark import apart as apart_module
from segmnv2.benchmark.apart import apart
from segmnv2.errors import ConfigError


class Contender:
    """A process that is built, or is not for a reason."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self.process = SimpleNamespace(kill=lambda: None)

    def wait(self) -> None:
        if self.reason:
            raise ConfigError(self.reason)


@pytest.fixture(autouse=True)
def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart_module, "Apart", Contender)


def test_who_cannot_be_built_is_left_out_with_the_reason() -> None:
    reasons: list[str] = []
    with apart({"a": ("no memory",), "b": (), "c": ("no disk",)}, reasons.append) as steps:
        assert list(steps) == ["b"]
    assert reasons == ["a is left out: no memory", "c is left out: no disk"]


def test_none_to_compare_is_an_error_and_so_is_one_where_all_are_needed() -> None:
    reasons: list[str] = []
    with pytest.raises(ConfigError, match="no disk"), apart({"a": ("no memory",), "b": ("no disk",)}, reasons.append):
        pass
    assert reasons == ["a is left out: no memory"]
    with pytest.raises(ConfigError, match="no memory"), apart({"a": ("no memory",), "b": ()}):
        pass
