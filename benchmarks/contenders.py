"""Training steps of segmnv2 and of its peers, each as its own documentation runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from segmnv2.config import Experiment
from segmnv2.data.loader import Batch
from segmnv2.labels import VOC_LABELS
from segmnv2.models.zoo import create_model
from segmnv2.tasks.segmentation import SegmentationTask

LR, MOMENTUM = 0.007, 0.9
SMP_MULTIPLE = 8
"""smp's encoder refuses sides that are no multiple of its stride; a crop of 513 becomes one of 512."""


class Ours:
    """The step of `segmnv2 train`: its task, loss, optimizer and schedule, channels last, uint8 pixels in.

    Args:
        device: where.
        bf16: whether in mixed precision.
        compiled: whether by `torch.compile`.
    """

    def __init__(self, device: torch.device, *, bf16: bool = False, compiled: bool = False) -> None:
        shapes = {"kind": "shapes", "length": 1}
        experiment = Experiment.model_validate(
            {
                "name": "step",
                "steps": 10**6,
                "data": {"train": shapes, "val": shapes},
                "precision": "bf16-mixed" if bf16 else 32,
                "compile": compiled,
            }
        )
        model = create_model("deeplabv3_mobilenet_v2", output_stride=16, labels=VOC_LABELS)
        self.task = SegmentationTask(model, experiment).to(device).train()
        plan = self.task.configure_optimizers()
        self.optimizer, self.schedule = plan["optimizer"], plan["lr_scheduler"]["scheduler"]
        self.device, self.bf16 = device, bf16

    def step(self, batch: Batch) -> float:
        """Train on a batch and return the loss."""
        moved: Batch = {
            "pixels": batch["pixels"].to(self.device, non_blocking=True),
            "mask": batch["mask"].to(self.device, non_blocking=True),
            "name": batch["name"],
        }
        self.task.on_train_batch_start(moved, 0)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.task.training_step(moved, 0)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())


class Peer:
    """Common settings of both peers: eager, NCHW in memory, float32, the same optimizer.

    Args:
        network: the peer's.
        device: where.
        mean: what its preprocessing takes from pixels in 0..1.
        std: what it then divides by.
        multiple: sides are cut to multiples of it.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, mean: Sequence[float], std: Sequence[float], multiple: int = 1
    ) -> None:
        self.network = network.to(device).train()
        self.optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM)
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)
        self.device, self.multiple = device, multiple

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch as the peer's own loader would give it: NCHW in memory, sides it can take. Not timed."""
        height, width = (side // self.multiple * self.multiple for side in batch["mask"].shape[-2:])
        pixels = batch["pixels"][..., :height, :width].contiguous()
        return {"pixels": pixels, "mask": batch["mask"][..., :height, :width].contiguous(), "name": batch["name"]}

    def loss(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """Return the peer's loss of normalized pixels."""
        raise NotImplementedError

    def step(self, batch: Batch) -> float:
        """Train on a prepared batch and return the loss."""
        pixels = batch["pixels"].to(self.device, non_blocking=True).float().div_(255).sub_(self.mean).div_(self.std)
        mask = batch["mask"].to(self.device, non_blocking=True).long()
        self.optimizer.zero_grad()
        loss = self.loss(pixels, mask)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


class Transformers(Peer):
    """`MobileNetV2ForSemanticSegmentation` as google/deeplabv3_mobilenet_v2_1.0_513 is configured: the same network.

    The loss is its own, `forward(labels=...)`, with its `semantic_loss_ignore_index`; mean and deviation are those of
    its image processor.
    """

    def __init__(self, device: torch.device, image_size: int) -> None:
        from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

        config = MobileNetV2Config(num_labels=VOC_LABELS.num_classes, output_stride=16, image_size=image_size)
        super().__init__(MobileNetV2ForSemanticSegmentation(config), device, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def loss(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """Return the loss of `forward(labels=...)`."""
        loss: Tensor = self.network(pixel_values=pixels, labels=mask).loss
        return loss


class Smp(Peer):
    """`smp.DeepLabV3("mobilenet_v2")` with cross-entropy, normalized by ImageNet's mean and deviation.

    Another network than ours: ASPP, and by default output stride 8.

    Args:
        device: where.
        output_stride: 8, its default, or 16.
    """

    def __init__(self, device: torch.device, output_stride: Literal[8, 16] = 8) -> None:
        import segmentation_models_pytorch as smp

        network = smp.DeepLabV3(
            "mobilenet_v2",
            encoder_weights=None,
            encoder_output_stride=output_stride,
            classes=VOC_LABELS.num_classes,
        )
        super().__init__(network, device, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), SMP_MULTIPLE)
        self.criterion = nn.CrossEntropyLoss(ignore_index=VOC_LABELS.ignore_index)

    def loss(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """Return the cross-entropy."""
        loss: Tensor = self.criterion(self.network(pixels), mask)
        return loss
