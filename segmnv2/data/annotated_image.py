"""Images whose pixels are annotated, by a mask, outlines or boxes."""

from __future__ import annotations

from pathlib import Path

from segmnv2.data.image_file import DecodedImage, decode_image
from segmnv2.data.sample import Image
from segmnv2.errors import DatasetError


class OrientationError(DatasetError):
    """An image that EXIF turns, and annotations that may be turned or not.

    Attributes:
        kind: one of :data:`segmnv2.datasets.listing.ERROR_KINDS`.
    """

    kind = "exif-ambiguous"


def read_annotated_image(path: str | Path, annotations: str | Path) -> Image:
    """Read an image as :func:`segmnv2.data.image_file.read_image` does, if it is clear where its annotations are.

    Args:
        path: the image.
        annotations: the file that its annotations are in, for messages.

    Raises:
        MediaError: the image cannot be read.
        OrientationError: EXIF turns or mirrors it and its sides stay the same. Some programs show such an image turned
            to whoever annotates it, others do not.
    """
    decoded = decode_image(path)
    if decoded.is_turned_in_place:
        raise OrientationError(f"{path}: {describe_turn(decoded)} {annotations} is turned as well; {TURN_REMEDY}")
    return decoded.image


TURN_REMEDY = (
    "save the image as it was annotated and without the EXIF entry: Pillow's ImageOps.exif_transpose turns its pixels"
)


def describe_turn(decoded: DecodedImage) -> str:
    """Return what is unclear about an image that is turned in place; the name of its annotations continues it."""
    return f"is turned by EXIF orientation {decoded.orientation}, and its sides do not show whether"
