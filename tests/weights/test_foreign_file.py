from __future__ import annotations

from pathlib import Path

import pytest

from segmnv2.errors import WeightsError
from segmnv2.weights.foreign_file import CHECKPOINTS, EXPORTS
from segmnv2.weights.safetensors_file import read_metadata, read_safetensors


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
