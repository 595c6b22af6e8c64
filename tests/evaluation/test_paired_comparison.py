from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segmnv2.cli import main
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.errors import ConfigError
from segmnv2.evaluation.paired_comparison import compare_evaluations
from segmnv2.evaluation.segmenters import evaluate
from segmnv2.models.zoo import create_model


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    torch.manual_seed(0)
    model = create_model("deeplabv3_mobilenet_v2", labels=SHAPES_LABELS, width=0.35)
    return evaluate(model, Shapes(6, (40, 33), seed=5), size=65).to_dict()


def better(values: dict[str, Any], image: str) -> dict[str, Any]:
    """Return an evaluation whose predictions of one image are all right."""
    result = copy.deepcopy(values)
    for each in result["per_image"]:
        if each["name"] == image:
            each["counts"] = {name: [row[1]] * 3 for name, row in each["counts"].items() if row[1]}
    return result


def write(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_an_evaluation_does_not_differ_from_itself(values, tmp_path):
    file = write(tmp_path / "a.json", values)
    result = compare_evaluations(file, file)
    assert result.miou.before == result.miou.after == pytest.approx(values["miou"])
    assert {gain.name: None if np.isnan(gain.before) else gain.before for gain in result.classes} == pytest.approx(
        values["iou"]
    )
    assert all(gain.difference == 0 for gain in result.classes if gain.before == gain.before)
    assert {bound for gain in result.classes for bound in (gain.low, gain.high) if bound == bound} == {0}
    assert result.improved == result.worsened == []
    assert "no difference is shown" in result.to_markdown()


def test_a_class_of_a_single_image_and_a_single_image_have_no_interval(values, tmp_path):
    one, other = (copy.deepcopy(values) for _ in range(2))
    rare = "square"
    for file in (one, other):
        for image in file["per_image"][1:]:
            image["counts"].pop(rare, None)
        file["per_image"][0]["counts"][rare] = [3, 9, 5]
    one["per_image"][0]["counts"][rare] = [2, 9, 5]
    before, after = write(tmp_path / "a.json", one), write(tmp_path / "b.json", other)
    result = compare_evaluations(before, after)
    (gain,) = (gain for gain in result.classes if gain.name == rare)
    assert gain.difference > 0
    assert np.isnan([gain.low, gain.high]).all()
    assert result.miou.low <= result.miou.difference <= result.miou.high
    del one["per_image"][1:], other["per_image"][1:]
    result = compare_evaluations(write(before, one), write(after, other))
    assert np.isnan([result.miou.low, result.miou.high]).all()
    assert "1 image, 1000 sets drawn with replacement. The mIOU has no interval: no difference" in result.to_markdown()


def test_the_image_that_changed_is_named_and_gains_are_signed(values, tmp_path):
    image = values["per_image"][2]["name"]
    a, b = write(tmp_path / "a.json", values), write(tmp_path / "b.json", better(values, image))
    forth, back = compare_evaluations(a, b), compare_evaluations(b, a)
    assert [gain.name for gain in forth.improved] == [gain.name for gain in back.worsened] == [image]
    assert forth.improved[0].after == 100
    assert forth.worsened == back.improved == []
    assert forth.miou.difference == -back.miou.difference > 0
    assert (forth.miou.low, forth.miou.high) == pytest.approx((-back.miou.high, -back.miou.low))
    assert forth.miou.low <= forth.miou.difference <= forth.miou.high


def test_other_settings_are_named_and_the_order_of_images_is_free(values, tmp_path):
    other = {**values, "protocol": {**values["protocol"], "output_stride": 8}}
    other["per_image"] = other["per_image"][::-1]
    result = compare_evaluations(write(tmp_path / "a.json", values), write(tmp_path / "b.json", other))
    assert result.settings == {"output_stride": (16, 8)}
    assert result.miou.difference == 0


def test_what_does_not_compare_is_refused(values, tmp_path):
    a = write(tmp_path / "a.json", values)
    fewer = {**values, "per_image": values["per_image"][1:]}
    renamed = {**values, "iou": {f"{name}s": value for name, value in values["iou"].items()}}
    masks = copy.deepcopy(values)
    next(iter(masks["per_image"][0]["counts"].values()))[1] += 5
    twice = {**values, "per_image": [*values["per_image"], values["per_image"][0]]}
    old = {key: value for key, value in values.items() if key != "per_image"}
    for message, other in {
        "split is 'val' in one": {**values, "protocol": {**values["protocol"], "split": "val"}},
        "1 images are in one only": fewer,
        "other classes": renamed,
        "true pixels of": masks,
        "two images have one name": twice,
        "evaluate again": old,
        "iou is missing": {"miou": 1},
    }.items():
        file = write(tmp_path / "b.json", other)
        with pytest.raises(ConfigError, match=message):
            compare_evaluations(file, a)
    with pytest.raises(ConfigError, match="negative"):
        compare_evaluations(a, a, -1)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_damaged_file_compares_or_is_a_config_error(values, tmp_path, random):
    damaged = copy.deepcopy(values)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []:
            places.append((node, key))
            walk(node[key])

    walk({key: damaged[key] for key in ("iou", "protocol", "per_image")})
    for _ in range(random.randint(1, 3)):
        node, key = random.choice(places)
        if (isinstance(node, dict) and key in node) or (isinstance(node, list) and key < len(node)):
            node[key] = random.choice([None, -1, 10**30, "x", [], {}, 1.5, [1, 2], True])
    a, b = write(tmp_path / "a.json", values), write(tmp_path / "b.json", damaged)
    with suppress(ConfigError):
        compare_evaluations(a, b).to_markdown()


def test_the_command_prints_and_writes_the_comparison(values, tmp_path, capsys):
    a = write(tmp_path / "a.json", values)
    b = write(tmp_path / "b.json", better(values, values["per_image"][0]["name"]))
    assert main(["compare", str(a), str(b), "--json", str(tmp_path / "c.json")]) == 0
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["miou"]["gain"] == pytest.approx(found["miou"]["after"] - found["miou"]["before"])
    assert "| mIOU |" in capsys.readouterr().out
    assert main(["compare", str(a), str(tmp_path / "none.json")]) == 2
