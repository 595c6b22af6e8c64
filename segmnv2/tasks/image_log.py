"""Images of predictions in TensorBoard, for the same validation images after each validation."""

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
"""Longest side in pixels of each image in a row; TensorBoard keeps the rows of all validations."""


class Pictures(pl.Callback):
    """Callback that writes image, true mask and predicted mask side by side to TensorBoard after each validation.

    Args:
        count: number of images. They are distributed evenly over those of the first process and are always the same.
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
        """Write the image if it is one of the chosen images."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if batch_idx not in pick_evenly(range(int(trainer.num_val_batches[0])), self.count):
            return
        model = pl_module.model
        assert isinstance(model, Segmenter)
        image, mask = batch["pixels"][0].permute(1, 2, 0).numpy(), batch["mask"][0].numpy()  # both are on the CPU
        row = side_by_side(image, mask, outputs["labels"], model.labels)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"val/{batch['name'][0]}", row, trainer.global_step, dataformats="HWC")


def side_by_side(
    image: UInt8[np.ndarray, "h w 3"],
    truth: UInt8[np.ndarray, "h w"],
    prediction: UInt8[np.ndarray, "h w"],
    labels: LabelSet,
) -> UInt8[np.ndarray, "i j 3"]:
    """Return a row of the image, the image with its true mask and the image with the predicted mask.

    Large images are scaled down.

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
