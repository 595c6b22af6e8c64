from __future__ import annotations

import io
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import nn

from segmnv2.errors import WeightsError
from segmnv2.weights import safetensors_file
from segmnv2.weights.loading import load_strict
from segmnv2.weights.safetensors_file import (
    CHECKPOINTS,
    EXPORTS,
    read_metadata,
    read_safetensors,
    read_tensors,
    write_safetensors,
)
from tests.damage import check_lawful, damage, damage_json, many, randoms


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(2, 3).t(), "b": torch.tensor(3)}
    metadata = {"text": "ä", "number": 1.5, "list": [1, None], "dict": {"x": True}}
    path = write_safetensors(tmp_path / "f.safetensors", tensors, metadata)
    back, values = read_safetensors(path)
    assert values == metadata
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_equal_tensors_and_metadata_are_equal_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(3), "a": torch.ones(2, dtype=torch.float16)}
    metadata = {f"key {number}": {"text": "ä\n\x1f\x7f\u2028\U0001f600\\"} for number in range(9)}
    for number in range(5):  # one order in 362880
        write_safetensors(
            tmp_path / f"{number}.safetensors", tensors, dict(sorted(metadata.items(), reverse=bool(number % 2)))
        )
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert read_metadata(tmp_path / "0.safetensors") == metadata


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_permissions_that_the_process_allows(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        path = write_safetensors(tmp_path / "f.safetensors", {"a": torch.ones(1)}, {})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


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


@many
@given(random=randoms)
def test_any_damage_is_lawful(random: Random, tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", {"x": torch.ones(2), "y": torch.ones(1)}, {"k": {"v": [1]}})
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    if random.random() < 0.5:
        raw = damage(raw, random)
    else:
        text = damage_json(json.loads(raw[8 : 8 + size]), random).encode(errors="replace")
        raw = len(text).to_bytes(8, "little") + text + raw[8 + size :]
    path.write_bytes(raw)
    check_lawful(lambda: read_safetensors(path))
    check_lawful(lambda: read_metadata(path))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F6_E2M3", "F4", "U64", "C64", "BOOL"])
def test_every_type_of_tensor_is_lawful(dtype: str, tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": dtype, "shape": [8], "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    check_lawful(lambda: load_strict(nn.BatchNorm1d(8), read_safetensors(path)[0], "file"))


@pytest.mark.parametrize(
    ("suffix", "said"),
    [
        *((suffix, "exported file.*segmnv2 verify") for suffix in EXPORTS),
        *((suffix, "convert it first: segmnv2 import") for suffix in CHECKPOINTS),
    ],
)
def test_a_file_of_another_program_is_called_by_its_name(suffix: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / f"voc{suffix}"
    path.mkdir() if suffix == ".mlpackage" else path.write_bytes(b"some bytes")
    for read in (read_metadata, read_safetensors):
        with pytest.raises(WeightsError, match=said):
            read(path)
    with pytest.raises(WeightsError, match="there is no such file"):
        read_metadata(tmp_path / f"absent{suffix}")


def saved(content: Any, *, old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


TENSORS = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(3)}


@pytest.mark.parametrize(
    "content",
    [
        {1: torch.ones(1)},
        {"a": 1},
        [torch.ones(1)],
        torch.ones(1),
        {},
        {"a": torch.ones(1).to_sparse()},
        {"a": torch.ones(1, device="meta")},
        {"a": torch.ones(1).expand(10**12)},
    ],
    ids=["number as key", "number", "list", "tensor", "empty", "sparse", "meta", "expanded"],
)
def test_what_is_no_state_dict_of_plain_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / "a.pth").write_bytes(saved(content))
    with pytest.raises(WeightsError, match=r"a\.pth: "):
        read_tensors(tmp_path / "a.pth")


SEEDS = (saved(TENSORS), saved(TENSORS, old=True))


@many
@given(randoms)
def test_reading_state_dicts_is_lawful(tmp_path: Path, random: Random) -> None:
    content = random.choice(SEEDS)
    start = random.choice((0, 0, len(content) - 400))
    end = min(len(content), start + 400)
    path = tmp_path / "a.pth"
    path.write_bytes(content[:start] + damage(content[start:end], random) + content[end:])
    check_lawful(lambda: read_tensors(path))
