"""Top-1 and top-5 accuracy, counted over batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

TOP = 5


@dataclass
class TopAccuracy:
    """Counts of images whose class is the first guess, or among the first five.

    Attributes:
        images: counted.
        first: those whose largest logit is that of their class.
        among_five: those of whose logits at most four are larger than that of their class.
        loss_sum: cross-entropies added up.
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
        guesses = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
        hits = guesses == labels[:, None]
        self.images += len(labels)
        self.first += int(hits[:, 0].sum())
        self.among_five += int(hits.any(1).sum())
        self.loss_sum += float(F.cross_entropy(logits.double(), labels, reduction="sum"))

    @property
    def top1(self) -> float:
        """Share of first guesses that are right, in percent; NaN when nothing was counted."""
        return 100 * self.first / self.images if self.images else float("nan")

    @property
    def top5(self) -> float:
        """Share of images whose class is among the first five guesses, in percent; NaN when nothing was counted."""
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
        """Return the accuracy that :meth:`to_counts`, perhaps added up, is of."""
        images, first, among_five, loss_sum = counts.tolist()
        return cls(int(images), int(first), int(among_five), loss_sum)
