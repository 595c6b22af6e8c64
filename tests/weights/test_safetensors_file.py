from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segmnv2.errors import WeightsError
from segmnv2.weights import safetensors_file
from segmnv2.weights.safetensors_file import read_safetensors, write_safetensors


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(2, 3).t(), "b": torch.tensor(3)}
    metadata = {"text": "ä", "number": 1.5, "list": [1, None], "dict": {"x": True}}
    path = write_safetensors(tmp_path / "f.safetensors", tensors, metadata)
    back, values = read_safetensors(path)
    assert values == metadata
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_safetensors(tmp_path / "f.safetensors", {"a": torch.ones(1)}, {})

    def no_room(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors_file, "save_file", lambda *args, **kwargs: no_room())
    with pytest.raises(WeightsError, match="No space left"):
        write_safetensors(path, {"a": torch.zeros(1)}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["f.safetensors"]
    assert read_safetensors(path)[0]["a"].item() == 1


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightsError, match="cannot be written"):
        write_safetensors(tmp_path / "file" / "f.safetensors", {}, {})
