from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmnv2.training.curves import draw_curves

TABLE = "step,train/loss,val/miou\n10,2.5,\n20,1.5,40\n30,nan,\n40,x,55\n"


def test_the_picture_shows_loss_and_score(tmp_path: Path) -> None:
    table, picture = tmp_path / "metrics.csv", tmp_path / "results.png"
    table.write_text(TABLE)
    assert draw_curves(table, "val/miou", "mIOU", picture)
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    left, right = pixels[:, : pixels.shape[1] // 2], pixels[:, pixels.shape[1] // 2 :]
    blue, vermilion = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    assert (np.abs(left - blue).sum(-1) < 10).sum() > 50
    assert (np.abs(right - vermilion).sum(-1) < 10).sum() > 50
    assert list(tmp_path.iterdir()) == [table, picture] or list(tmp_path.iterdir()) == [picture, table]


@pytest.mark.parametrize("content", ["", "step,train/loss\n1,2.0\n", "step,other\n1,2\n2,3\n", "\x00\x00"])
def test_less_than_a_curve_is_not_drawn(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics.csv").write_text(content)
    assert not draw_curves(tmp_path / "metrics.csv", "val/miou", "mIOU", tmp_path / "results.png")
    assert not (tmp_path / "results.png").exists()


def test_a_picture_of_the_user_is_kept(tmp_path: Path) -> None:
    table, picture = tmp_path / "metrics.csv", tmp_path / "results.png"
    table.write_text(TABLE)
    assert draw_curves(table, "val/miou", "mIOU", picture)
    assert draw_curves(table, "val/miou", "mIOU", picture)
    Image.new("RGB", (4, 4)).save(picture)
    content = picture.read_bytes()
    with pytest.raises(FileExistsError, match="segmnv2 did not write this file"):
        draw_curves(table, "val/miou", "mIOU", picture)
    assert picture.read_bytes() == content
