"""Examples in the documentation run as they are printed, block after block, as a reader would type them."""

from __future__ import annotations

import re
from pathlib import Path

import jaxtyping
import pytest
import torch

PAGES = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^(?:print\(.*\)  )?# ([\[(\d].*)$", re.MULTILINE)


@pytest.mark.parametrize("page", ["backbone.md"])
def test_every_block_of_a_page_runs_and_prints_what_it_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in a reader's own program
    torch.manual_seed(0)
    blocks = BLOCK.findall((PAGES / page).read_text(encoding="utf-8"))
    assert len(blocks) > 3
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
        told = PRINTED.findall(block)
        assert capsys.readouterr().out.splitlines() == told
