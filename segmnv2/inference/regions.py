"""Regions of a label map: areas, boxes, polygons, run-length encodings and annotations in COCO's format."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, UInt8

from segmnv2.errors import ConfigError
from segmnv2.inference.overlay import is_background
from segmnv2.labels import LabelSet

Points = npt.NDArray[Any]
Mask = UInt8[np.ndarray, "h w"]


class Polygon(NamedTuple):
    """A connected region of a class.

    Points are float64 (N, 2) arrays of (x, y) in pixels. The first is not repeated at the end. The upper left corner of
    the image is (0, 0), so the center of the first pixel is (0.5, 0.5).
    """

    exterior: npt.NDArray[np.float64]
    """Outline of the region."""
    holes: list[npt.NDArray[np.float64]]
    """Outlines of the parts inside it that belong to other classes."""


def class_id(labels: LabelSet, name: object) -> int:
    """Return the id of a class that is given by name or by id.

    Raises:
        ConfigError: there is no such class.
    """
    if isinstance(name, str) and name in labels.names:
        return labels.names.index(name)
    if isinstance(name, (int, np.integer)) and not isinstance(name, bool) and 0 <= name < labels.num_classes:
        return int(name)
    raise ConfigError(
        f"class {name!r}: is no class of this model; give an id of 0..{labels.num_classes - 1} or a name: "
        f"{', '.join(labels.names)}"
    )


def class_shares(mask: Mask, labels: LabelSet) -> dict[str, float]:
    """Return name -> share of the pixels, 0..1, of the classes that occur, the largest share first."""
    counts = np.bincount(mask.ravel(), minlength=labels.num_classes)[: labels.num_classes]
    present = sorted(np.flatnonzero(counts), key=lambda index: -counts[index])
    return {labels.names[index]: float(counts[index] / mask.size) for index in present}


def found_classes(mask: Mask, labels: LabelSet) -> list[int]:
    """Return the ids of the classes that occur, without the background, in ascending order."""
    ids = np.flatnonzero(np.bincount(mask.ravel(), minlength=labels.num_classes)[: labels.num_classes])
    return [int(index) for index in ids if not is_background(labels, int(index))]


def bounding_box(area: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of the smallest box around the true pixels, of which there is at least one."""
    rows, columns = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def trace_polygons(area: Bool[np.ndarray, "h w"], tolerance: Any = 0.0) -> list[Polygon]:
    """Return the outlines of the connected regions of true pixels.

    A pixel's center lies inside a polygon exactly if the pixel is true. Outlines run halfway between the centers of
    neighboring pixels, so they cut corners by half a pixel.

    Args:
        area: (H, W) booleans.
        tolerance: largest distance in pixels by which simplified outlines may differ; 0 keeps the rule above.

    Raises:
        ConfigError: ``tolerance`` is not a number of at least 0.
    """
    from contourpy import FillType, contour_generator

    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < np.inf:
        raise ConfigError(f"tolerance: {tolerance!r} is not a distance in pixels; give a number of at least 0")
    generator = contour_generator(z=np.pad(area, 1).astype(np.float32), fill_type=FillType.OuterOffset)
    points, offsets = cast("tuple[list[Points], list[Points]]", generator.filled(0.5, np.inf))
    polygons = []
    for outlines, ends in zip(points, offsets, strict=True):
        rings = [_simplify(outlines[start : end - 1] - 0.5, tolerance) for start, end in pairwise(ends)]
        polygons.append(Polygon(rings[0], rings[1:]))
    return polygons


def _simplify(ring: npt.NDArray[np.float64], tolerance: float) -> npt.NDArray[np.float64]:
    """Remove the points of a closed outline that lie on straight lines, and those within a tolerance of them."""
    import cv2

    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    ring = ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    if tolerance:
        shorter = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, True)[:, 0].astype(np.float64)
        ring = shorter if len(shorter) >= 3 else ring
    return ring


def encode_rle(area: Bool[np.ndarray, "h w"]) -> dict[str, Any]:
    """Return COCO's compressed run-length encoding of true pixels, ``{"size": [H, W], "counts": text}``."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(area, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def to_coco(mask: Mask, labels: LabelSet, file_name: str, image_id: int) -> dict[str, Any]:
    """Return a label map as a COCO data set of one image, with JSON values that ``pycocotools.coco.COCO`` reads.

    Each class that occurs, except the background, is one annotation with a run-length encoding. Categories have the
    classes' ids.

    Args:
        mask: (H, W) class ids.
        labels: names of the classes.
        file_name: name of the image's file.
        image_id: id of the image.
    """
    annotations = []
    for number, index in enumerate(found_classes(mask, labels), start=1):
        area = mask == index
        annotations.append(
            {
                "id": number,
                "image_id": image_id,
                "category_id": index,
                "segmentation": encode_rle(area),
                "area": int(area.sum()),
                "bbox": list(bounding_box(area)),
                "iscrowd": 0,
            }
        )
    return {
        "images": [{"id": image_id, "file_name": file_name, "height": mask.shape[0], "width": mask.shape[1]}],
        "annotations": annotations,
        "categories": [
            {"id": index, "name": name} for index, name in enumerate(labels.names) if not is_background(labels, index)
        ],
    }
