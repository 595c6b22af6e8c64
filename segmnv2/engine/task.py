"""What happens in a step and in a validation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from segmnv2.config import Experiment
from segmnv2.data.loader import Batch
from segmnv2.engine.loss import SegmentationLoss
from segmnv2.engine.optimizer import build_optimizer, build_schedule
from segmnv2.errors import SegmnError
from segmnv2.inference.scores import predict_labels
from segmnv2.labels import LabelSet
from segmnv2.metrics.confusion import ConfusionMatrix, iou_per_class, mean_iou, pixel_accuracy
from segmnv2.models.segmenter import Segmenter

DROPOUT_STREAM = 2  # 0 is the order of the samples, 1 their augmentation


@dataclass(frozen=True)
class Validation:
    """One validation.

    Attributes:
        step: optimizer steps done.
        confusion: int64 (K, K), [truth, prediction], summed over all ranks.
    """

    step: int
    confusion: Int64[Tensor, "k k"]

    @property
    def miou(self) -> float:
        """Mean IoU in percent over classes in truth or prediction; NaN when no pixel was counted."""
        return 100 * mean_iou(self.confusion)

    def metrics(self, labels: LabelSet) -> dict[str, float]:
        """Return what goes into the logs, in percent; classes that are absent are left out."""
        values = (100 * iou_per_class(self.confusion)).tolist()
        named = {f"val/iou/{name}": v for name, v in zip(labels.names, values, strict=True) if not math.isnan(v)}
        return {"val/miou": self.miou, "val/pixel_accuracy": 100 * pixel_accuracy(self.confusion), **named}


class SegmentationTask(pl.LightningModule):
    """A network in training: loss, optimizer, and validation by the protocol of the evaluation.

    Chance in a step (dropout) is drawn from the seed, the step, its part and the rank alone, as the data are, so a
    resumed run draws what the unbroken one would have drawn.

    Args:
        model: the network, its weights in place.
        experiment: loss, optimizer, steps, seed and validation.

    Attributes:
        model: the network.
        loss: what is minimised.
        validation: the latest one, if any.

    Raises:
        ConfigError: the loss names a class that does not exist.
    """

    def __init__(self, model: Segmenter, experiment: Experiment) -> None:
        super().__init__()
        self.model = model
        self.experiment = experiment
        self.loss = SegmentationLoss(experiment.loss, model.labels)
        self.validation: Validation | None = None
        self._confusion = ConfusionMatrix(model.num_classes, model.labels.ignore_index)
        self._training_stride = model.output_stride
        if experiment.channels_last:
            model.to(memory_format=torch.channels_last)
        self._raw_logits = torch.compile(model.raw_logits) if experiment.compile else model.raw_logits

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule, advanced once a step."""
        optimizer = build_optimizer(self.model, self.experiment.optimizer)
        schedule = build_schedule(optimizer, self.experiment.optimizer, self.experiment.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Make sure that all processes go on from the same step.

        Raises:
            SegmnError: they do not, as on machines that do not see the same folder.
        """
        first = self.trainer.strategy.broadcast(self.global_step)
        if first != self.global_step:
            raise SegmnError(
                f"process {self.global_rank} goes on from step {self.global_step}, the first one from step {first}; "
                "--out must be a folder that all machines share"
            )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make the step's chance its own."""
        part = batch_idx % self.experiment.optimizer.accumulate
        key = (DROPOUT_STREAM, self.global_step, self.global_rank, part)
        stream = np.random.SeedSequence(self.experiment.seed, spawn_key=key)
        torch.manual_seed(int(stream.generate_state(1, np.uint64)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        """Return the loss of a batch.

        Raises:
            SegmnError: it is not finite; the files of the batch are named.
        """
        raw = self._raw_logits(batch["pixels"])
        loss: Tensor = self.loss(raw, batch["mask"], self.model.output_stride)
        if not bool(torch.isfinite(loss)):
            raise SegmnError(
                f"step {self.global_step + 1}: the loss is {float(loss.detach())}, so training stops; its batch holds "
                f"{', '.join(batch['name'])}. If their masks are right, lower optimizer.lr or, in mixed precision, "
                "set precision to 32"
            )
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin to count, at the output stride of validation."""
        self._confusion.reset()
        self._training_stride = self.model.output_stride
        self.model.set_output_stride(self.experiment.validation.output_stride or self._training_stride)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Predict one image as the evaluation does, in full precision, count its pixels, and return its ``labels``."""
        assert len(batch["name"]) == 1
        image, mask = batch["pixels"][0].permute(1, 2, 0).cpu().numpy(), batch["mask"][0].cpu()
        with torch.autocast(self.device.type, enabled=False):
            labels = predict_labels(self.model, image, size=self.experiment.validation.size)
        self._confusion.update(mask, labels)
        return {"labels": labels}

    def on_validation_epoch_end(self) -> None:
        """Sum over the ranks, and log."""
        self.model.set_output_stride(self._training_stride)
        if self.trainer.sanity_checking:
            return
        counts = self.trainer.strategy.reduce(self._confusion.counts.to(self.device), reduce_op="sum")
        assert isinstance(counts, Tensor)
        self.validation = Validation(self.global_step, counts.cpu())
        for logger in self.loggers:
            logger.log_metrics(self.validation.metrics(self.model.labels), step=self.global_step)
