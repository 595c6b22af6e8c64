"""Checks of the inputs and outputs of each command, before weights are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from segmnv2.cli import main

WEIGHTS = "weights.safetensors"
ONTO_FILE = "photo.png/inside"

CASES = {  # ! marks the words that the message must contain
    "infer: a missing image": f"infer photo.png !missing.jpg --weights {WEIGHTS} --out out",
    "infer: a missing video": f"infer !missing.mp4 --weights {WEIGHTS} --out out",
    "infer: an image as folder": f"infer photo.png --weights {WEIGHTS} --out !x.png",
    "infer: a video as folder": f"infer photo.png --weights {WEIGHTS} --out !x.mp4",
    "infer: into a file": f"infer photo.png --weights {WEIGHTS} --out !photo.png/inside",
    "infer: calibration": f"infer photo.png --weights {WEIGHTS} --out out --calibration !missing",
    "infer: a video's ending": f"infer clip.mp4 --weights {WEIGHTS} --out !clip.gif",
    "infer: a video into a file": f"infer clip.mp4 --weights {WEIGHTS} --out !{ONTO_FILE}.mp4",
    "evaluate: root": f"evaluate {WEIGHTS} --dataset voc --root !missing",
    "evaluate: no root": f"evaluate {WEIGHTS} --dataset coco-voc",
    "evaluate: calibration": f"evaluate {WEIGHTS} --dataset shapes --calibration !missing",
    "evaluate: annotations": f"evaluate {WEIGHTS} --dataset coco --root . --annotations !missing.json",
    "evaluate: masks": f"evaluate {WEIGHTS} --dataset shapes --masks-out !{ONTO_FILE}",
    "evaluate: boxes": f"evaluate {WEIGHTS} --dataset coco --root . --detections-out !{ONTO_FILE}",
    "evaluate: json": f"evaluate {WEIGHTS} --dataset shapes --json !{ONTO_FILE}",
    "export: images": f"export {WEIGHTS} --format torch --out new/x.pt2 --images !missing",
    "export: calibration": f"export {WEIGHTS} --format onnx --out x.onnx --precision int8 --calibration !missing",
    "export: into a file": f"export {WEIGHTS} --format torch --out !{ONTO_FILE}.pt2",
    "export: another ending": f"export {WEIGHTS} --format torch --out !x.onnx",
    "verify: the file": f"verify !missing.pt2 --against {WEIGHTS}",
    "verify: images": f"verify photo.png --against {WEIGHTS} --images !missing",
    "verify: masks": f"verify photo.png --against {WEIGHTS} --images . --masks !missing",
    "verify: json": f"verify photo.png --against {WEIGHTS} --json !{ONTO_FILE}",
    "benchmark infer: images": f"benchmark infer {WEIGHTS} --images !missing",
    "benchmark infer: json": f"benchmark infer {WEIGHTS} --json !{ONTO_FILE}",
    "import: out": f"import owner/name --out !{ONTO_FILE}",
    "report: json": f"report table7 --json !{ONTO_FILE}",
    "plan: json": f"plan --ms 10 --json !{ONTO_FILE}",
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_paths_are_refused_before_the_work(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20)).save("photo.png")
    Path("clip.mp4").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main(CASES[case].replace("!", "").split()) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert not captured.out
    assert all(word[1:] in captured.err for word in CASES[case].split() if word.startswith("!"))
    assert WEIGHTS not in captured.err, "the weights are missing, but are read later"
    assert sorted(tmp_path.rglob("*")) == before, "no file is written"


@pytest.mark.parametrize(
    ("command", "taken"),
    [
        (f"infer photo.png --weights {WEIGHTS} --out out", "out/masks/photo.png"),
        (f"infer photo.png --weights {WEIGHTS} --out out", "out/boxes/photo.json"),
        (f"infer photo.png --weights {WEIGHTS} --out out", "out/overlays/photo.jpg"),
        (f"infer photo.png --weights {WEIGHTS} --out out --confidence", "out/confidence/photo.png"),
        (f"evaluate {WEIGHTS} --dataset shapes --masks-out out", "out/shapes_2_000099.png"),
    ],
)
def test_files_of_other_programs_are_noticed_before_the_work(
    command: str, taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20)).save("photo.png")
    Path(taken).parent.mkdir(parents=True)
    Path(taken).write_text("drawn by hand")
    assert main(command.split()) == 2
    assert f"{taken}: exists, and segmnv2 did not write it" in capsys.readouterr().err
