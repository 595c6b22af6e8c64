from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from segmnv2.cli import main


@pytest.fixture
def infer(weights: Path) -> Callable[..., int]:
    """Return a function that runs ``segmnv2 infer`` with the weights of the test's module."""

    def run(*arguments: str | Path, out: Path) -> int:
        return main(["infer", "--weights", str(weights), "--out", str(out), "--size", "33", *map(str, arguments)])

    return run
