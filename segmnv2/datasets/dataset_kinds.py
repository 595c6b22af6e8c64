"""All kinds of data sets for segmentation, by name: a new kind is a file and a line here."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from segmnv2.datasets.source import DataSource
from segmnv2.errors import ConfigError
from segmnv2.lazy_registry import Registry

DATASETS: Registry[type[DataSource]] = Registry(
    "segmnv2.datasets",
    {
        "voc": "voc:VocSource",
        "cityscapes": "cityscapes:CityscapesSource",
        "ade20k": "ade20k:Ade20kSource",
        "folder": "folder:FolderSource",
        "coco_voc": "coco_voc:CocoVocSource",
        "shapes": "shapes:ShapesSource",
    },
)
"""What ``kind`` in an experiment's ``data.train`` and ``data.val`` may be; `check-data` tries layouts in this order."""

BOXES, CLASSES = "coco", "image-folder"
"""What ``segmnv2 evaluate --dataset`` takes for detectors and for classifiers."""


def evaluation_source(name: str, root: Path | None, split: str | None) -> DataSource:
    """Return the data set of ``segmnv2 evaluate --dataset NAME``.

    Args:
        name: a key of :data:`DATASETS`, with ``-`` or ``_``.
        root: its folder.
        split: which part; the usual one for evaluation by default.

    Raises:
        ConfigError: there is no such kind or split, or the root is missing or too many.
    """
    kind = DATASETS.get(name.replace("-", "_"))
    if kind is None:
        names = ", ".join([*(name.replace("_", "-") for name in DATASETS), BOXES, CLASSES])
        raise ConfigError(f"--dataset {name}: is not known; give one of {names}")
    values = {"root": root, "split": split}
    unknown = [f"--{key}" for key, value in values.items() if value is not None and key not in kind.model_fields]
    if unknown:
        raise ConfigError(f"{', '.join(unknown)}: {name} has no such option; leave it out")
    if root is None and kind.root_is:
        raise ConfigError(f"--root is missing; --dataset {name} needs {kind.root_is}")
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return kind.model_validate({"kind": name.replace("-", "_"), **kind.evaluation, **given})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ConfigError(f"--{fault['loc'][0]} {fault['input']}: {fault['msg'].lower()}") from None
