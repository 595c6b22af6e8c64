"""Tests of `segmnv2 report` with figures; test_main.py tests its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from segmnv2.cli import main
from segmnv2.paper.figure5 import PUBLISHED
from tests.cli.test_main import refused


@pytest.mark.parametrize("figure", ["figure1", "figure5"])
def test_a_figure_is_text_and_json_and_plots(
    figure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("segmnv2.paper.figure5.PUBLISHED", PUBLISHED[::9])  # tests/paper has all
    png, svg = tmp_path / "new" / "a.png", tmp_path / "a.svg"
    assert main(["report", figure]) == 0
    text = capsys.readouterr()
    assert text.out.startswith("| ")
    assert not text.err
    assert main(["report", figure, "--json", "-", "--out", str(png), "--out", str(svg)]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)
    assert captured.err.splitlines()[-2:] == [f"written: {png}", f"written: {svg}"]
    assert captured.err.startswith(text.out)
    with Image.open(png) as image:
        assert image.format == "PNG"
    assert "<svg" in svg.read_text(encoding="utf-8")


@pytest.mark.parametrize("table", ["table4", "table7"])
def test_a_table_has_no_plot(table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(["report", table, "--out", str(tmp_path / "a.png")], capsys)
    assert table in message
    assert "figure1, figure5, figure6" in message
    assert not list(tmp_path.iterdir())


def test_a_wrong_path_is_refused_before_anything_is_computed_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def computed() -> None:
        raise AssertionError("computed first")

    monkeypatch.setattr("segmnv2.paper.figure5.figure5", computed)
    (tmp_path / "file").write_text("")
    good = str(tmp_path / "a.png")
    for bad, part in ((tmp_path / "a.pdf", ".png or .svg"), (tmp_path / "file" / "a.png", "cannot be written")):
        message = refused(["report", "figure5", "--out", good, "--out", str(bad)], capsys)
        assert str(bad) in message
        assert part in message
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_evaluations_belong_to_table7(capsys: pytest.CaptureFixture[str]) -> None:
    assert "figure1" in refused(["report", "figure1", "--evaluation", "a.json"], capsys)


@pytest.mark.parametrize("option", ["--steps", "--seeds"])
@pytest.mark.parametrize("subject", ["table7", "figure1"])
def test_only_figure6_trains(option: str, subject: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(["report", subject, option, "3"], capsys)
    for part in (option, subject, "figure6"):
        assert part in message


def test_figure6_trains_with_the_given_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["report", "figure6", "--steps", "1", "--seeds", "1", "--json", "-", "--out", str(tmp_path / "a.svg")]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    values = json.loads(captured.out)
    assert (values["steps"], values["seeds"]) == (1, 1)
    assert captured.err.splitlines()[-1] == f"written: {tmp_path / 'a.svg'}"
    assert "give at least 1 of each" in refused(["report", "figure6", "--steps", "0"], capsys)


def test_an_unknown_subject_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(["report", "figure2"], capsys)
    assert "figure2" in message
    assert "figure1" in message
