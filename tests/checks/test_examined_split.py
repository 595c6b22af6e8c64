from __future__ import annotations

import numpy as np
import pytest
import yaml

from segmnv2.checks.examined_split import Frequencies, weights_yaml
from segmnv2.labels import LabelSet

LABELS = LabelSet.numbered(4)


def count(*masks: list[int]) -> Frequencies:
    frequencies = Frequencies()
    for mask in masks:
        frequencies.add(np.bincount(mask, minlength=256), LABELS)
    return frequencies


def test_shares_of_pixels_and_images() -> None:
    frequencies = count([0, 0, 0, 1], [0, 0, 255, 255])
    table = frequencies.table(LABELS)
    assert table["class_0"] == {"pixels": 5, "pixel_share": 5 / 6, "images": 2, "image_share": 1.0}
    assert table["class_1"] == {"pixels": 1, "pixel_share": 1 / 6, "images": 1, "image_share": 0.5}
    assert table["class_3"]["pixels"] == 0
    assert frequencies.ignored_share(LABELS) == 2 / 8


def test_weights_are_the_median_frequency_divided_by_that_of_the_class() -> None:
    # Of the images that hold them: 0 has 5 of 8, 1 has 1 of 4, 2 has 2 of 4 pixels; the median is 0.5.
    weights = count([0, 0, 0, 1], [0, 0, 2, 2, 255]).weights(LABELS)
    assert weights == pytest.approx({"class_0": 0.5 / 0.625, "class_1": 2.0, "class_2": 1.0})


def test_classes_of_equal_frequency_weigh_one() -> None:
    assert count([0, 1, 2, 3]).weights(LABELS) == dict.fromkeys(LABELS.names, 1.0)


def test_no_masks_give_no_weights() -> None:
    assert Frequencies().weights(LABELS) == {}


def test_weights_are_lines_of_an_experiment() -> None:
    assert yaml.safe_load(weights_yaml({"a": 0.5, "b": 2.0})) == {"loss": {"class_weights": {"a": 0.5, "b": 2.0}}}
