"""Images with annotations: a mask, outlines or boxes."""

from __future__ import annotations

from pathlib import Path

from segmnv2.data.image_file import DecodedImage, decode_image
from segmnv2.data.sample import Image
from segmnv2.errors import DatasetError


class OrientationError(DatasetError):
    """An EXIF orientation that may or may not apply to the annotations of the image.

    Attributes:
        kind: one of :data:`segmnv2.datasets.listing.ERROR_KINDS`.
    """

    kind = "exif-ambiguous"


def read_annotated_image(path: str | Path, annotations: str | Path) -> Image:
    """Read an image as :func:`segmnv2.data.image_file.read_image` does; reject it if its annotations may be turned.

    Args:
        path: the image.
        annotations: the file of its annotations, for messages.

    Raises:
        MediaError: the image cannot be read.
        OrientationError: EXIF turns or mirrors the image and keeps its width and height. Some annotation tools show
            such an image turned, others do not.
    """
    decoded = decode_image(path)
    if decoded.is_turned_in_place:
        raise OrientationError(f"{path}: {describe_turn(decoded)} {annotations} is turned as well; {TURN_REMEDY}")
    return decoded.image


TURN_REMEDY = (
    "save the image as it was annotated, without the EXIF entry: Pillow's ImageOps.exif_transpose turns its pixels"
)


def describe_turn(decoded: DecodedImage) -> str:
    """Return the start of a message about an image that EXIF turns; the file of its annotations must follow."""
    return f"is turned by EXIF orientation {decoded.orientation}, and its size does not show whether"
