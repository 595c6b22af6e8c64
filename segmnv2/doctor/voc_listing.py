"""The pairs of a data set in PASCAL VOC's layout."""

from __future__ import annotations

from pathlib import Path

from segmnv2.data.folder import read_labels
from segmnv2.data.voc import IMAGES, LISTS, MASKS, SBD_MASKS, file_names, find_folder
from segmnv2.doctor.finding import Finding
from segmnv2.doctor.listing import Listing, Pair, read_names, unknown_names
from segmnv2.labels import VOC_LABELS


def list_voc(root: Path, list_name: str, split: str, label_file: Path | None = None) -> Listing:
    """List a split of VOC, or of your own data in its layout.

    Args:
        root: ``VOCdevkit``, or the folder ``VOC2012`` in it.
        list_name: a list in ``ImageSets/Segmentation``.
        split: what findings call the split.
        label_file: classes in place of VOC's.

    Raises:
        DatasetError: there are no lists, or the classes cannot be read.
    """
    folder = find_folder(root)
    labels = read_labels(label_file) if label_file else VOC_LABELS
    path = folder / LISTS / f"{list_name}.txt"
    names, findings = read_names(path, split)
    odd = [name for name in names if name.split() != [name] or "/" in name or "\\" in name]
    findings += unknown_names(path, odd, IMAGES, split)
    images, own, sbd = (file_names(folder / part) for part in (IMAGES, MASKS, SBD_MASKS))
    pairs = []
    for name in [name for name in names if name not in odd]:
        place = MASKS if f"{name}.png" in own else SBD_MASKS
        image, mask = folder / IMAGES / f"{name}.jpg", folder / place / f"{name}.png"
        has_image, has_mask = image.name in images, place is MASKS or mask.name in sbd
        if has_image and has_mask:
            pairs.append(Pair(name, image, mask))
        else:
            findings += _missing(path, name, has_image, has_mask, split)
    return Listing(split, folder, labels, tuple(pairs), tuple(findings), LISTS / f"{list_name}.txt", label_file)


def _missing(path: Path, name: str, has_image: bool, has_mask: bool, split: str) -> list[Finding]:
    if not (has_image or has_mask):
        return unknown_names(path, [name], IMAGES, split)
    folder, remedy = path.parents[2], f"unpack it there, or take '{name}' off {path}"
    if has_image:
        reason = f"{path.name} names it, and it is neither there nor in {SBD_MASKS}/"
        return [Finding("missing-mask", str(folder / MASKS / f"{name}.png"), reason, remedy, split)]
    reason = f"{path.name} names it, and it is not there"
    return [Finding("missing-image", str(folder / IMAGES / f"{name}.jpg"), reason, remedy, split)]
