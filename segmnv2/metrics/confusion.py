"""Global confusion matrix with its IoUs and accuracies, and top-1 and top-5 accuracy, all counted over batches.

Counts are summed over all images before division; a mean of per-image IoUs is another number. The rule for absent
classes is TensorFlow's. A class in neither truth nor predictions has no IoU (NaN) and does not count in the mean. A
class in only one of them has IoU 0 and counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64, Integer
from torch import Tensor

from segmnv2.labels import IGNORE_INDEX

Ids = Integer[Tensor, "..."] | Integer[np.ndarray, "..."]

_BYTE = 256
_EXACT = 2**24
"""OpenCV reports counts as float32, exact up to here."""


def confusion_matrix(
    mask: Ids, prediction: Ids, num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Int64[Tensor, "k k"]:
    """Count pixels by true and predicted class.

    Args:
        mask: true ids, integers of any shape: 0..num_classes-1, or ``ignore_index`` where pixels do not count.
        prediction: predicted ids of the same shape, 0..num_classes-1 wherever the mask counts.
        num_classes: K, 1..255.
        ignore_index: K..255.

    Returns:
        int64 (K, K), [truth, prediction], on the mask's device. Fastest for uint8 on the CPU.

    Raises:
        ValueError: shapes differ, ids are out of range (the message lists them), or the number of classes is.
    """
    if mask.shape != prediction.shape:
        raise ValueError(f"mask {tuple(mask.shape)} and prediction {tuple(prediction.shape)} differ in shape")
    if not 1 <= num_classes <= ignore_index < _BYTE:
        raise ValueError(
            f"num_classes {num_classes}, ignore_index {ignore_index}; 1 <= num_classes <= ignore_index <= 255 must hold"
        )
    joint = _joint_histogram(_to_bytes(mask, "mask"), _to_bytes(prediction, "prediction"))
    joint[ignore_index] = 0
    counts = joint[:num_classes, :num_classes].clone()
    if bool(counts.sum() != joint.sum()):
        allowed = f"0..{num_classes - 1}"
        _refuse("mask", joint[num_classes:].sum(1), num_classes, f"{allowed} and {ignore_index} (ignored)")
        _refuse("prediction", joint[:, num_classes:].sum(0), num_classes, f"{allowed} where the mask counts")
    return counts


class ConfusionMatrix:
    """A running sum of confusion matrices, on the CPU.

    Args:
        num_classes: K.
        ignore_index: mask value that does not count.

    Attributes:
        counts: int64 (K, K), [truth, prediction]. Sum it over ranks before computing IoUs.
    """

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts: Tensor = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, mask: Ids, prediction: Ids) -> Int64[Tensor, "k k"]:
        """Add the pixels of an image or a batch, and return their counts; see :func:`confusion_matrix`.

        Raises:
            ValueError: as :func:`confusion_matrix`; nothing is added then.
        """
        added = confusion_matrix(mask, prediction, self.num_classes, self.ignore_index).cpu()
        self.counts += added
        return added

    def reset(self) -> None:
        """Set all counts to 0."""
        self.counts.zero_()


def iou_per_class(confusion: Int64[Tensor, "k k"]) -> Float64[Tensor, " k"]:
    """Return TP / (TP + FP + FN) of each class, 0..1; NaN where a class is in neither truth nor prediction."""
    hits = confusion.diagonal().double()
    return hits / (confusion.sum(0) + confusion.sum(1) - confusion.diagonal())


def mean_iou(confusion: Int64[Tensor, "k k"]) -> float:
    """Return the mean IoU, 0..1, over classes that occur in truth or prediction; NaN when nothing was counted.

    Source: ``tf.metrics.mean_iou``.
    """
    return float(iou_per_class(confusion).nanmean())


def class_accuracy(confusion: Int64[Tensor, "k k"]) -> Float64[Tensor, " k"]:
    """Return TP / (TP + FN) of each class, its recall, 0..1; NaN where a class is not in the truth."""
    return confusion.diagonal().double() / confusion.sum(1)


def pixel_accuracy(confusion: Int64[Tensor, "k k"]) -> float:
    """Return the share of counted pixels that are right, 0..1; NaN when nothing was counted."""
    return float(confusion.diagonal().sum().double() / confusion.sum())


def _to_bytes(ids: Ids, what: str) -> Tensor:
    """Return ids as a flat uint8 tensor; check the range of other types."""
    flat = ids.reshape(-1)
    if flat.dtype not in (np.dtype(np.uint8), torch.uint8) and len(flat) > 0:
        lowest, highest = int(flat.min()), int(flat.max())
        if lowest < 0 or highest >= _BYTE:
            raise ValueError(f"{what}: ids from {lowest} to {highest}; they must fit in 0..255")
    if isinstance(flat, np.ndarray):
        return torch.from_numpy(flat.astype(np.uint8))  # a copy, because arrays read from files may be read-only
    return flat.to(torch.uint8)


def _joint_histogram(rows: Tensor, columns: Tensor) -> Tensor:
    """Count pairs of bytes: int64 (256, 256). Ids are then checked on 65536 counts rather than on all pixels."""
    if rows.device.type != "cpu" or columns.device.type != "cpu":
        pairs = rows.int() * _BYTE + columns.to(rows.device).int()
        return torch.bincount(pairs, minlength=_BYTE**2).view(_BYTE, _BYTE)
    total: Tensor = torch.zeros(_BYTE, _BYTE, dtype=torch.int64)
    for start in range(0, rows.numel(), _EXACT):
        images = [ids[start : start + _EXACT].numpy() for ids in (rows, columns)]
        counts = cv2.calcHist(images, [0, 1], None, [_BYTE, _BYTE], [0, _BYTE, 0, _BYTE])
        total += torch.from_numpy(counts).long()
    return total


def _refuse(what: str, counts: Tensor, first: int, allowed: str) -> None:
    """Raise an error if ids from ``first`` on occur; ``counts`` are their pixel counts."""
    if not bool(counts.any()):
        return
    wrong = [f"{first + i} ({int(counts[i])} pixels)" for i in counts.nonzero().flatten().tolist()]
    more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
    raise ValueError(f"{what}: ids {', '.join(wrong[:8])}{more}; allowed are {allowed}")


TOP = 5


@dataclass
class TopAccuracy:
    """Counts of images whose class is the first prediction, or among the first five.

    Attributes:
        images: number of images.
        first: images with the largest logit for their class.
        among_five: images with one of the five largest logits for their class.
        loss_sum: sum of cross-entropies.
    """

    images: int = 0
    first: int = 0
    among_five: int = 0
    loss_sum: float = 0.0

    def update(self, logits: Float[Tensor, "b k"], labels: Int64[Tensor, " b"]) -> None:
        """Count a batch.

        Args:
            logits: (b, k).
            labels: int64 (b), in 0..k-1.
        """
        ranking = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
        hits = ranking == labels[:, None]
        self.images += len(labels)
        self.first += int(hits[:, 0].sum())
        self.among_five += int(hits.any(1).sum())
        self.loss_sum += float(F.cross_entropy(logits.double(), labels, reduction="sum"))

    @property
    def top1(self) -> float:
        """Share of first predictions that are right, in percent; NaN when nothing was counted."""
        return 100 * self.first / self.images if self.images else float("nan")

    @property
    def top5(self) -> float:
        """Share of images whose class is among the first five predictions, in percent; NaN when nothing was counted."""
        return 100 * self.among_five / self.images if self.images else float("nan")

    @property
    def loss(self) -> float:
        """Mean cross-entropy, without smoothing; NaN when nothing was counted."""
        return self.loss_sum / self.images if self.images else float("nan")

    def to_counts(self) -> Float[Tensor, "4"]:
        """Return the counts as float64, so that processes can add theirs up."""
        return torch.tensor([self.images, self.first, self.among_five, self.loss_sum], dtype=torch.float64)

    @classmethod
    def from_counts(cls, counts: Float[Tensor, "4"]) -> TopAccuracy:
        """Return the accuracy of counts from :meth:`to_counts`, or of sums of them."""
        images, first, among_five, loss_sum = counts.tolist()
        return cls(int(images), int(first), int(among_five), loss_sum)
