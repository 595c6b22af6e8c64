"""Image files to arrays: any photo a user may have becomes uint8 RGB, upright, or one clear error."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from PIL import ImageOps
from PIL.ExifTags import Base as ExifTag

from segmnv2.data.sample import Image
from segmnv2.errors import MediaError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
"""Formats that are read; of several frames or pages the first."""

_JPEG_END = b"\xff\xd9"


def read_image(path: str | Path) -> Image:
    """Read an image file as it is meant to be looked at.

    EXIF orientation is applied; grey, palette and CMYK (JPEG's inverted one too) become RGB; transparent pixels are
    laid over white; 16-bit greys are scaled to 8 bits (65535 becomes 255). Colour profiles are not applied.

    Args:
        path: a JPEG, PNG, BMP, WebP, TIFF, GIF or PPM file.

    Returns:
        uint8 (H, W, 3), RGB, 0..255.

    Raises:
        MediaError: the file is missing, empty, truncated, no image, of a kind that is not read, or too large to decode.
    """
    content = _read_bytes(Path(path))
    try:
        with PIL.Image.open(BytesIO(content), formats=FORMATS) as picture:
            if _is_plain_jpeg(picture, content):
                decoded = cv2.imdecode(np.frombuffer(content, np.uint8), _PLAIN)
                if decoded is not None:
                    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
            return rgb_array(picture, source=str(path))
    except MediaError:
        raise
    except PIL.UnidentifiedImageError:
        raise MediaError(
            f"{path}: is not an image that can be read ({len(content)} bytes, starting with {content[:8]!r}); "
            f"give one of {', '.join(FORMATS)}, or convert it"
        ) from None
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise MediaError(f"{path}: too large to decode safely ({error}); scale it down first") from error
    except Exception as error:  # decoders meet damaged bytes with errors of every kind
        raise MediaError(f"{path}: is damaged or truncated ({error}); replace the file or save it anew") from error


def rgb_array(picture: PIL.Image.Image, source: str = "image") -> Image:
    """Turn an opened PIL picture of any mode into an upright RGB array, as :func:`read_image` does.

    Args:
        picture: any mode but 32-bit integers beyond 65535 and floats, whose range nobody knows.
        source: what error messages call the picture.

    Returns:
        uint8 (H, W, 3), RGB, 0..255, an array of its own.

    Raises:
        MediaError: pixels are floats or integers of more than 16 bits.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F" or picture.mode.startswith("I"):
        grey = _grey_from_deep(np.asarray(picture), source)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        opaque = picture.convert("RGBA")
        picture = PIL.Image.alpha_composite(PIL.Image.new("RGBA", opaque.size, "white"), opaque)
    return np.array(picture.convert("RGB"))


_PLAIN = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror or error}); give a readable image file") from error
    if not content:
        raise MediaError(f"{path}: is empty (0 bytes); replace the file")
    return content


def _is_plain_jpeg(picture: PIL.Image.Image, content: bytes) -> bool:
    """Tell whether OpenCV, a quarter faster, reads the file alike: whole, upright, RGB or grey.

    A file without its end marker is left to PIL, which refuses it; OpenCV would fill the missing part with grey.
    """
    return (
        picture.format in ("JPEG", "MPO")
        and picture.mode in ("RGB", "L")
        and content.endswith(_JPEG_END)
        and picture.getexif().get(ExifTag.Orientation, 1) == 1
    )


def _grey_from_deep(values: np.ndarray, source: str) -> np.ndarray:
    """Scale 16-bit greys to uint8, rounded. PIL's own conversion would clip everything above 255."""
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise MediaError(
            f"{source}: has {values.dtype} pixels from {values.min()} to {values.max()}, whose range is not defined; "
            "save it with 8 or 16 bits"
        )
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
