from __future__ import annotations

from pathlib import Path
from random import Random

from hypothesis import given

from segmnv2.datasets.listing import read_ids
from tests.damage import check_lawful, damage, many, randoms


@many
@given(randoms)
def test_any_list_gives_names_or_one_error(tmp_path: Path, random: Random) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(damage(b"2007_000001\n2007_000002\r\n\n2007_000003", random))
    if check_lawful(lambda: read_ids(path)):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        assert read_ids(path) == [line.strip() for line in lines if line.strip()] != []
