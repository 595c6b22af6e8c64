"""Semantic Boundaries Dataset (SBD), whose masks extend VOC's ``train`` (1464 images) to ``train_aug`` (10582).

The masks are MATLAB files of version 5. scipy's reader trusts the sizes in a file, so damaged bytes can crash the
process. Here, each size is checked first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from segmnv2.data.mask_file import check_ids, read_mask, write_mask
from segmnv2.data.sample import Mask
from segmnv2.datasets.listing import read_ids
from segmnv2.datasets.voc import IMAGES, LISTS, SBD_MASKS, VocSegmentation, folder_with
from segmnv2.errors import DatasetError
from segmnv2.files.atomic import atomic_path
from segmnv2.files.ownership import claim
from segmnv2.labels import VOC_LABELS

HEADER = 128
ORDERS = {b"IM": "<", b"MI": ">"}
"""Bytes 126 and 127 of a file -> byte order."""

MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of elements of numbers."""

STRUCTURE = 2
NUMERIC = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Classes of arrays of numbers, which may be stored in a smaller type."""

LARGEST = 1 << 28
"""Bytes that a compressed variable may hold."""

Element = tuple[int, memoryview]


def read_field(content: bytes, variable: str, field: str) -> np.ndarray[Any, Any]:
    """Return the numbers in a field of a 1 x 1 structure, from the bytes of a MATLAB file.

    Raises:
        KeyError: there is no such variable or field, or it is not an array of numbers.
        ValueError: the bytes are not such a file, or are damaged.

    Source: MathWorks, "MAT-File Format", level 5.
    """
    order = ORDERS.get(content[HEADER - 2 : HEADER])
    if order is None:
        raise ValueError("it has no header of version 5")
    for kind, data in _elements(memoryview(content)[HEADER:], order):
        if kind == COMPRESSED:
            try:
                content = zlib.decompressobj().decompress(data, LARGEST)
            except zlib.error as error:
                raise ValueError(str(error)) from error
            kind, data = next(_elements(memoryview(content), order), (0, data))
        if kind == MATRIX:
            array, _, name, parts = _matrix(data, order)
            if name == variable and array == STRUCTURE:
                return _numbers(_field(parts, field, order), order)
    raise KeyError(variable)


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    """Yield the type and content of each element."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start, room, step = at + 8, len(data) - at - 8, size + (-size % 8 if kind != COMPRESSED else 0)
        if kind >> 16:  # at most 4 bytes, stored in the tag itself
            kind, size, start, room, step = kind & 0xFFFF, kind >> 16, at + 4, 4, 4
        if size > room:
            raise ValueError(f"an element of {size} bytes has only {room}")
        yield kind, data[start : start + size]
        at = start + step


def _matrix(data: memoryview, order: str) -> tuple[int, tuple[int, ...], str, Iterator[Element]]:
    """Return class, sizes and name of an array, and the elements that follow."""
    elements = _elements(data, order)
    parts = [part for _, part in islice(elements, 3)]
    if len(parts) < 3 or len(parts[0]) != 8 or len(parts[1]) % 4:
        raise ValueError("an array has no flags, sizes and name")
    sizes = tuple(np.frombuffer(parts[1], f"{order}i4").tolist())
    return int(struct.unpack_from(f"{order}I", parts[0])[0]) & 0xFF, sizes, bytes(parts[2]).decode("latin-1"), elements


def _field(parts: Iterator[Element], field: str, order: str) -> memoryview:
    head = [part for _, part in islice(parts, 2)]
    if len(head) < 2 or len(head[0]) != 4:
        raise ValueError("a structure has no names of fields")
    length, names = struct.unpack(f"{order}I", head[0])[0] or 1, bytes(head[1])
    for start, (kind, value) in zip(range(0, len(names), length), parts, strict=False):
        if names[start : start + length].rstrip(b"\0") == field.encode() and kind == MATRIX:
            return value
    raise KeyError(field)


def _numbers(data: memoryview, order: str) -> np.ndarray[Any, Any]:
    array, sizes, _, parts = _matrix(data, order)
    kind, stored = next(parts, (0, memoryview(b"")))
    if array not in NUMERIC:
        raise KeyError(f"it is of class {array}, not numbers")
    if kind not in STORED or len(stored) % int(STORED[kind][1]) or min(sizes, default=0) < 0:
        raise ValueError("an array's numbers are damaged")
    values = np.frombuffer(stored, order + STORED[kind])
    return values.astype(NUMERIC[array]).reshape(sizes, order="F")


TRAIN_AUG = "train_aug"


@dataclass(frozen=True)
class TrainAugReport:
    """Result of :func:`build_train_aug`.

    Attributes:
        path: the list ``train_aug.txt``.
        written: masks written.
        kept: existing masks with the same ids.
        excluded: ids of SBD that are in VOC's ``val``.
        already_train: ids of SBD in VOC's ``train``, which has better masks.
        listed: images in the list.
    """

    path: Path
    written: int
    kept: int
    excluded: int
    already_train: int
    listed: int

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.listed} images; {self.written} masks written, {self.kept} unchanged, "
            f"{self.excluded} excluded as VOC's val, {self.already_train} already in VOC's train"
        )


def read_sbd_mask(path: str | Path) -> Mask:
    """Read the class mask, uint8 (H, W), ids 0..20, of a MATLAB file in SBD's folder ``cls``.

    SBD has no ignored pixels along borders.

    Raises:
        DatasetError: the file is missing, damaged, of another structure, or holds other ids.
    """
    try:
        mask = np.ascontiguousarray(read_field(Path(path).read_bytes(), "GTcls", "Segmentation"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such mask; unpack all of SBD's folder 'cls'") from None
    except KeyError as error:
        raise DatasetError(
            f"{path}: has no GTcls.Segmentation ({error}); give a file of SBD's folder 'cls', not of 'inst'"
        ) from error
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: cannot be read as a MATLAB file of version 5 ({error}); unpack it again from SBD's archive"
        ) from error
    if mask.dtype != np.uint8 or mask.ndim != 2 or mask.size == 0:
        raise DatasetError(
            f"{path}: GTcls.Segmentation is {mask.dtype} of shape {mask.shape}; allowed is uint8 (rows, columns); "
            "unpack the file again from SBD's archive"
        )
    check_ids(mask, VOC_LABELS, source=str(path))
    return mask


def build_train_aug(
    voc_root: str | Path, sbd_root: str | Path, *, track: Callable[[Sequence[str]], Iterable[str]] = iter
) -> TrainAugReport:
    """Add SBD's masks and the list ``train_aug`` to VOC 2012.

    ``SegmentationClassAug/ID.png`` is written for each id of SBD's train and val that is in neither VOC's train nor
    val. ``train_aug.txt`` lists VOC's train, then these ids. Ids in ``ImageSets/Segmentation*/val.txt`` count as VOC's
    val, so that a part of VOC can keep the full list in such a folder. Existing files are not changed, and the list is
    written last, so an interrupted call can be repeated.

    Args:
        voc_root: folder ``VOCdevkit``, or ``VOC2012`` in it.
        sbd_root: SBD's folder ``benchmark_RELEASE``, or ``dataset`` in it.
        track: wrapper of the iterator over the ids, for a progress bar.

    Raises:
        DatasetError: a folder, list or image is missing, a mask is damaged, or a mask or list exists and differs.
    """
    voc = VocSegmentation(voc_root, "train")
    source = folder_with("cls", Path(sbd_root), "dataset", "give benchmark_RELEASE as unpacked from SBD's archive")
    train, val = set(voc.names), _val_ids(voc.folder)
    leaks = sorted(train & val)
    if leaks:
        raise DatasetError(
            f"{voc.folder / LISTS / 'train.txt'}: {len(leaks)} of its ids are in val too, the first is {leaks[0]}; "
            "remove them from one of the lists"
        )
    sbd = sorted({name for split in ("train", "val") for name in read_ids(source / f"{split}.txt")})
    added = [name for name in sbd if name not in train and name not in val]
    path = voc.folder / LISTS / f"{TRAIN_AUG}.txt"
    _check_list(path, train | set(added))
    for output in (path, voc.folder / SBD_MASKS):
        claim(output)  # existing files stay unchanged
    _check_images(voc.folder / IMAGES, added)
    written = sum(_keep_or_write(voc.folder / SBD_MASKS, source / "cls", name) for name in track(added))
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in [*voc.names, *added]), encoding="utf-8")
    return TrainAugReport(
        path,
        written=written,
        kept=len(added) - written,
        excluded=len(val.intersection(sbd)),
        already_train=len(train.intersection(sbd)),
        listed=len(train) + len(added),
    )


def _val_ids(folder: Path) -> set[str]:
    own = folder / LISTS / "val.txt"
    others = (folder / LISTS).parent.glob(f"{LISTS.name}*/val.txt")
    return {name for path in {own, *others} for name in read_ids(path)}


def _check_list(path: Path, expected: set[str]) -> None:
    if path.is_file() and (found := set(read_ids(path))) != expected:
        raise DatasetError(
            f"{path}: exists with {len(found)} ids; {len(found ^ expected)} ids are in it or among the {len(expected)} "
            "to be listed, but not in both; move it away to write it again"
        )


def _check_images(folder: Path, names: list[str]) -> None:
    present = {path.stem for path in folder.glob("*.jpg")}
    missing = [name for name in names if name not in present]
    if missing:
        raise DatasetError(
            f"{folder}: {len(missing)} of the {len(names)} images that SBD adds are missing, the first is "
            f"{missing[0]}.jpg; unpack all of VOC 2012's trainval archive, or copy them from SBD's folder 'img'"
        )


def _keep_or_write(target: Path, source: Path, name: str) -> bool:
    """Write a mask if it does not exist; return whether it was written."""
    path, mask = target / f"{name}.png", read_sbd_mask(source / f"{name}.mat")
    if not path.exists():
        write_mask(path, mask, VOC_LABELS)
        return True
    if not np.array_equal(read_mask(path, VOC_LABELS), mask):
        raise DatasetError(f"{path}: exists and differs from SBD's mask; move it away to write it again")
    return False
