"""Outlines of COCO's instances to one mask of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from pycocotools import mask as rle

from segmnv2.data.sample import Mask
from segmnv2.errors import DatasetError

REACH = 10
"""Times the longest side that a coordinate may be from the origin: COCO's polygons leave images by a pixel or so."""


class Instance(NamedTuple):
    """One annotated object, or crowd.

    Attributes:
        number: id of the annotation, for messages.
        class_id: 1..20.
        outline: as in COCO's files: polygons ``[[x, y, x, y, ...], ...]``, or runs ``{"size": [h, w], "counts": ...}``.
    """

    number: int
    class_id: int
    outline: Any


def class_mask(instances: Sequence[Instance], height: int, width: int, ignore_index: int, source: str) -> Mask:
    """Draw instances into one mask: the union of those of a class, 0 where there is none.

    Args:
        instances: in any order; the result does not depend on it.
        height: rows of the image.
        width: columns of the image.
        ignore_index: what pixels get that instances of different classes claim.
        source: file and image that messages name.

    Returns:
        uint8 (height, width).

    Raises:
        DatasetError: an outline is damaged.
    """
    mask = np.zeros((height, width), np.uint8)
    for instance in instances:
        try:
            inside = _decode(instance.outline, height, width) > 0
        except Exception as error:  # pycocotools meets damaged outlines with errors of every kind
            raise DatasetError(
                f"{source}: the outline of annotation {instance.number} cannot be decoded ({error}); allowed are "
                f"polygons and runs (RLE) of a {height} x {width} image; unpack the annotations again"
            ) from error
        clash = inside & (mask != 0) & (mask != instance.class_id)
        mask[inside] = instance.class_id
        mask[clash] = ignore_index
    return mask


def _decode(outline: Any, height: int, width: int) -> UInt8[np.ndarray, "h w"]:
    """Return 1 inside, 0 outside. Checked first is what pycocotools' C code takes on trust."""
    if isinstance(outline, dict):
        if list(outline["size"]) != [height, width]:
            raise ValueError(f"it is of size {outline['size']}")
        counts = outline["counts"]
        counts = _runs(counts) if isinstance(counts, str) else counts
        if not all(isinstance(count, int) and count >= 0 for count in counts) or sum(counts) != height * width:
            raise ValueError(f"its runs cover {sum(counts)} pixels, not {height * width}")
        runs = {"size": outline["size"], "counts": counts}
        return np.asarray(rle.decode(rle.frPyObjects(runs, height, width)), np.uint8)
    # Two points enclose nothing, and pycocotools would take their four numbers for a box.
    polygons = [polygon for polygon in outline if len(polygon) >= 6]
    if not polygons:
        return np.zeros((height, width), np.uint8)
    for polygon in polygons:
        values = np.asarray(polygon, float)
        if values.ndim != 1 or len(polygon) % 2 or not (np.abs(values) <= REACH * max(height, width)).all():
            raise ValueError(f"a polygon has {len(polygon)} numbers, or some far outside the image")
    return np.asarray(rle.decode(rle.merge(rle.frPyObjects(polygons, height, width))), np.uint8)


def _runs(text: str) -> list[int]:
    """Unpack compressed runs. The lengths must be known: of short ones pycocotools leaves the rest uninitialized.

    Each character holds five bits, lowest first, and whether the number continues; from the fourth number on, what is
    stored is the difference to the number two before.

    Source: the format of ``rleToString`` in cocoapi's ``maskApi.c``.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} is no character of compressed runs")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("its last run is cut off")
    return runs
