"""Mask files: 8-bit PNG whose pixel values are class ids, in VOC's palette form."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from segmnv2.atomic import atomic_path
from segmnv2.data.sample import Mask
from segmnv2.errors import DatasetError
from segmnv2.labels import LabelSet

VOID_COLOUR = (224, 224, 192)
"""Colour of the ignore index in written masks, as in VOC's own files."""

_ID_MODES = ("P", "L", "1")


def read_mask(path: str | Path, labels: LabelSet) -> Mask:
    """Read a mask of class ids and check them.

    Args:
        path: palette or 8-bit grey PNG, BMP or TIFF whose pixel values (not colours) are class ids.
        labels: which ids are allowed.

    Returns:
        uint8 (H, W): ids 0..num_classes-1 and the ignore index.

    Raises:
        DatasetError: the file is missing or damaged, holds colours instead of ids, or holds ids that are no class.
    """
    picture = _decode(Path(path))
    if picture.format == "JPEG" or picture.mode not in _ID_MODES:
        raise DatasetError(
            f"{path}: is a {picture.format} of mode {picture.mode}, but a mask holds one class id per pixel; save it "
            "as palette or 8-bit grey PNG, each colour replaced by its id"
            + (" (JPEG's compression changes ids)" if picture.format == "JPEG" else "")
        )
    mask = np.array(picture, dtype=np.uint8)
    check_ids(mask, labels, source=str(path))
    return mask


def write_mask(path: str | Path, mask: Mask, labels: LabelSet) -> None:
    """Write a mask as palette PNG in the colours of ``labels``; pixel values stay the ids.

    The file appears whole or not at all. ``read_mask(path, labels)`` gives the mask back.

    Args:
        path: the PNG to write.
        mask: uint8 (H, W), ids of ``labels`` or its ignore index.
        labels: classes and colours.

    Raises:
        DatasetError: an id that is no class of ``labels``.
    """
    check_ids(mask, labels, source=str(path))
    palette = np.zeros((256, 3), np.uint8)
    palette[: labels.num_classes] = labels.palette
    palette[labels.ignore_index] = VOID_COLOUR
    picture = PIL.Image.fromarray(mask)
    picture.putpalette(palette.tobytes())
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", optimize=False)


def check_ids(mask: Mask, labels: LabelSet, source: str) -> None:
    """Check that a mask holds ids of ``labels`` only.

    Args:
        mask: uint8 (H, W).
        labels: the classes and the ignore index.
        source: file that the message names.

    Raises:
        DatasetError: other ids; the message lists them with their pixel counts.
    """
    allowed = np.zeros(256, bool)
    allowed[: labels.num_classes] = True
    allowed[labels.ignore_index] = True
    present = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel() > 0  # four times as fast as bincount
    wrong = np.flatnonzero(present & ~allowed)
    if len(wrong) == 0:
        return
    counts = np.bincount(mask.ravel(), minlength=256)
    listed = ", ".join(f"{value} ({counts[value]} pixels)" for value in wrong[:8])
    more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
    raise DatasetError(
        f"{source}: ids {listed}{more} are no class; allowed are 0..{labels.num_classes - 1} and "
        f"{labels.ignore_index} (ignored); {_remedy(np.flatnonzero(present).tolist(), labels)}"
    )


def _decode(path: Path) -> PIL.Image.Image:
    try:
        picture = PIL.Image.open(BytesIO(path.read_bytes()), formats=("PNG", "BMP", "TIFF", "JPEG"))
        picture.load()
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such mask; check the path") from None
    except Exception as error:  # decoders meet damaged bytes with errors of every kind
        reason = "not an image" if isinstance(error, PIL.UnidentifiedImageError) else error
        raise DatasetError(
            f"{path}: cannot be read as a mask ({reason}); give a PNG whose pixel values are class ids"
        ) from error
    return picture


def _remedy(present: list[int], labels: LabelSet) -> str:
    if set(present) <= {0, 255}:
        return "the mask is black and white (0 and 255): save 1 in place of 255"
    if max(present) == labels.num_classes:
        return "ids count from 0: subtract 1 if they were numbered from 1, or name one more class"
    return "correct the mask, or give the label set that it was drawn with"
