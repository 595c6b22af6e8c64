from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from segmnv2.data.image_file import read_image, rgb_array
from segmnv2.errors import MediaError

ORIENTATION = 0x0112


@pytest.fixture
def photo() -> np.ndarray:
    """A smooth picture with different corners, so that JPEG hardly changes it and turns show."""
    rows, columns = np.mgrid[0:40, 0:60]
    return np.stack([rows * 5, columns * 4, 128 + 0 * rows], axis=2).astype(np.uint8)


def difference(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "jpg", "gif", "ppm"])
def test_every_format_gives_writable_rgb(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"photo.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {"quality": 95} if suffix == "jpg" else {}
    PIL.Image.fromarray(photo).save(path, **options)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert difference(image, photo) <= {"jpg": 6, "gif": 40}.get(suffix, 0)


def test_the_fast_way_decodes_as_pil_does(tmp_path: Path) -> None:
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
    PIL.Image.fromarray(photo).save(path, exif=exif, quality=95, **({"lossless": True} if suffix == "webp" else {}))
    assert difference(read_image(path), upright(photo)) <= 6


def test_grey_has_three_equal_channels(tmp_path: Path, photo: np.ndarray) -> None:
    PIL.Image.fromarray(photo[..., 0]).save(tmp_path / "grey.jpg")
    image = read_image(tmp_path / "grey.jpg")
    assert image.shape == (40, 60, 3)
    assert (image == image[..., :1]).all()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_greys_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 257 * 128, 65535]], np.uint16)
    PIL.Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert read_image(tmp_path / f"deep.{suffix}")[0, :, 1].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_lie_over_white(tmp_path: Path, mode: str) -> None:
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
def test_cmyk_keeps_its_colours(tmp_path: Path, suffix: str) -> None:
    PIL.Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK").save(tmp_path / f"print.{suffix}")
    assert difference(read_image(tmp_path / f"print.{suffix}")[:1, :1], np.array([[[200, 40, 90]]])) <= 4


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert read_image(tmp_path / "dot.png").tolist() == [[[1, 2, 3]]]


def test_floats_have_no_defined_range() -> None:
    with pytest.raises(MediaError, match=r"scan.tif: has float32 pixels.*8 or 16 bits"):
        rgb_array(PIL.Image.fromarray(np.ones((2, 2), np.float32)), source="scan.tif")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"Dear diary,\n", "is not an image that can be read"), (None, "no such file")],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "letter.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=f"letter.jpg: {message}"):
        read_image(path)


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "bmp", "webp"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"half.{suffix}"
    PIL.Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match=rf"half.{suffix}: is (damaged|not an image)"):
        read_image(path)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PIL.Image.new("1", (300, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(MediaError, match=r"bomb.png: too large.*scale it down"):
        read_image(tmp_path / "bomb.png")
