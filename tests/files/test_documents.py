from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segmnv2.errors import ConfigError, DatasetError, SegmnError
from segmnv2.files.documents import MOST_LEVELS, dump_json, iterate_records, parse_json, read_json
from segmnv2.files.yaml_documents import MOST_YAML, dump_yaml, parse_yaml, read_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(["1e-3", "0x1", "010", "yes", "~", "<<", "2026-01-01", "1_0", ".inf", "", "&a", "*a", "!!int 1"])
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))
PIECES = [
    *"[]{}:,-?&*!|>'\"#%@` \n0a~.",
    *(
        "a: ",
        "- ",
        "!!float ",
        "!!timestamp ",
        "!!set ",
        "!!python/name:os.system ",
        "&x ",
        "*x ",
        "<<: ",
        "---\n",
        "...",
    ),
    *("NaN", "Infinity", "1e999", "9" * 5000, "2026-13-01", "1:99", "\\ud800", '"\\UFFFFFFFF"', "true", "%YAML 1.1\n"),
    *("[" * 200, "{a: " * 200, "%TAG ! x\n", "\t", "\x85", "\0", "\ufeff"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def levels(count: int) -> Any:
    value: Any = 1
    for _ in range(count):
        value = [value]
    return value


def plain(value: Any) -> bool:
    """Whether all values are those of JSON."""
    if isinstance(value, dict):
        return all(type(key) is str and plain(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or type(value) in (bool, str) or (type(value) is int and -(2**63) <= value < 2**63)


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
@given(text=TEXTS | TEXT)
@example("x: " + "[" * 5000)
@example("9" * 5000)
@example("*" + "a" * 5000)
@settings(deadline=None, max_examples=80)
def test_any_text_gives_plain_values_or_one_message_with_its_source(parse: Callable[..., Any], text: str) -> None:
    message, value = "", None
    try:
        value = parse(text, "a.file", "write it again", DatasetError)
    except DatasetError as error:
        message = str(error)
    assert plain(value)
    if message:
        assert message.startswith("a.file: is not valid ")
        assert message.endswith("; write it again")
        assert len(message) < 300


@settings(deadline=None, max_examples=60)
@given(VALUES)
def test_both_formats_give_back_what_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value), "", "") == value
    assert parse_yaml(dump_yaml(value), "", "") == value


@given(TEXT)
def test_plain_text_is_never_read_as_another_value(text: str) -> None:
    assert parse_yaml(dump_yaml({text: [text]}), "", "") == {text: [text]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-1.E+2", -100.0),
        (".5", 0.5),
        ("010", 10),
        ("TRUE", True),
        ("no", "no"),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("2026-11-27", "2026-11-27"),
        ("!!str 12", "12"),
        ("!!float 1", 1.0),
        ("{1: 2, null: 3}", {"1": 2, "null": 3}),
        ("[&a {b: 1}, {<<: *a, c: 2}, {b: 3, <<: [*a]}]", [{"b": 1}, {"b": 1, "c": 2}, {"b": 3}]),
    ],
)
def test_yaml_has_the_plain_values_of_version_1_2(text: str, value: Any) -> None:
    found = parse_yaml(text, "", "")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: !!float x", "line 1, column 4: 'x' is not of type !!float"),
        ("!!timestamp 2026-11-27", "type !!timestamp is not possible"),
        ("!!python/object/apply:os.getcwd []", "type !!python/object/apply:os.getcwd is not possible"),
        ("? [a]\n: 1", "a key is not text"),
        ("a: 1\na: 2", "line 2, column 1: key 'a' is given twice"),
        ("&a [*a]", "alias 'a' has no anchor before it"),
        ("a: 1\n---\nb: 1", "the text has a second document"),
        ("<<: 1", "'<<' merges a value that is not a mapping"),
        ("1e999", "inf, which is not a finite number"),
        ("9" * 30, "an integer of more than 64 bits"),
        ('"\\ud800"', "not valid Unicode"),
        ("a: " * 2 + "1", "mapping values are not allowed here"),
    ],
)
def test_yaml_that_json_could_not_hold_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "a.yaml", "fix it")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "key 'a' is given twice"),
        ("[NaN]", "NaN, which is not a finite number"),
        ("[-1e999]", "-inf, which is not a finite number"),
        ("9" * 5000, "an integer of more than 64 bits"),
        ("[" * 100_000, "nested lists or mappings"),
        ('"\\ud800"', "not valid Unicode"),
        ('{"\\u0000": 1}', "not valid Unicode"),
        ("{", "line 1 column 2"),
    ],
)
def test_json_that_other_readers_would_pass_on_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SegmnError) as caught:
        parse_json(text, "a.json", "fix it")
    assert reason in str(caught.value)


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
def test_levels_are_bounded_at_the_stated_number(parse: Callable[..., Any]) -> None:
    assert parse(json.dumps(levels(MOST_LEVELS)), "", "") == levels(MOST_LEVELS)
    with pytest.raises(SegmnError, match=f"more than {MOST_LEVELS} nested lists"):
        parse(json.dumps(levels(MOST_LEVELS + 1)), "", "")


def test_aliases_are_bounded_and_each_is_a_value_of_its_own() -> None:
    laughs = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    with pytest.raises(ConfigError, match=f"more than {MOST_YAML} values"):
        parse_yaml(laughs, "", "")
    values = parse_yaml("a: &x {b: 1}\nc: *x", "", "")
    values["a"]["b"] = 2
    assert values["c"] == {"b": 1}


def test_what_pyyaml_writes_is_read_alike() -> None:
    value = {"a": [1, 1e-7, True, None, "yes", "é"], "b": {"c": []}}
    assert parse_yaml(yaml.safe_dump(value), "", "") == value


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, read: Callable[..., Any]) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"\xff\xfe")
    for path, reason in (
        (tmp_path / "none", "there is no such file"),
        (tmp_path, "cannot be read"),
        (bad, "cannot be read"),
        (tmp_path / ("a" * 5000), "cannot be read"),
        (tmp_path / "a\0", "cannot be read"),
    ):
        with pytest.raises(DatasetError) as caught:
            read(path, "give another", DatasetError)
        assert str(caught.value).startswith(f"{path}: {reason}")
    good = tmp_path / "good"
    good.write_bytes(b"\xef\xbb\xbf[1, 2]")
    assert read(good, "") == [1, 2]


def test_json_text_is_ascii_and_takes_every_file_name() -> None:
    values = {"path": "caf\udce9/猫 😀 \\ \\u12"}
    text = dump_json(values)
    assert text.isascii()
    assert parse_json(text, "text", "") == {"path": "caf\\udce9/猫 😀 \\ \\u12"}


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=10
)


@given(content=st.dictionaries(st.text(), values, max_size=4), indent=st.sampled_from([None, 1]))
def test_records_are_what_the_json_module_reads(content: dict[str, Any], indent: int | None) -> None:
    expected = [
        (key, element)
        for key, value in content.items()
        for element in (value if isinstance(value, list) and value else [value])
    ]
    text = f" \n{json.dumps(content, indent=indent)}\t"
    assert list(iterate_records(text)) == expected


BROKEN = """
 |[]|{|{"a"|{"a":|{"a":1|{"a":1,|{"a":1,}|{"a":[|{"a":[1|{"a":[1,|{"a":[1,]}|{"a":[1]|{"a":1} x|{"a":1}{}|{1:2}|{"a" 1}
|{"a":1 "b":2}|{"a":[1 2]}|{,}|{"a":x}
"""


@pytest.mark.parametrize("text", BROKEN.split("|"))
def test_what_the_json_module_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"line \d+ column \d+"):
        list(iterate_records(text))


def test_records_come_before_the_end_is_read() -> None:
    records = iterate_records('{"a": [1, 2, !')
    assert [next(records), next(records)] == [("a", 1), ("a", 2)]
