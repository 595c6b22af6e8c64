from __future__ import annotations

from pathlib import Path

import pytest

from segmnv2.data.sample import Sample
from segmnv2.datasets.shapes import Shapes
from tests.voc_layout import write_voc_layout


def test_the_layout_is_that_of_voc(tmp_path: Path) -> None:
    folder = write_voc_layout(Shapes(1, (16, 16)), tmp_path, "train")
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert folder == tmp_path / "VOC2012"
    assert files == [
        "VOC2012/ImageSets/Segmentation/train.txt",
        "VOC2012/JPEGImages/shapes_0_000000.jpg",
        "VOC2012/SegmentationClass/shapes_0_000000.png",
    ]


def test_interrupted_writing_leaves_no_list(tmp_path: Path) -> None:
    class Interrupted(Shapes):
        def __getitem__(self, index: int, /) -> Sample:
            if index == 1:
                raise RuntimeError("disk full")
            return super().__getitem__(index)

    with pytest.raises(RuntimeError, match="disk full"):
        write_voc_layout(Interrupted(2, (16, 16)), tmp_path, "train")
    assert not list(tmp_path.rglob("*.txt"))
