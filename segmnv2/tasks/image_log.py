"""Predictions for the same validation images, from one validation to the next."""

from __future__ import annotations

from typing import Any

import cv2
import lightning.pytorch as pl
import numpy as np
from jaxtyping import UInt8
from lightning.pytorch.loggers import TensorBoardLogger

from segmnv2.data.loader import Batch
from segmnv2.inference.overlay import blend
from segmnv2.labels import LabelSet
from segmnv2.media.inputs import pick_evenly
from segmnv2.models.segmenter import Segmenter

LONGEST_SIDE = 640
"""Size of one drawing in pixels: three stand side by side, and all of a run are kept."""


class Pictures(pl.Callback):
    """Shows TensorBoard image, true mask and predicted mask side by side after each validation.

    Args:
        count: number of images, evenly over those that the first process validates; the same ones each time.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the image if it is among them."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if batch_idx not in pick_evenly(range(int(trainer.num_val_batches[0])), self.count):
            return
        model = pl_module.model
        assert isinstance(model, Segmenter)
        image, mask = batch["pixels"][0].permute(1, 2, 0).numpy(), batch["mask"][0].numpy()  # they are on the CPU
        shown = side_by_side(image, mask, outputs["labels"], model.labels)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"val/{batch['name'][0]}", shown, trainer.global_step, dataformats="HWC")


def side_by_side(
    image: UInt8[np.ndarray, "h w 3"],
    truth: UInt8[np.ndarray, "h w"],
    prediction: UInt8[np.ndarray, "h w"],
    labels: LabelSet,
) -> UInt8[np.ndarray, "i j 3"]:
    """Return image, image under its true mask and under the predicted one, in a row; large ones are scaled down.

    Args:
        image: RGB.
        truth: class ids or the ignore index.
        prediction: class ids.
        labels: names and colors of the classes.
    """
    row = np.concatenate([image, blend(image, truth, labels), blend(image, prediction, labels)], axis=1)
    factor = LONGEST_SIDE / max(image.shape[:2])
    if factor >= 1:
        return row
    return np.asarray(cv2.resize(row, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
