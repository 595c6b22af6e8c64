from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmnv2.cli.train import demo
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.demonstration import GAP, HEADING, TILE, draw_comparison
from segmnv2.inference.overlay import colorize


def test_the_demo_trains_evaluates_and_infers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("steps=2", "data.batch_size=2", "data.num_workers=0", "validation.limit=2", "device=cpu")
    demo(tmp_path, Path("shapes"), list(short))
    out = capsys.readouterr().out
    assert "| circle |" in out
    assert "| MNet V2* | 16 |" in out
    assert (tmp_path / "run" / "best.safetensors").is_file()
    assert len(list((tmp_path / "results" / "masks").iterdir())) == len(list((tmp_path / "pictures").iterdir()))
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.width > 3 * TILE
    demo(tmp_path, Path("shapes"), list(short))


def test_the_comparison_shows_image_truth_and_prediction_side_by_side() -> None:
    shapes = Shapes(2, (TILE, TILE))
    samples = [shapes[0], shapes[1]]
    predictions = [np.full((TILE, TILE), index, np.uint8) for index in (1, 3)]
    sheet = np.asarray(draw_comparison(samples, predictions, SHAPES_LABELS))
    for row, (sample, prediction) in enumerate(zip(samples, predictions, strict=True)):
        top = GAP + HEADING + row * (TILE + GAP)
        expected = (sample.image, colorize(sample.mask, SHAPES_LABELS), colorize(prediction, SHAPES_LABELS))
        for column, tile in enumerate(expected):
            left = GAP + column * (TILE + GAP)
            assert (sheet[top : top + TILE, left : left + TILE] == tile).all()
