from __future__ import annotations

import json

import pytest

from segmnv2.cli import main
from segmnv2.paper.choice import Choice
from tests.cli.test_main import refused

NARROW = ["--width", "0.35", "--size", "65", "--size", "97"]


def test_a_plan_of_multiply_adds_is_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--madds", "1e8", *NARROW, "--no-measure"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.startswith("| width | OS |")
    assert "Measured" not in text
    assert main([*words, "--json", "-"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["budget"] == {"madds": 1e8, "ms": None, "params": None}
    assert values["machine"] is None
    assert values["rows"]
    for row in values["rows"]:
        assert row["madds"] <= 1e8
        assert (row["width"], row["ms"], row["miou"]) == (0.35, None, None)
        assert f"| {row['madds'] / 1e9:.4g} B |" in text


def test_a_plan_of_time_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("segmnv2.paper.footprint.Stopwatch.__call__", lambda _, choice: _ms(choice))
    assert main(["plan", "--ms", "4", *NARROW, "--limit", "3", "--threads", "1", "--json", "-"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["machine"]["threads"] == 1
    assert 0 < len(values["rows"]) <= 3
    for row in values["rows"]:
        assert row["ms_source"] == "measured"
        assert row["ms"] <= 4


def _ms(choice: Choice) -> float:
    return choice.passes * choice.size / 65 * (16 / choice.output_stride) * (2 if choice.aspp else 1)


def test_a_plan_runs_a_real_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--madds", "1e8", "--width", "0.35", "--size", "65", "--limit", "1", "--seconds", "1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "Measured with: torch" in out
    assert "ms: time from an image" in out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["no budget", "--madds", "--ms", "--params"]),
        (["--madds", "-1"], ["--madds -1"]),
        (["--ms", "0"], ["--ms 0"]),
        (["--madds", "1000", *NARROW], ["within 1000 multiply-adds", "the smallest", "width 0.35"]),
        (["--params", "1000", *NARROW], ["within 1000 parameters", "parameters; raise the budget"]),
        (["--ms", "50", "--no-measure"], ["--no-measure"]),
        (["--madds", "1e9", "--size", "500"], ["size 500", "481 or 513"]),
        (["--madds", "1e9", "--width", "9"], ["width 9.0"]),
        (["--madds", "1e9", "--backbone", "vgg"], ["'vgg'", "mobilenet_v1"]),
        (["--madds", "1e9", "--limit", "0", *NARROW], ["--limit 0"]),
        (["--madds", "1e9", "--seconds", "-2", *NARROW], ["--seconds -2"]),
        (["--madds", "1e9", "--threads", "0", *NARROW], ["threads: 0"]),
        (["--madds", "1e9", "--device", "tpu", *NARROW], ["device: 'tpu'"]),
    ],
)
def test_wrong_options_give_one_message(words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(["plan", *words], capsys)
    assert message.startswith("error: ")
    for part in parts:
        assert part in message
