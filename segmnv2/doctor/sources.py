"""Splits to examine, of an experiment or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segmnv2.config import CocoVocSource, DataSource, FolderSource, VocSource, load_experiment
from segmnv2.config.shipped import find_config
from segmnv2.data.coco_voc import CocoAsVoc
from segmnv2.data.folder import IMAGES, MASKS, SPLITS
from segmnv2.data.sample import SegmentationDataset
from segmnv2.data.shapes import Shapes
from segmnv2.data.voc import LISTS, find_folder
from segmnv2.doctor.finding import Finding
from segmnv2.doctor.folder_listing import list_folder
from segmnv2.doctor.listing import Listing, Pair
from segmnv2.doctor.voc_listing import list_voc
from segmnv2.errors import ConfigError, DatasetError

DEFAULT_SPLITS = ("train", "val")


def listings_of(
    target: Path,
    *,
    splits: Sequence[str] = (),
    labels: Path | None = None,
    overrides: Sequence[str] = (),
) -> list[Listing]:
    """List what an experiment trains and validates on, or the splits of a folder.

    Args:
        target: an experiment's YAML file or name, or a data set's folder, plain or in VOC's layout.
        splits: of a folder, the lists to examine, the one to train on first; by default ``train`` and ``val`` where
            they are, else all pairs.
        labels: of a folder, a YAML file with its classes.
        overrides: of an experiment, ``key=value``.

    Raises:
        ConfigError: the experiment is wrong, or options are given that do not go with the target.
        DatasetError: the target is no data set, or its classes cannot be read.
    """
    if target.is_dir():
        if overrides:
            raise ConfigError(f"-o {overrides[0]}: {target} is a folder; overrides go with an experiment's file")
        return _folder_listings(target, splits, labels)
    try:
        target = find_config(target)
    except ConfigError as error:
        raise DatasetError(
            f"{target}: is not there; give a data set's folder, the YAML file of an experiment, or a name of "
            "`segmnv2 configs`"
        ) from error
    if splits or labels:
        raise ConfigError(f"{target}: the experiment says which splits and labels; leave out --split and --labels")
    data = load_experiment(target, overrides).data
    listings = [_source_listing(data.train, "train"), _source_listing(data.val, "val")]
    train, val = (listing.labels for listing in listings)
    if train != val:
        differing = train.differences(val, "data.val", "data.train")
        raise ConfigError(f"the labels of data.train and data.val differ: {differing}; validate on the trained classes")
    return listings


def _folder_listings(root: Path, splits: Sequence[str], labels: Path | None) -> list[Listing]:
    twice = sorted({split for split in splits if list(splits).count(split) > 1})
    if twice:
        raise ConfigError(f"--split {twice[0]} is given twice; name each list once")
    if (root / IMAGES).is_dir() or (root / MASKS).is_dir():
        lists: list[str | None] = [*splits] or _present(root / SPLITS)
        return [list_folder(root, name, name or "all", labels) for name in lists or [None]]
    try:
        folder = find_folder(root)
    except DatasetError:
        raise DatasetError(
            f"{root}: holds neither {IMAGES}/ and {MASKS}/ nor, as VOC does, {LISTS}; give a data set's folder, or the "
            "YAML file of an experiment"
        ) from None
    names = [*splits] or _present(folder / LISTS)
    if not names:
        others = ", ".join(sorted(file.stem for file in (folder / LISTS).glob("*.txt"))) or "none"
        raise DatasetError(f"{folder / LISTS}: has no list train or val; name others by --split; there are: {others}")
    return [list_voc(root, name, name, labels) for name in names if name]


def _present(folder: Path) -> list[str | None]:
    return [split for split in DEFAULT_SPLITS if (folder / f"{split}.txt").is_file()]


def _source_listing(source: DataSource, split: str) -> Listing:
    if isinstance(source, FolderSource):
        return list_folder(source.root, source.split, split)
    if isinstance(source, VocSource):
        return list_voc(source.root, source.split, split, source.labels)
    dataset: SegmentationDataset
    if isinstance(source, CocoVocSource):
        coco = _AllOfCoco(source.root, source.split, min_pixels=source.min_pixels)
        dataset, root, files = coco, source.root, coco.files
    else:
        dataset, root = Shapes(source.length, (source.size, source.size), source.seed), Path("shapes")
        files = [root / f"{source.seed}_{index}" for index in range(len(dataset))]
    pairs = tuple(Pair(file.stem, file, None) for file in files)
    findings = () if pairs else (Finding("empty", str(root), "holds no images", "give another split", split),)
    return Listing(split, root, dataset.labels, pairs, findings, dataset=dataset)


class _AllOfCoco(CocoAsVoc):
    """COCO, opened though image files are missing: reading says which."""

    @property
    def files(self) -> list[Path]:
        """The image files that the annotations name."""
        return [self.folder / file for file in self._files]

    def _check_files(self, min_pixels: int, total: int) -> None:
        """Refuse nothing."""
