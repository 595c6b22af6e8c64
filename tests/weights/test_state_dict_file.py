from __future__ import annotations

import io
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given

from segmnv2.errors import WeightsError
from segmnv2.weights.state_dict_file import read_tensors
from tests.damage import check_lawful, damage, many, randoms


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
