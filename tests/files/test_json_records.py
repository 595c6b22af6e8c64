from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmnv2.files.json_records import iterate_records

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
