"""Folders and videos of real images with the paper's network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segmnv2.datasets.voc import VocSegmentation
from segmnv2.inference.files import ResultFolder, infer_files
from segmnv2.inference.predictor import Predictor
from tests.media.clips import decode, write_clip

SIDES = (320, 400)


@pytest.fixture(scope="module")
def predictor(voc_weights: Path) -> Predictor:
    return Predictor.load(voc_weights, size=257)


@pytest.fixture(scope="module")
def clip(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clip of nine frames: a window moves over each of three images for three frames."""
    frames = []
    for index in (0, 30, 60):
        image = VocSegmentation(shared / "data/VOCdevkit", "val")[index].image
        image = np.pad(image, ((0, 200), (0, 200), (0, 0)), mode="edge")
        frames += [image[4 * step :, 6 * step :][: SIDES[0], : SIDES[1]] for step in range(3)]
    return write_clip(tmp_path_factory.mktemp("real") / "clip.mp4", frames)


@pytest.mark.parametrize("batch", [1, 3])
def test_labels_of_a_video_are_those_of_its_decoded_frames(batch, predictor, clip):
    frames = decode(clip)
    found = list(predictor.predict_video(clip, batch=batch))
    assert len(found) == len(frames) == 9
    for frame, prediction in zip(frames, found, strict=True):
        expected = predictor(frame).mask
        if batch == 1:
            assert np.array_equal(prediction.mask, expected)
        assert (prediction.mask == expected).mean() > 0.9999
    assert len(np.unique([prediction.mask.max() for prediction in found])) > 1, "the frames must have several classes"


def test_smoothing_restarts_with_each_real_scene_and_changes_little_within_it(predictor, clip):
    plain, smooth = (list(predictor.predict_video(clip, smooth=share)) for share in (0.0, 0.5))
    for number, (one, other) in enumerate(zip(plain, smooth, strict=True)):
        same = (one.mask == other.mask).mean()
        assert same == 1 if number % 3 == 0 else same > 0.95


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_batches_of_a_folder_have_the_labels_of_single_images(backend, predictor, voc_weights, shared, tmp_path):
    if backend == "openvino":
        pytest.importorskip("openvino")
        predictor = Predictor.load(voc_weights, size=257, backend=backend)
    paths = sorted((shared / "data/VOCdevkit/VOC2012/JPEGImages").glob("*.jpg"))[:6]
    found = list(predictor.predict_many(paths, batch=4))
    for path, prediction in zip(paths, found, strict=True):
        assert (prediction.mask == predictor(path).mask).mean() > 0.9999
    single, many = (ResultFolder(tmp_path / name) for name in ("single", "many"))
    report = infer_files(predictor, paths, many.write)
    for path in paths:
        for one, other in zip(single.write(predictor(path), path.stem), report.written[path], strict=True):
            assert one.read_bytes() == other.read_bytes()
