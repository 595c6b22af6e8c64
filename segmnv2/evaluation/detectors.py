"""COCO's average precision of a detector."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segmnv2.coco.boxes import CocoBoxes, PixelBoxes
from segmnv2.data.box_transforms import collate_boxes
from segmnv2.data.loader import validation_loader
from segmnv2.detection.detector import Detections, Detector
from segmnv2.engines.pytorch import convolutions
from segmnv2.errors import ConfigError, counted
from segmnv2.evaluation.result import Result, pick_samples
from segmnv2.files.atomic import atomic_path
from segmnv2.labels import table_cell
from segmnv2.metrics.coco_ap import NAMES, AveragePrecision, check_library, coco_ap
from segmnv2.models.cost import count_parameters
from segmnv2.nn.network import evaluating

TITLES = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")


@dataclass(frozen=True)
class DetectorEvaluation(Result):
    """Average precisions, with the detections that they are computed from.

    Attributes:
        precision: average precision of all categories and of each one.
        class_names: category id -> name.
        detections: image id -> boxes detected in the image.
    """

    precision: AveragePrecision
    class_names: Mapping[int, str]
    detections: Mapping[int, Detections]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: precisions in percent, ``None`` if there is no true box."""
        values = {name: getattr(self.precision, name) for name in NAMES}
        return {
            **{name: None if math.isnan(value) else value for name, value in values.items()},
            "images": self.precision.images,
            "classes": {name: self.precision.by_class.get(number) for number, name in self.class_names.items()},
            "protocol": self.protocol,
            "network": self.network,
        }

    def write_detections(self, path: str | Path) -> None:
        """Write the detections as COCO's result file: a list of image, category, box (x, y, width, height), score.

        Boxes with an id of no category are left out, as in average precision.
        """
        rows = [
            {"image_id": number, "category_id": int(label), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            for number, boxes in self.detections.items()
            for (x1, y1, x2, y2), label, score in zip(
                *(boxes[key].cpu().double().tolist() for key in ("boxes", "labels", "scores")), strict=True
            )
            if label in self.class_names
        ]
        with atomic_path(path) as partial:
            partial.write_text(json.dumps(rows), encoding="utf-8")

    def to_markdown(self, worst: int = 10) -> str:
        """Return a table of the ``worst`` categories, those with the lowest precision, and the overall precisions."""
        known = sorted((value, self.class_names[number]) for number, value in self.precision.by_class.items())
        title = "class" if len(known) <= worst else f"class (the worst {worst} of {len(known)})"
        lines = [f"| {title} | AP % |", "|---|---:|"]
        lines += [f"| {table_cell(name)} | {value:.2f} |" for value, name in known[:worst]]
        values = [getattr(self.precision, name) for name in NAMES]
        shown = [f"{title} {value:.2f} %" for title, value in zip(TITLES, values, strict=True) if not math.isnan(value)]
        return "\n".join([*lines, "", f"{', '.join(shown)}, {counted(self.precision.images, 'image')}."])


def evaluate_detector(
    model: Detector,
    dataset: CocoBoxes,
    *,
    limit: int | None = None,
    num_workers: int = 0,
    library: str | None = None,
    progress: Callable[[], None] | None = None,
) -> DetectorEvaluation:
    """Detect in every image, one at a time, and compare with its annotations.

    Args:
        model: the detector, on the device to use; it is in evaluation mode during the call.
        dataset: images of the detector's categories.
        limit: number of images, evenly distributed over the set; ``None`` for all.
        num_workers: worker processes.
        library: as for :func:`segmnv2.metrics.coco_ap.coco_ap`.
        progress: called after each image.

    Raises:
        ConfigError: the data set has other categories than the detector, or the limit is not possible.
        DatasetError: no box in these images counts.
        MediaError: an image cannot be read.
    """
    _check(model, dataset)
    chosen = pick_samples(PixelBoxes(dataset), limit)
    dataset.check_boxes_to_find(chosen.indices)
    library = check_library(library)
    device = next(model.parameters()).device
    detections: dict[int, Detections] = {}
    loader = validation_loader(chosen, num_workers=num_workers, stack=collate_boxes)
    with evaluating(model), convolutions("ieee", tuned=False), torch.inference_mode():
        for batch in loader:
            (boxes,) = model([image.to(device).float() / 255 for image in batch["images"]])
            detections[batch["targets"][0]["image_id"]] = {key: value.cpu() for key, value in boxes.items()}
            if progress is not None:
                progress()
    network = {**model.architecture.to_dict(), "parameters": count_parameters(model)}
    del network["class_names"]  # the results state them
    protocol = {"iou": "0.50:0.95", "boxes_per_image": 100, "library": library, "torch": torch.__version__}
    precision = coco_ap(dataset.coco, detections, library=library)
    return DetectorEvaluation(precision, dict(model.class_names), detections, protocol=protocol, network=network)


def _check(model: Detector, dataset: CocoBoxes) -> None:
    if dataset.class_names != dict(model.class_names):
        ours, theirs = model.class_names, dataset.class_names
        differing = sorted({f"{number} {name}" for number, name in ours.items() ^ theirs.items()})
        raise ConfigError(
            f"{dataset.folder}: has {len(theirs)} categories, the detector {len(ours)}; {', '.join(differing[:5])} are "
            "in one of them only; evaluate on the categories that were trained, under the same ids"
        )
