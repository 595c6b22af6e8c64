from __future__ import annotations

import subprocess
import sys

import pytest

import segmnv2

HEAVY = ("albumentations", "cv2", "gradio", "lightning", "numpy", "torch", "torchvision", "transformers")


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after a statement."""
    program = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


# `segmnv2 --help` answers as fast as these imports go.
@pytest.mark.parametrize("module", ["segmnv2", "segmnv2.cli"])
def test_import_stays_light(module: str) -> None:
    assert modules_after(f"import {module}").isdisjoint(HEAVY)


def test_segmentation_does_not_wait_for_what_it_does_not_use() -> None:
    imports = "from segmnv2.cli.infer_setup import *; import segmnv2.inference.predictor; result_folders(Path('out'))"
    fill = "from torch import nn; from segmnv2.weights.loading import build_filled; build = lambda: nn.Linear(2, 1)"
    use = "build_filled(build, build().state_dict(), 'file', all_stored=True)"
    assert modules_after(f"{imports}; {fill}; {use}").isdisjoint({"sympy", "torchvision", "torch._dynamo", "yaml"})


@pytest.mark.parametrize("name", [*segmnv2.__all__, "detection"])
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(segmnv2, name) is not None
    assert name in dir(segmnv2)


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        segmnv2.no_such_name  # noqa: B018 - asking for it is the test
