from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segmnv2.data import image_file
from segmnv2.data.image_file import decode_image, read_image, rgb_array
from segmnv2.errors import MediaError

ORIENTATION = 0x0112


@pytest.fixture
def photo() -> np.ndarray:
    """Return a smooth image with different corners, which JPEG hardly changes and rotation does."""
    rows, columns = np.mgrid[0:40, 0:60]
    return np.stack([rows * 5, columns * 4, 128 + 0 * rows], axis=2).astype(np.uint8)


def difference(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "jpg", "gif", "ppm"])
def test_every_format_becomes_writable_rgb(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {"quality": 95} if suffix == "jpg" else {}
    PIL.Image.fromarray(photo).save(path, **options)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert difference(image, photo) <= {"jpg": 6, "gif": 40}.get(suffix, 0)


def test_opencv_and_pillow_decode_alike(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "noise.jpg", quality=90)
    with PIL.Image.open(tmp_path / "noise.jpg") as picture:
        assert difference(read_image(tmp_path / "noise.jpg"), np.array(picture)) <= 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90), (2, np.fliplr)],
)
def test_exif_orientation_is_applied(tmp_path: Path, photo: np.ndarray, suffix: str, orientation, upright) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"photo.{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    PIL.Image.fromarray(photo).save(path, exif=exif, quality=95, **options)
    assert difference(read_image(path), upright(photo)) <= 6


def test_gray_has_three_equal_channels(tmp_path: Path, photo: np.ndarray) -> None:
    PIL.Image.fromarray(photo[..., 0]).save(tmp_path / "gray.jpg")
    image = read_image(tmp_path / "gray.jpg")
    assert image.shape == (40, 60, 3)
    assert (image == image[..., :1]).all()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 257 * 128, 65535]], np.uint16)
    PIL.Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert read_image(tmp_path / f"deep.{suffix}")[0, :, 1].tolist() == [0, 1, 128, 255]


def test_deep_gray_with_0_as_white_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    PIL.Image.fromarray(np.array([[0, 65535]], np.uint16)).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 255]
    entry = struct.pack("<HHI", 262, 3, 1)  # PhotometricInterpretation
    content = path.read_bytes()
    path.write_bytes(content.replace(entry + b"\1\0", entry + b"\0\0"))
    with pytest.raises(MediaError, match="0 is white; save it with 0 as black"):
        read_image(path)


def _deep_tiff(values: np.ndarray, **tags: int) -> bytes:
    """Return a TIFF file of 16-bit colors (H, W, C) in one strip, with tags such as ``t274=6``."""
    height, width, bands = values.shape
    pixels = values.astype("<u2").tobytes()
    entries = {256: width, 257: height, 258: 16, 259: 1, 262: 2, 273: 8, 277: bands, 278: height, 279: len(pixels)}
    entries |= {int(tag[1:]): value for tag, value in tags.items()}
    end = 8 + len(pixels)
    depths = end + 6 + 12 * len(entries)  # of each band, behind the tags
    content = struct.pack("<2sHI", b"II", 42, end) + pixels + struct.pack("<H", len(entries))
    for tag, value in sorted(entries.items()):
        content += struct.pack("<HHII", tag, 3, bands, depths) if tag == 258 else struct.pack("<HHII", tag, 3, 1, value)
    return content + bytes(4) + struct.pack(f"<{bands}H", *[16] * bands)


@pytest.mark.parametrize(("orientation", "upright"), [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1))])
def test_exif_turns_deep_tiff_colors_once(tmp_path: Path, photo: np.ndarray, orientation: int, upright) -> None:
    path = tmp_path / "deep.tif"
    path.write_bytes(_deep_tiff(photo * np.uint16(257), t274=orientation))
    assert difference(read_image(path), upright(photo)) == 0
    with PIL.Image.open(path) as picture:
        assert difference(rgb_array(picture), upright(photo)) == 0


def test_a_fourth_sample_of_deep_tiff_colors_is_alpha_only_if_stated(tmp_path: Path, photo: np.ndarray) -> None:
    path = tmp_path / "infrared.tif"
    values = np.dstack([photo * np.uint16(257), np.zeros(photo.shape[:2], np.uint16)])
    path.write_bytes(_deep_tiff(values, t338=0))
    assert difference(read_image(path), photo) == 0
    path.write_bytes(_deep_tiff(values, t338=2))
    assert (read_image(path) == 255).all()


@pytest.mark.parametrize(("tag", "value"), [("t284", 2), ("t338", 1)])
def test_deep_tiff_colors_in_other_forms_are_rejected(tmp_path: Path, tag: str, value: int) -> None:
    path = tmp_path / "deep.tif"
    path.write_bytes(_deep_tiff(np.zeros((4, 5, 4), np.uint16), **{"t338": 2, tag: value}))
    with pytest.raises(MediaError, match="separate planes or multiplied by alpha"):
        read_image(path)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_blended_with_white(tmp_path: Path, mode: str) -> None:
    picture = PIL.Image.new(mode, (3, 2), (0,) * len(mode))
    picture.putpixel((0, 0), (9,) * (len(mode) - 1) + (255,))
    picture.save(tmp_path / "clear.png")
    image = read_image(tmp_path / "clear.png")
    assert image[0, 0].tolist() == [9, 9, 9]
    assert (image[1] == 255).all()


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "palette.png", transparency=0)
    assert read_image(tmp_path / "palette.png").tolist() == [[[255, 255, 255], [200, 100, 50]]]


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_cmyk_keeps_its_colors(tmp_path: Path, suffix: str) -> None:
    PIL.Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK").save(tmp_path / f"print.{suffix}")
    assert difference(read_image(tmp_path / f"print.{suffix}")[:1, :1], np.array([[[200, 40, 90]]])) <= 4


def test_an_image_may_have_one_pixel(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert read_image(tmp_path / "dot.png").tolist() == [[[1, 2, 3]]]


def test_float_pixels_are_rejected() -> None:
    with pytest.raises(MediaError, match=r"scan.tif: has float32 pixels.*8 or 16 bits"):
        rgb_array(PIL.Image.fromarray(np.ones((2, 2), np.float32)), source="scan.tif")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"Dear diary,\n", "is not an image that can be read"), (None, "no such file")],
)
def test_the_message_names_a_file_that_is_not_an_image(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "letter.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=f"letter.jpg: {message}"):
        read_image(path)


def test_a_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "bmp", "webp"])
def test_a_truncated_file_is_rejected(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"half.{suffix}"
    PIL.Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match=rf"half.{suffix}: is (damaged|not an image)"):
        read_image(path)


def test_a_decompression_bomb_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PIL.Image.new("1", (300, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(image_file, "MOST_PIXELS", 1000)
    with pytest.raises(MediaError, match=r"bomb.png: too large.*300 x 300.*scale it down"):
        read_image(tmp_path / "bomb.png")


def test_the_size_of_a_webp_is_checked_before_decoding(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (16, 16)).save(tmp_path / "small.webp", lossless=True)
    content = bytearray((tmp_path / "small.webp").read_bytes())
    at = content.index(b"VP8L") + 9
    bits = int.from_bytes(content[at : at + 4], "little")
    content[at : at + 4] = (bits & ~((1 << 28) - 1) | 16382 | 16382 << 14).to_bytes(4, "little")
    (tmp_path / "huge.webp").write_bytes(content)
    with pytest.raises(MediaError, match="too large"):
        read_image(tmp_path / "huge.webp")


@pytest.mark.filterwarnings("error")
def test_pillows_warning_about_large_images_is_not_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PIL.Image.new("RGB", (30, 30), "red").save(tmp_path / "large.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 500)
    assert read_image(tmp_path / "large.png")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"exif": True}])
def test_a_jpeg_damaged_inside_is_rejected(
    tmp_path: Path, options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Header and end are undamaged, so only the decoder's warning shows the damage."""
    path = tmp_path / "damaged.jpg"
    if options.get("exif"):
        options = {"exif": PIL.Image.Exif()}
        options["exif"][ORIENTATION] = 6
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(path, **options)
    read_image(path)
    content = path.read_bytes()
    path.write_bytes(content[:-400] + content[-100:])
    with pytest.raises(MediaError, match=r"damaged.jpg: is damaged.*Corrupt JPEG data"):
        read_image(path)
    assert capfd.readouterr().err == ""  # the message names the file; libjpeg's own does not


def test_equal_bytes_before_the_end_marker_are_padding(tmp_path: Path, photo: np.ndarray) -> None:
    path = tmp_path / "padded.jpg"
    PIL.Image.fromarray(photo).save(path)
    whole = read_image(path)
    path.write_bytes(path.read_bytes()[:-2] + bytes(500) + b"\xff\xd9")
    np.testing.assert_array_equal(read_image(path), whole)


def test_a_png_with_a_changed_pixel_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "flipped.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(path, compress_level=0)
    content = bytearray(path.read_bytes())
    content[5000] ^= 16
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"flipped.png: is damaged.*IDAT.*checksum"):
        read_image(path)


@pytest.mark.parametrize(("largest", "bits"), [(200, 8), (1000, 10), (4095, 12), (9000, 14), (20000, 16)])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_samples_of_sixteen_bits_are_scaled_by_their_significant_bits(
    tmp_path: Path, largest: int, bits: int, suffix: str, channels: int
) -> None:
    values = np.zeros((2, 3, channels), np.uint16)
    values[0, :, 0] = [largest, largest // 2, 1]
    values[..., 3:] = 65535
    path = tmp_path / f"deep.{suffix}"
    cv2.imwrite(str(path), values if channels > 1 else values[..., 0])
    decoded = decode_image(path)
    assert (decoded.bits, decoded.stored_bits) == (bits, 16)
    expected = np.round(values[0, :, 0] * (255 / (2**bits - 1)))
    assert difference(decoded.image[0, :, 2], expected) <= 0  # blue, OpenCV's first channel


def test_a_stated_range_is_used_unchanged(tmp_path: Path) -> None:
    (tmp_path / "dark.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([1, 0, 4, 0]))
    assert read_image(tmp_path / "dark.pgm")[0, :, 0].tolist() == [1, 4]


def _seeds() -> dict[str, bytes]:
    seeds = {}
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8))
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    pictures: list[tuple[str, PIL.Image.Image, dict[str, Any]]] = [
        ("JPEG", noise, {"exif": exif}),
        ("JPEG", noise.convert("CMYK"), {"progressive": True}),
        ("PNG", noise, {"exif": exif}),
        ("PNG", noise.convert("P"), {"transparency": 3}),
        ("WEBP", noise, {"lossless": True}),
        ("WEBP", noise.convert("RGBA"), {"exif": exif}),
        ("TIFF", noise, {"compression": "tiff_lzw"}),
        ("TIFF", noise.convert("L"), {}),
        ("BMP", noise, {}),
        ("GIF", noise, {"save_all": True, "append_images": [noise.convert("L")]}),
        ("PPM", noise, {}),
    ]
    for name, picture, options in pictures:
        buffer = BytesIO()
        picture.save(buffer, name, **options)
        seeds[f"{name} {picture.mode}"] = buffer.getvalue()
    for suffix in (".png", ".tiff"):
        deep = cv2.imencode(suffix, np.arange(60, dtype=np.uint16).reshape(4, 5, 3))[1].tobytes()
        seeds[f"deep {suffix}"] = deep
    return seeds


SEEDS = _seeds()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.sampled_from(sorted(SEEDS)),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), max_size=4),
    keep=st.integers(0, 4000),
)
def test_damaged_bytes_give_an_image_or_one_error(
    tmp_path: Path, seed: str, changes: list[tuple[int, bytes]], keep: int
) -> None:
    content = bytearray(SEEDS[seed])
    for at, new in changes:
        at %= len(content)
        content[at : at + len(new)] = new
    (tmp_path / "any").write_bytes(content[:keep])
    try:
        image = read_image(tmp_path / "any")
    except MediaError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2:] == (3,)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "I;16"])
def test_an_image_is_converted_in_strips(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 256, (31, 23, 4), dtype=np.uint8)
    deep = values[..., 0].astype(np.uint16) * 256
    file = tmp_path / "a.png"
    (PIL.Image.fromarray(deep) if mode == "I;16" else PIL.Image.fromarray(values).convert(mode)).save(file)
    whole = read_image(file)
    converted = []

    def convert(picture: PIL.Image.Image, *args: Any, **options: Any) -> PIL.Image.Image:
        converted.append(picture.width * picture.height)
        return as_usual(picture, *args, **options)

    as_usual = PIL.Image.Image.convert
    monkeypatch.setattr(PIL.Image.Image, "convert", convert)
    monkeypatch.setattr(image_file, "_STRIP", 100, raising=False)
    assert np.array_equal(read_image(file), whole)
    assert all(pixels <= 100 for pixels in converted)


@pytest.mark.parametrize("clear", [0, 65535])
def test_transparent_pixels_do_not_count_for_the_depth(tmp_path: Path, clear: int) -> None:
    values = np.full((4, 5, 4), 1023, np.uint16)
    values[..., 3] = 65535
    values[0, 0] = (clear, clear, clear, 0)
    cv2.imwrite(str(tmp_path / "a.png"), values)
    image = read_image(tmp_path / "a.png")
    assert (image == 255).all()  # white, and the brightest of 10 bits


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_an_opened_tiff_that_exif_turns_equals_its_file(tmp_path: Path, mode: str, orientation: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, 9)).astype(np.uint8 if mode == "L" else np.uint16)
    exif = PIL.Image.Exif()
    exif[0x112] = orientation
    PIL.Image.fromarray(values).save(tmp_path / "a.tif", exif=exif)
    with PIL.Image.open(tmp_path / "a.tif") as picture:
        assert np.array_equal(rgb_array(picture), read_image(tmp_path / "a.tif"))
