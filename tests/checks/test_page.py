from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
from rich.console import Console

from segmnv2.checks.examination import Examination
from segmnv2.checks.examined_split import ExaminedSplit
from segmnv2.checks.page import print_examination
from segmnv2.datasets.listing import Listing
from segmnv2.labels import VOC_LABELS


def test_names_of_splits_are_not_parsed_as_markup() -> None:
    split = ExaminedSplit(Listing("fold[/a]", Path("data"), VOC_LABELS, ()))
    split.frequencies.add(np.eye(1, 256, dtype=np.int64)[0], VOC_LABELS)
    output = StringIO()
    print_examination(Examination((split,), ()), Console(file=output, width=100), examples=1)
    assert output.getvalue().count("fold[/a]") == 2
