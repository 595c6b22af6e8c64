from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segmnv2.checks.examination import Examination, examine, listings_of
from segmnv2.checks.mask_diagnosis import diagnose_mask
from segmnv2.checks.mask_repairs import repair_values
from segmnv2.data.raw_mask import read_raw_mask
from segmnv2.labels import VOC_LABELS, LabelSet


@pytest.fixture(scope="module")
def examination(shared: Path) -> Examination:
    return examine(listings_of(shared / "data" / "VOCdevkit", splits=["train_aug", "val"]), workers=1)


@pytest.mark.slow
def test_voc_and_sbd_have_no_errors(examination: Examination) -> None:
    assert [len(split.kept) for split in examination.splits] == [737, 447]
    assert examination.errors == 0, examination.findings[:3]


@pytest.mark.slow
def test_the_only_warnings_are_about_absent_classes(examination: Examination) -> None:
    assert {finding.kind for finding in examination.findings} <= {"absent-class", "untrained-class"}


OTHER_LABELS = [
    LabelSet.from_dict({"names": ["background", "object"]}),
    LabelSet(VOC_LABELS.names[:2], VOC_LABELS.palette[:2]),
    LabelSet(VOC_LABELS.names[:5], VOC_LABELS.palette[:5][::-1]),
]
"""Label sets that may be given by mistake for masks of 21 classes."""


@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_no_repair_changes_an_id_of_any_mask(shared: Path, every: int) -> None:
    """Real masks are correct, so repairs must keep their ids, even if a wrong label set causes findings."""
    files = sorted((shared / "data" / "VOCdevkit" / "VOC2012").glob("SegmentationClass*/*.png"))
    assert len(files) > 1000
    for file in files[::every]:
        raw = read_raw_mask(file)
        for labels in OTHER_LABELS:
            found = diagnose_mask(raw, labels)
            assert not {fault.kind for fault in found.faults} & {"interpolated-mask", "smoothed-ids"}, file
            for fault in found.faults:
                if fault.repair:
                    assert np.array_equal(repair_values(raw, fault.repair.split("+"), labels), raw.values), file
