from __future__ import annotations

from segmnv2.paper.table4 import TABLE4, table4, to_markdown, within_tolerance


def test_a_value_off_the_printed_one_by_more_than_a_percent_is_explained_beside_it() -> None:
    for row in table4():
        assert within_tolerance(row) or row.note, row.network


def test_every_row_has_its_computed_and_its_printed_values() -> None:
    rows = table4()
    text = to_markdown(rows)
    assert len(rows) == len(TABLE4)
    for row, paper in zip(rows, TABLE4, strict=True):
        assert row.weights < row.params
        assert f"| {row.network} | {paper.top1:g} | {row.params / 1e6:.3f} M ({paper.params:g} M)" in text
