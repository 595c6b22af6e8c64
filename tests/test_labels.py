from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from segmnv2.errors import ConfigError
from segmnv2.labels import VOC_LABELS, LabelSet, voc_palette

COLORS = st.tuples(*[st.integers(0, 255)] * 3)


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1).filter(str.strip)


@st.composite
def label_sets(draw: st.DrawFn) -> LabelSet:
    names = draw(st.lists(NAMES, min_size=1, max_size=30, unique=True))
    palette = draw(st.lists(COLORS, min_size=len(names), max_size=len(names)))
    color = draw(st.none() | COLORS.filter(lambda color: color not in palette))
    defaults = tuple(draw(st.sets(st.sampled_from(["palette", "ignore_index"]))))
    return LabelSet(tuple(names), tuple(palette), draw(st.integers(len(names), 255)), color, defaults)


def test_voc_palette_is_the_published_one() -> None:
    # The development kit's colors of background, aeroplane, bicycle, person, tvmonitor and void.
    published = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {i: voc_palette(256)[i] for i in published} == published
    assert voc_palette(256)[255] == (224, 224, 192)


def test_voc_palette_gives_every_id_its_own_color_and_never_changes_with_count() -> None:
    whole = voc_palette(256)
    assert len(set(whole)) == 256
    assert all(voc_palette(count) == whole[:count] for count in (0, 1, 21, 100))


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\tb", "\x1b[31m", "a\u2028b"])
def test_names_that_cannot_be_shown_on_one_line_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"class name .* is blank or has control characters"):
        LabelSet((name,), ((0, 0, 0),))


def test_voc_labels_are_in_the_official_order() -> None:
    assert VOC_LABELS.num_classes == 21
    assert VOC_LABELS.ignore_index == 255
    assert VOC_LABELS.names[0] == "background"
    assert list(VOC_LABELS.names[1:]) == sorted(VOC_LABELS.names[1:])


@given(label_sets())
def test_mapping_and_back_is_the_identity(labels: LabelSet) -> None:
    again = LabelSet.from_dict(labels.to_dict())
    assert (again, again.label_defaults) == (labels, labels.label_defaults)
    assert LabelSet.from_dict(yaml.safe_load(yaml.safe_dump(labels.to_dict()))) == labels


@given(label_sets())
def test_no_class_is_ever_the_ignored_one(labels: LabelSet) -> None:
    assert labels.ignore_index not in range(labels.num_classes)
    assert len(labels.palette) == labels.num_classes


def test_yaml_file_may_leave_out_what_voc_has(tmp_path: Path) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text("names: [ground, crop, weed]\n")
    assert LabelSet.from_yaml(file) == LabelSet(("ground", "crop", "weed"), voc_palette(3), 255)


def test_what_a_file_leaves_out_is_a_default() -> None:
    values = {"names": ["a", "b"], "palette": [[0, 0, 0], [1, 1, 1]], "ignore_index": 255}
    for key in ("palette", "ignore_index"):
        part = {name: value for name, value in values.items() if name != key}
        assert LabelSet.from_dict(part).label_defaults == (key,)
    assert LabelSet.from_dict(values).label_defaults == VOC_LABELS.label_defaults == ()


def test_differences_are_named() -> None:
    first = LabelSet(("a", "b"), ((0, 0, 0), (1, 1, 1)))
    assert first.differences(first, "B", "A") == ""
    other = LabelSet(("a", "b"), ((0, 0, 0), (1, 1, 2)), 11)
    assert first.differences(other, "B", "A") == (
        "the color of 'b' is (1, 1, 2) in B, (1, 1, 1) in A; ignore_index is 11 in B, 255 in A"
    )
    assert first.differences(LabelSet(("b", "a"), first.palette), "B", "A").startswith(
        "B has the same classes in another order: 2 in B, 2 in A; class 0 is 'b' in B, 'a' in A"
    )
    longer = LabelSet(("a", "b", "none"), voc_palette(3))
    assert first.differences(longer, "B", "A").endswith("class 2 is 'none' in B, missing in A")


@given(label_sets(), label_sets())
def test_there_are_differences_exactly_where_labels_are_not_equal(first: LabelSet, second: LabelSet) -> None:
    assert bool(first.differences(second, "B", "A")) == (first != second)


def test_labels_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        VOC_LABELS.ignore_index = 0  # type: ignore[misc]


@pytest.mark.parametrize("count", [1, 5, 255])
def test_numbered_labels_have_that_many_classes(count: int) -> None:
    assert LabelSet.numbered(count).num_classes == count


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "'names' is None"),
        ({"names": "abc"}, "'names' is 'abc'"),
        ({"names": [1, 2]}, r"'names' is \[1, 2\]"),
        ({"names": []}, "0 class names"),
        ({"names": ["a", "b", "a"]}, r"\['a'\] occur more than once"),
        ({"names": ["a"], "pallete": []}, r"unknown keys \['pallete'\]"),
        ({"names": ["a"], "palette": [[0, 0, 0], [1, 1, 1]]}, "1 names but 2 colors"),
        ({"names": [str(i) for i in range(256)]}, "give 1 to 255"),
        ({"names": ["a"], "palette": [[0, 0, 256]]}, "256"),
        ({"names": ["a"], "palette": [[0, 0]]}, "color"),
        ({"names": ["a"], "palette": [7]}, "'palette'"),
        ({"names": ["a"], "palette": "black"}, "'palette' is 'black'"),
        ({"names": ["a", "b"], "ignore_index": 1}, "ignore_index 1"),
        ({"names": ["a"], "ignore_index": 256}, "ignore_index 256"),
        ({"names": ["a"], "ignore_index": "255"}, "'ignore_index' is '255'"),
        ({"names": ["a"], "ignore_color": "black"}, "'ignore_color' is 'black'"),
        ({"names": ["a"], "ignore_color": [0, 0, 256]}, "of ignored pixels"),
        ({"names": ["a"], "ignore_color": [0, 0, 0]}, "also the color of class 'a'"),
        ({"names": ["a"], "label_defaults": ["names"]}, "'label_defaults'"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        LabelSet.from_dict(values, source="labels.yaml")


@pytest.mark.parametrize("contents", [b"names: [a\n", b"\xff\xfe\x00", b"- a\n- b\n", b"", b"just words\n"])
def test_files_that_hold_no_labels_are_named(tmp_path: Path, contents: bytes) -> None:
    file = tmp_path / "labels.yaml"
    file.write_bytes(contents)
    with pytest.raises(ConfigError, match=r"labels\.yaml"):
        LabelSet.from_yaml(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        LabelSet.from_yaml(tmp_path / "missing.yaml")
