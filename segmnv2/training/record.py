"""The record of a run: the values on which its results depend, besides the tensors in its state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from segmnv2.backbones.backbone import BACKBONES, complete_options
from segmnv2.config.network_section import SHORT_OPTIONS
from segmnv2.config.reading import AnyExperiment
from segmnv2.datasets.dataset_kinds import digest, file_sizes, identify
from segmnv2.files.documents import dump_json
from segmnv2.heads.head import complete_head_options
from segmnv2.models.segmenter import MODELS
from segmnv2.tasks.processes import Processes
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
        experiment: the experiment; all its keys are recorded.
        processes: the processes of the run; their number affects batch norms.
        model: the model. Its normalization and frozen norms come from the initial weights, which a resumed run does not
            read.
        classes: class id -> name, and the ignore index.
        datasets: ``train`` and ``val``, for :func:`segmnv2.datasets.dataset_kinds.identify`.
    """
    return {
        **experiment.to_dict(),
        "processes": processes.count,
        "normalization": {"mean": list(model.normalization.mean), "std": list(model.normalization.std)},
        "frozen_norms": sum(
            isinstance(module, _BatchNorm) and not module.training for module in model.train().modules()
        ),
        "classes": dict(classes),
        "images": {part: digest(identify(dataset)) for part, dataset in datasets.items()},
        "sizes": {part: digest(map(str, file_sizes(dataset))) for part, dataset in datasets.items()},
    }


def with_defaults(record: Record) -> Record:
    """Return a record with all options of backbone and head, so that it equals a record that omits defaults."""
    section = dict(record["model"])
    spec = MODELS.get(section["name"])
    backbone = spec.backbone if spec else section["name"]
    if backbone not in BACKBONES:
        return record
    short = {key: section[key] for key in SHORT_OPTIONS if section.get(key) is not None}
    options = complete_options(backbone, {**short, **(section.get("backbone") or {})})
    section |= {key: options.pop(key) for key in SHORT_OPTIONS if key in options}
    section["backbone"] = options
    if spec:
        section["head"] = complete_head_options(spec.head, section.get("head") or {})
    return {**record, "model": json.loads(dump_json(section))}


def describe_changes(before: Record, now: Record) -> list[str]:
    """Return a line for each permitted change that affects the rest of a resumed run."""
    lines = [
        f"note: {key} raised from {before[key]} to {now[key]}; the learning rate now follows the schedule of {now[key]}"
        for key in GROWING_KEYS
        if before.get(key) != now.get(key)
    ]
    if before["processes"] != now["processes"]:
        counts = f"{now['processes']} processes in place of {before['processes']}"
        lines.append(f"note: {counts}; batch norms and dropout differ from those of an uninterrupted run")
    changed = [f"data.{part}" for part in now["sizes"] if before["sizes"].get(part) != now["sizes"][part]]
    if changed:
        lines.append(
            f"note: images or masks of {' and '.join(changed)} have other file sizes than before; the run continues "
            "with the new files"
        )
    return lines
