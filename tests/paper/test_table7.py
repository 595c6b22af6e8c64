from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given

from segmnv2.errors import ConfigError
from segmnv2.inference.canvas import SCALES
from segmnv2.labels import VOC_LABELS
from segmnv2.paper.table7 import TABLE7, _match, table7, to_markdown
from tests.damage import check_lawful, damage_json, many, randoms

KEYS = {
    "network", "output_stride", "aspp", "mf", "params", "madds_plain", "madds_paper_convention", "miou",
    "miou_source", "paper",
}  # fmt: skip


def write_evaluation(path: Path, **changes: Any) -> Path:
    protocol = {"output_stride": 16, "size": 513, "scales": [1.0], "flip": False, **changes.pop("protocol", {})}
    network = {"name": "deeplabv3_mobilenet_v2", "backbone": {}, **changes.pop("network", {})}
    values = {"miou": 71.5, "iou": dict.fromkeys(VOC_LABELS.names, 71.5), "images": 7, **changes}
    path.write_text(json.dumps({**values, "protocol": protocol, "network": network}))
    return path


def test_the_table_has_every_row_of_the_paper() -> None:
    rows = [asdict(row) for row in table7()]
    assert len(rows) == len(TABLE7) == 8
    for row in rows:
        assert set(row) >= KEYS
        assert row["miou_source"] == "not measured"
        assert row["miou"] is None
    assert to_markdown(table7()).count("| - (") == 8, "the paper's mIOU must not look measured"


def test_params_are_the_papers_and_so_are_the_madds_of_seven_rows() -> None:
    off = []
    for row in table7():
        assert round(row.params / 1e6, 2) == row.paper["params"]
        assert row.madds_plain <= row.madds_paper_convention
        if row.madds_paper_convention / 1e9 != pytest.approx(row.paper["madds"], rel=0.005):
            off.append(row)
            assert "unexplained" in row.note
    assert [(row.network, row.output_stride) for row in off] == [("MNet V1", 8)]


def test_an_evaluation_fills_only_its_row_and_is_named(tmp_path: Path) -> None:
    single = write_evaluation(tmp_path / "a.json")
    mf = write_evaluation(
        tmp_path / "b.json", miou=73.0, protocol={"output_stride": 8, "scales": list(SCALES), "flip": True}
    )
    rows = table7([single, mf])
    changed = [(r.output_stride, r.aspp, r.miou, r.miou_source) for r in rows if r.miou is not None]
    assert changed == [(16, False, 71.5, str(single)), (8, False, 73.0, str(mf))]
    assert "a.json, 7 images, not VOC's 1449" in to_markdown(rows)
    whole = write_evaluation(tmp_path / "c.json", images=1449)
    assert table7([whole])[4].note == "1449 images"


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": {"size": 321}},
        {"protocol": {"flip": True}},
        {"protocol": {"output_stride": 8}},
        {"network": {"name": "deeplabv3_mobilenet_v9"}},
        {"network": {"backbone": {"width": 0.5}}},
        {"network": {"backbone": {"shortcut": "none"}}},
        {"network": {"backbone": {"channel_divisor": 32}}},
        {"network": {"backbone": {"unknown": 1}}},
        {"network": {"backbone": {"last_conv": True}}},
        {"network": {"head": {"separable": True}}},
    ],
)
def test_an_evaluation_of_no_row_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"is no row of Table 7; its rows are .*deeplabv3_resnet101_aspp with"):
        table7([write_evaluation(tmp_path / "a.json", **changes)])


def test_explicit_defaults_are_accepted(tmp_path: Path) -> None:
    path = write_evaluation(tmp_path / "a.json", network={"backbone": {"width": 1, "channel_divisor": 8}})
    assert table7([path])[4].miou == 71.5


def test_another_split_is_noted(tmp_path: Path) -> None:
    path = write_evaluation(tmp_path / "a.json", protocol={"dataset": "voc", "split": "train"})
    assert table7([path])[4].note == "7 images, not VOC's 1449; of the split train, not val"


def test_another_precision_is_noted(tmp_path: Path) -> None:
    path = write_evaluation(tmp_path / "a.json", protocol={"precision": "int8"})
    assert table7([path])[4].note == "7 images, not VOC's 1449; in int8"


@pytest.mark.parametrize(
    "changes",
    [
        {"iou": {"crop": 71.5, "weed": None}},
        {"iou": {f"plant {number}": 71.5 for number in range(21)}},
        {"protocol": {"dataset": "coco-voc"}},
    ],
)
def test_an_evaluation_of_other_data_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_evaluation(tmp_path / "a.json", protocol={"dataset": "voc"})
    assert table7([tmp_path / "a.json"])[4].miou == 71.5
    with pytest.raises(ConfigError, match="Table 7 is of PASCAL VOC's 21 classes"):
        table7([write_evaluation(tmp_path / "a.json", **changes)])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"miou": null, "network": 3, "protocol": {}}'])
def test_a_file_that_is_no_evaluation_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ConfigError, match=r"x\.json: is (no evaluation|not valid JSON)"):
        table7([tmp_path / "x.json"])
    with pytest.raises(ConfigError, match="absent"):
        table7([tmp_path / "absent.json"])


def test_the_printed_table_marks_the_unexplained_value() -> None:
    text = to_markdown(table7())
    assert sum(line.startswith(("| MNet", "| ResNet")) for line in text.splitlines()) == 8
    assert "| not measured, MAdds: the same count" in text
    assert "990.8 B (941.9 B)" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"miou": "71.5"}, "miou: input should be a valid number"),
        ({"miou": 1e300}, "miou: input should be less than or equal to 100"),
        ({"images": 7.5}, "images: input should be a valid integer"),
    ],
)
def test_values_of_other_types_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_evaluation(tmp_path / "x.json", **changes)
    with pytest.raises(ConfigError, match=rf"x\.json: is no evaluation of segmentation \({message}"):
        table7([tmp_path / "x.json"])


@many
@given(randoms)
def test_reading_evaluations_is_lawful(tmp_path: Path, random: Random) -> None:
    path = tmp_path / "x.json"
    write_evaluation(path)
    path.write_text(damage_json(json.loads(path.read_text()), random))
    check_lawful(lambda: _match(path))
