"""Your own data set: a folder of images and a folder of masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from segmnv2.data.image_file import ENDINGS
from segmnv2.data.mask_file import BINARY_PALETTE
from segmnv2.datasets.dataset_kinds import FileSource
from segmnv2.datasets.listing import Finding, Listing, Pair, check_lists, read_names, unknown_names
from segmnv2.errors import ConfigError, DatasetError
from segmnv2.files.checksum import is_passed_over, list_entries
from segmnv2.labels import LabelSet
from segmnv2.section import FilePath

IMAGES = "images"
MASKS = "masks"
LABELS = "labels.yaml"
SPLITS = "splits"
MASK_ENDINGS = (".png",)


class FolderSource(FileSource):
    """Your own data set: ``images/``, ``masks/`` and ``labels.yaml``.

    Attributes:
        root: the folder that holds them.
        split: a list ``splits/NAME.txt``; ``null`` for all images.
        labels: YAML file with the names of the classes; ``null`` for ``labels.yaml`` in the folder.
    """

    root_is: ClassVar = "the folder that holds images and masks"

    kind: Literal["folder"] = "folder"
    labels: FilePath | None = None

    def listing(self, split: str) -> Listing:
        """List the pairs."""
        return list_folder(self.root, self.split, split, self.labels)

    @classmethod
    def found_in(cls, root: Path, splits: Sequence[str], labels: Path | None) -> Sequence[FolderSource]:
        """Return a source for each list of a folder with images or masks."""
        if not ((root / IMAGES).is_dir() or (root / MASKS).is_dir()):
            return ()
        lists: Sequence[str | None] = check_lists(root / SPLITS, splits) or [None]
        return [cls(root=root, split=name, labels=labels) for name in lists]


def list_folder(
    root: Path, list_name: str | None, split: str, label_file: Path | None = None, labels: LabelSet | None = None
) -> Listing:
    """List the pairs of a folder, those in ``splits/LIST_NAME.txt`` or all; ``split`` is their name in findings.

    ``label_file`` replaces ``labels.yaml``, and ``labels`` replaces both.

    Raises:
        DatasetError: there is no such folder, or its classes cannot be read.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: there is no such folder; give the one that holds {IMAGES} and {MASKS}")
    label_file = label_file or root / LABELS
    labels = labels or read_labels(label_file)
    images, findings = _scan(root / IMAGES, ENDINGS, ENDINGS)
    masks, more = _scan(root / MASKS, MASK_ENDINGS, ENDINGS)  # masks in other formats are listed too
    findings += more + _find_unpaired(root, images, masks)
    names, list_file = sorted(images.keys() & masks.keys()), None
    if list_name is not None:
        list_file = Path(SPLITS, f"{list_name}.txt")
        listed, more = read_names(root / list_file, split, "leave the split out to take all pairs")
        findings += more
        findings += unknown_names(root / list_file, [name for name in listed if name not in images], IMAGES, split)
        names = [name for name in listed if name in images and name in masks]
    pairs = tuple(Pair(name, images[name], masks[name]) for name in names)
    return Listing(split, root, labels, pairs, tuple(findings), list_file, label_file)


def _scan(
    folder: Path, endings: tuple[str, ...], convertible: tuple[str, ...]
) -> tuple[dict[str, Path], list[Finding]]:
    """Return the files of a folder by stem, and its faults; a ``convertible`` ending is a fault with a repair."""
    form = f"a data set has {IMAGES}/NAME.jpg and {MASKS}/NAME.png, one mask for each image"
    if not folder.is_dir():
        return {}, [Finding("empty", str(folder), "there is no such folder", form)]
    files: dict[str, Path] = {}
    findings = []
    entries = sorted(list_entries(folder), key=lambda entry: (entry[0].suffix.lower() not in endings, entry[0].name))
    for path, is_folder in entries:
        if is_passed_over(path):
            continue
        ending = path.suffix.lower()
        if ending not in endings or is_folder:
            known = ending in convertible and not is_folder and path.stem not in files
            reason = "is a folder" if is_folder else f"has the ending '{path.suffix}'"
            remedy = f"{folder.name}/ holds files ending in {', '.join(endings)} only: convert it, or move it elsewhere"
            findings.append(Finding("wrong-ending", str(path), reason, remedy, repair="resave" if known else None))
            if not known:
                continue
        if path.stem in files:
            reason = f"has the same name as {files[path.stem].name} except for the ending"
            remedy = "names pair images and masks, so each may occur once: rename one of the two files, and its partner"
            findings.append(Finding("twin-name", str(path), reason, remedy))
            continue
        files[path.stem] = path
    if not files:
        findings.append(Finding("empty", str(folder), "holds no images", form))
    return files, findings


def _find_unpaired(root: Path, images: dict[str, Path], masks: dict[str, Path]) -> list[Finding]:
    remedy = "image and mask need the same name except for the ending, capitals included: rename, add or move a file"
    without_mask = [
        Finding("missing-mask", str(images[name]), f"there is no {root / MASKS / name}.png", remedy)
        for name in sorted(images.keys() - masks.keys())
    ]
    without_image = [
        Finding("missing-image", str(masks[name]), f"there is no image {root / IMAGES / name}.*", remedy)
        for name in sorted(masks.keys() - images.keys())
    ]
    return without_mask + without_image


def read_labels(path: Path) -> LabelSet:
    """Read ``labels.yaml``.

    Raises:
        DatasetError: the file is missing or cannot be used, or names a single class.
    """
    if not path.is_file():
        raise DatasetError(
            f"{path}: there is no such file; it names the classes in the order of their ids, background first, "
            "such as `names: [background, cat, dog]`"
        )
    try:
        labels = LabelSet.from_yaml(path)
    except ConfigError as error:
        raise DatasetError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    if labels.num_classes == 1:
        raise DatasetError(
            f"{path}: names one class, '{labels.names[0]}', but a model needs two; name the other "
            f"pixels too: `names: [background, {labels.names[0]}]`, and for black and white masks (0 and "
            f"255) add `{BINARY_PALETTE}`"
        )
    return labels
