from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from segmnv2.detection.box_predictor import (
    BoxFolder,
    BoxPrediction,
    BoxPredictor,
    box_color,
    captions,
    draw_boxes,
    readable_on,
)
from segmnv2.detection.detector import Detector, create_detector
from segmnv2.errors import ConfigError, MediaError

NAMES = {1: "square", 3: "oblong"}


class Fixed(torch.nn.Module):
    """Finds the same two things in every image, an unsure one, and one of an id between the categories'."""

    score_thresh = 0.05

    def __init__(self) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[torch.Tensor] = []

    def forward(self, images: list[torch.Tensor], targets: object = None) -> list[dict[str, torch.Tensor]]:
        self.seen += images
        boxes = torch.tensor(
            [[2.0, 3.0, 20.0, 30.0], [10.0, 12.0, 40.0, 33.0], [0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 9.0, 9.0]]
        )
        return [{"boxes": boxes, "labels": torch.tensor([3, 1, 1, 2]), "scores": torch.tensor([0.6, 0.9, 0.1, 0.9])}]


@pytest.fixture
def predictor() -> BoxPredictor:
    real = create_detector("ssdlite", class_names=NAMES, size=96, backbone_options={"width": 0.35})
    return BoxPredictor(Detector(Fixed(), real.architecture))


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_a_predictions_image_is_its_own(predictor: BoxPredictor, picture: np.ndarray) -> None:
    kept = picture.copy()
    found = predictor(picture)
    picture[:] = 0
    assert np.array_equal(found.image, kept)


def test_the_surest_box_comes_first_and_those_unsure_or_without_a_name_are_left_out(
    predictor: BoxPredictor, picture: np.ndarray
) -> None:
    found = predictor(picture)
    assert found.labels.tolist() == [1, 3]
    assert found.boxes.tolist() == [[10.0, 12.0, 40.0, 33.0], [2.0, 3.0, 20.0, 30.0]]
    assert found.to_dict()["boxes"][0] == {
        "box": [10.0, 12.0, 40.0, 33.0],
        "category_id": 1,
        "name": "square",
        "score": 0.9,
    }
    seen = predictor.model.network.seen[0]
    assert torch.equal((seen * 255).round().byte().permute(1, 2, 0), torch.from_numpy(picture))


def test_an_overlay_changes_the_image_along_the_boxes_only(picture: np.ndarray) -> None:
    plain = draw_boxes(picture, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), NAMES)
    assert np.array_equal(np.asarray(plain), picture)
    one = torch.tensor([[30.0, 24.0, 60.0, 44.0]])
    drawn = np.asarray(draw_boxes(picture, one, torch.tensor([3]), torch.tensor([0.5]), NAMES))
    assert drawn.shape == picture.shape
    assert tuple(drawn[44, 45]) == tuple(drawn[34, 60]) == box_color(3)
    assert np.array_equal(drawn[:23], picture[:23])
    assert np.array_equal(drawn[:, :29], picture[:, :29])


def test_captions_name_what_is_known_and_can_be_read() -> None:
    assert captions([3, 8], [0.994, 0.5], NAMES) == ["oblong 99%", "8 50%"]
    assert readable_on((255, 255, 0)) == (0, 0, 0)
    assert readable_on((0, 0, 128)) == (255, 255, 255)
    assert box_color(1) != box_color(3)
    assert box_color(300) in {box_color(number) for number in range(1, 256)}


def test_results_of_an_image_are_written_whole(predictor: BoxPredictor, picture: np.ndarray, tmp_path: Path) -> None:
    folder = BoxFolder(tmp_path / "out")
    paths = folder.write(predictor(picture), "a")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["out/boxes/a.json", "out/overlays/a.jpg"]
    content = json.loads(paths[0].read_text())
    assert (content["width"], content["height"], len(content["boxes"])) == (64, 48, 2)
    with Image.open(paths[1]) as overlay:
        assert overlay.size == (64, 48)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file: results cannot be written"):
        BoxFolder(tmp_path / "file").write(predictor(picture), "a")


def test_values_that_are_not_possible_are_named(predictor: BoxPredictor, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"threshold: 2 is not in 0\.\.1"):
        BoxPredictor(predictor.model, threshold=2)
    with pytest.raises(
        ConfigError,
        match=r"threshold: 0\.01 is too low, because the detector itself drops boxes with scores below 0\.05",
    ):
        BoxPredictor(predictor.model, threshold=0.01)
    predictor.model.network.roi_heads = SimpleNamespace(score_thresh=0.5)  # where Faster R-CNN has it
    with pytest.raises(ConfigError, match=r"give 0\.5 or more"):
        BoxPredictor(predictor.model, threshold=0.4)
    with pytest.raises(ConfigError, match="device: 'tpu' is not known"):
        BoxPredictor(predictor.model, device="tpu")
    with pytest.raises(MediaError, match=r"none\.jpg"):
        predictor(tmp_path / "none.jpg")


def test_a_prediction_knows_its_classes(predictor: BoxPredictor, picture: np.ndarray) -> None:
    found = predictor(picture)
    assert isinstance(found, BoxPrediction)
    assert found.class_names == NAMES
    assert found.overlay().size == (64, 48)
