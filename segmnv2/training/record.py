"""The record of a run: what its results depend on beside the tensors in its state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import singledispatch
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from segmnv2.config import AnyExperiment
from segmnv2.datasets.coco_boxes import CocoBoxes
from segmnv2.datasets.coco_voc import CocoAsVoc
from segmnv2.datasets.image_folder import ImageFolder
from segmnv2.datasets.source import FileDataset
from segmnv2.models.pixels import Normalization
from segmnv2.training.processes import Processes
from segmnv2.training.run_folder import GROWING_KEYS, Record


def run_record(
    experiment: AnyExperiment,
    processes: Processes,
    model: Any,
    classes: Mapping[str, Any],
    datasets: Mapping[str, Any],
) -> Record:
    """Return the record of a run; it is compared when the run is resumed.

    Args:
        experiment: all of its keys.
        processes: their number decides what batch norms see.
        model: the network. How it normalizes pixels and which norms are frozen comes with the initial weights, which a
            resumed run does not read.
        classes: id -> name, and what is ignored.
        datasets: ``train`` and ``val``, for :func:`identify`.
    """
    return {
        **experiment.to_dict(),
        "processes": processes.count,
        "normalization": {"mean": list(model.normalization.mean), "std": list(model.normalization.std)},
        "frozen_norms": sum(
            isinstance(module, _BatchNorm) and not module.training for module in model.train().modules()
        ),
        "classes": dict(classes),
        "images": {part: _digest(identify(dataset)) for part, dataset in datasets.items()},
        "sizes": {part: _digest(map(str, file_sizes(dataset))) for part, dataset in datasets.items()},
    }


def recorded_normalization(record: Record) -> Normalization:
    """Return the normalization in a record."""
    values = record["normalization"]
    return Normalization(tuple(values["mean"]), tuple(values["std"]))


def describe_changes(before: Record, now: Record) -> list[str]:
    """Return a line for each permitted change that affects the rest of a resumed run."""
    lines = [
        f"note: {key} raised from {before[key]} to {now[key]}; the learning rate now follows the schedule of {now[key]}"
        for key in GROWING_KEYS
        if before.get(key) != now.get(key)
    ]
    if before["processes"] != now["processes"]:
        counts = f"{now['processes']} processes in place of {before['processes']}"
        lines.append(f"note: {counts}; batch norms and dropout differ from those of an unbroken run")
    changed = [f"data.{part}" for part in now["sizes"] if before["sizes"].get(part) != now["sizes"][part]]
    if changed:
        lines.append(
            f"note: images or masks of {' and '.join(changed)} have other file sizes than before; now they count"
        )
    return lines


def count_shared(train: Any, val: Any) -> int:
    """Return how many images are in both data sets, by folder and :func:`identify`; generated ones by their size."""
    first, second = (
        each.folder.resolve() if hasattr(each, "folder") else (type(each), getattr(each, "size", None))
        for each in (train, val)
    )
    return len(set(identify(train)) & set(identify(val))) if first == second else 0


@singledispatch
def identify(dataset: Any) -> Iterable[str]:
    """Return a line for each image of a data set: its name, and its class or boxes where they are no file.

    Paths above the data set's own folder are left out: a data set may be moved.
    """
    names: Iterable[str] | None = getattr(dataset, "names", None)
    return map(str, range(len(dataset))) if names is None else names  # generated ones are in the experiment


def file_sizes(dataset: Any) -> Iterator[int]:
    """Return the bytes of the files of images and masks, which users may repair or replace while a run is stopped.

    Sizes show nearly every change and cost a tenth of a second for ten thousand images. Generated images have no files.
    """
    if isinstance(dataset, FileDataset):
        for path in (file for index in range(len(dataset)) for file in dataset.files(index)):
            try:
                yield path.stat().st_size
            except OSError:  # reading it gives the message
                yield -1
    elif isinstance(dataset, CocoAsVoc):
        yield dataset.annotations.stat().st_size


@identify.register
def _image_folder(dataset: ImageFolder) -> Iterable[str]:
    root = str(dataset.folder)
    return (f"{file.removeprefix(root)} {label}" for file, label in zip(dataset.files, dataset.targets, strict=True))


@identify.register
def _boxes(dataset: CocoBoxes) -> Iterable[str]:
    for number in dataset.ids:
        found = [(each["category_id"], each["bbox"], each.get("iscrowd", 0)) for each in dataset.coco.imgToAnns[number]]
        yield f"{dataset.coco.imgs[number]['file_name']} {found}"


def _digest(lines: Iterable[str]) -> str:
    """Return their number and a checksum, as ``1464 (sha256 0123456789abcdef)``."""
    held = list(lines)
    checksum = hashlib.sha256("\n".join(held).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{len(held)} (sha256 {checksum[:16]})"
