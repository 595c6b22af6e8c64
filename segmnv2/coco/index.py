"""Index of COCO's annotations, which opens immediately and is read image by image.

The 450 MB of JSON of ``train2017`` would be 3 GB of Python objects. So annotations are read one at a time, and only the
outlines of VOC's classes are kept. They can be written to a file beside the annotations.
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
"""Largest coordinate, as a multiple of the image's longer side; COCO's polygons exceed images by about a pixel."""


class Instance(NamedTuple):
    """One annotated object, or crowd.

    Attributes:
        number: id of the annotation, for messages.
        class_id: 1..20.
        outline: in COCO's format: polygons ``[[x, y, x, y, ...], ...]``, or runs ``{"size": [h, w], "counts": ...}``.
    """

    number: int
    class_id: int
    outline: Any


def class_mask(instances: Sequence[Instance], height: int, width: int, source: str) -> Mask:
    """Draw instances into one mask, uint8 (height, width); their order does not matter.

    A pixel has the class of the instances that cover it. It is 0 if there are none, and ignored if their classes
    differ. ``source`` is the file and image in messages.

    Raises:
        DatasetError: an outline is damaged.
    """
    mask = np.zeros((height, width), np.uint8)
    for instance in instances:
        try:
            inside = _decode(instance.outline, height, width) > 0
        except Exception as error:  # pycocotools raises errors of every kind for damaged outlines
            raise DatasetError(
                f"{source}: the outline of annotation {instance.number} cannot be decoded ({error}); allowed are "
                f"polygons and runs (RLE) of a {height} x {width} image; unpack the annotations again"
            ) from error
        clash = inside & (mask != 0) & (mask != instance.class_id)
        mask[inside] = instance.class_id
        mask[clash] = VOC_LABELS.ignore_index
    return mask


def _decode(outline: Any, height: int, width: int) -> UInt8[np.ndarray, "h w"]:
    """Return 1 inside, 0 outside; check the outline first, because pycocotools' C code does not."""
    if isinstance(outline, dict):
        if list(outline["size"]) != [height, width]:
            raise ValueError(f"it is of size {outline['size']}")
        counts = outline["counts"]
        counts = _runs(counts) if isinstance(counts, str) else counts
        if not all(isinstance(count, int) and count >= 0 for count in counts) or sum(counts) != height * width:
            raise ValueError(f"its runs cover {sum(counts)} pixels, not {height * width}")
        runs = {"size": outline["size"], "counts": counts}
        return np.asarray(rle.decode(rle.frPyObjects(runs, height, width)), np.uint8)
    # Two points enclose nothing, but pycocotools would read their four numbers as a box.
    polygons = [polygon for polygon in outline if len(polygon) >= 6]
    if not polygons:
        return np.zeros((height, width), np.uint8)
    for polygon in polygons:
        values = np.asarray(polygon, float)
        if values.ndim != 1 or len(polygon) % 2 or not (np.abs(values) <= REACH * max(height, width)).all():
            raise ValueError(f"a polygon has {len(polygon)} numbers, or some far outside the image")
    return np.asarray(rle.decode(rle.merge(rle.frPyObjects(polygons, height, width))), np.uint8)


def _runs(text: str) -> list[int]:
    """Decode compressed runs, to check their total; pycocotools does not initialize pixels without a run.

    Each character holds five bits of a number, lowest first, and a bit that is set if the number continues. From the
    fourth number on, the difference to the number two before is stored.

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
"""Version of the file format, so that files of other versions are not used."""


@dataclass(frozen=True)
class CocoIndex:
    """All images of an annotation file, in ascending order of image ids, with their instances of VOC's classes.

    Attributes:
        files: names of the image files.
        sizes: (N, 2) rows and columns.
        areas: (N,) pixels of VOC's classes, as stated in the annotations; overlaps count twice.
        bounds: (N + 1,) start of each image's instances in ``content``, and its end.
        content: the instances as concatenated JSON texts, or the file that holds them. It is one object, because each
            worker process would copy the memory of millions of small objects.
    """

    files: tuple[str, ...]
    sizes: Int64[np.ndarray, "n 2"]
    areas: Float64[np.ndarray, " n"]
    bounds: Int64[np.ndarray, " n_plus_1"]
    content: bytes | Path

    def instances(self, index: int) -> list[Instance]:
        """Return the instances of one image.

        Raises:
            DatasetError: the file that holds them is damaged or missing.
        """
        first, last = (int(bound) for bound in self.bounds[index : index + 2])
        if isinstance(self.content, bytes):
            return _instances(self.content[first:last])
        try:
            # Opening it for each image takes 0.1 ms, and no open file must survive a fork or be pickled.
            with safe_open(self.content, framework="numpy") as file:
                return _instances(file.get_slice("content")[first:last].tobytes())
        except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
            reason = str(error)[:200]
            raise DatasetError(
                f"{self.content}: cannot be read any more ({reason}); delete it, or write it again with "
                "segmnv2 prepare-coco"
            ) from error


def _instances(text: bytes) -> list[Instance]:
    instances = [Instance(*fields) for fields in json.loads(text)]
    if not all(isinstance(item.class_id, int) and 0 < item.class_id < VOC_LABELS.num_classes for item in instances):
        raise ValueError("an instance is of no class of VOC")
    return instances


def index_path(annotations: Path) -> Path:
    """Return the path of an annotation file's index: beside it, with the ending ``.index.safetensors``."""
    return annotations.with_suffix(".index.safetensors")


def write_index(index: CocoIndex, annotations: Path) -> Path:
    """Write an index atomically beside its annotation file."""
    assert isinstance(index.content, bytes), "the index is in a file already"
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
        metadata = {"format": FORMAT, "sha256": file_sha256(annotations), **_stamp(annotations)}
        temporary.write_bytes(save(tensors, metadata))
    return path


def open_index(annotations: Path) -> CocoIndex | None:
    """Open the index of an annotation file; return ``None`` if it is missing, damaged or of another file.

    An index states the size, time of change and checksum of its file. After copying, size and checksum must match.
    """
    path = index_path(annotations)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT or not _is_index_of(metadata, annotations):
                return None
            files = tuple(json.loads(file.get_tensor("files").tobytes()))
            sizes, areas, bounds = (file.get_tensor(name) for name in ("sizes", "areas", "bounds"))
            content = file.get_slice("content")
            index, length = CocoIndex(files, sizes, areas, bounds, path), content.get_shape()
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError):
        return None
    return index if content.get_dtype() == "U8" and _is_whole(index, length) else None


def _is_whole(index: CocoIndex, length: list[int]) -> bool:
    """Return whether the parts of an index have matching shapes and types."""
    count, parts = len(index.files), (index.sizes, index.areas, index.bounds)
    return (
        all(isinstance(file, str) for file in index.files)
        and [part.shape for part in parts] == [(count, 2), (count,), (count + 1,)]
        and [part.dtype for part in parts] == [np.int64, np.float64, np.int64]
        and [index.bounds[0], index.bounds[-1]] == [0, *length]
        and bool((np.diff(index.bounds) >= 2).all() and (index.sizes > 0).all())
    )


def _is_index_of(metadata: Mapping[str, str], annotations: Path) -> bool:
    stamp = _stamp(annotations)
    if all(metadata.get(key) == value for key, value in stamp.items()):
        return True
    return metadata.get("size") == stamp["size"] and metadata.get("sha256") == file_sha256(annotations)


def _stamp(annotations: Path) -> dict[str, str]:
    state = annotations.stat()
    return {"size": str(state.st_size), "mtime_ns": str(state.st_mtime_ns)}


def pack_instances(images: list[CocoImage], pieces: Mapping[int, list[bytes]], areas: Mapping[int, float]) -> CocoIndex:
    """Return an index of images; by image id, ``pieces`` is JSON of [annotation id, class, outline]."""
    images = sorted(images, key=lambda image: image.id)
    texts = [b"[" + b",".join(pieces.get(image.id, ())) + b"]" for image in images]
    return CocoIndex(
        files=tuple(image.file_name for image in images),
        sizes=np.array([(image.height, image.width) for image in images], dtype=np.int64).reshape(-1, 2),
        areas=np.array([areas.get(image.id, 0.0) for image in images], dtype=np.float64),
        bounds=np.cumsum([0, *map(len, texts)], dtype=np.int64),
        content=b"".join(texts),
    )
