"""Tests of repaired copies: they have no findings, load, and have the true masks."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import yaml

from segmnv2.checks.examination import Examination, examine, listings_of
from segmnv2.checks.mask_diagnosis import diagnose_mask
from segmnv2.checks.mask_repairs import nearest_ids, repair_values
from segmnv2.checks.repaired_copy import RepairedCopy, write_repaired_copy
from segmnv2.data.raw_mask import RawMask, read_raw_mask
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.errors import ConfigError, DatasetError
from segmnv2.labels import VOC_LABELS, LabelSet
from tests.checks.sound import (
    SIZE,
    TRAIN,
    TWO,
    VAL,
    all_masks,
    check,
    ids,
    in_colors,
    kinds,
    mask_path,
    save,
    save_gray,
    two_classes,
    write_folder,
)
from tests.dataset_files import open_folder
from tests.voc_layout import write_voc_layout

EXPECTED = [Shapes(TRAIN + VAL, SIZE, seed=4)[i].mask for i in range(TRAIN + VAL)]


def fixed(root: Path) -> tuple[Path, Examination, RepairedCopy]:
    """Repair a data set, and examine the copy."""
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    written = write_repaired_copy(check(root), root.parent / "fixed")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    return root.parent / "fixed", check(root.parent / "fixed"), written


def masks_of(root: Path) -> list[np.ndarray]:
    dataset = open_folder(root)
    order = sorted(range(len(dataset)), key=lambda i: int(dataset.names[i]))
    return [dataset[i].mask for i in order]


def save_sixteen_bits(path: Path, mask: np.ndarray) -> None:
    save(path, mask.astype(np.uint16))


def save_equal_channels(path: Path, mask: np.ndarray) -> None:
    save(path, np.dstack([mask] * 3))


def save_ppm(path: Path, mask: np.ndarray) -> None:
    save(path, mask, format="PPM")


def save_with_an_ending(path: Path, mask: np.ndarray) -> None:
    path.unlink()
    save(path.with_suffix(".bmp"), mask)


def save_shifted(path: Path, mask: np.ndarray) -> None:
    save(path, np.where(mask == 255, 255, mask + 1).astype(np.uint8))


def save_in_other_colors(path: Path, mask: np.ndarray) -> None:
    picture = PIL.Image.fromarray(mask)
    picture.putpalette(np.arange(768).astype(np.uint8).tobytes())
    picture.save(path)


@pytest.mark.parametrize(
    "save_mask",
    [
        save_sixteen_bits,
        save_equal_channels,
        save_ppm,
        save_with_an_ending,
        save_shifted,
        save_in_other_colors,
    ],
)
def test_the_fixed_data_set_has_no_findings_and_the_true_masks(root: Path, save_mask: object) -> None:
    assert callable(save_mask)
    for path in all_masks(root):
        save_mask(path, ids(root, int(path.stem)))
    assert check(root).findings
    copy, examination, written = fixed(root)
    assert examination.findings == ()
    assert len(written.repaired) == written.copied == TRAIN + VAL
    assert written.unrepaired == written.left_out == []
    assert all((mask == expected).all() for mask, expected in zip(masks_of(copy), EXPECTED, strict=True))
    assert len(open_folder(copy, "train")) == TRAIN


@pytest.mark.parametrize("form", ["gray", "rgb", "sixteen bits"])
def test_white_becomes_one(tmp_path: Path, form: str) -> None:
    root = write_folder(tmp_path / "two", TWO, recode=two_classes)
    for path in all_masks(root):
        white = ids(root, int(path.stem)) * 255
        values = {"gray": white, "rgb": np.dstack([white] * 3), "sixteen bits": white.astype(np.uint16) * 257}[form]
        save(path, values)
    assert "binary-masks" in kinds(check(root))
    copy, examination, _ = fixed(root)
    assert examination.findings == ()
    assert all((mask == two_classes(old)).all() for mask, old in zip(masks_of(copy), EXPECTED, strict=True))


def test_smoothed_black_and_white_masks_are_thresholded(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "two", TWO, recode=two_classes)
    for path in all_masks(root):
        white = ids(root, int(path.stem)) * 255
        buffer = BytesIO()
        PIL.Image.fromarray(white).save(buffer, "JPEG", quality=80)
        path.write_bytes(buffer.getvalue())
    assert kinds(check(root)) == {"jpeg-mask"}
    copy, examination, _ = fixed(root)
    assert examination.findings == ()
    for mask, old in zip(masks_of(copy), EXPECTED, strict=True):
        assert (mask == two_classes(old)).mean() > 0.99


def test_smoothed_void_is_not_repaired_as_white(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "two", TWO, recode=lambda mask: np.where(mask == 255, 255, mask > 0))
    path = mask_path(root)
    save_gray(path, cv2.GaussianBlur(ids(root), (3, 3), 0))
    found = [finding for finding in check(root).findings if finding.file == str(path)]
    assert [(finding.kind, finding.repair) for finding in found] == [("interpolated-mask", None)]
    copy, examination, written = fixed(root)
    assert [finding.file for finding in written.unrepaired] == [str(path)]
    assert kinds(examination) == {"interpolated-mask"}
    assert mask_path(copy).read_bytes() == path.read_bytes()


def test_smoothed_colors_become_the_nearest_class_or_ignored(root: Path) -> None:
    for path in all_masks(root):
        colors = in_colors(np.where(ids(root, int(path.stem)) == 255, 0, ids(root, int(path.stem))))
        save(path, cv2.GaussianBlur(colors, (3, 3), 0))
    assert "interpolated-mask" in kinds(check(root))
    copy, examination, _ = fixed(root)
    assert not examination.errors
    for mask, old in zip(masks_of(copy), EXPECTED, strict=True):
        certain = mask != 255
        assert certain.mean() > 0.8
        assert (mask == np.where(old == 255, 0, old))[certain].mean() > 0.99


@pytest.mark.parametrize("way", ["scaled", "jpeg"])
def test_a_blend_of_two_classes_does_not_become_a_third_one(way: str, tmp_path: Path) -> None:
    """VOC's background and aeroplane blend into cat."""
    y, x = np.mgrid[:960, :1280]
    true = ((y - 480) ** 2 + (x - 640) ** 2 < 240**2) * 1
    if way == "scaled":
        mask = np.array(PIL.Image.fromarray(in_colors(true, VOC_LABELS)).resize((320, 240), PIL.Image.Resampling.BOX))
    else:
        coded = cv2.imencode(".jpg", in_colors(true[::4, ::4], VOC_LABELS), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        mask = np.array(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    cat = mask.copy()
    cat[200:230, 20:60] = VOC_LABELS.palette[8]  # a real cat
    for folder in ("images", "masks"):
        (tmp_path / "own" / folder).mkdir(parents=True)
    for name, colors in (("blend", mask), ("cat", cat)):
        PIL.Image.new("RGB", (320, 240)).save(tmp_path / "own" / "images" / f"{name}.png")
        PIL.Image.fromarray(colors).save(tmp_path / "own" / "masks" / f"{name}.png")
    values = {"names": list(VOC_LABELS.names), "palette": [list(color) for color in VOC_LABELS.palette]}
    (tmp_path / "own" / "labels.yaml").write_text(yaml.safe_dump(values))
    copy, examination, _ = fixed(tmp_path / "own")
    assert not examination.errors
    blend, both = (np.asarray(PIL.Image.open(copy / "masks" / f"{name}.png")) for name in ("blend", "cat"))
    assert set(np.unique(blend)) == {0, 1, 255}
    assert (blend == true[::4, ::4])[blend != 255].mean() > 0.99
    assert set(np.unique(both)) == {0, 1, 8, 255}
    assert (both[200:230, 20:60] == 8).all()


def test_an_overshoot_of_a_class_does_not_become_another_one() -> None:
    """Cubic scaling makes dark gray next to light gray black."""
    labels = LabelSet(("black", "dark", "light"), ((0, 0, 0), (30, 30, 30), (230, 230, 230)))
    y, x = np.mgrid[:240, :320]
    true = np.where((y - 120) ** 2 + (x - 160) ** 2 < 60**2, 2, 1)
    scaled = cv2.resize(in_colors(true, labels), (480, 360), interpolation=cv2.INTER_CUBIC)
    found = nearest_ids(scaled, labels)
    assert set(np.unique(found)) == {1, 2, 255}
    assert (found == 255).mean() < 0.05


def test_unrepaired_masks_are_reported(root: Path) -> None:
    save_gray(mask_path(root, 1), np.full(SIZE, 77))
    save_gray(mask_path(root, 2), ids(root, 2)[1:])
    mask_path(root, 3).unlink()
    copy, examination, written = fixed(root)
    assert {finding.kind for finding in written.unrepaired} == {"ids-out-of-range", "size-mismatch"}
    assert {finding.kind for finding in written.left_out} == {"missing-mask"}
    assert kinds(examination) == {"ids-out-of-range", "size-mismatch"}
    assert open_folder(copy, "train").names == ["0", "1", "2", "4", "5", "6", "7"]


def test_a_mask_turned_by_exif_is_not_repaired(root: Path) -> None:
    path = mask_path(root, 1)
    with PIL.Image.open(path) as mask:
        mask.load()
        entry = PIL.Image.Exif()
        entry[0x0112] = 3
        content = BytesIO()
        mask.save(content, "PNG", exif=entry)
    path.write_bytes(content.getvalue())
    with pytest.raises(DatasetError, match="EXIF orientation 3"):
        repair_values(read_raw_mask(path), ["resave"], SHAPES_LABELS)
    _, examination, written = fixed(root)
    assert str(path) not in written.repaired
    assert kinds(examination) == {"exif-rotation"}


def test_the_copy_needs_a_new_folder(root: Path) -> None:
    examination = check(root)
    with pytest.raises(ConfigError, match="exists and is not empty; give a new folder"):
        write_repaired_copy(examination, root)
    limited = examine(listings_of(root), workers=1, limit=1)
    with pytest.raises(ConfigError, match="leave out --limit"):
        write_repaired_copy(limited, root.parent / "fixed")
    assert not (root.parent / "fixed").exists()


def test_the_new_folder_may_be_a_link_but_not_the_current_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examination = examine(listings_of(root), workers=1)
    (root.parent / "disk").mkdir()
    (root.parent / "link").symlink_to("disk")
    write_repaired_copy(examination, root.parent / "link")
    assert (root.parent / "disk" / "labels.yaml").is_file()
    (root.parent / "here").mkdir()
    monkeypatch.chdir(root.parent / "here")
    with pytest.raises(ConfigError, match="current folder"):
        write_repaired_copy(examination, Path())


def test_an_interrupted_copy_writes_no_folder(root: Path) -> None:
    examination = check(root)
    (root / "images" / "5.png").unlink()
    with pytest.raises(FileNotFoundError):
        write_repaired_copy(examination, root.parent / "fixed")
    assert [path.name for path in root.parent.iterdir()] == [root.name]


def test_voc_layout_is_kept(tmp_path: Path) -> None:
    for split, seed in (("train", 4), ("val", 5)):
        write_voc_layout(Shapes(8, SIZE, seed=seed), tmp_path / "kit", split)
    labels = tmp_path / "names.yaml"
    labels.write_text(f"names: {list(SHAPES_LABELS.names)}\npalette: {[list(c) for c in SHAPES_LABELS.palette]}\n")
    folder = tmp_path / "kit" / "VOC2012" / "SegmentationClass"
    path = sorted(folder.iterdir())[0]
    values = np.array(PIL.Image.open(path))
    save(path, values.astype(np.uint16))
    examination = examine(listings_of(tmp_path / "kit", labels=labels), workers=1)
    assert [(finding.kind, finding.file) for finding in examination.findings] == [("deep-mask", str(path))]
    write_repaired_copy(examination, tmp_path / "fixed")
    again = examine(listings_of(tmp_path / "fixed", labels=tmp_path / "fixed" / "labels.yaml"), workers=1)
    assert again.findings == ()
    dataset = VocSegmentation(tmp_path / "fixed", "train", labels=SHAPES_LABELS)
    assert (dataset[dataset.names.index(path.stem)].mask == values).all()


def test_thin_objects_and_outlines_do_not_become_another_class(tmp_path: Path) -> None:
    """After smoothing, a thin line or an ignored outline has no pixel of its own color."""
    lines = np.zeros((1200, 1600), np.uint8)
    for number in range(6):
        cv2.line(lines, (100, 100 + 150 * number), (1500, 180 + 150 * number), 1, 4)
    outlined = np.zeros((800, 1200), np.uint8)
    cv2.circle(outlined, (600, 400), 250, 10, -1)
    cv2.circle(outlined, (600, 400), 250, 255, 5)
    edge = np.zeros((192, 256), np.uint8)
    edge[80:191, 100:140] = 1
    for name, mask, factor in (("lines", lines, 8), ("outlined", outlined, 8), ("edge", edge, 2)):
        colors = PIL.Image.fromarray(in_colors(mask, VOC_LABELS))
        small = colors.resize((mask.shape[1] // factor, mask.shape[0] // factor), PIL.Image.Resampling.BOX)
        if name == "edge":
            small = small.resize((1024, 768), PIL.Image.Resampling.BILINEAR)
        ids = diagnosed(np.asarray(small), VOC_LABELS)
        assert ids is not None
        assert set(np.unique(ids)) <= {0, *np.unique(mask), 255}, name


def diagnosed(colors: np.ndarray, labels: LabelSet) -> np.ndarray | None:
    opaque = np.full((*colors.shape[:2], 1), 255, np.uint8)
    return diagnose_mask(RawMask(np.concatenate([colors, opaque], axis=2), "PNG"), labels).ids


def test_masks_with_two_classes_of_one_color_are_not_repaired() -> None:
    labels = LabelSet(("ground", "tree", "grass"), ((0, 0, 0), (0, 200, 0), (0, 200, 0)))
    colors = np.zeros((384, 512, 3), np.uint8)
    cv2.circle(colors, (250, 200), 120, (0, 200, 0), -1)
    small = cv2.resize(colors, (128, 96), interpolation=cv2.INTER_AREA)
    assert diagnosed(small, labels) is None
