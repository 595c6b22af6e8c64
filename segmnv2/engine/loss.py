"""What training minimises."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor


def segmentation_loss(
    logits: Float[Tensor, "b k h w"], mask: UInt8[Tensor, "b h w"], ignore_index: int
) -> Float[Tensor, ""]:
    """Return the cross-entropy, mean over the pixels that count; 0 where none does.

    A mean over nothing would be NaN, and a crop that holds nothing but padding or void would end the run.

    Args:
        logits: of the K classes, at the mask's size.
        mask: class ids, or ``ignore_index`` where a pixel does not count.
        ignore_index: the value that does not count.

    Source: tensorflow/models research/deeplab/utils/train_utils.py, with ``upsample_logits=True``.
    """
    targets = mask.reshape(-1).long()
    # With channels last in memory this is a view, and softmax over neighbours in memory takes half the time.
    rows = logits.float().permute(0, 2, 3, 1).reshape(targets.numel(), logits.shape[1])
    total = F.cross_entropy(rows, targets, ignore_index=ignore_index, reduction="sum")
    return total / (targets != ignore_index).sum().clamp(min=1)
