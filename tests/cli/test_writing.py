from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import typer

from segmnv2.cli import main, make_app
from segmnv2.cli.output import OUTPUTS
from segmnv2.labels import LabelSet
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model

NAMES = ("background", "crop", "weed")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    labels = LabelSet.from_dict({"names": list(NAMES)})
    save_model(path, create_model("deeplabv3_mobilenet_v2", labels=labels, width=0.35))
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Write a data set with masks that segmnv2 did not write."""
    for part in ("images", "masks"):
        (tmp_path / "own" / part).mkdir(parents=True)
    for name in ("a", "b"):
        PIL.Image.new("RGB", (24, 20), "green").save(tmp_path / f"own/images/{name}.png")
        PIL.Image.fromarray(np.eye(20, 24, dtype=np.uint8)).save(tmp_path / f"own/masks/{name}.png")
    (tmp_path / "own/labels.yaml").write_text(f"names: {json.dumps(NAMES)}\n")
    return tmp_path / "own"


def masks(own: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (own / "masks").glob("*.png")}


def test_infer_into_a_data_set_keeps_its_masks(infer, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = masks(own)
    assert infer(own / "images", out=own) == 2
    assert "masks/a.png: exists, and segmnv2 did not write it" in capsys.readouterr().err
    assert masks(own) == before
    assert infer(own / "images", "--overwrite", out=own) == 0
    assert masks(own) != before


def test_a_second_run_replaces_results_but_no_corrected_mask(infer, own: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert [infer(own / "images", out=out), infer(own / "images", "--flip", out=out)] == [0, 0]
    PIL.Image.fromarray(np.zeros((20, 24), np.uint8)).save(out / "masks/a.png")
    assert infer(own / "images", out=out) == 2


@pytest.mark.parametrize("option", [(), ("--overwrite",)])
def test_evaluate_never_replaces_the_masks_that_it_reads(
    infer, weights: Path, own: Path, option: tuple[str, ...]
) -> None:
    before = masks(own)
    command = ["evaluate", str(weights), "--dataset", "folder", "--root", str(own), "--size", "33"]
    assert main([*command, "--masks-out", str(own / "masks"), *option]) == 2
    assert masks(own) == before
    assert infer(own / "images", "--flip", "--overwrite", out=own) == 0  # as reference masks for another model
    before = masks(own)
    assert main([*command, "--masks-out", str(own / "masks"), *option]) == 2
    assert masks(own) == before
    predicted = [*command, "--masks-out", str(own / "predicted"), *option]
    assert [main(predicted), main(predicted)] == [0, 0]


def test_existing_files_are_refused_before_the_work(weights: Path, own: Path, tmp_path: Path, capsys) -> None:
    notes = tmp_path / "notes.json"
    notes.write_text("{}")
    for command in (
        ["evaluate", str(weights), "--dataset", "shapes", "--json", str(notes)],
        ["check-data", str(own), "--json", str(notes)],
        ["check-data", str(own), "--html", str(notes)],
    ):
        assert main(command) == 2
        assert "notes.json: exists" in capsys.readouterr().err
    assert notes.read_text() == "{}"
    report = ["check-data", str(own), "--json", str(tmp_path / "report.json")]
    assert main(report) == main(report)


def test_two_outputs_of_a_command_must_differ(own: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "folder").mkdir()
    report = ["check-data", str(own), "--json", str(tmp_path / "r"), "--html", str(tmp_path / "folder/../r")]
    assert main(report) == 2
    assert "is given for two outputs" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_repaired_copy_is_protected_as_a_data_set(infer, own: Path, tmp_path: Path) -> None:
    (own / "labels.yaml").write_text("names: [background, crop]\n")
    for path in (own / "masks").glob("*.png"):
        PIL.Image.fromarray(np.eye(20, 24, dtype=np.uint8) * 255).save(path)
    assert main(["check-data", str(own), "--fix", str(tmp_path / "fixed")]) == 1
    before = masks(tmp_path / "fixed")
    assert len(before) == 2
    assert infer(own / "images", out=tmp_path / "fixed") == 2
    assert masks(tmp_path / "fixed") == before


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="only Linux has /dev/full")
@pytest.mark.parametrize(
    "command",
    [
        "check-data OWN --json",
        "check-data OWN --html",
        "evaluate WEIGHTS --dataset folder --root OWN --size 33 --json",
    ],
)
def test_a_full_disk_ends_a_command_with_one_message(command: str, weights: Path, own: Path, capsys) -> None:
    words = [{"OWN": str(own), "WEIGHTS": str(weights)}.get(word, word) for word in command.split()]
    assert main([*words, "/dev/full"]) == 2
    assert "error: [Errno 28] No space left on device" in capsys.readouterr().err


def _commands(group: typer.Typer):
    yield from group.registered_commands
    for nested in group.registered_groups:
        assert nested.typer_instance is not None
        yield from _commands(nested.typer_instance)


def test_every_command_that_writes_has_overwrite() -> None:
    for command in _commands(make_app()):
        parameters = inspect.signature(command.callback).parameters
        paths = [name for name in OUTPUTS if name in parameters and not isinstance(parameters[name].default, bool)]
        assert not paths or "overwrite" in parameters, command.callback
