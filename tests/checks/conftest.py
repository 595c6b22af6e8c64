"""A small sound data set, to be broken in one way after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checks.sound import write_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight pairs to train on and three to validate, of five classes with their own colors."""
    return write_folder(tmp_path / "own")
