"""Evaluation by TensorFlow's protocol: whole images, one confusion matrix over all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from segmnv2.data.mask_file import write_mask
from segmnv2.data.sample import Sample, SegmentationDataset
from segmnv2.engines.backend import Backend
from segmnv2.engines.pytorch import convolutions
from segmnv2.errors import ConfigError, DatasetError, counted
from segmnv2.evaluation.result import Result, pick_samples
from segmnv2.inference.options import InferenceOptions
from segmnv2.inference.prediction import Prediction
from segmnv2.inference.predictor import Predictor
from segmnv2.labels import LabelSet, describe_difference, table_cell
from segmnv2.metrics.confusion import ConfusionMatrix, class_accuracy, iou_per_class, mean_iou, pixel_accuracy
from segmnv2.metrics.image_counts import ImageCounts
from segmnv2.models.cost import count_parameters
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.network import evaluating

ABSENT_RULE = (
    "mIOU is the mean over classes that occur in the truth or in a prediction (TensorFlow's rule); "
    "a class that occurs in neither has no IoU"
)


@dataclass(frozen=True)
class Evaluation(Result):
    """A confusion matrix, with the protocol and the model.

    Attributes:
        confusion: int64 (K, K), [truth, prediction], in pixels.
        labels: the K classes.
        images: number of images counted.
        per_image: counts of each image.
    """

    confusion: Int64[Tensor, "k k"]
    labels: LabelSet
    images: int
    per_image: ImageCounts = field(default_factory=ImageCounts)

    @property
    def miou(self) -> float:
        """Mean IoU in percent over classes in truth or prediction; NaN when no pixel was counted."""
        return 100 * mean_iou(self.confusion)

    @property
    def iou(self) -> dict[str, float | None]:
        """IoU of each class in percent; ``None`` for a class in neither truth nor prediction."""
        values = (100 * iou_per_class(self.confusion)).tolist()
        return {n: None if math.isnan(v) else v for n, v in zip(self.labels.names, values, strict=True)}

    @property
    def accuracy(self) -> float:
        """Share of the counted pixels that are right, in percent."""
        return 100 * pixel_accuracy(self.confusion)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: figures in percent (``None`` if undefined), protocol and model."""
        return {
            "miou": None if math.isnan(self.miou) else self.miou,
            "iou": self.iou,
            "pixel_accuracy": None if math.isnan(self.accuracy) else self.accuracy,
            "confusion": self.confusion.tolist(),
            "images": self.images,
            "protocol": self.protocol,
            "network": self.network,
            "per_image": self.per_image.to_list(self.labels.names),
        }

    def to_markdown(self) -> str:
        """Return the table of classes, in percent: IoU, accuracy (recall), share of the true pixels."""
        truth = self.confusion.sum(1)
        total = max(int(truth.sum()), 1)
        recalls = class_accuracy(self.confusion).tolist()
        lines = ["| class | IoU % | accuracy % | true pixels % |", "|---|---:|---:|---:|"]
        for (name, iou), share, pixels in zip(self.iou.items(), recalls, truth.tolist(), strict=True):
            value = "absent" if iou is None else f"{iou:.2f}"
            accuracy = "" if math.isnan(share) else f"{100 * share:.2f}"
            lines.append(f"| {table_cell(name)} | {value} | {accuracy} | {100 * pixels / total:.2f} |")
        unseen = [n for n, pixels in zip(self.labels.names, truth.tolist(), strict=True) if pixels == 0]
        images = counted(self.images, "image")
        notes = [f"mIOU {self.miou:.2f} %, pixel accuracy {self.accuracy:.2f} %, {images}. {ABSENT_RULE}."]
        if unseen:
            notes.append(
                f"Classes without a true pixel: {', '.join(unseen)}; do not compare this mIOU with that of a full set."
            )
        return "\n".join([*lines, "", *notes])


def evaluate(
    model: Segmenter | Predictor,
    dataset: SegmentationDataset,
    options: InferenceOptions | None = None,
    *,
    limit: int | None = None,
    masks_out: str | Path | None = None,
    progress: Callable[[], None] | None = None,
    observe: Callable[[Sample, Prediction, Int64[Tensor, "k k"]], None] | None = None,
    **values: Any,
) -> Evaluation:
    """Predict every image of a data set and count its pixels by class; memory does not grow with the number of images.

    Args:
        model: a segmenter, which is in evaluation mode during the call, or a predictor, which has its own options. See
            :meth:`segmnv2.inference.predictor.Predictor.of`.
        dataset: images and masks, with the model's classes.
        options: options of inference.
        limit: number of images, evenly distributed over the set; ``None`` for all.
        masks_out: folder for the predicted masks as palette PNG; ``None`` for no masks.
        progress: called after each image.
        observe: called with each image, its prediction, and its pixels as int64 (K, K), [truth, prediction].
        values: options by name, such as ``size="native"`` or ``backend="auto"``; see
            :class:`segmnv2.inference.options.InferenceOptions`.

    Returns:
        The confusion matrix, with the protocol and the model.

    Raises:
        ConfigError: data set and model have different classes or orders of classes (numbered labels fit any names); an
            option or the limit is not possible; or two masks would be the same file.
        DatasetError: a mask cannot be used (the message names it), or all pixels are ignored.

    Source: tensorflow/models research/deeplab/eval.py.
    """
    network = model.model if isinstance(model, Predictor) else model
    if network is not model and (options is not None or values):
        raise ConfigError("options: the predictor has its own; leave them out, or give its model")
    if network.num_classes == 1:
        raise ConfigError(
            f"the model has one class, '{network.labels.names[0]}', so every prediction is right by definition; "
            "train a model of two or more classes, for example with a background class"
        )
    check_same_labels(network.labels, dataset.labels)
    if masks_out is not None:
        check_mask_names(getattr(dataset, "names", ()))
    chosen = pick_samples(dataset, limit)
    confusion, per_image = ConfusionMatrix(network.num_classes, dataset.labels.ignore_index), ImageCounts()
    with evaluating(network), convolutions("ieee", tuned=False):
        predictor = model if isinstance(model, Predictor) else Predictor.of(model, options, **values)
        for index in range(len(chosen)):
            sample = chosen[index]
            prediction = predictor(sample.image)
            try:
                counts = confusion.update(sample.mask, prediction.mask)
            except ValueError as error:
                raise DatasetError(f"{sample.name}: {error}; correct the mask") from error
            per_image.add(sample.name, counts)
            if masks_out is not None:
                write_mask(Path(masks_out) / f"{sample.name}.png", prediction.mask, network.labels)
            if observe is not None:
                observe(sample, prediction, counts)
            if progress is not None:
                progress()
    if not confusion.counts.any():
        raise DatasetError(
            f"{getattr(dataset, 'folder', 'the data set')}: all pixels of {counted(len(chosen), 'image')} are ignored "
            f"({dataset.labels.ignore_index}), so nothing can be measured; give other masks or another split"
        )
    protocol = {**describe_protocol(predictor), "ignore_index": dataset.labels.ignore_index}
    described = describe_network(network)
    return Evaluation(confusion.counts, network.labels, len(chosen), per_image, protocol=protocol, network=described)


def check_same_labels(trained: LabelSet, measured: LabelSet) -> None:
    """Raise an error unless a data set has the model's classes; numbered labels fit any names.

    Raises:
        ConfigError: they have other classes, or the same in another order.
    """
    names, theirs = trained.names, measured.names
    if len(names) != len(theirs) or (names != theirs and not (trained.unnamed or measured.unnamed)):
        differing = describe_difference(names, theirs, "the data set", "the model")
        raise ConfigError(f"{differing}; evaluate on the classes that were trained, in their order")


def check_mask_names(names: Sequence[str]) -> None:
    """Check that masks with the names of a data set's images do not overwrite each other.

    Raises:
        ConfigError: two images have the same name.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(
            f"masks_out: the masks of several images would be {twice[0]}.png ({len(twice)} such names); rename these "
            "images, or write no masks"
        )


def describe_protocol(predictor: Predictor) -> dict[str, Any]:
    """Return the settings of prediction, as JSON values."""
    engine = predictor.backend
    return {
        "output_stride": engine.output_stride,
        "size": predictor.size,
        "scales": list(predictor.scales),
        "flip": predictor.flip,
        "padding": "right and bottom with the mean pixel",
        "absent_classes": ABSENT_RULE,
        "torch": torch.__version__,
        **({"backend": engine.name, "precision": engine.precision} if isinstance(engine, Backend) else {}),
    }


def describe_network(model: Segmenter) -> dict[str, Any]:
    """Return a description of a model, as JSON values; the results table uses it to find the model's row."""
    architecture = model.architecture.to_dict() if model.architecture else {"name": type(model).__name__}
    return {**architecture, "output_stride": model.output_stride, "parameters": count_parameters(model)}
