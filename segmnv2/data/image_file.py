"""Image files as upright uint8 RGB arrays; an unreadable file raises one error with a remedy."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from PIL.ExifTags import Base as ExifTag

from segmnv2.data.decoders import check_png, default_image, listen, transparent_gray
from segmnv2.data.sample import Image
from segmnv2.errors import MediaError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
"""Supported formats. The first frame or page of a file is read; of an animated PNG, the default image."""

ENDINGS = (
    ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""File name endings of images in a folder; upper case is accepted too."""

MOST_PIXELS = 178_956_970
"""Largest number of pixels, Pillow's limit; larger images are rejected before decoding.

Reading an image needs memory for its file and 9 bytes per pixel (1.6 GB for the largest image). AVIF needs 11 bytes per
pixel; JPEG 2000 and animated WebP need 20.
"""

_JPEG_END = b"\xff\xd9"
_STRIP = 1 << 22
_IGNORE_EXIF = cv2.IMREAD_IGNORE_ORIENTATION
_HARMLESS = ("Warning: unknown JFIF revision", "Unknown Adobe color transform")
# TIFF tags, and the values of `_PLANES` and `_EXTRA` that are rejected.
_WIDTH, _HEIGHT = 256, 257
_BITS, _PLANES, _EXTRA = 258, 284, 338
_SEPARATE, _PREMULTIPLIED = 2, (1,)
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: np.rot90,
}


@dataclass(frozen=True)
class DecodedImage:
    """An image with properties of its file.

    Attributes:
        image: uint8 (H, W, 3), RGB, 0..255, upright.
        orientation: EXIF orientation of the file, 1 if it is upright.
        stored_size: (rows, columns) before EXIF turns it.
        animated: whether the file has more than one frame or page.
        bits: significant bits of a sample (:func:`significant_bits`).
        stored_bits: 16 for a file with 16 bits per sample, else 8.
    """

    image: Image
    orientation: int
    stored_size: tuple[int, int]
    animated: bool
    bits: int = 8
    stored_bits: int = 8

    @property
    def is_turned_in_place(self) -> bool:
        """Whether EXIF turns or mirrors the image and keeps its width and height."""
        return self.orientation in _UPRIGHT and self.stored_size == self.image.shape[:2]


def read_image(path: str | Path) -> Image:
    """Read an image file as image viewers show it.

    EXIF orientation is applied. Gray, palette and CMYK images become RGB, also inverted CMYK of JPEG files. Transparent
    pixels become white, also those of a PNG file that declares a gray level transparent. 16-bit samples are scaled to 8
    bits by :func:`significant_bits`. Color profiles are not applied.

    Args:
        path: a file of one of :data:`FORMATS`, with any ending.

    Returns:
        uint8 (H, W, 3), RGB, 0..255.

    Raises:
        MediaError: the file is missing, empty, truncated or corrupt, has another format, or has more than
            :data:`MOST_PIXELS` pixels. Warnings of libjpeg and wrong checksums of PNG files count as corrupt.
    """
    return decode_image(path).image


def decode_image(path: str | Path) -> DecodedImage:
    """Read an image file as :func:`read_image` does, and return it with properties of the file."""
    content = _read_bytes(Path(path))
    try:
        with _open(content) as pil:
            return _decode(pil, content, str(path))
    except MediaError:
        raise
    except PIL.UnidentifiedImageError:
        raise MediaError(
            f"{path}: is not an image that can be read ({len(content)} bytes, starting with {content[:8]!r}); "
            f"give one of {', '.join(FORMATS)}, or convert it"
        ) from None
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise MediaError(f"{path}: too large to decode safely ({error}); scale it down first") from error
    except Exception as error:  # decoders raise errors of every kind for damaged bytes
        raise MediaError(f"{path}: is damaged or truncated ({error}); replace the file or save it again") from error


def rgb_array(pil: PIL.Image.Image, source: str = "image") -> Image:
    """Convert an opened PIL image of any mode to an upright RGB array, as :func:`read_image` does.

    Args:
        pil: any mode except floats and 32-bit integers above 65535, whose range is unknown.
        source: name of the image in error messages.

    Returns:
        uint8 (H, W, 3), RGB, 0..255, a new array.

    Raises:
        MediaError: pixels are floats or integers of more than 16 bits.
    """
    if (content := _undecoded_content(pil)) is not None:
        if (deep := _deep_color(pil, content)) is not None:
            return _upright(_from_deep(deep, source)[0], pil)
        if pil.format == "TIFF":  # Pillow scrambles uncompressed files that it maps into memory and EXIF turns
            pil = _open(content)
    return _upright(_rgb(pil, source, transparent_gray(pil))[0], pil)


def significant_bits(largest: int) -> int:
    """Return the assumed depth of 16-bit samples: the smallest of 8, 10, 12, 14 and 16 bits that holds ``largest``.

    Cameras and scanners store 8 to 14 bits in 16-bit files, and no format but PPM reliably states how many. The value
    2**bits - 1 becomes 255. The rule depends on the file alone, so training, evaluation and inference agree.
    """
    return next(bits for bits in (8, 10, 12, 14, 16) if largest < 1 << bits)


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: the path contains a null character
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{str(path)!a}: cannot be read ({reason}); give a readable image file") from error
    if not content:
        raise MediaError(f"{path}: is empty (0 bytes); replace the file")
    return content


def _open(content: bytes) -> PIL.Image.Image:
    """Open an image as ``PIL.Image.open`` does, without its warnings about large images."""
    for load_plugins in (PIL.Image.preinit, PIL.Image.init):  # common formats first; the others load slowly
        load_plugins()
        for factory, accept in (PIL.Image.OPEN[name] for name in FORMATS if name in PIL.Image.OPEN):
            try:
                if accept is None or accept(content[:16]) is True:
                    return factory(BytesIO(content), "")
            except (SyntaxError, IndexError, TypeError, struct.error):  # as in Pillow: the file may have another format
                continue
    raise PIL.UnidentifiedImageError


def _decode(pil: PIL.Image.Image, content: bytes, source: str) -> DecodedImage:
    stored_size = _stored_size(pil)
    if pil.width * pil.height > MOST_PIXELS:
        raise MediaError(
            f"{source}: too large to decode safely ({pil.width} x {pil.height} pixels, at most {MOST_PIXELS}); "
            "scale it down first"
        )
    animated = pil.format != "MPO" and bool(getattr(pil, "is_animated", False))
    image, depth = None, (8, 8)
    if pil.format == "PNG":
        check_png(content)
    if pil.format in ("JPEG", "MPO"):
        image = _jpeg(pil, content)
    elif pil.format == "WEBP" and not animated:
        image = _webp(content)
    elif (deep := _deep_color(pil, content)) is not None:
        image, depth = _from_deep(deep, source)
    transparent = transparent_gray(pil)
    orientation = _orientation(pil)  # read here, because decoding removes it from TIFF files
    if image is None:
        image, depth = _rgb(pil, source, transparent)
    return DecodedImage(_upright(image, pil), orientation, stored_size, animated, *depth)


def _stored_size(pil: PIL.Image.Image) -> tuple[int, int]:
    """Return (rows, columns) before EXIF turns the image; for TIFF files Pillow has only the size after it."""
    if pil.format == "TIFF":
        tags = pil.tag_v2  # type: ignore[attr-defined]
        return int(tags[_HEIGHT]), int(tags[_WIDTH])
    return pil.height, pil.width


def _orientation(pil: PIL.Image.Image) -> int:
    return int(pil.getexif().get(ExifTag.Orientation, 1))


def _upright(image: np.ndarray, pil: PIL.Image.Image) -> Image:
    """Turn a decoded image upright by its EXIF orientation; decoders have already turned TIFF files."""
    turn = None if pil.format == "TIFF" else _UPRIGHT.get(_orientation(pil))
    return image if turn is None else np.ascontiguousarray(turn(image))


def _jpeg(pil: PIL.Image.Image, content: bytes) -> np.ndarray | None:
    """Decode with OpenCV, which is a quarter faster; return ``None`` for images that Pillow must decode.

    OpenCV reads every file, because Pillow does not report corrupt data. Pillow then decodes CMYK images, and files
    without an end marker: Pillow rejects truncated files, but OpenCV fills the missing part with gray.

    Raises:
        ValueError: libjpeg finds the data corrupt.
    """
    plain = pil.mode in ("RGB", "L") and content.endswith(_JPEG_END)
    flags = _IGNORE_EXIF | (cv2.IMREAD_COLOR if plain else cv2.IMREAD_REDUCED_GRAYSCALE_8)
    decoded, message = listen(lambda: cv2.imdecode(np.frombuffer(content, np.uint8), flags))
    if message and not message.startswith(_HARMLESS) and not _is_padding(message, content):
        raise ValueError(message)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) if plain and decoded is not None else None


def _is_padding(message: str, content: bytes) -> bool:
    """Return whether the unused bytes before the end marker are all equal, as in the padding of an encoder."""
    match = re.search(r"(\d+) extraneous bytes before marker 0xd9", message)
    end = content.rfind(_JPEG_END)
    return match is not None and len(set(content[max(0, end - int(match[1])) : end])) == 1


def _webp(content: bytes) -> np.ndarray:
    """Decode with OpenCV, which is eight times as fast as Pillow and needs half the memory.

    Raises:
        ValueError: the data is corrupt.
    """
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED | _IGNORE_EXIF)
    if decoded is None:
        raise ValueError("corrupt WebP data")
    if decoded.shape[2] == 3:
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    image = np.empty((*decoded.shape[:2], 3), np.uint8)
    for rows in strips(*image.shape[:2]):
        image[rows] = _over_white(PIL.Image.fromarray(cv2.cvtColor(decoded[rows], cv2.COLOR_BGRA2RGBA)))
    return image


def _deep_color(pil: PIL.Image.Image, content: bytes) -> np.ndarray | None:
    """Decode colors with 16 bits per sample, of which Pillow keeps only the upper byte; ``None`` for other images."""
    bits, bands = content[24] if pil.format == "PNG" else 0, len(pil.getbands())
    tags = pil.tag_v2 if pil.format == "TIFF" else {}  # type: ignore[attr-defined]
    if tags:
        bits = max(tags.get(_BITS, (1,)))
    if bits != 16 or bands < 2:
        return None
    if tags.get(_PLANES) == _SEPARATE or tags.get(_EXTRA) == _PREMULTIPLIED:  # OpenCV would misread them
        raise ValueError("16-bit colors in separate planes or multiplied by alpha are not read")
    encoded = content if tags else default_image(content)
    values = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED | _IGNORE_EXIF)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise ValueError("16-bit colors in a form that is not read")
    return np.asarray(values[..., :bands] if tags else values)  # a fourth sample may be infrared instead of alpha


def _undecoded_content(pil: PIL.Image.Image) -> bytes | None:
    """Return the bytes of a PNG or TIFF file that Pillow has opened and not yet decoded; ``None`` otherwise."""
    file = getattr(pil, "fp", None)
    if pil.format not in ("PNG", "TIFF") or not getattr(pil, "tile", None) or file is None or pil.tell():
        return None
    position = file.tell()
    file.seek(0)
    content: bytes = file.read()
    file.seek(position)
    return content


def _from_deep(
    values: np.ndarray, source: str, bits: int | None = None, transparent: int | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Scale 16-bit samples to uint8 RGB; return also ``bits`` and ``stored_bits`` of :class:`DecodedImage`.

    Args:
        values: gray (H, W), BGR or BGRA.
        source: name of the image in error messages.
        bits: the depth, if the format states it; by default, that of the largest visible sample.
        transparent: a gray level that is transparent.
    """
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise MediaError(
            f"{source}: has {values.dtype} pixels from {values.min()} to {values.max()}, whose range is not defined; "
            "save it with 8 or 16 bits"
        )
    bits = bits or significant_bits(_largest(values, transparent))
    most = (1 << bits) - 1
    table = ((np.arange(1 << 16, dtype=np.uint32).clip(max=most) * 255 + most // 2) // most).astype(np.uint8)
    image = np.empty((*values.shape[:2], 3), np.uint8)
    for rows in strips(*image.shape[:2]):
        strip = values[rows]
        if strip.ndim == 2:
            image[rows] = table[strip][..., None]
        elif strip.shape[2] == 4:
            opaque = strip[..., 3:].astype(np.uint32)
            image[rows] = (table[strip[..., 2::-1]] * opaque + 255 * (65535 - opaque) + 32767) // 65535
        else:
            image[rows] = table[strip[..., ::-1]]
    return image, (bits, 16)


def _largest(values: np.ndarray, transparent: int | None) -> int:
    """Return the largest sample of the pixels that are not transparent; 0 if all are."""
    if values.ndim == 2:
        return int(values.max() if transparent is None else values.max(where=values != transparent, initial=0))
    colors = values[..., :3]
    return int(colors.max(where=values[..., 3:] > 0, initial=0) if values.shape[2] == 4 else colors.max())


def _rgb(pil: PIL.Image.Image, source: str, transparent: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode and convert an image strip by strip, without a second copy of the whole image.

    Args:
        pil: the image.
        source: name of the image in error messages.
        transparent: a gray level that is transparent (:func:`transparent_gray`).
    """
    pil.load()
    if pil.mode == "F" or pil.mode.startswith("I"):
        if pil.format == "TIFF" and pil.tag_v2.get(262) == 0:  # type: ignore[attr-defined]
            raise MediaError(f"{source}: is a TIFF of over 8 bits where 0 is white; save it with 0 as black, or 8 bits")
        # Pillow scales PPM files by the range that they state.
        image, depth = _from_deep(np.asarray(pil), source, 16 if pil.format == "PPM" else None, transparent)
    else:
        image, depth = np.empty((pil.height, pil.width, 3), np.uint8), (8, 8)
        for rows in strips(*image.shape[:2]):
            image[rows] = _over_white(pil.crop((0, rows.start, pil.width, rows.stop)))
    if transparent is not None:
        image[np.asarray(pil) == transparent] = 255
    return image, depth


def _over_white(pil: PIL.Image.Image) -> np.ndarray:
    if pil.has_transparency_data:
        opaque = pil.convert("RGBA")
        pil = PIL.Image.alpha_composite(PIL.Image.new("RGBA", opaque.size, "white"), opaque)
    return np.asarray(pil.convert("RGB"))


def strips(height: int, width: int) -> list[slice]:
    """Return the rows of an image in slices of about four million pixels, so that processing needs little memory."""
    step = max(1, _STRIP // max(1, width))
    return [slice(top, min(top + step, height)) for top in range(0, height, step)]
