"""Splits to examine, of an experiment or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segmnv2.config.reading import find_config, load_experiment
from segmnv2.datasets.dataset_kinds import DATASETS, FileSource
from segmnv2.datasets.listing import Listing
from segmnv2.errors import ConfigError, DatasetError


def listings_of(
    target: Path,
    *,
    splits: Sequence[str] = (),
    labels: Path | None = None,
    overrides: Sequence[str] = (),
) -> list[Listing]:
    """List what an experiment trains and validates on, or the splits of a folder.

    Args:
        target: an experiment's YAML file or name, or a data set's folder.
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
    listings = [data.train.listing("train"), data.val.listing("val")]
    train, val = (listing.labels for listing in listings)
    if train != val:
        differing = train.differences(val, "data.val", "data.train")
        raise ConfigError(f"the labels of data.train and data.val differ: {differing}; validate on the trained classes")
    return listings


def _folder_listings(root: Path, splits: Sequence[str], labels: Path | None) -> list[Listing]:
    for kind in DATASETS.values():
        if sources := kind.found_in(root, splits, labels):
            return [source.listing(getattr(source, "split", None) or "all") for source in sources]
    layouts = ", ".join(f"{name}: {kind.root_is}" for name, kind in DATASETS.items() if issubclass(kind, FileSource))
    raise DatasetError(
        f"{root}: has the layout of no data set ({layouts}); give a data set's folder, or an experiment's YAML file"
    )
