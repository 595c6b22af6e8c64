"""Tests of the findings of broken data sets: kind, file, reason and remedy."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import yaml

from segmnv2.checks.mask_diagnosis import diagnose_mask
from segmnv2.data.mask_file import read_mask
from segmnv2.data.raw_mask import RawMask, read_raw_mask
from segmnv2.datasets.listing import ERROR_KINDS, KINDS
from segmnv2.datasets.shapes import SHAPES_LABELS
from segmnv2.errors import DatasetError, SegmnError
from segmnv2.labels import LabelSet
from tests.checks.sound import (
    TWO,
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

LABEL_FILES: list[dict[str, object]] = [
    SHAPES_LABELS.to_dict(),
    {"names": list(SHAPES_LABELS.names)},
    {"names": ["ground", "line"], "palette": [[255, 255, 255], [0, 0, 0]]},
    {"names": ["ground", "line"], "palette": [[0, 0, 0], [255, 255, 255]], "ignore_index": 255},
    {"names": ["ground", "line"], "ignore_index": 2},
]

Break = Callable[[Path], None]


def test_a_correct_data_set_has_no_findings(root: Path) -> None:
    examination = check(root)
    assert examination.findings == ()
    assert examination.verdict == "11 pairs read: no faults found"


def test_masks_in_colors_of_the_palette_have_no_findings(root: Path) -> None:
    for index, path in enumerate(all_masks(root)):
        if index % 2:
            save(path, in_colors(ids(root, int(path.stem))))
    assert check(root).findings == ()


def truncate(path: str, length: int | None = None) -> Break:
    def change(root: Path) -> None:
        content = (root / path).read_bytes()
        (root / path).write_bytes(content[: len(content) // 2 if length is None else length])

    return change


def remove(path: str) -> Break:
    return lambda root: (root / path).unlink()


def write(path: str, text: str) -> Break:
    def change(root: Path) -> None:
        (root / path).write_text(text)

    return change


def copy(source: str, target: str) -> Break:
    def change(root: Path) -> None:
        shutil.copy(root / source, root / target)

    return change


def append(path: str, text: str) -> Break:
    def change(root: Path) -> None:
        (root / path).write_text((root / path).read_text() + text)

    return change


def empty_images(root: Path) -> None:
    shutil.rmtree(root / "images")
    (root / "images").mkdir()


def turn_image(root: Path) -> None:
    """Add an EXIF entry that turns the image by 90 degrees, without a change of its mask."""
    path = root / "images" / "0.png"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.open(path).save(path, exif=exif)


def turn_by_half(root: Path) -> None:
    path = root / "images" / "0.png"
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    PIL.Image.open(path).save(path, exif=exif)


def other_size(root: Path) -> None:
    save_gray(mask_path(root), ids(root)[:-1])


def store_8_bits_in_16(root: Path) -> None:
    image = cv2.imread(str(root / "images/0.png"))
    cv2.imwrite(str(root / "images/0.png"), image.astype(np.uint16))


def damage_inside(root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    (root / "images/0.png").unlink()
    PIL.Image.fromarray(noise).save(root / "images/0.jpg")
    content = (root / "images/0.jpg").read_bytes()
    (root / "images/0.jpg").write_bytes(content[:-400] + content[-100:])


def animate_mask(root: Path) -> None:
    frames = [PIL.Image.fromarray(ids(root) * 1), PIL.Image.fromarray(np.zeros_like(ids(root)))]
    frames[0].save(mask_path(root), save_all=True, append_images=frames[1:], default_image=True)


def as_jpeg(name: str) -> Break:
    def change(root: Path) -> None:
        buffer = BytesIO()
        PIL.Image.fromarray(ids(root)).save(buffer, "JPEG", quality=70)
        mask_path(root).unlink()
        (root / name).write_bytes(buffer.getvalue())

    return change


def change_mask(function: Callable[[np.ndarray], np.ndarray]) -> Break:
    return lambda root: save(mask_path(root), function(ids(root)))


def change_all(function: Callable[[np.ndarray], np.ndarray]) -> Break:
    def change(root: Path) -> None:
        for path in all_masks(root):
            save_gray(path, function(ids(root, int(path.stem))))

    return change


def smooth(mask: np.ndarray) -> np.ndarray:
    small = cv2.resize(mask, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR)
    return cv2.resize(small, mask.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def white(mask: np.ndarray) -> np.ndarray:
    return two_classes(mask) * 255


def without_palette(root: Path) -> None:
    (root / "labels.yaml").write_text(yaml.safe_dump({"names": list(SHAPES_LABELS.names)}))
    save(mask_path(root), in_colors(ids(root)))


def transparent(mask: np.ndarray) -> np.ndarray:
    return np.dstack([in_colors(mask), np.full(mask.shape, 9, np.uint8)])


def paint_stray(mask: np.ndarray) -> np.ndarray:
    colors = in_colors(mask)
    colors[:5] = (1, 250, 250)
    return colors


def save_palette(order: list[int] | None = None, shade: int = 0) -> Break:
    """Save with the same colors in another order, or with other colors and the same ids."""

    def change(root: Path) -> None:
        values, colors = ids(root), np.zeros((256, 3), np.uint8)
        colors[:5] = SHAPES_LABELS.palette
        colors[255] = (224, 224, 192)
        if order is not None:
            colors[:5] = colors[order]
            values = np.where(values < 5, np.argsort(order)[values.clip(max=4)], values).astype(np.uint8)
        picture = PIL.Image.fromarray(values)
        picture.putpalette(np.abs(colors.astype(int) - shade).astype(np.uint8).tobytes())
        picture.save(mask_path(root))

    return change


def leave_only_background_in_train(root: Path) -> None:
    for index in range(8):
        mask = ids(root, index)
        save_gray(mask_path(root, index), np.where(mask == 4, 0, mask))


def recode_jpeg(root: Path) -> None:
    """Replace a validation image with a recompressed training image of twice the size, and its mask."""
    picture = PIL.Image.open(root / "images" / "0.png").convert("RGB")
    (root / "images" / "9.png").unlink()
    picture.resize((picture.width * 2, picture.height * 2)).save(root / "images" / "9.jpg", quality=60)
    save_gray(mask_path(root, 9), ids(root).repeat(2, axis=0).repeat(2, axis=1))


def leak(root: Path) -> None:
    """Copy a training image over a validation image, in another file format."""
    (root / "images" / "9.png").unlink()
    PIL.Image.open(root / "images" / "2.png").save(root / "images" / "9.bmp")


def duplicate(with_mask: bool) -> Break:
    def change(root: Path) -> None:
        shutil.copy(root / "images" / "2.png", root / "images" / "3.png")
        if with_mask:
            shutil.copy(mask_path(root, 2), mask_path(root, 3))

    return change


Form = tuple[Break, str, str, str, str]

BROKEN: list[Form] = [
    (empty_images, "empty", "images", "holds no images", "images/NAME.jpg"),
    (write("splits/val.txt", "\n"), "empty", "splits/val.txt", "names no images", "one file name"),
    (append("splits/val.txt", "zz\n"), "unknown-name", "splits/val.txt", "'zz' is not in images", "existing files"),
    (append("splits/val.txt", "9\n"), "repeated-name", "splits/val.txt", "names '9' 2 times", "once"),
    (remove("masks/0.png"), "missing-mask", "images/0.png", r"no .*masks/0\.png", "rename, add"),
    (remove("images/0.png"), "missing-image", "masks/0.png", r"no image .*images/0\.\*", "rename, add"),
    (write("images/a.heic", "x"), "wrong-ending", "images/a.heic", r"'\.heic'", "convert it"),
    (lambda root: (root / "masks/more").mkdir(), "wrong-ending", "masks/more", "is a folder", "move it"),
    (copy("images/0.png", "images/0.jpg"), "twin-name", "images/0.png", r"as 0\.jpg", "rename one"),
    (truncate("images/0.png"), "unreadable-image", "images/0.png", "truncated", "replace the file"),
    (truncate("images/0.png", 0), "unreadable-image", "images/0.png", "empty", "replace"),
    (write("images/0.png", "text"), "unreadable-image", "images/0.png", "not an image", "convert"),
    (truncate("masks/0.png"), "unreadable-mask", "masks/0.png", "cannot be read", "save it again"),
    (truncate("masks/0.png", 0), "unreadable-mask", "masks/0.png", "0 bytes", "save it again"),
    (write("masks/0.png", "text"), "unreadable-mask", "masks/0.png", "not an image", "save it again"),
    (other_size, "size-mismatch", "masks/0.png", r"47 rows and 64 columns.*48 and 64", "one size"),
    (turn_image, "exif-rotation", "masks/0.png", r"orientation 6.*the mask is not", "turn the mask"),
    (turn_by_half, "exif-ambiguous", "masks/0.png", "orientation 3", "look at an overlay"),
    (store_8_bits_in_16, "low-values", "images/0.png", "8 bits only: 255 is read as white", "with 8 bits"),
    (damage_inside, "unreadable-image", "images/0.jpg", "Corrupt JPEG data", "replace the file"),
    (animate_mask, "animated", "masks/0.png", "several frames", "save only the required frame"),
    (as_jpeg("masks/0.png"), "jpeg-mask", "masks/0.png", "is compressed as JPEG", "export it again"),
    (as_jpeg("masks/0.jpg"), "jpeg-mask", "masks/0.jpg", "is compressed as JPEG", "export it again"),
    (
        lambda root: save(mask_path(root), ids(root), format="GIF"),
        "mask-format",
        "masks/0.png",
        "is a GIF",
        "8-bit gray PNG",
    ),
    (change_mask(lambda mask: mask.astype(np.uint16)), "deep-mask", "masks/0.png", "a mask has 8 bits", "8-bit"),
    (change_mask(transparent), "transparent-mask", "masks/0.png", "transparent", "without alpha"),
    (without_palette, "rgb-mask", "masks/0.png", "have no palette", r"labels\.yaml a palette"),
    (
        change_mask(lambda mask: np.dstack([mask] * 3)),
        "rgb-mask",
        "masks/0.png",
        "three equal channels",
        "one channel",
    ),
    (change_mask(paint_stray), "unknown-colors", "masks/0.png", r"\[1, 250, 250\]", "correct the mask"),
    (
        change_mask(lambda mask: smooth(in_colors(mask))),
        "interpolated-mask",
        "masks/0.png",
        "colors between those of the classes",
        "nearest neighbor",
    ),
    (change_mask(smooth), "interpolated-mask", "masks/0.png", "between their neighbors", "nearest neighbor"),
    (
        change_all(lambda mask: smooth(np.where(mask == 255, 0, mask))),
        "smoothed-ids",
        "masks/1.png",
        "between their neighbors",
        "nearest neighbor",
    ),
    (
        save_palette([1, 2, 3, 4, 0]),
        "palette-order",
        "masks/0.png",
        "value 0 is the id of .* has the color of",
        "save it as RGB",
    ),
    (save_palette(shade=40), "palette-differs", "masks/0.png", r"training reads the ids", "their palette"),
    (change_mask(lambda mask: mask + np.uint8(3)), "ids-out-of-range", "masks/0.png", "no class", "correct"),
    (change_all(white), "binary-masks", "masks/0.png", "0 and 255", r"1\.\.4"),
    (
        change_all(lambda mask: np.where(mask == 255, 255, mask + 1)),
        "shifted-ids",
        "masks/0.png",
        "counted from 1",
        "subtract 1",
    ),
    (change_mask(lambda mask: np.full_like(mask, 255)), "all-ignored", "masks/0.png", "all 3072", "draw"),
    (change_all(lambda mask: np.full_like(mask, 255)), "nothing-to-learn", "", "none of its 8", "check that"),
    (leave_only_background_in_train, "untrained-class", "", "'star'", "move some"),
    (
        change_all(lambda mask: np.where(mask == 4, 0, mask)),
        "absent-class",
        "",
        "'star'",
        "add images",
    ),
    (leak, "leak", "images/9.bmp", r"also in 'train'.*2\.png", "one split only"),
    (append("splits/val.txt", "0\n"), "leak", "images/0.png", "the same file", "one split only"),
    (recode_jpeg, "leak-copy", "images/9.jpg", r"0\.png of 'train'.*thumbnails", "one split only"),
    (duplicate(True), "duplicate", "images/3.png", r"2\.png", "remove one"),
    (duplicate(False), "duplicate-masks", "images/3.png", "another mask", "right"),
]
"""Change of the data set, then kind, file, reason and remedy of the finding."""


@pytest.mark.parametrize(("change", "kind", "file", "reason", "remedy"), BROKEN)
def test_each_fault_is_reported(root: Path, change: Break, kind: str, file: str, reason: str, remedy: str) -> None:
    change(root)
    found = [finding for finding in check(root).findings if finding.kind == kind]
    assert str(root / file) in [finding.file for finding in found]
    finding = next(finding for finding in found if finding.file == str(root / file))
    assert re.search(reason, finding.reason)
    assert re.search(remedy, finding.remedy)


@pytest.mark.parametrize("change", [form[0] for form in BROKEN])
def test_no_broken_form_gives_training_ids_of_no_class(root: Path, change: Break) -> None:
    change(root)
    for split in ("train", "val"):
        try:
            dataset = open_folder(root, split)
        except SegmnError:
            continue
        for index in range(len(dataset)):
            try:
                sample = dataset[index]
            except SegmnError:
                continue
            assert sample.image.shape[:2] == sample.mask.shape
            assert set(np.unique(sample.mask)) <= {*range(SHAPES_LABELS.num_classes), 255}


def test_every_kind_of_finding_has_a_broken_form() -> None:
    assert {form[1] for form in BROKEN} | {"missing-list", "shared-names"} == set(KINDS)


def test_all_faults_are_found_at_once(root: Path) -> None:
    for change in (remove("masks/0.png"), remove("images/1.png"), truncate("images/2.png"), other_size_of_three):
        change(root)
    append("splits/train.txt", "zz\n")(root)
    expected = {"missing-mask", "missing-image", "unreadable-image", "size-mismatch", "unknown-name"}
    assert expected <= kinds(check(root))


def other_size_of_three(root: Path) -> None:
    save_gray(mask_path(root, 3), ids(root, 3)[1:])


def test_a_missing_list_is_reported_with_the_existing_ones(root: Path) -> None:
    found = [finding for finding in check(root, ["train", "odd"]).findings if finding.kind == "missing-list"]
    assert [finding.file for finding in found] == [str(root / "splits" / "odd.txt")]
    assert "train, val" in found[0].reason


def test_black_and_white_masks_of_two_classes_are_reported(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "two", TWO, recode=two_classes)
    assert check(root).findings == ()
    for path in all_masks(root):
        save_gray(path, ids(root, int(path.stem)) * 255)
    examination = check(root)
    assert kinds(examination) == {"binary-masks"}
    assert all("save 1 ('crop') in place of 255" in finding.remedy for finding in examination.findings)
    assert {finding.file for finding in examination.findings} == {str(path) for path in all_masks(root)}
    with pytest.raises(DatasetError, match="black and white"):
        open_folder(root)[0]


def test_black_and_white_masks_among_correct_ones_are_reported(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "two", TWO, recode=two_classes)
    wrong = all_masks(root)[1:]
    for path in wrong:
        save_gray(path, ids(root, int(path.stem)) * 255)
    findings = check(root).findings
    assert {finding.file for finding in findings} == {str(path) for path in wrong}
    assert {(finding.kind, finding.repair) for finding in findings} == {("binary-masks", "binary")}
    save_gray(mask_path(root), np.where(ids(root) == 1, 1, 255))  # now 255 is ignored somewhere
    assert {(finding.kind, finding.repair) for finding in check(root).findings} == {("binary-masks", None)}


def test_black_and_white_masks_are_correct_if_the_palette_has_both_colors(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "two", TWO, recode=two_classes)
    (root / "labels.yaml").write_text("names: [ground, crop]\npalette: [[0, 0, 0], [255, 255, 255]]")
    for path in all_masks(root):
        save_gray(path, ids(root, int(path.stem)) * 255)
    examination = check(root)
    assert examination.findings == ()
    assert examination.splits[0].frequencies.images[1] == 8


def test_training_reads_exactly_the_masks_without_errors(root: Path) -> None:
    """In every form of mask, the check has no error exactly if training reads the mask, with the same ids."""
    values = ids(root)
    colors = in_colors(values)
    palettes = [PIL.Image.fromarray(values), PIL.Image.fromarray(np.roll(values, 1))]
    for picture, order in zip(palettes, ([0, 1, 2, 3, 4], [2, 0, 4, 1, 3]), strict=True):
        picture.putpalette(np.array(SHAPES_LABELS.palette, np.uint8)[order].tobytes())
    forms = [*map(PIL.Image.fromarray, (values, values // 9, values * 0 + 255, values.astype(np.uint16), colors))]
    forms += [*palettes, PIL.Image.fromarray(colors).convert("RGBA"), PIL.Image.fromarray(values).convert("1")]
    labels = [LabelSet.from_dict(values) for values in LABEL_FILES]
    for picture in [*forms, PIL.Image.fromarray(values).convert("LA"), PIL.Image.fromarray(colors).quantize(9)]:
        for kind in ("PNG", "TIFF", "BMP", "JPEG", "GIF", "WEBP", "PPM"):
            try:
                picture.save(mask_path(root), kind)
            except OSError:  # the format does not have this mode
                continue
            raw = read_raw_mask(mask_path(root))
            for one in labels:
                found = diagnose_mask(raw, one)
                errors = [fault for fault in found.faults if fault.kind in ERROR_KINDS]
                try:
                    mask = read_mask(mask_path(root), one)
                except DatasetError:
                    assert errors
                else:
                    assert not errors
                    assert (mask == found.ids).all()


def test_a_mask_of_background_and_void_among_others_has_no_findings(root: Path) -> None:
    save_gray(mask_path(root), np.where(ids(root) == 255, 255, 0))
    assert check(root).findings == ()


def test_shared_names_in_different_folders_are_reported(tmp_path: Path) -> None:
    from segmnv2.checks.examination import examine
    from segmnv2.datasets.folder import list_folder

    first, second = write_folder(tmp_path / "a"), write_folder(tmp_path / "b")
    for index in range(3):
        picture = np.random.default_rng(index).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        save(second / "images" / f"{index + 8}.png", picture)
    (first / "splits" / "train.txt").write_text("".join(f"{i}\n" for i in range(11)))
    examination = examine([list_folder(first, "train", "train"), list_folder(second, "val", "val")], workers=1)
    assert kinds(examination) == {"shared-names"}
    assert "8, 9, 10" in examination.findings[0].reason


def test_classes_drawn_as_lines_do_not_count_as_smoothing(tmp_path: Path) -> None:
    """Diagnose three kinds of cells, each with a border of its own class, one pixel wide."""
    labels = LabelSet.from_dict({"names": ["ground", "rim", "cell", "skin", "egg", "shell", "nut"]})
    mask = np.zeros((60, 90), np.uint8)
    for left, cell in ((5, 2), (35, 4), (65, 6)):
        mask[10:40, left : left + 20] = cell - 1
        mask[11:39, left + 1 : left + 19] = cell
    assert diagnose_mask(RawMask(mask, "PNG"), labels).faults == ()


def quantized(path: Path, values: np.ndarray, colors: list[tuple[int, int, int]]) -> None:
    picture = PIL.Image.fromarray(np.asarray(values, np.uint8))
    picture.putpalette(np.array(colors, np.uint8).tobytes())
    picture.save(path)


def test_palettes_with_another_order_or_color_are_reported(root: Path) -> None:
    """Compare the colors of masks whose labels have no palette."""
    (root / "labels.yaml").write_text("names: [ground, road, car]\n")
    black, red, green = (0, 0, 0), (200, 0, 0), (0, 200, 0)
    values = np.arange(48 * 64).reshape(48, 64) // 512 % 3
    for path in all_masks(root):
        quantized(path, values, [black, red, green])
    assert not {"palette-order", "palette-differs"} & kinds(check(root))
    quantized(mask_path(root, 0), values, [green, black, red])
    quantized(mask_path(root, 1), values % 2, [black, (9, 9, 90)])
    found = {Path(each.file).name: each for each in check(root).findings if each.kind.startswith("palette")}
    assert [(name, each.kind) for name, each in sorted(found.items())] == [
        ("0.png", "palette-order"),
        ("1.png", "palette-differs"),
    ]
    assert "value 0 has the color [0, 200, 0], which is value 2 in other masks" in found["0.png"].reason


def test_stretched_gray_palettes_have_no_findings(root: Path) -> None:
    (root / "labels.yaml").write_text("names: [ground, road, car]\n")
    for index, path in enumerate(all_masks(root)):
        last = 1 + index % 2
        quantized(
            path,
            np.arange(48 * 64).reshape(48, 64) // 512 % (last + 1),
            [(i * 255 // last,) * 3 for i in range(3)][: last + 1],
        )
    assert not {"palette-order", "palette-differs"} & kinds(check(root))


def test_ids_after_lossy_compression_are_not_repaired(root: Path) -> None:
    values = PIL.Image.fromarray(ids(root) % 5)
    for picture, form in ((values, "JPEG"), (values.convert("RGB"), "JPEG"), (values, "WEBP")):
        picture.save(mask_path(root), form)
        raw = read_raw_mask(mask_path(root))
        for labels in map(LabelSet.from_dict, LABEL_FILES[:2]):
            (fault,) = diagnose_mask(raw, labels).faults
            assert (fault.kind, fault.repair) == ("jpeg-mask", None)
