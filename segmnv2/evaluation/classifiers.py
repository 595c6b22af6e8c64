"""Top-1 and top-5 accuracy of a classifier on a folder of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segmnv2.data.image_transforms import CentralTransform, collate_images
from segmnv2.data.loader import validation_loader
from segmnv2.datasets.image_folder import ImageFolder
from segmnv2.engines.pytorch import convolutions
from segmnv2.errors import ConfigError, WeightsError, counted
from segmnv2.evaluation.result import Result, pick_samples
from segmnv2.labels import describe_difference, table_cell
from segmnv2.metrics.confusion import TOP, TopAccuracy
from segmnv2.models.classifier import Classifier
from segmnv2.models.cost import count_parameters
from segmnv2.models.model_file import read_model_file
from segmnv2.nn.network import evaluating

CROP_SIZE = 224
CENTRAL = 0.875
BATCH_SIZE = 32


@dataclass(frozen=True)
class ClassifierEvaluation(Result):
    """Accuracies, with the protocol and the model.

    Attributes:
        accuracy: accuracy over all images.
        by_class: accuracy over the images of each class.
    """

    accuracy: TopAccuracy
    by_class: dict[str, TopAccuracy]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: accuracies in percent, ``None`` for a class without an image."""
        return {
            "top1": self.accuracy.top1,
            "top5": self.accuracy.top5,
            "loss": self.accuracy.loss,
            "images": self.accuracy.images,
            "classes": {
                name: {"top1": accuracy.top1 if accuracy.images else None, "images": accuracy.images}
                for name, accuracy in self.by_class.items()
            },
            "protocol": self.protocol,
            "network": self.network,
        }

    def to_markdown(self, worst: int = 10) -> str:
        """Return a table of the ``worst`` classes, those with the lowest accuracy, and the overall accuracies."""
        known = [(accuracy.top1, name, accuracy.images) for name, accuracy in self.by_class.items() if accuracy.images]
        title = "class" if len(known) <= worst else f"class (the worst {worst} of {len(known)})"
        lines = [f"| {title} | top-1 % | images |", "|---|---:|---:|"]
        lines += [f"| {table_cell(name)} | {top1:.2f} | {images} |" for top1, name, images in sorted(known)[:worst]]
        few = f"; there are no more than {TOP} classes, so top-5 is 100 %" if len(self.by_class) <= TOP else ""
        total = self.accuracy
        return "\n".join(
            [*lines, "", f"top-1 {total.top1:.2f} %, top-5 {total.top5:.2f} %, {counted(total.images, 'image')}{few}."]
        )


def evaluate_classifier(
    model: Classifier,
    dataset: ImageFolder,
    *,
    crop_size: int = CROP_SIZE,
    central: float = CENTRAL,
    limit: int | None = None,
    batch_size: int = BATCH_SIZE,
    num_workers: int = 0,
    progress: Callable[[], None] | None = None,
) -> ClassifierEvaluation:
    """Classify the center of every image and count the correct predictions.

    Args:
        model: the classifier, on the device to use; it is in evaluation mode during the call.
        dataset: images of the model's classes, in their order.
        crop_size: side of the model's input, a crop of the center, in pixels.
        central: side of the crop, as a share of the scaled image's shorter side.
        limit: number of images, evenly distributed over the set; ``None`` for all.
        batch_size: images per batch.
        num_workers: worker processes.
        progress: called after each image.

    Raises:
        ConfigError: the data set has other classes than the model, or a limit or size is not possible.
        MediaError: an image cannot be read.
    """
    _check(model, dataset, crop_size, central)
    by_class = [TopAccuracy() for _ in model.class_names]
    loader = validation_loader(
        pick_samples(dataset, limit),
        transform=CentralTransform(crop_size, central),
        batch_size=batch_size,
        num_workers=num_workers,
        stack=collate_images,
    )
    device = model.pixel_mean.device
    model.to(memory_format=torch.channels_last)  # faster on a CPU
    with evaluating(model), convolutions("ieee", tuned=False), torch.inference_mode():
        for batch in loader:
            logits, labels = model(batch["pixels"].to(device)).cpu(), batch["label"]
            for index in labels.unique().tolist():
                by_class[index].update(logits[labels == index], labels[labels == index])
            if progress is not None:
                for _ in labels:
                    progress()
    total = TopAccuracy.from_counts(torch.stack([accuracy.to_counts() for accuracy in by_class]).sum(0))
    protocol = {"crop_size": crop_size, "central": central, "torch": torch.__version__}
    network = model.architecture.to_dict() if model.architecture else {"name": type(model).__name__}
    return ClassifierEvaluation(
        total,
        dict(zip(model.class_names, by_class, strict=True)),
        protocol=protocol,
        network={**network, "parameters": count_parameters(model)},
    )


def trained_crop(path: str | Path) -> tuple[int, float]:
    """Return the crop size and the central share of a classifier's validation, from its file, or the default ones.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    experiment = read_model_file(path)[1].get("provenance", {}).get("experiment", {})
    try:
        data = experiment.get("data", {})
        return int(data.get("crop_size", CROP_SIZE)), float(data.get("central", CENTRAL))
    except (AttributeError, TypeError, ValueError):
        raise WeightsError(f"{path}: its provenance holds no crop_size and central; train it again") from None


def _check(model: Classifier, dataset: ImageFolder, crop_size: int, central: float) -> None:
    if dataset.class_names != model.class_names:
        differing = describe_difference(model.class_names, dataset.class_names, "the data set", "the model")
        raise ConfigError(
            f"{dataset.folder}: {differing}; evaluate on the classes that were trained, in folders of their names"
        )
    if crop_size < 1 or not 0 < central <= 1:
        raise ConfigError(
            f"crop_size {crop_size} and central {central} are not possible; give, for example, 224 pixels and 0.875"
        )
