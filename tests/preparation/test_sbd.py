from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.io
import scipy.sparse

from segmnv2.cli.data_sets import prepare_voc
from segmnv2.data.mask_file import read_mask, write_mask
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.errors import DatasetError
from segmnv2.labels import VOC_LABELS
from segmnv2.preparation.sbd import build_train_aug, read_sbd_mask
from tests.dataset_files import iterate

SIZE = (20, 30)
TRAIN, VAL = ["2007_000001", "2007_000002"], ["2007_000003"]
OTHERS = ["2008_000004", "2008_000005", "2008_000006"]


def draw(name: str) -> np.ndarray:
    return np.random.default_rng(int(name[-2:])).integers(0, 21, SIZE).astype(np.uint8)


def write_mat(path: Path, mask: object) -> None:
    """Write an annotation with the fields of SBD."""
    path.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.empty((20, 1), object)
    boundaries.fill(scipy.sparse.csc_matrix(SIZE, dtype=np.float64))
    content = {"Segmentation": mask, "Boundaries": boundaries, "CategoriesPresent": np.array([[1], [3]])}
    scipy.io.savemat(path, {"GTcls": content}, do_compression=True)


def write_list(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Write the folder VOC2012, with one image that is in neither its lists nor SBD."""
    folder = tmp_path / "VOCdevkit/VOC2012"
    (folder / "JPEGImages").mkdir(parents=True)
    for name in [*TRAIN, *VAL, *OTHERS, "2008_000099"]:
        PIL.Image.new("RGB", SIZE[::-1]).save(folder / f"JPEGImages/{name}.jpg")
    for name in TRAIN + VAL:
        write_mask(folder / f"SegmentationClass/{name}.png", np.full(SIZE, 255, np.uint8), VOC_LABELS)
    write_list(folder / "ImageSets/Segmentation/train.txt", TRAIN)
    write_list(folder / "ImageSets/Segmentation/val.txt", VAL)
    return folder


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    """Write the folder ``dataset``, with other splits than VOC's."""
    folder = tmp_path / "benchmark_RELEASE/dataset"
    splits = {"train": [OTHERS[2], VAL[0], OTHERS[0]], "val": [TRAIN[0], OTHERS[1]]}
    for split, names in splits.items():
        write_list(folder / f"{split}.txt", names)
        for name in names:
            write_mat(folder / f"cls/{name}.mat", draw(name))
    return folder


def test_a_mask_is_read_unchanged(tmp_path: Path) -> None:
    write_mat(tmp_path / "a.mat", draw("2008_000007"))
    mask = read_sbd_mask(tmp_path / "a.mat")
    assert (mask == draw("2008_000007")).all()
    assert mask.dtype == np.uint8


def test_train_aug_is_train_and_sbd_without_val(voc: Path, sbd: Path) -> None:
    report = build_train_aug(voc.parent, sbd.parent)
    assert (report.written, report.kept, report.excluded, report.already_train, report.listed) == (3, 0, 1, 1, 5)
    dataset = VocSegmentation(voc, "train_aug")
    assert dataset.names == TRAIN + OTHERS
    for sample in iterate(dataset):
        expected = draw(sample.name) if sample.name in OTHERS else np.full(SIZE, 255)
        assert (sample.mask == expected).all()
    assert {path.stem for path in (voc / "SegmentationClassAug").iterdir()} == set(OTHERS)
    assert "3 masks written" in str(report)


def test_a_second_run_changes_nothing(voc: Path, sbd: Path) -> None:
    build_train_aug(voc, sbd)
    before = {path: path.stat().st_mtime_ns for path in voc.rglob("*") if path.is_file()}
    report = build_train_aug(voc, sbd)
    assert (report.written, report.kept) == (0, 3)
    assert {path: path.stat().st_mtime_ns for path in voc.rglob("*") if path.is_file()} == before


def test_an_interrupted_run_leaves_no_list_and_can_be_repeated(voc: Path, sbd: Path) -> None:
    good = (sbd / f"cls/{OTHERS[1]}.mat").read_bytes()
    (sbd / f"cls/{OTHERS[1]}.mat").write_bytes(good[:200])
    with pytest.raises(DatasetError, match=rf"{OTHERS[1]}.mat: cannot be read"):
        build_train_aug(voc, sbd)
    assert not (voc / "ImageSets/Segmentation/train_aug.txt").exists()
    (sbd / f"cls/{OTHERS[1]}.mat").write_bytes(good)
    report = build_train_aug(voc, sbd)
    assert (report.written, report.kept) == (2, 1)


def test_the_full_val_list_beside_a_part_counts(voc: Path, sbd: Path) -> None:
    write_list(voc / "ImageSets/SegmentationOfficial/val.txt", [*VAL, OTHERS[1]])
    write_list(voc / "ImageSets/Main/val.txt", OTHERS)  # another task's split: SBD's images are in it
    report = build_train_aug(voc, sbd)
    assert report.excluded == 2
    assert VocSegmentation(voc, "train_aug").names == [*TRAIN, OTHERS[0], OTHERS[2]]


def test_existing_files_that_differ_are_rejected(voc: Path, sbd: Path) -> None:
    path = voc / f"SegmentationClassAug/{OTHERS[0]}.png"
    write_mask(path, np.zeros(SIZE, np.uint8), VOC_LABELS)
    with pytest.raises(DatasetError, match=rf"{OTHERS[0]}.png: exists and differs .* move it away"):
        build_train_aug(voc, sbd)
    assert not read_mask(path, VOC_LABELS).any()
    write_list(voc / "ImageSets/Segmentation/train_aug.txt", TRAIN)
    with pytest.raises(DatasetError, match=r"train_aug.txt: exists with 2 ids; 3 .* move it away"):
        build_train_aug(voc, sbd)


def test_missing_parts_are_reported(voc: Path, sbd: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere: does not exist.*benchmark_RELEASE"):
        build_train_aug(voc, tmp_path / "nowhere")
    (voc / f"JPEGImages/{OTHERS[1]}.jpg").unlink()
    with pytest.raises(DatasetError, match=rf"1 of the 3 images that SBD adds .*{OTHERS[1]}.jpg"):
        build_train_aug(voc, sbd)
    (sbd / "val.txt").write_text("../x\n")
    with pytest.raises(DatasetError, match=r"val.txt: entry 1 is '../x'"):
        build_train_aug(voc, sbd)
    (voc / "ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(DatasetError, match=r"val.txt: cannot be read"):
        build_train_aug(voc, sbd)


def test_ids_in_both_train_and_val_are_rejected(voc: Path, sbd: Path) -> None:
    write_list(voc / "ImageSets/Segmentation/val.txt", TRAIN)
    with pytest.raises(DatasetError, match=r"train.txt: 2 of its ids are in val too"):
        build_train_aug(voc, sbd)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full(SIZE, 21, np.uint8), r"ids 21 \(600 pixels\)"),
        (np.zeros(SIZE), "is float64"),
        (np.zeros((2, 2, 3), np.uint8), r"shape \(2, 2, 3\)"),
        (np.zeros((0, 0), np.uint8), "is uint8 of shape"),
    ],
)
def test_other_contents_are_rejected(tmp_path: Path, mask: np.ndarray, message: str) -> None:
    write_mat(tmp_path / "a.mat", mask)
    with pytest.raises(DatasetError, match=rf"a.mat: .*{message}"):
        read_sbd_mask(tmp_path / "a.mat")


def test_other_files_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a.mat: no such mask"):
        read_sbd_mask(tmp_path / "a.mat")
    for content in (b"", b"\x80\x04N.", b"x" * 500):
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(DatasetError, match=r"a.mat: cannot be read as a MATLAB file"):
            read_sbd_mask(tmp_path / "a.mat")
    for variables in ({"GTinst": {"Segmentation": 1}}, {"GTcls": {"Boundaries": 1}}, {"GTcls": np.zeros(3)}):
        scipy.io.savemat(tmp_path / "a.mat", variables)
        with pytest.raises(DatasetError, match=r"a.mat: has no GTcls.Segmentation"):
            read_sbd_mask(tmp_path / "a.mat")


def test_the_command_prints_the_report(voc: Path, sbd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_voc(voc, sbd)
    assert "5 images; 3 masks written" in capsys.readouterr().out
