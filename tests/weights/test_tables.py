from __future__ import annotations

import pytest

from segmnv2.models.zoo import create_model
from segmnv2.weights.key_tables import HUGGING_FACE, TENSORFLOW, TORCHVISION, KeyTable
from segmnv2.weights.loading import FREE_SUFFIXES


@pytest.mark.parametrize(("table", "aspp"), [(TENSORFLOW, True), (HUGGING_FACE, False)])
def test_every_tensor_has_one_name_there_and_back(table: KeyTable, aspp: bool) -> None:
    model = create_model("deeplabv3_mobilenet_v2" + "_aspp" * aspp, width=0.35, last_conv=True)
    names = [name for name in model.state_dict() if not name.endswith(FREE_SUFFIXES)]
    theirs = table.theirs(names)
    assert set(theirs) == set(names)
    assert len(set(theirs.values())) == len(names)
    assert {table.ours(names)[name] for name in theirs.values()} == set(names)


def test_torchvisions_table_covers_the_backbone() -> None:
    model = create_model("deeplabv3_mobilenet_v2", width=0.35, last_conv=True)
    names = [n for n in model.state_dict() if n.startswith("backbone.") and not n.endswith(FREE_SUFFIXES)]
    assert set(TORCHVISION.theirs(names)) == set(names)
