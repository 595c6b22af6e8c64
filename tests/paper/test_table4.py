from __future__ import annotations

from segmnv2.paper.table4 import TABLE4, Row, table4, to_markdown


def within_tolerance(row: Row) -> bool:
    params, madds = row.paper["params"], row.paper["madds"]
    assert params is not None
    assert madds is not None
    # The table prints one decimal, so half of its last digit may be rounding.
    close = any(abs(value / 1e6 - params) <= 0.01 * params + 0.05 for value in (row.params, row.weights))
    return close and abs(row.madds / 1e6 - madds) <= 0.01 * madds


def test_a_value_more_than_a_percent_from_the_printed_one_has_a_note() -> None:
    for row in table4():
        assert within_tolerance(row) or row.note, row.network


def test_every_row_has_computed_and_printed_values() -> None:
    rows = table4()
    text = to_markdown(rows)
    assert len(rows) == len(TABLE4)
    for row, paper in zip(rows, TABLE4, strict=True):
        assert row.weights < row.params
        assert f"| {row.network} | {paper.top1:g} | {row.params / 1e6:.3f} M ({paper.params:g} M)" in text
