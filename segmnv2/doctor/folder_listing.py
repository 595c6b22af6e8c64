"""The pairs of a plain folder, ``images/`` beside ``masks/``, with every fault where training stops at the first."""

from __future__ import annotations

from pathlib import Path

from segmnv2.data.folder import (
    IMAGES,
    LABELS,
    MASK_ENDINGS,
    MASKS,
    SPLITS,
    is_passed_over,
    list_entries,
    read_labels,
)
from segmnv2.data.image_file import ENDINGS
from segmnv2.doctor.finding import Finding
from segmnv2.doctor.listing import Listing, Pair, read_names, unknown_names
from segmnv2.errors import DatasetError


def list_folder(root: Path, list_name: str | None, split: str, label_file: Path | None = None) -> Listing:
    """List a plain folder.

    Args:
        root: the folder.
        list_name: a list ``splits/NAME.txt``; ``None`` for all pairs.
        split: what findings call the split.
        label_file: in place of ``labels.yaml``.

    Raises:
        DatasetError: there is no such folder, or its classes cannot be read.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: there is no such folder; give the one that holds {IMAGES} and {MASKS}")
    label_file = label_file or root / LABELS
    labels = read_labels(label_file)
    images, findings = _scan(root / IMAGES, ENDINGS, ENDINGS)
    masks, more = _scan(root / MASKS, MASK_ENDINGS, ENDINGS)  # other images are looked into all the same
    findings += more + _lonely(root, images, masks)
    names, list_file = sorted(images.keys() & masks.keys()), None
    if list_name is not None:
        list_file = Path(SPLITS, f"{list_name}.txt")
        listed, more = read_names(root / list_file, split)
        findings += more
        findings += unknown_names(root / list_file, [name for name in listed if name not in images], IMAGES, split)
        names = [name for name in listed if name in images and name in masks]
    pairs = tuple(Pair(name, images[name], masks[name]) for name in names)
    return Listing(
        split,
        root,
        labels,
        pairs,
        tuple(findings),
        list_file,
        label_file,
    )


def _scan(
    folder: Path, endings: tuple[str, ...], looked_into: tuple[str, ...]
) -> tuple[dict[str, Path], list[Finding]]:
    """List a folder by stems.

    Args:
        folder: ``images`` or ``masks``.
        endings: what training takes.
        looked_into: what is listed, besides, as a file with a wrong ending.
    """
    form = f"a data set has {IMAGES}/NAME.jpg and {MASKS}/NAME.png, one mask for each image"
    if not folder.is_dir():
        return {}, [Finding("empty", str(folder), "there is no such folder", form)]
    found: dict[str, Path] = {}
    findings = []
    entries = sorted(list_entries(folder), key=lambda entry: (entry[0].suffix.lower() not in endings, entry[0].name))
    for path, is_folder in entries:
        if is_passed_over(path):
            continue
        ending = path.suffix.lower()
        if ending not in endings or is_folder:
            known = ending in looked_into and not is_folder and path.stem not in found
            reason = "is a folder" if is_folder else f"has the ending '{path.suffix}'"
            remedy = f"{folder.name}/ holds files ending in {', '.join(endings)} only: convert it, or move it elsewhere"
            findings.append(Finding("wrong-ending", str(path), reason, remedy, repair="resave" if known else None))
            if not known:
                continue
        if path.stem in found:
            reason = f"has the same name but for its ending as {found[path.stem].name}"
            remedy = "the name pairs image and mask, so each may occur once: rename one of the two, and its partner"
            findings.append(Finding("twin-name", str(path), reason, remedy))
            continue
        found[path.stem] = path
    if not found:
        findings.append(Finding("empty", str(folder), "holds no images", form))
    return found, findings


def _lonely(root: Path, images: dict[str, Path], masks: dict[str, Path]) -> list[Finding]:
    remedy = "image and mask have the same name but for the ending, capitals included: rename, add or move away"
    without_mask = [
        Finding("missing-mask", str(images[name]), f"there is no {root / MASKS / name}.png", remedy)
        for name in sorted(images.keys() - masks.keys())
    ]
    without_image = [
        Finding("missing-image", str(masks[name]), f"there is no image {root / IMAGES / name}.*", remedy)
        for name in sorted(masks.keys() - images.keys())
    ]
    return without_mask + without_image
