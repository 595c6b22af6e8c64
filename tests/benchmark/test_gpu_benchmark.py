from __future__ import annotations

import json
from pathlib import Path

import pytest

from segmnv2.benchmark.gpu.gpu_turns import Contender, Limits, Step, take_turns
from segmnv2.cli import main
from segmnv2.engines.selection import choose_device
from segmnv2.errors import ConfigError


def refuse() -> Step:
    raise ConfigError("cannot be built")


def test_a_contender_that_is_not_measured_is_listed_with_the_reason() -> None:
    contenders = {
        "absent": Contender(refuse, peer=True, refusal="is not installed"),
        "peer": Contender(lambda: lambda number: None, peer=True),
        "broken": Contender(refuse),
        "ours": Contender(lambda: lambda number: None),
    }
    table = take_turns(contenders, Limits(3, 60.0), device=choose_device("cpu"), images=2, environment={"crop": 33})
    assert [row.name for row in table.rows] == ["peer", "ours"]
    assert table.verdict == ("Not measured: absent: is not installed.", "Not measured: broken: cannot be built.")
    assert "times as fast as peer" in table["ours"].note
    assert len(table["ours"].rate.values) == 3


def test_only_the_first_contender_is_measured_without_time() -> None:
    contenders = {name: Contender(lambda: lambda number: None) for name in ("first", "second")}
    table = take_turns(contenders, Limits(9, 0.0), device=choose_device("cpu"), images=1, environment={})
    assert [row.name for row in table.rows] == ["first"]
    assert table.verdict == ("Not measured: second: the time of 0 s is used up.",)


@pytest.mark.slow
def test_the_command_runs_on_a_cpu_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpu.json"
    words = ["--crop", "33", "--batch", "2", "--batches", "1", "--output-stride", "16", "--burst", "1", "--rounds", "1"]
    assert main(["benchmark", "gpu", *words, "--no-compile", "--device", "cpu", "--json", str(path)]) == 0
    out, tables = capsys.readouterr().out, json.loads(path.read_text())
    assert list(tables) == [
        "A training run, output stride 16",
        "Training step, output stride 16",
        "Label maps, 1 at once",
    ]
    for title, table in tables.items():
        assert f"## {title}\n" in out
        for row in table["rows"]:
            assert f"| {row['name']} | {row['images_per_second']:.4g} |" in out
    measured = {row["name"] for table in tables.values() for row in table["rows"]}
    assert {"transformers float32", "segmnv2 float32", "segmnv2 float32 eager"} <= measured
    assert "Not measured: segmnv2 bf16: needs a GPU of NVIDIA's." in out
    assert "Not measured: segmnv2 float32 compiled: left out on request." in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--burst", "0"], "--burst 0"),
        (["--seconds", "0"], "--seconds 0: give a positive number"),
        (["--batches", "1,x"], "--batches '1,x'"),
        (["--root", "nowhere"], "nowhere: does not exist"),
        (["--device", "tpu"], "device: 'tpu' is not known"),
    ],
)
def test_an_invalid_option_gives_one_message(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "gpu", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {message}")
