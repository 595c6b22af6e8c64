"""COCO's annotations in a form that opens at once and is read image by image.

The 450 megabytes of JSON of ``train2017`` would be three gigabytes of Python objects. Here they are taken up one
annotation at a time, and what is kept, the outlines of VOC's classes, can be written to a file beside the annotations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from pycocotools import mask as rle
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from segmnv2.coco.annotations import CocoImage
from segmnv2.data.sample import Mask
from segmnv2.errors import DatasetError
from segmnv2.files.atomic import atomic_path, remove_stale
from segmnv2.files.checksum import file_sha256
from segmnv2.files.ownership import claim
from segmnv2.labels import VOC_LABELS

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


def class_mask(instances: Sequence[Instance], height: int, width: int, source: str) -> Mask:
    """Draw instances, in any order, into one mask, uint8 (height, width).

    It is the union of those of a class, 0 where there is none, and ignored where instances of different classes claim a
    pixel. Messages name ``source``, file and image.

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
        mask[clash] = VOC_LABELS.ignore_index
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


FORMAT = "segmnv2-coco-index-1"
"""Changes whenever the meaning of what is written does, so that older files are not used."""


@dataclass(frozen=True)
class CocoIndex:
    """All images of an annotation file, by rising image id, and their instances of VOC's classes.

    Attributes:
        files: names of the image files.
        sizes: (N, 2) rows and columns.
        areas: (N,) pixels of VOC's classes that the annotations state; overlaps count twice.
        bounds: (N + 1,) where each image's instances begin in ``content``.
        content: the instances as JSON texts, one after the other; or the file that holds them. In one piece: millions
            of small objects would be copied, page by page, into each loader process that touches their counts.
    """

    files: tuple[str, ...]
    sizes: Int64[np.ndarray, "n 2"]
    areas: Float64[np.ndarray, " n"]
    bounds: Int64[np.ndarray, " n_plus_1"]
    content: bytes | Path

    def instances(self, index: int) -> list[Instance]:
        """Return the instances of one image.

        Raises:
            DatasetError: the file that holds them is damaged or gone.
        """
        first, last = (int(bound) for bound in self.bounds[index : index + 2])
        if isinstance(self.content, bytes):
            return _instances(self.content[first:last])
        try:
            # Opened for each image, a tenth of a millisecond: nothing then needs to survive a fork or be pickled.
            with safe_open(self.content, framework="numpy") as file:
                return _instances(file.get_slice("content")[first:last].tobytes())
        except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
            reason = str(error)[:200]
            raise DatasetError(
                f"{self.content}: cannot be read any more ({reason}); delete it, or make it again by segmnv2 "
                "prepare-coco"
            ) from error


def _instances(text: bytes) -> list[Instance]:
    instances = [Instance(*fields) for fields in json.loads(text)]
    if not all(isinstance(each.class_id, int) and 0 < each.class_id < VOC_LABELS.num_classes for each in instances):
        raise ValueError("an instance is of no class of VOC")
    return instances


def index_path(annotations: Path) -> Path:
    """Return where the index of an annotation file is: beside it, with the ending ``.index.safetensors``."""
    return annotations.with_suffix(".index.safetensors")


def write_index(index: CocoIndex, annotations: Path) -> Path:
    """Write an index beside the annotation file that it was made of, whole or not at all."""
    assert isinstance(index.content, bytes), "what is in a file is written already"
    tensors = {
        "files": np.frombuffer(json.dumps(index.files).encode(), np.uint8),
        "sizes": index.sizes,
        "areas": index.areas,
        "bounds": index.bounds,
        "content": np.frombuffer(index.content, np.uint8),
    }
    path = index_path(annotations)
    claim(path)
    remove_stale(path)
    with atomic_path(path) as temporary:
        note = {"format": FORMAT, "sha256": file_sha256(annotations), **_stamp(annotations)}
        temporary.write_bytes(save(tensors, note))
    return path


def open_index(annotations: Path) -> CocoIndex | None:
    """Open the index of an annotation file; None if there is none, or none that is of this file and whole.

    It is of this file if size and time of change are those noted, or else, as after copying, the checksum is.
    """
    path = index_path(annotations)
    try:
        with safe_open(path, framework="numpy") as file:
            note = file.metadata() or {}
            if note.get("format") != FORMAT or not _is_of(note, annotations):
                return None
            files = tuple(json.loads(file.get_tensor("files").tobytes()))
            sizes, areas, bounds = (file.get_tensor(name) for name in ("sizes", "areas", "bounds"))
            content = file.get_slice("content")
            index, length = CocoIndex(files, sizes, areas, bounds, path), content.get_shape()
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError):
        return None
    return index if content.get_dtype() == "U8" and _is_whole(index, length) else None


def _is_whole(index: CocoIndex, length: list[int]) -> bool:
    """Return whether the parts of an index fit each other, as those do that were written together."""
    count, parts = len(index.files), (index.sizes, index.areas, index.bounds)
    return (
        all(isinstance(file, str) for file in index.files)
        and [part.shape for part in parts] == [(count, 2), (count,), (count + 1,)]
        and [part.dtype for part in parts] == [np.int64, np.float64, np.int64]
        and [index.bounds[0], index.bounds[-1]] == [0, *length]
        and bool((np.diff(index.bounds) >= 2).all() and (index.sizes > 0).all())
    )


def _is_of(note: Mapping[str, str], annotations: Path) -> bool:
    stamp = _stamp(annotations)
    if all(note.get(key) == value for key, value in stamp.items()):
        return True
    return note.get("size") == stamp["size"] and note.get("sha256") == file_sha256(annotations)


def _stamp(annotations: Path) -> dict[str, str]:
    state = annotations.stat()
    return {"size": str(state.st_size), "mtime_ns": str(state.st_mtime_ns)}


def pack_instances(images: list[CocoImage], pieces: Mapping[int, list[bytes]], areas: Mapping[int, float]) -> CocoIndex:
    """Make an index of COCO's records of images, and by image id JSON of [annotation id, class, outline], and areas."""
    images = sorted(images, key=lambda image: image.id)
    texts = [b"[" + b",".join(pieces.get(image.id, ())) + b"]" for image in images]
    return CocoIndex(
        files=tuple(image.file_name for image in images),
        sizes=np.array([(image.height, image.width) for image in images], dtype=np.int64).reshape(-1, 2),
        areas=np.array([areas.get(image.id, 0.0) for image in images], dtype=np.float64),
        bounds=np.cumsum([0, *map(len, texts)], dtype=np.int64),
        content=b"".join(texts),
    )
