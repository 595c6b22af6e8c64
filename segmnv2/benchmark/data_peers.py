"""Comparison of the training loader with torchvision's transforms v2, on one core, in turns.

Both decode, scale by one of seven factors (bilinear without antialiasing, as in TensorFlow), pad to the crop, crop,
mirror and collate to uint8. Their random numbers differ.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import cv2
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import io, tv_tensors
from torchvision.transforms import v2

from segmnv2.benchmark.compare import Rate, Row, Table, check_count, paired_ratio
from segmnv2.benchmark.machine import describe_machine, one_core
from segmnv2.data.loader import training_loader
from segmnv2.data.mask_file import write_mask
from segmnv2.data.sampler import StepSampler
from segmnv2.data.transforms import PAD_VALUE, SCALES, TrainTransform
from segmnv2.datasets.shapes import Shapes
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.engines.timing import time_in_turns
from segmnv2.labels import IGNORE_INDEX

WARM_UP = 2
OURS, PEER = "segmnv2", "torchvision v2"
GENERATED, GENERATED_SIZE = 64, (375, 500)
"""Number and size of generated images, if no folder is given; most VOC images have this size."""


def compare_loaders(root: Path | None = None, *, crop: int = 513, batch: int = 8, batches: int = 20) -> Table:
    """Measure both loaders on one core, in one run.

    Args:
        root: VOCdevkit; by default images are generated, and written as JPEG and palette PNG.
        crop: side of the crops.
        batch: crops per batch.
        batches: number of measured batches of each loader, after two warm-up batches.

    Raises:
        SegmnError: an argument is invalid, or a file is missing or cannot be read.
    """
    for name, value in (("--crop", crop), ("--batch", batch), ("--batches", batches)):
        check_count(name, value)
    with tempfile.TemporaryDirectory() if root is None else nullcontext(root) as folder:
        if root is None:
            write_generated(Path(folder))
        dataset = VocSegmentation(folder, "train")
        torch.manual_seed(0)
        ours = iter(training_loader(dataset, TrainTransform(crop), batch_size=batch, seed=0))
        order = [index for _, index in islice(StepSampler(len(dataset), 0), batch * (WARM_UP + batches))]
        theirs = iter(DataLoader(TorchvisionVoc(dataset, crop), batch, sampler=order))
        ways = {OURS: lambda _: next(ours), PEER: lambda _: next(theirs)}
        with one_core():
            seconds = time_in_turns(ways, rounds=batches, warm_up=WARM_UP)
            machine = describe_machine("cpu")
    note = f"{OURS} is {paired_ratio(seconds[PEER], seconds[OURS]):.2f} times as fast"
    rows = (Row(OURS, Rate.of(batch, seconds[OURS])), Row(PEER, Rate.of(batch, seconds[PEER]), note))
    images = "VOC" if root else "generated"
    return Table(rows, (), {**machine, "images": images, "batch": batch, "crop": crop, "batches": batches})


class TorchvisionVoc(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The same files, read by torchvision's decoders and transforms v2, as in its documentation."""

    def __init__(self, dataset: VocSegmentation, crop: int) -> None:
        self.images = [dataset.folder / "JPEGImages" / f"{name}.jpg" for name in dataset.names]
        masks = [dataset.folder / "SegmentationClass" / f"{name}.png" for name in dataset.names]
        # Masks of the Semantic Boundaries Dataset are in another folder.
        self.masks = [
            mask if mask.is_file() else mask.parent.with_name("SegmentationClassAug") / mask.name for mask in masks
        ]
        fill = {tv_tensors.Image: PAD_VALUE, tv_tensors.Mask: IGNORE_INDEX}
        crops = v2.RandomCrop(crop, pad_if_needed=True, fill=fill)
        self.transform = v2.Compose([RandomChoiceScale(), crops, v2.RandomHorizontalFlip(0.5)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return an augmented image and its mask."""
        image = tv_tensors.Image(io.decode_image(str(self.images[index]), mode=io.ImageReadMode.RGB))
        # UNCHANGED keeps the indices into the palette, which are the class ids.
        mask = tv_tensors.Mask(io.decode_image(str(self.masks[index]), mode=io.ImageReadMode.UNCHANGED)[0])
        image, mask = self.transform(image, mask)
        return image, mask


class RandomChoiceScale(v2.Transform):  # type: ignore[misc]  # torchvision has no types
    """Resize by one of the paper's factors; torchvision's own transforms draw from a range."""

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[torch.Tensor, torch.Tensor]:
        """Resize an image bilinearly and its mask to the nearest pixel."""
        scale = SCALES[int(torch.randint(len(SCALES), ()))]
        size = [int(side * scale) for side in image.shape[-2:]]
        resized: tuple[torch.Tensor, torch.Tensor] = (
            v2.functional.resize(image, size, antialias=False),
            v2.functional.resize(mask, size, interpolation=v2.InterpolationMode.NEAREST),
        )
        return resized


def write_generated(folder: Path) -> None:
    """Write generated images in VOC's layout."""
    shapes = Shapes(GENERATED, GENERATED_SIZE)
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    names = []
    for index in range(len(shapes)):
        sample = shapes[index]
        cv2.imwrite(str(folder / "JPEGImages" / f"{sample.name}.jpg"), sample.image[..., ::-1])
        write_mask(folder / "SegmentationClass" / f"{sample.name}.png", sample.mask, shapes.labels)
        names.append(sample.name)
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
