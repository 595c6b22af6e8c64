from __future__ import annotations

from pathlib import Path

import pytest

from segmnv2.doctor.examination import Examination, examine
from segmnv2.doctor.sources import listings_of


@pytest.fixture(scope="module")
def examination(shared: Path) -> Examination:
    return examine(listings_of(shared / "data" / "VOCdevkit", splits=["train_aug", "val"]), workers=1)


def test_voc_and_sbd_have_no_errors(examination: Examination) -> None:
    assert [len(split.kept) for split in examination.splits] == [737, 447]
    assert examination.errors == 0, examination.findings[:3]


def test_the_only_warnings_are_of_classes_that_the_part_lacks(examination: Examination) -> None:
    assert {finding.kind for finding in examination.findings} <= {"absent-class", "untrained-class"}
