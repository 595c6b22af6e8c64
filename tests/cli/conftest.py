from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from segmnv2.cli import main


@pytest.fixture
def infer(weights: Path) -> Callable[..., int]:
    """The command, with the network that the test's own module has."""

    def run(*arguments: str | Path, out: Path) -> int:
        return main(["infer", "--weights", str(weights), "--out", str(out), "--size", "33", *map(str, arguments)])

    return run
