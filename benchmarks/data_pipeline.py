"""The training loader of segmnv2 and torchvision v2 doing the same to the same files, on one core, taking turns.

    python benchmarks/data_pipeline.py --root data/VOCdevkit --batches 20

Both decode, scale by one of seven factors (bilinear without antialiasing, as TensorFlow's), pad to the crop, crop,
mirror and collate to uint8; what they draw by chance differs. Without ``--root``
image-like images are written to a temporary folder first, as JPEG and palette PNG.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import cv2
import torch
from script import show_table
from torch.utils.data import DataLoader, Dataset
from torchvision import io, tv_tensors
from torchvision.transforms import v2

from segmnv2.benchmark.compare import Rate, check_count, interleave, paired_ratio
from segmnv2.benchmark.machine import describe_machine, one_core
from segmnv2.benchmark.result_table import Row, Table
from segmnv2.data.loader import training_loader
from segmnv2.data.mask_file import write_mask
from segmnv2.data.sampler import StepSampler
from segmnv2.data.transforms import PAD_VALUE, SCALES, TrainTransform
from segmnv2.datasets.shapes import Shapes
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.labels import IGNORE_INDEX

WARM_UP = 2
OURS, PEER = "segmnv2", "torchvision v2"
PICTURES, PICTURE_SIZE = 64, (375, 500)
"""What is generated without ``--root``: as many, of the usual size of VOC's images."""


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and print its table; 0, or 2 with one message when an argument is at fault."""
    options = parse(arguments)
    return show_table(lambda: compare_pictures(options), options.json)


def compare_pictures(options: argparse.Namespace) -> Table:
    """Measure both on VOC's images, or on generated ones.

    Raises:
        SegmnError: an argument is not possible, or the data are missing.
    """
    for name in ("crop", "batch", "batches"):
        check_count(f"--{name}", getattr(options, name))
    with tempfile.TemporaryDirectory() if options.root is None else nullcontext(options.root) as root:
        if options.root is None:
            write_pictures(Path(root))
        return compare(VocSegmentation(root, "train"), options)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, metavar="DIR", help="VOCdevkit with real images; generated without it")
    parser.add_argument("--crop", type=int, default=513, help="side of the crops")
    parser.add_argument("--batch", type=int, default=8, help="crops a batch")
    parser.add_argument("--batches", type=int, default=20, help="measured batches of each, after two of warm-up")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the table with every measurement")
    return parser.parse_args(arguments)


def compare(dataset: VocSegmentation, options: argparse.Namespace) -> Table:
    """Measure both on one core, in one run.

    Raises:
        SegmnError: a file cannot be read.
    """
    torch.manual_seed(0)
    ours = iter(training_loader(dataset, TrainTransform(options.crop), batch_size=options.batch, seed=0))
    order = [index for _, index in islice(StepSampler(len(dataset), 0), options.batch * (WARM_UP + options.batches))]
    theirs = iter(DataLoader(TorchvisionVoc(dataset, options.crop), options.batch, sampler=order))
    with one_core():
        seconds = interleave(
            {OURS: lambda _: next(ours), PEER: lambda _: next(theirs)}, rounds=options.batches, warm_up=WARM_UP
        )
        threads = describe_machine("cpu")
    rates = {name: Rate.of(options.batch, values) for name, values in seconds.items()}
    ratio = paired_ratio(seconds[PEER], seconds[OURS])
    rows = (Row(OURS, rates[OURS]), Row(PEER, rates[PEER], f"{OURS} is {ratio} times as fast"))
    images = "VOC" if options.root else "generated"
    environment = {
        **threads,
        "images": images,
        "batch": options.batch,
        "crop": options.crop,
        "batches": options.batches,
    }
    return Table(rows, (), environment)


class TorchvisionVoc(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """The same files through torchvision's decoders and its transforms v2, as its documentation has them.

    Args:
        dataset: whose files.
        crop: side of the result, in pixels.
    """

    def __init__(self, dataset: VocSegmentation, crop: int) -> None:
        self.images = [dataset.folder / "JPEGImages" / f"{name}.jpg" for name in dataset.names]
        masks = [dataset.folder / "SegmentationClass" / f"{name}.png" for name in dataset.names]
        # Masks of the Semantic Boundaries Dataset lie in a folder of their own.
        self.masks = [
            mask if mask.is_file() else mask.parent.with_name("SegmentationClassAug") / mask.name for mask in masks
        ]
        fill = {tv_tensors.Image: PAD_VALUE, tv_tensors.Mask: IGNORE_INDEX}
        self.transform = v2.Compose(
            [
                RandomChoiceScale(),
                v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
                v2.RandomHorizontalFlip(0.5),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return an augmented image and its mask."""
        image = tv_tensors.Image(io.decode_image(str(self.images[index]), mode=io.ImageReadMode.RGB))
        # UNCHANGED keeps the palette's indices, which are the class ids.
        mask = tv_tensors.Mask(io.decode_image(str(self.masks[index]), mode=io.ImageReadMode.UNCHANGED)[0])
        image, mask = self.transform(image, mask)
        return image, mask


class RandomChoiceScale(v2.Transform):
    """Resize by one of the paper's factors; torchvision's own draw from a range."""

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[torch.Tensor, torch.Tensor]:
        """Resize an image bilinearly and its mask to the nearest pixel."""
        scale = SCALES[int(torch.randint(len(SCALES), ()))]
        size = [int(side * scale) for side in image.shape[-2:]]
        resized: tuple[torch.Tensor, torch.Tensor] = (
            v2.functional.resize(image, size, antialias=False),
            (v2.functional.resize(mask, size, interpolation=v2.InterpolationMode.NEAREST)),
        )
        return resized


def write_pictures(folder: Path) -> None:
    """Write generated images in VOC's layout."""
    pictures = Shapes(PICTURES, PICTURE_SIZE)
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    names = []
    for index in range(len(pictures)):
        sample = pictures[index]
        cv2.imwrite(str(folder / "JPEGImages" / f"{sample.name}.jpg"), sample.image[..., ::-1])
        write_mask(folder / "SegmentationClass" / f"{sample.name}.png", sample.mask, pictures.labels)
        names.append(sample.name)
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
