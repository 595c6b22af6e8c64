"""Fixture of a small data set without faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checks.sound import write_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write eight training and three validation pairs of five classes with colors."""
    return write_folder(tmp_path / "own")
