"""Inspection of pairs of image and mask, in one process per core, and thumbnails to find copies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from segmnv2.checks.mask_diagnosis import Diagnosis, diagnose_mask
from segmnv2.data.annotated_image import TURN_REMEDY, describe_turn
from segmnv2.data.image_file import DecodedImage, decode_image
from segmnv2.data.raw_mask import NO_COLOR, RawMask, read_raw_mask
from segmnv2.data.sample import Image, Mask
from segmnv2.datasets.listing import Finding, Listing, Pair
from segmnv2.errors import ConfigError, DatasetError, MediaError, SegmnError
from segmnv2.labels import Color, LabelSet
from segmnv2.signals import sheltered

SIDE = 32
"""Side of the thumbnails that decide whether two images are copies."""

KEPT_SIDE = 8
"""Side of the small thumbnails, which are kept for every image. Their pixels are means of blocks of the large ones.

Two small thumbnails never differ more than the large ones. So they exclude pairs without missing a copy.
"""

LARGEST_DIFFERENCE = 4.0
"""Largest root mean square difference, in gray levels, of two thumbnails of the same image.

Copies that are recompressed (JPEG quality 30 and up) or scaled by 0.25 to 1.7 differ by up to 3.9. The most similar of
300 000 pairs of different images in PASCAL VOC differ by 18.
"""

LEAST_CONTRAST = 8.0
"""Smallest standard deviation, in gray levels, of a thumbnail that is compared with others."""

_ROUNDING = 1.0
"""Largest error of a difference of small thumbnails, which are rounded to integers."""

_ROWS = 4096


def thumbnail(image: Image) -> np.ndarray:
    """Return the large thumbnail, float32 (32, 32), gray 0..255, for any aspect ratio of the image."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def kept_thumbnail(image: Image) -> bytes | None:
    """Return the 64 bytes of the small thumbnail, or ``None`` if its contrast is too low to compare images."""
    large = thumbnail(image)
    if large.std() < LEAST_CONTRAST:
        return None
    block = SIDE // KEPT_SIDE
    means = large.reshape(KEPT_SIDE, block, KEPT_SIDE, block).mean(axis=(1, 3))
    return bytes(np.rint(means).astype(np.uint8))


def difference(first: Image, second: Image) -> float:
    """Return the root mean square difference of the thumbnails, in gray levels."""
    return float(np.sqrt(np.mean((thumbnail(first) - thumbnail(second)) ** 2)))


def candidates(first: list[bytes], second: list[bytes], most: int = 5) -> list[tuple[int, int]]:
    """Return (index in ``first``, index in ``second``) of small thumbnails that may show the same image.

    For each thumbnail in ``second``, at most the ``most`` nearest ones in ``first`` are returned.
    """
    if not first or not second:
        return []
    limit = (LARGEST_DIFFERENCE + _ROUNDING) ** 2 * KEPT_SIDE**2
    left, right = _matrix(first), _matrix(second)
    square = (left**2).sum(axis=1)
    result = []
    rows = max(1, _ROWS * _ROWS // len(left))
    for start in range(0, len(right), rows):  # in strips, to limit the memory
        part = right[start : start + rows]
        distances = square[None] + (part**2).sum(axis=1)[:, None] - 2 * part @ left.T
        for row in np.flatnonzero(distances.min(axis=1) <= limit):
            best = np.argsort(distances[row], kind="stable")[:most]
            result += [(int(i), start + int(row)) for i in best if distances[row, i] <= limit]
    return result


def _matrix(kept: list[bytes]) -> np.ndarray:
    # Centered at 0, so that differences of squares are accurate in float32.
    return np.frombuffer(b"".join(kept), np.uint8).reshape(len(kept), -1).astype(np.float32) - 128


_UPRIGHT = 1

Colors = tuple[tuple[int, Color], ...]


@dataclass(frozen=True)
class Reading:
    """Summary of a pair: its findings, and a few hundred bytes.

    Attributes:
        findings: faults of this pair alone.
        image_digest: checksum of the decoded pixels and their size; ``None`` if the image cannot be read.
        mask_digest: checksum of the ids; ``None`` if they are unknown.
        thumbnail: see :func:`kept_thumbnail`.
        counts: int64 (256,), number of pixels of each id, including ids of no class; ``None`` if ids are unknown.
        colors: value and color of each id of a palette file, if the labels have no palette.
    """

    findings: tuple[Finding, ...]
    image_digest: bytes | None
    mask_digest: bytes | None
    thumbnail: bytes | None
    counts: np.ndarray | None
    colors: Colors = ()


def inspect_pair(listing: Listing, index: int) -> Reading:
    """Open a pair of a listing and return its faults."""
    pair = listing.pairs[index]
    if pair.mask is None:
        return _inspect_sample(listing, index)
    findings: list[Finding] = []
    decoded = _read(pair.image, listing.split, findings)
    image = None if decoded is None else decoded.image
    at_mask = partial(Finding, file=str(pair.mask), split=listing.split)
    try:
        raw = read_raw_mask(pair.mask)
    except DatasetError as error:
        remedy = "save it again as palette or 8-bit gray PNG of ids"
        findings.append(at_mask("unreadable-mask", reason=_reason(error, pair.mask), remedy=remedy))
        return _reading(findings, image, None)
    diagnosis = diagnose_mask(raw, listing.labels_of_files)
    findings += [at_mask(**vars(fault)) for fault in diagnosis.faults]
    if decoded is not None:
        findings += _compare_sizes(pair, decoded, raw, at_mask)
    colors = _colors(raw, diagnosis, listing.labels)
    if diagnosis.ids is not None:
        diagnosis = replace(diagnosis, ids=listing.class_ids(diagnosis.ids))
    return replace(_reading(findings, image, diagnosis), colors=colors)


def _inspect_sample(listing: Listing, index: int) -> Reading:
    """Read a pair of a data set with computed masks, such as COCO's, as training does."""
    assert listing.dataset is not None
    path = listing.pairs[index].image
    try:
        sample = listing.dataset[index]
    except SegmnError as error:
        unreadable = "unreadable-image" if isinstance(error, MediaError) else "unreadable-mask"
        kind = getattr(error, "kind", unreadable)
        reason, _, remedy = str(error).rpartition("; ")
        return Reading((Finding(kind, str(path), reason, remedy, listing.split),), None, None, None, None)
    return _reading([], sample.image, Diagnosis(sample.mask))


def _reason(error: SegmnError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _read(path: Path, split: str, findings: list[Finding]) -> DecodedImage | None:
    try:
        decoded = decode_image(path)
    except MediaError as error:
        reason, _, remedy = _reason(error, path).rpartition("; ")
        findings.append(Finding("unreadable-image", str(path), reason, remedy, split))
        return None
    if decoded.animated:
        reason, remedy = "has several frames or pages", "save only the required frame; the first one is read"
        findings.append(Finding("animated", str(path), reason, remedy, split))
    if decoded.bits < decoded.stored_bits:
        reason = f"holds 16-bit values that use {decoded.bits} bits only: {2**decoded.bits - 1} is read as white"
        remedy = "if this brightness differs from that of the other images, save the image with 8 bits"
        findings.append(Finding("low-values", str(path), reason, remedy, split))
    return decoded


def _compare_sizes(pair: Pair, decoded: DecodedImage, raw: RawMask, at_mask: Callable[..., Finding]) -> list[Finding]:
    """Compare the size of the image, turned as its EXIF entry says, with that of the mask, which is not turned."""
    orientation, stored = decoded.orientation, decoded.stored_size
    height, width = decoded.image.shape[:2]
    rows, columns = raw.values.shape[:2]
    if (height, width) == (rows, columns):
        if not decoded.is_turned_in_place:
            return []
        reason = f"its image {pair.image} {describe_turn(decoded)} the mask is turned as well"
        return [at_mask("exif-ambiguous", reason=reason, remedy=f"look at an overlay of both, and {TURN_REMEDY}")]
    sizes = f"the mask has {rows} rows and {columns} columns, its image {pair.image} {height} and {width}"
    if stored == (rows, columns) and orientation != _UPRIGHT:
        remedy = "turn the mask as the image is shown, or save the image without its EXIF orientation"
        turned = f"the image is turned by its EXIF orientation {orientation}, the mask is not"
        return [at_mask("exif-rotation", reason=f"{sizes}: {turned}", remedy=remedy)]
    remedy = "export both at one size; scale masks with nearest neighbor only"
    return [at_mask("size-mismatch", reason=sizes, remedy=remedy)]


def _reading(findings: list[Finding], image: Image | None, diagnosis: Diagnosis | None) -> Reading:
    ids = diagnosis.ids if diagnosis is not None else None
    return Reading(
        tuple(findings),
        None if image is None else _digest(image),
        None if ids is None else _digest(ids),
        None if image is None else kept_thumbnail(image),
        None if ids is None else np.bincount(ids.ravel(), minlength=256),
    )


def _colors(raw: RawMask, diagnosis: Diagnosis, labels: LabelSet) -> Colors:
    if raw.palette is None or diagnosis.ids is not raw.values or "palette" not in labels.label_defaults:
        return ()
    pairs = [(value, tuple(raw.palette[value].tolist())) for value in np.unique(raw.values).tolist()]
    filled = labels.ignore_index, (0, 0, 0)  # encoders fill unused entries with black
    return tuple(pair for pair in pairs if pair != filled and NO_COLOR not in pair[1])


def _digest(values: Image | Mask) -> bytes:
    digest = blake2b(str(values.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


PAIRS_A_PROCESS = 16
"""Smallest number of pairs per process that saves more time than the start of the process takes."""

_PIECE = 8

Task = tuple[int, int]


def read_pairs(listings: Sequence[Listing], tasks: Sequence[Task], workers: int | None) -> Iterator[Reading]:
    """Inspect pairs, and yield their readings in order.

    Args:
        listings: the splits.
        tasks: (listing index, pair index) of each pair.
        workers: number of worker processes; ``None`` for one per core. The result does not depend on it.

    Raises:
        ConfigError: ``workers`` is below 1.
        DatasetError: a worker process was killed.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers: {workers} is too small; give 1 or more")
    processes = min(workers or os.cpu_count() or 1, -(-len(tasks) // PAIRS_A_PROCESS))
    if processes < 2:
        for task in tasks:
            yield inspect_pair(listings[task[0]], task[1])
        return
    # Not forked, because the threads of OpenCV and torch would not exist in the child.
    with sheltered():
        pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start, initargs=(tuple(listings),))
        readings = pool.map(_inspect, tasks, chunksize=_PIECE)
    try:
        yield from readings
    except BrokenProcessPool as error:
        raise DatasetError(
            f"a worker process was killed ({error}), probably for lack of memory; use fewer, such as --workers 1"
        ) from error
    finally:
        for process in list(pool._processes.values()):  # a pool waits for processes that are still starting
            process.terminate()
        pool.shutdown(cancel_futures=True)


_listings: Sequence[Listing] = ()


def _start(listings: Sequence[Listing]) -> None:
    global _listings
    _listings = listings
    cv2.setNumThreads(1)  # the processes already use all cores


def _inspect(task: Task) -> Reading:
    return inspect_pair(_listings[task[0]], task[1])
