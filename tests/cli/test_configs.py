from __future__ import annotations

from pathlib import Path

import pytest

from segmnv2.cli import main
from segmnv2.config.reading import list_configs, load_any_experiment


def test_every_experiment_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    assert "\nvoc_mobilenet_v2_stride16: DeepLabv3 on MobileNetV2" in capsys.readouterr().out


def test_a_copy_is_equal_and_replaces_no_changed_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["configs", "shapes", "voc_mobilenet_v2_stride16", "--out", str(tmp_path)]
    assert main(arguments) == main(arguments) == 0
    copy = tmp_path / "shapes.yaml"
    assert load_any_experiment(copy) == load_any_experiment("shapes")
    copy.write_text("mine")
    assert main(arguments) == 2
    assert "shapes.yaml: exists" in capsys.readouterr().err
    assert copy.read_text() == "mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert load_any_experiment(copy) == load_any_experiment("shapes")


def test_out_without_names_copies_all_experiments(tmp_path: Path) -> None:
    assert main(["configs", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.glob("*.yaml")} == {path.name for path in list_configs().values()}
