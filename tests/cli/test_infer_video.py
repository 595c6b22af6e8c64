"""``infer`` with a video or a camera."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segmnv2.cli import main
from segmnv2.detection.detector import create_detector, save_detector
from segmnv2.errors import counted
from segmnv2.media import video_reader as video_module
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model
from tests.media.clips import Camera, decode, pictures, write_clip


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = create_model("deeplabv3_mobilenet_v2", num_classes=3, width=0.35)
    with torch.no_grad():  # statistics of a batch, and larger logits, so that the labels depend on the image
        model.set_norm_momentum(1.0)
        model.train()(torch.from_numpy(np.stack(pictures(4, 65, 65))).permute(0, 3, 1, 2))
        logits: Any = model.eval().head.logits
        logits.weight.mul_(20)
    return save_model(tmp_path_factory.mktemp("weights") / "small.safetensors", model)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", pictures(9))


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file())


def test_a_video_becomes_a_video_of_the_same_size_and_length(infer, clip, tmp_path, capsys):
    assert infer(clip, out=tmp_path / "out" / "seg.mp4") == 0
    assert written(tmp_path / "out") == ["seg.mp4"]
    assert [frame.shape for frame in decode(tmp_path / "out" / "seg.mp4")] == [(32, 48, 3)] * 9
    output = capsys.readouterr()
    assert output.out.startswith(f"9 frames written to {tmp_path / 'out' / 'seg.mp4'} (torch float32, ")
    assert output.err == ""


def test_a_video_becomes_a_folder_of_masks_and_optional_results(infer, clip, tmp_path):
    assert infer(clip, "--every", "4", out=tmp_path / "masks") == 0
    numbers = ["000001", "000005", "000009"]
    assert written(tmp_path / "masks") == [f"masks/clip_{number}.png" for number in numbers]
    assert Image.open(tmp_path / "masks/masks/clip_000005.png").mode == "P"
    assert infer(clip, "--overlay", "--confidence", "--frames", "1", out=tmp_path / "all") == 0
    kinds = [("confidence", "png"), ("masks", "png"), ("overlays", "jpg")]
    assert written(tmp_path / "all") == [f"{kind}/clip_000001.{ending}" for kind, ending in kinds]


def test_all_options_are_accepted(infer, clip, tmp_path):
    options = "--smooth 0.7 --every 2 --frames 3 --seconds 5 --batch 2 --flip --opacity 0.2"
    assert infer(clip, *options.split(), out=tmp_path / "out.avi") == 0
    assert len(decode(tmp_path / "out.avi")) == 3


def test_smoothing_changes_moving_videos_and_is_off_by_default(infer, clip, tmp_path):
    for name, options in (("plain", []), ("none", ["--smooth", "0"]), ("much", ["--smooth", "0.95"])):
        assert infer(clip, "--confidence", *options, out=tmp_path / name) == 0
    plain, none, much = (
        np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / name / "confidence").glob("*.png"))])
        for name in ("plain", "none", "much")
    )
    assert np.array_equal(plain, none)
    assert np.array_equal(plain[0], much[0])
    assert not np.array_equal(plain, much)


def test_a_detector_draws_its_boxes(clip, tmp_path, capsys):
    detector = create_detector("ssdlite", class_names={1: "square"}, size=96, backbone_options={"width": 0.35})
    save_detector(tmp_path / "d.safetensors", detector)
    words = ["infer", str(clip), "--weights", str(tmp_path / "d.safetensors"), "--frames", "2", "--out"]
    assert main([*words, str(tmp_path / "out.mp4")]) == 0
    assert len(decode(tmp_path / "out.mp4")) == 2
    assert main([*words, str(tmp_path / "out")]) == 0
    assert written(tmp_path / "out") == ["boxes/clip_000001.json", "boxes/clip_000002.json"]
    assert json.loads((tmp_path / "out/boxes/clip_000001.json").read_text())["width"] == 48
    assert main([*words, str(tmp_path / "out"), "--smooth", "0.5"]) == 2
    assert "--smooth: detectors have no such option" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["camera:0", "0"])
def test_a_camera_is_recorded_up_to_the_limit(word, infer, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(video_module, "_open", lambda source: Camera(clip, endless=True))
    assert infer(word, "--frames", "4", out=tmp_path / "masks") == 0
    assert written(tmp_path / "masks") == [f"masks/camera0_00000{number}.png" for number in (1, 2, 3, 4)]


def test_an_interrupt_keeps_a_complete_file_and_is_reported(infer, clip, tmp_path, monkeypatch, capsys):
    class Interrupted(Camera):
        def grab(self) -> bool:
            if self.place == 15:
                signal.raise_signal(signal.SIGINT)
            return super().grab()

    monkeypatch.setattr(video_module, "_open", lambda source: Interrupted(clip, endless=True))
    out = tmp_path / "out" / "camera.mp4"
    assert infer("camera:0", out=out) == 130
    output = capsys.readouterr()
    assert f"frames written to {out}" in output.out
    assert "Traceback" not in output.err
    assert written(tmp_path / "out") == ["camera.mp4"]
    assert len(decode(out)) > 0


@pytest.mark.parametrize("out", ["out.mp4", "out"])
def test_a_truncated_video_is_labeled_up_to_its_end_with_exit_code_2(out, infer, tmp_path, capsys):
    clip = write_clip(tmp_path / "cut.mkv", pictures(20))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    count = len(decode(clip))
    assert infer(clip, out=tmp_path / out) == 2
    output = capsys.readouterr()
    assert output.out.startswith(f"{counted(count, 'frame')} written")
    (line,) = output.err.splitlines()
    assert f"cut.mkv: ends after {count} frames at " in line
    if out.endswith(".mp4"):
        assert len(decode(tmp_path / out)) == count


@pytest.mark.parametrize(
    ("arguments", "out", "message"),
    [
        (["gone.mp4"], "o.mp4", "gone.mp4: there is no such file"),
        (["text.mp4"], "o.mp4", "text.mp4: is not a video that can be read"),
        (["empty.mov"], "o.mp4", "empty.mov: is empty (0 bytes)"),
        (["camera:77"], "o.mp4", "camera 77: is not there"),
        (["camera:front"], "o.mp4", "camera:front: is not a camera"),
        (["clip.mp4", "clip.mp4"], "o.mp4", "clip.mp4: a video or camera must be the only input"),
        (["clip.mp4", "photo.jpg"], "o", "clip.mp4: a video or camera must be the only input"),
        (["clip.mp4"], "o.gif", "o.gif: videos are not written with the ending '.gif'; give one of .avi"),
        (["clip.mp4"], "text.mp4/o.mp4", "o.mp4: cannot be written"),
        (["clip.mp4"], "text.mp4/o", "text.mp4/o: cannot be written"),
        (["clip.mp4", "--smooth", "1"], "o.mp4", "smooth: 1.0 is not in 0..1"),
        (["clip.mp4", "--every", "0"], "o.mp4", "every: 0 is not a positive integer"),
        (["clip.mp4", "--frames", "-1"], "o.mp4", "frames: -1 is not a positive integer"),
        (["clip.mp4", "--seconds", "0"], "o.mp4", "seconds: 0.0 is not a time above 0"),
        (["clip.mp4", "--seconds", "inf"], "o.mp4", "seconds: inf is not a time above 0"),
        (["clip.mp4"], "clip.mp4", "clip.mp4: is an input of this command and would be replaced"),
        (["clip.mp4", "--recursive"], "o", "--recursive: videos have no such option"),
        (["clip.mp4", "--streams", "2"], "o", "--streams: videos have no such option"),
        (["clip.mp4", "--confidence"], "o.mp4", "--confidence: videos of overlays have no such option"),
        (["clip.mp4", "--no-overlay"], "o.mp4", "--no-overlay: videos of overlays have no such option"),
        (["photo.jpg", "--smooth", "0.5", "--frames", "2"], "o", "--smooth, --frames: images have no such option"),
    ],
)
def test_wrong_input_gives_one_message_and_writes_nothing(
    arguments, out, message, infer, clip, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20)).save("photo.jpg")
    Path("text.mp4").write_text("plain text")
    Path("empty.mov").touch()
    before, content = written(tmp_path), clip.read_bytes()
    assert infer(*arguments, out=Path(out)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert written(tmp_path) == before
    assert clip.read_bytes() == content
