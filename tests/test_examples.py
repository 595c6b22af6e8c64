"""The examples run as they are, on fresh weights and few steps."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch

import segmnv2
from tests.test_docs import keep

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_the_training_loop_lowers_the_loss_and_saves_a_model(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    out = tmp_path / "shapes.safetensors"
    monkeypatch.setattr(sys, "argv", ["training_loop.py", "--steps", "12", "--out", str(out)])
    runpy.run_path(str(EXAMPLES / "training_loop.py"), run_name="__main__")
    printed = capsys.readouterr().out
    losses = [float(line.rpartition(" ")[2]) for line in printed.splitlines() if line.startswith("step ")]
    assert losses[-1] < losses[0]
    assert "| circle |" in printed
    assert segmnv2.load_model(out).labels.names[1] == "circle"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_cell_of_the_notebook_runs_and_ends_in_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGMNV2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in a reader's own program
    torch.manual_seed(0)
    model = segmnv2.create_model("deeplabv3_mobilenet_v2")
    keep("voc_mobilenet_v2", segmnv2.save_model(tmp_path / "m.safetensors", model))
    notebook = json.loads((EXAMPLES / "predictions.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "example"}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            *lines, last = "".join(cell["source"]).strip().splitlines()
            exec(compile("\n".join(lines), "notebook", "exec"), names)
            shown.append(eval(last, names))
    kinds = [type(value).__name__ for value in shown]
    assert kinds == ["Prediction", "dict", "Image", "int", "Image", "Prediction"]
    assert shown[1] == shown[0].shares
