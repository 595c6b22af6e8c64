from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import PIL.Image
import pytest
from hypothesis import given

from segmnv2.checks.mask_diagnosis import diagnose_mask
from segmnv2.data import raw_mask
from segmnv2.data.mask_file import MaskError, mask_ids, read_mask, write_mask
from segmnv2.data.raw_mask import read_raw_mask
from segmnv2.errors import DatasetError
from segmnv2.labels import VOC_LABELS, VOID_COLOR, LabelSet
from tests.damage import check_lawful, damage, many, randoms

THREE = LabelSet(("ground", "road", "car"), ((0, 0, 0), (10, 20, 30), (200, 0, 0)), ignore_index=250)

BLACK_WHITE = LabelSet.from_dict({"names": ["ground", "road"], "palette": [[0, 0, 0], [255, 255, 255]]})
PLAIN = LabelSet.from_dict({"names": ["ground", "road", "car"]})
RGB = LabelSet.from_dict({"names": ["ground", "road", "car"], "palette": [[0, 0, 0], [0, 128, 0], [255, 0, 0]]})
SAID = LabelSet.from_dict({"names": ["ground", "road", "car"], "ignore_index": 255})
BINARY = np.array([[0, 255, 255], [0, 0, 255]], np.uint8)


def ids_of(picture: PIL.Image.Image, path: Path, labels: LabelSet, form: str = "PNG") -> np.ndarray:
    picture.save(path, form)
    return read_mask(path, labels)


def kind_of(path: Path, labels: LabelSet) -> str:
    with pytest.raises(MaskError) as caught:
        mask_ids(read_raw_mask(path), labels)
    return caught.value.kind


def gray(values: object) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.asarray(values, np.uint8))


def with_palette(values: object, *colors: tuple[int, int, int]) -> PIL.Image.Image:
    picture = gray(values)
    picture.putpalette(np.array(colors, np.uint8).tobytes())
    return picture


def few_bits(bits: int, stored: list[int]) -> bytes:
    """Return a gray PNG of one row, with 2 or 4 bits per pixel."""
    number = sum(value << 8 - bits * (1 + i) for i, value in enumerate(stored))
    return png_row(len(stored), bits, 0, bytes([number]))


def png_row(width: int, bits: int, color_type: int, row: bytes) -> bytes:
    """Return a PNG of one row, in forms that Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, 1, bits, color_type, 0, 0, 0)
    rows = zlib.compress(b"\0" + row)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_written_mask_is_read_unchanged(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).choice([0, 1, 2, 250], (7, 9)).astype(np.uint8)
    write_mask(tmp_path / "new" / "mask.png", mask, THREE)
    assert (read_mask(tmp_path / "new" / "mask.png", THREE) == mask).all()


def test_a_written_mask_shows_the_colors_of_its_labels(tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.png", np.array([[1, 250]], np.uint8), THREE)
    with PIL.Image.open(tmp_path / "mask.png") as picture:
        assert np.array(picture.convert("RGB")).tolist() == [[[10, 20, 30], list(VOID_COLOR)]]


def test_gray_and_palette_files_have_the_same_ids(tmp_path: Path) -> None:
    mask = np.arange(3, dtype=np.uint8)[None]
    PIL.Image.fromarray(mask).save(tmp_path / "gray.png")
    assert (read_mask(tmp_path / "gray.png", THREE) == mask).all()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 7, 7, 9], r"ids 7 \(2 pixels\), 9 \(1 pixels\) are no class; allowed are 0..2 and 250.*correct the mask"),
        ([0, 255, 255, 0], r"black and white \(0 and 255\), and 255 is no class"),
        ([1, 2, 3, 3], r"3 \(2 pixels\).*`ignore_index: 3`.*name one more.*subtract 1 from all"),
        ([0, 2, 9], r"`ignore_index: 9` into labels\.yaml if 9 means ignored$"),
        (list(range(100, 120)), "and 12 more"),
    ],
)
def test_unknown_ids_are_listed(tmp_path: Path, ids: list[int], message: str) -> None:
    with pytest.raises(DatasetError, match=rf"own.png: .*{message}"):
        ids_of(gray([ids]), tmp_path / "own.png", THREE)


def test_renumbering_is_not_advised_if_0_occurs(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="`ignore_index: 3`") as caught:
        ids_of(gray([[0, 1, 3]]), tmp_path / "own.png", THREE)
    assert "subtract" not in str(caught.value)


def test_the_ignored_id_is_that_of_the_labels(tmp_path: Path) -> None:
    labels = LabelSet.from_dict({"names": ["a", "b"], "ignore_index": 2})
    assert ids_of(gray([[0, 1, 2]]), tmp_path / "m.png", labels).tolist() == [[0, 1, 2]]
    with pytest.raises(DatasetError, match=r"ids 255.*0\.\.1 and 2 \(ignored\)"):
        ids_of(gray([[0, 1, 255]]), tmp_path / "m.png", labels)


@pytest.mark.parametrize("form", ["L", "RGB", "RGBA", "P"])
def test_black_and_white_are_two_classes_with_such_a_palette(tmp_path: Path, form: str) -> None:
    got = ids_of(gray(BINARY).convert(form), tmp_path / "m.png", BLACK_WHITE)
    assert got.dtype == np.uint8
    assert (got == BINARY // 255).all()
    assert (ids_of(gray(BINARY).convert("1"), tmp_path / "m.png", BLACK_WHITE) == BINARY // 255).all()


@pytest.mark.parametrize("values", [BINARY, BINARY | 255], ids=["0 and 255", "255"])
@pytest.mark.parametrize("form", ["L", "P"])
def test_black_and_white_are_rejected_if_white_is_not_defined(tmp_path: Path, values: np.ndarray, form: str) -> None:
    for labels in (PLAIN, LabelSet.numbered(2)):
        with pytest.raises(DatasetError, match=r"black and white.*`ignore_index: 255`"):
            ids_of(gray(values).convert(form), tmp_path / "m.png", labels)
    assert (read_mask(tmp_path / "m.png", SAID) == values).all()
    assert ids_of(gray([[0, 1, 255]]), tmp_path / "m.png", PLAIN).tolist() == [[0, 1, 255]]


def test_255_in_the_void_color_is_ignored(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", BINARY, PLAIN)
    assert (read_mask(tmp_path / "m.png", PLAIN) == BINARY).all()


def test_255_is_not_both_a_color_and_ignored(tmp_path: Path) -> None:
    for labels in (BLACK_WHITE, LabelSet(BLACK_WHITE.names, BLACK_WHITE.palette)):
        gray([[0, 1, 255]]).save(tmp_path / "m.png")
        assert kind_of(tmp_path / "m.png", labels) == "palette-order"


def test_one_bit_masks_hold_ids(tmp_path: Path) -> None:
    picture = gray(BINARY).convert("1")
    assert (ids_of(picture, tmp_path / "m.png", PLAIN) == BINARY // 255).all()
    white_ground = LabelSet.from_dict({"names": ["ground", "line"], "palette": [[255, 255, 255], [0, 0, 0]]})
    assert kind_of(tmp_path / "m.png", white_ground) == "palette-order"


@pytest.mark.parametrize(("bits", "stored"), [(2, [0, 1, 3, 1]), (4, [0, 15]), (2, [0, 3, 0, 3])])
def test_gray_of_few_bits_is_rejected(tmp_path: Path, bits: int, stored: list[int]) -> None:
    (tmp_path / "m.png").write_bytes(few_bits(bits, stored))
    scale = 255 // (2**bits - 1)
    assert np.array(PIL.Image.open(tmp_path / "m.png")).tolist() == [[value * scale for value in stored]]
    for labels in (SAID, BLACK_WHITE, VOC_LABELS):
        with pytest.raises(DatasetError, match=r"2- or 4-bit gray.*8-bit gray PNG"):
            read_mask(tmp_path / "m.png", labels)


def test_gray_of_16_bits_with_alpha_is_not_cut_to_8(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(png_row(2, 16, 4, struct.pack(">4H", 1, 65535, 2, 65535)))
    assert kind_of(tmp_path / "m.png", RGB) == "deep-mask"


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_files_hold_indices_in_any_number_of_bits(tmp_path: Path, bits: int) -> None:
    values = np.arange(6).reshape(2, 3) % min(2**bits, 3)
    with_palette(values, *RGB.palette).save(tmp_path / "m.png", bits=bits)
    assert (read_mask(tmp_path / "m.png", RGB) == values).all()


def test_a_palette_in_another_order_is_rejected(tmp_path: Path) -> None:
    picture = with_palette([[0, 1, 2]], *[RGB.palette[i] for i in (0, 2, 1)])
    with pytest.raises(DatasetError, match=r"value 1 is the id of 'road' and has the color of 'car'; save it as RGB"):
        ids_of(picture, tmp_path / "m.png", RGB)
    assert ids_of(picture, tmp_path / "m.png", PLAIN).tolist() == [[0, 1, 2]]  # without given colors
    assert ids_of(picture.convert("RGB"), tmp_path / "m.png", RGB).tolist() == [[0, 2, 1]]


def test_colors_are_used_if_values_are_not_ids(tmp_path: Path) -> None:
    colors = [(9, 9, 9)] * 201
    colors[7], colors[200] = RGB.palette[2], RGB.palette[0]
    assert ids_of(with_palette([[7, 200]], *colors), tmp_path / "m.png", RGB).tolist() == [[2, 0]]


def test_values_are_used_if_colors_are_of_no_class(tmp_path: Path) -> None:
    picture = with_palette([[0, 1, 2]], (0, 0, 0), (9, 9, 9), (8, 8, 8))
    assert ids_of(picture, tmp_path / "m.png", RGB).tolist() == [[0, 1, 2]]
    whole = np.zeros((256, 3), np.uint8)  # unused entries and the ignored one are black
    whole[:3] = RGB.palette
    assert ids_of(with_palette([[1, 255]], *whole), tmp_path / "m.png", RGB).tolist() == [[1, 255]]


def test_masks_of_voc_are_ids(tmp_path: Path) -> None:
    values = np.array([[0, 15, 20, 255]], np.uint8)
    write_mask(tmp_path / "m.png", values, VOC_LABELS)
    assert (read_mask(tmp_path / "m.png", VOC_LABELS) == values).all()
    assert (ids_of(PIL.Image.open(tmp_path / "m.png").convert("RGB"), tmp_path / "c.png", VOC_LABELS) == values).all()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_colors_are_looked_up_in_the_palette(tmp_path: Path, form: str) -> None:
    colors = np.array([RGB.palette[0], RGB.palette[2], VOID_COLOR], np.uint8)[None]
    assert ids_of(PIL.Image.fromarray(colors), tmp_path / "m", RGB, form).tolist() == [[0, 2, 255]]
    with pytest.raises(DatasetError, match=r"m: holds RGB colors.*labels\.yaml a palette"):
        read_mask(tmp_path / "m", PLAIN)


@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        (PIL.Image.new("RGBA", (2, 2)), "transparent-mask"),
        (PIL.Image.new("LA", (2, 2), (0, 9)), "transparent-mask"),
        (PIL.Image.new("RGB", (2, 2), (1, 2, 3)), "unknown-colors"),
        (PIL.Image.new("I;16", (2, 2)), "deep-mask"),
        (PIL.Image.new("L", (2, 2), 9), "ids-out-of-range"),
    ],
)
def test_a_mask_without_ids_is_rejected_with_its_reason(tmp_path: Path, picture: PIL.Image.Image, kind: str) -> None:
    picture.save(tmp_path / "m.png")
    assert kind_of(tmp_path / "m.png", RGB) == kind


@pytest.mark.parametrize(
    ("form", "options", "kind"),
    [
        ("JPEG", {}, "jpeg-mask"),
        ("TIFF", {"compression": "jpeg"}, "jpeg-mask"),
        ("WEBP", {}, "jpeg-mask"),
        ("WEBP", {"lossless": True}, "mask-format"),
        ("GIF", {}, "mask-format"),
        ("PPM", {}, "mask-format"),
    ],
)
def test_formats_that_change_ids_are_rejected_by_content(
    tmp_path: Path, form: str, options: dict[str, object], kind: str
) -> None:
    PIL.Image.new("L", (8, 8)).save(tmp_path / "mask.png", form, **options)
    assert kind_of(tmp_path / "mask.png", VOC_LABELS) == kind


def test_transparent_palette_entries_have_no_color(tmp_path: Path) -> None:
    colors = [(9, 9, 9)] * 8
    colors[7] = RGB.palette[2]
    with_palette([[7]], *colors).save(tmp_path / "m.png", transparency=7)
    assert kind_of(tmp_path / "m.png", RGB) == "ids-out-of-range"
    with_palette([[0, 1]], *RGB.palette).save(tmp_path / "m.png", transparency=0)
    assert read_mask(tmp_path / "m.png", RGB).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "no such mask"), (b"text", "not an image"), (b"", "empty, 0 bytes")]
)
def test_the_message_names_an_unreadable_mask(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "mask.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"mask.png: .*{reason}"):
        read_mask(path, VOC_LABELS)


@many
@given(randoms)
def test_any_mask_gives_its_ids_or_one_error(tmp_path: Path, random: Random) -> None:
    values = np.arange(600, dtype=np.uint8).reshape(20, 30) % 3
    form = random.choice(("PNG", "PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP", "PPM"))
    mode = random.choice(("P", "L", "RGB", "RGBA", "1", "I;16"))
    picture = (gray(values) if mode == "I;16" else with_palette(values, *RGB.palette)).convert(mode)
    buffer = BytesIO()
    try:
        picture.save(buffer, form)
    except OSError:  # the format does not have this mode
        return
    path = tmp_path / "m.png"
    path.write_bytes(damage(buffer.getvalue(), random))
    labels = random.choice((RGB, PLAIN, BLACK_WHITE))
    if check_lawful(lambda: read_mask(path, labels)):
        assert set(np.unique(read_mask(path, labels))) <= {*range(labels.num_classes), 255}
    check_lawful(lambda: diagnose_mask(read_raw_mask(path), labels))


def test_damaged_pixels_are_rejected(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 3, (64, 64))
    path = tmp_path / "m.png"
    with_palette(values, *RGB.palette).save(path)
    content = bytearray(path.read_bytes())
    for place in range(content.index(b"IDAT") + 4, len(content) - 16, 11):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DatasetError, match="cannot be read as a mask"):
            read_mask(path, RGB)


def test_a_black_mask_is_rejected_if_black_is_not_class_0(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    water = LabelSet.from_dict({"names": ["land", "water"], "palette": [[255, 255, 255], [0, 0, 0]]})
    assert ids_of(gray([[0, 255]]), path, water).tolist() == [[1, 0]]
    gray([[0, 0]]).save(path)  # all water as in the mask above, or the id of land
    assert kind_of(path, water) == "palette-order"
    assert ids_of(gray([[0, 1]]), path, water).tolist() == [[0, 1]]
    assert ids_of(gray([[0, 0]]).convert("RGB"), path, water).tolist() == [[1, 1]]


def test_a_mask_that_exif_turns_is_rejected(tmp_path: Path) -> None:
    path, exif = tmp_path / "m.png", PIL.Image.Exif()
    for orientation in (0, 1, 3, 6):
        exif[0x0112] = orientation
        gray([[0, 1], [2, 2]]).save(path, exif=exif)
        if orientation < 2:
            assert read_mask(path, PLAIN).tolist() == [[0, 1], [2, 2]]
        else:
            assert kind_of(path, PLAIN) == "exif-rotation"
            assert diagnose_mask(read_raw_mask(path), PLAIN).ids is None


def test_masks_of_too_many_pixels_are_rejected_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_mask, "MOST_PIXELS", 5)
    with pytest.raises(DatasetError, match="2 x 3 pixels, at most 5"):
        ids_of(gray(np.zeros((3, 2))), tmp_path / "m.png", RGB)


def test_unknown_ids_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="99"):
        write_mask(tmp_path / "mask.png", np.array([[99]], np.uint8), THREE)
    assert not list(tmp_path.iterdir())
