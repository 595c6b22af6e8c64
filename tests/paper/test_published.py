"""What is called published is what Table 7 prints."""

from __future__ import annotations

from segmnv2.inference.multi_scale import SCALES
from segmnv2.paper.choice import PUBLISHED, WIDTHS, distance, find_published, list_choices
from segmnv2.paper.table7 import SIZE, TABLE7


def test_published_choices_are_the_rows_of_table_7_on_these_backbones() -> None:
    def is_planned(model: str) -> bool:
        return any(model.removesuffix("_aspp") == f"deeplabv3_{backbone}" for backbone in WIDTHS)

    printed = {(r.model, r.output_stride, r.aspp, r.mf, r.miou) for r in TABLE7 if is_planned(r.model)}
    ours = {(p.choice.model, p.choice.output_stride, p.choice.aspp, p.choice.flip, p.miou) for p in PUBLISHED}
    assert ours == printed
    for one in PUBLISHED:
        assert (one.choice.width, one.choice.size) == (1.0, SIZE)
        assert one.choice.scales == (SCALES if one.choice.flip else (1.0,))


def test_published_choices_are_among_those_planned_and_found() -> None:
    choices = [*list_choices("mobilenet_v1"), *list_choices("mobilenet_v2")]
    assert {choice for choice in choices if find_published(choice)} == {one.choice for one in PUBLISHED}
    assert all((distance(choice) == 0) == (find_published(choice) is not None) for choice in choices)
