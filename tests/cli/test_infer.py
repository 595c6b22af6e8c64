from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segmnv2.cli import main
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = create_model("deeplabv3_mobilenet_v2", num_classes=3, width=0.35)
    return save_model(tmp_path_factory.mktemp("weights") / "small.safetensors", model)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("a.jpg", "b.png", "sub/c.png"):
        Image.fromarray(generator.integers(0, 256, (31, 44, 3), dtype=np.uint8)).save(folder / name)
    return folder


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file())


def test_a_folder_becomes_masks_and_overlays(infer, photos, tmp_path, capsys):
    assert infer(photos, out=tmp_path / "out") == 0
    assert written(tmp_path / "out") == ["masks/a.png", "masks/b.png", "overlays/a.jpg", "overlays/b.jpg"]
    output = capsys.readouterr()
    assert output.out.startswith(f"2 written to {tmp_path / 'out'}, 0 failed (torch float32, ")
    assert output.err == ""


def test_results_of_an_earlier_run_are_reported(infer, photos, tmp_path, capsys):
    assert infer(photos, out=tmp_path / "out") == 0
    assert infer(photos, "--no-overlay", out=tmp_path / "out") == 0
    older = tmp_path / "out" / "overlays" / "a.jpg"
    assert capsys.readouterr().err == f"note: 2 files of an earlier run kept, such as {older}\n"


def test_files_that_are_not_images_are_counted(infer, photos, tmp_path, capsys):
    (photos / "IMG_1.HEIC").write_bytes(b"x")
    assert infer(photos, out=tmp_path / "out") == 0
    assert "; 1 other file skipped: 1 .heic (" in capsys.readouterr().out


def test_all_options_are_accepted(infer, photos, tmp_path):
    switches = "--multi-scale --flip --confidence --no-overlay --recursive"
    values = "--output-stride 8 --device cpu --size native --batch 2"
    assert infer(f"{photos}/*", *switches.split(), *values.split(), out=tmp_path / "out") == 0
    names = ["a.png", "b.png", "c.png"]
    assert written(tmp_path / "out") == [f"{kind}/{name}" for kind in ("confidence", "masks") for name in names]


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    yield ("--threads", "2")
    torch.set_num_threads(threads)


def test_many_images_run_in_streams_with_the_same_results(infer, photos, tmp_path, capsys, two_threads):
    def engine(*options: str, images: Path = photos) -> str:
        assert infer(images, *options, *two_threads, out=tmp_path / "_".join(["out", *options])) == 0
        return capsys.readouterr().out.partition("\n")[0].rpartition("(")[2].strip(")")

    assert engine() == engine("--streams", "2") == "torch float32, 2 threads in 2 streams"
    for options in (("--streams", "1"), ("--size", "native"), ("--size", "1026"), ("--batch", "2")):
        assert engine(*options) == "torch float32, 2 threads"
    assert engine("--scales", "1", images=photos / "a.jpg") == "torch float32, 2 threads"
    masks = [(tmp_path / folder / "masks" / "a.png").read_bytes() for folder in ("out", "out_--streams_2")]
    assert masks[0] == masks[1]


def test_broken_files_are_reported_and_the_others_are_labeled(infer, photos, tmp_path, capsys):
    (photos / "broken.jpg").write_text("plain text")
    (photos / "empty.png").touch()
    (photos / "note.txt").write_text("no image")
    assert infer(photos, photos / "note.txt", out=tmp_path / "out") == 2
    output = capsys.readouterr()
    errors = output.err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("error: ") for line in errors)
    assert [name for name in ("broken.jpg", "empty.png", "note.txt") if any(name in line for line in errors)]
    assert output.out.startswith("2 written")
    assert "3 failed (torch float32, " in output.out
    assert len(written(tmp_path / "out")) == 4


def test_a_second_run_does_not_read_results_as_images(infer, photos):
    for _ in range(2):
        assert infer(photos, "--recursive", out=photos / "results") == 0
        assert len(written(photos / "results")) == 6
    for _ in range(2):
        assert infer(photos / "sub", "--recursive", out=photos / "sub") == 0
        assert written(photos / "sub") == ["c.png", "masks/c.png", "overlays/c.jpg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "12"], "size: 12"),
        (["--size", "big"], "size: 'big'"),
        (["--opacity", "60"], "opacity: 60"),
        (["--device", "gpu"], "device: 'gpu'"),
        (["--output-stride", "12"], "12"),
        (["--backend", "tensorrt"], "backend: 'tensorrt'"),
        (["--precision", "half"], "precision: 'half'"),
        (["--threads", "0"], "threads: 0"),
        (["--scales", "1,big"], "--scales '1,big'"),
        (["--scales", "1,0"], "--scales '1,0'"),
        (["--scales", "1", "--multi-scale"], "--scales 1: --multi-scale means (0.5,"),
        (["--batch", "0"], "batch: 0"),
        (["--streams", "0"], "streams: 0 is not a positive integer"),
        (["--streams", "2", "--backend", "torch-compile"], "streams: 'torch-compile' computes one call at a time"),
        (["--precision", "int8"], "precision: 'torch' does not compute int8"),
        (["--precision", "int8", "--backend", "auto"], "precision: 'int8' needs images"),
        (["--precision", "int8", "--backend", "auto", "--calibration", "gone"], "gone: there is no such file"),
        (["--weights", "none.safetensors"], "none.safetensors"),
        (["nowhere/*.jpg"], "nowhere/*.jpg: no file"),
    ],
)
def test_wrong_options_give_one_message_and_write_nothing(arguments, message, infer, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert infer(photos, *arguments, out=out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not out.exists()


@pytest.mark.parametrize("option", [["--opacity", "0.5"], ["--show"]])
def test_options_of_overlays_are_refused_without_them(option, infer, photos, tmp_path, capsys):
    assert infer(photos, "--no-overlay", *option, out=tmp_path / "out") == 2
    assert f"{option[0]}: results without overlays" in capsys.readouterr().err


def test_without_out_results_go_to_a_new_folder_each_time(photos, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results-2").mkdir()
    (tmp_path / "results-2" / "mine.txt").write_text("kept")
    for _ in range(2):
        assert main(["infer", "photos/a.jpg", "--weights", str(weights), "--size", "33"]) == 0
    assert written(tmp_path / "results") == written(tmp_path / "results-3") == ["masks/a.png", "overlays/a.jpg"]
    assert written(tmp_path / "results-2") == ["mine.txt"]
    assert " written to results-3, " in capsys.readouterr().out


def test_a_recursive_search_skips_the_results_of_earlier_runs(photos, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["infer", ".", "--recursive", "--confidence", "--weights", str(weights), "--size", "33"]
    assert main(command) == 0
    first = written(tmp_path / "results")
    for inputs in ([".", "--recursive"], ["**/*.jpg", "**/*.png"]):
        assert main(["infer", *inputs, *command[3:]]) == 0
        assert re.search(r"; \d+ earlier results skipped, such as results/confidence/a.png\n", capsys.readouterr().out)
    assert written(tmp_path / "results-2") == written(tmp_path / "results-3") == first


@pytest.mark.parametrize("given", ["results/masks", "results/masks/a.png", "results/*/a.png"])
def test_results_that_are_given_themselves_are_labeled(given, photos, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--weights", str(weights), "--size", "33", "--no-overlay"]
    assert main(["infer", "photos", *options]) == 0
    assert main(["infer", given, *options]) == 0
    assert "masks/a.png" in written(tmp_path / "results-2")


def test_a_folder_of_results_alone_is_refused(photos, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["infer", "photos", "--weights", str(weights), "--size", "33"]) == 0
    assert main(["infer", "results", "--recursive", "--weights", str(weights)]) == 2
    assert "is a result of segmnv2, like all images here" in capsys.readouterr().err
    assert not (tmp_path / "results-2").exists()


def test_few_images_are_described_one_by_one_and_many_by_class(infer, photos, tmp_path, capsys, monkeypatch):
    assert infer(photos, out=tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.partition(": ")[0] for line in lines] == [str(photos / name) for name in ("a.jpg", "b.png")]
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png"))
    counts = {f"class {index}": int((mask == index).sum()) for index in np.unique(mask)}
    shares = dict(part.rsplit(" ", 1) for part in lines[0].partition(": ")[2].split(", "))
    assert len(shares) == len(counts)
    monkeypatch.setattr("segmnv2.cli.infer_setup.DESCRIBED", 1)
    assert infer(photos, out=tmp_path / "out") == 0
    (line,) = capsys.readouterr().out.splitlines()[1:]
    assert line.startswith("images with ")
    assert all(word.rsplit(" ", 1)[1] in "12" for word in line.split(", "))


def test_show_needs_a_terminal(infer, photos, tmp_path, capsys):
    assert infer(photos / "a.jpg", "--show", out=tmp_path / "out") == 0
    assert capsys.readouterr().err == (
        "note: --show: standard output is not a terminal; open the overlays with an image viewer\n"
    )
