"""Images for the verification of an export, drawn ones and your own, and its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8

from segmnv2.data.image_file import read_image
from segmnv2.data.mask_file import read_mask
from segmnv2.errors import ConfigError, DatasetError, counted
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import OpenedExport
from segmnv2.inference.scores import predict_labels
from segmnv2.labels import LabelSet
from segmnv2.media.inputs import list_images, pick_evenly
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.stride import resize_bilinear

STEPS = 12
RATE = 0.2
CELL = 4  # pixels between two colors that are optimized; the others are interpolated, as real images are smooth
MOSAIC = (3, 3)  # rows and columns of the target classes


def draw_probe(model: Segmenter, size: tuple[int, int], seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image, uint8 RGB, 0..255, in which a network on the CPU finds several classes.

    The ``seed`` determines the pattern and the classes.
    """
    chance = torch.Generator().manual_seed(seed)
    sides = [-(-side // CELL) + 1 for side in size]
    pattern = torch.rand(1, 3, *sides, generator=chance).mul_(2).sub_(1).requires_grad_()
    classes = torch.randint(model.num_classes, (1, 1, *MOSAIC), generator=chance)
    optimizer = torch.optim.Adam([pattern], lr=RATE)
    for _ in range(STEPS):
        logits = model.raw_logits(_paint(pattern, size))
        wanted = F.interpolate(classes.float(), logits.shape[-2:], mode="nearest")[:, 0].long()
        (pattern.grad,) = torch.autograd.grad(F.cross_entropy(logits, wanted), pattern)
        optimizer.step()
    with torch.no_grad():
        pixels = _paint(pattern, size).round().to(torch.uint8)
    return pixels[0].permute(1, 2, 0).contiguous().numpy()


def _paint(pattern: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return float RGB pixels (1, 3, h, w), 0..255, of a pattern of any range."""
    return 127.5 + 127.5 * torch.tanh(resize_bilinear(pattern, size))


DRAWN_SIZES = ((193, 257), (150, 203), (257, 161), (129, 129))
"""Heights and widths of drawn images for a file that takes any size: odd, even, and sizes that need no padding."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An image to verify on."""

    name: str  # of its file
    image: UInt8[np.ndarray, "h w 3"]  # uint8 RGB, 0..255, as the export takes it
    content: tuple[int, int]  # (height, width) of its upper left part that is not padding
    mask: UInt8[np.ndarray, "_ _"] | None = None  # (H, W) class ids of the original image, or ``None``


def draw_pictures(model: Segmenter, metadata: ExportMetadata) -> Iterator[Picture]:
    """Yield drawn images of sizes that the file takes, in which the network finds many classes."""
    for seed, size in enumerate(DRAWN_SIZES if metadata.size is None else (metadata.size,) * 2):
        yield Picture(f"drawn {seed}", draw_probe(model, size, seed), size)


def list_pictures(
    folder: str | Path, masks: str | Path | None = None, limit: int | None = None
) -> list[tuple[Path, Path | None]]:
    """Return images of a folder, each with its mask, evenly distributed over the sorted names.

    Args:
        folder: folder of images.
        masks: folder of ``NAME.png`` for each image ``NAME``; images without a mask are left out.
        limit: largest number of images.

    Raises:
        ConfigError: it is no folder, or the limit is below 1.
        MediaError: the folder has no image.
        DatasetError: no image has a mask.
    """
    for each in (folder, masks):
        if each is not None and not Path(each).is_dir():
            raise ConfigError(f"{each}: is no folder; give one with images (and one with masks of the same names)")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: {limit} is below 1; give the number of images, 1 or more")
    pairs = [(path, None if masks is None else Path(masks) / f"{path.stem}.png") for path in list_images([folder])]
    if masks is not None:
        pairs = [(path, mask) for path, mask in pairs if mask is not None and mask.is_file()]
        if not pairs:
            raise DatasetError(f"{masks}: holds no NAME.png for any image of {folder}; give the masks' folder")
    return pick_evenly(pairs, limit)


def read_picture(path: Path, mask: Path | None, metadata: ExportMetadata, labels: LabelSet) -> Picture:
    """Read an image, and its mask, and fit it to the file's size.

    Raises:
        MediaError: the image cannot be read.
        DatasetError: the mask cannot be read, or has another size than the image.
    """
    image = read_image(path)
    truth = None if mask is None else read_mask(mask, labels)
    if truth is not None and truth.shape != image.shape[:2]:
        raise DatasetError(f"{mask}: has shape {truth.shape}, its image {image.shape[:2]}; give masks of these images")
    if metadata.size is None:
        return Picture(path.name, image, image.shape[:2], truth)
    fitted, content = fit_image(image, metadata.size, metadata.padding)
    return Picture(path.name, fitted, content, truth)


def fit_image(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], padding: Sequence[float]
) -> tuple[UInt8[np.ndarray, "i j 3"], tuple[int, int]]:
    """Return an image at a fixed size, scaled down if necessary and padded right and bottom, and its content's size.

    Args:
        image: uint8 RGB, 0..255.
        size: (height, width) of the result.
        padding: RGB, 0..255, rounded to whole numbers.
    """
    scale = min(1.0, size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, min(most, round(side * scale))) for side, most in zip(image.shape, size, strict=False))
    if scale < 1:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    fitted = np.empty((*size, 3), np.uint8)
    fitted[:] = np.round(np.array(padding))
    fitted[:height, :width] = image
    return fitted, (height, width)


def restore_labels(
    labels: UInt8[np.ndarray, "i j"], content: tuple[int, int], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "h w"]:
    """Return the labels of a fitted image at the size of the original image, by nearest neighbor."""
    inside = np.ascontiguousarray(labels[: content[0], : content[1]])
    if inside.shape == shape:
        return inside
    return np.asarray(cv2.resize(inside, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


@dataclass(frozen=True)
class LogitError:
    """Difference between the file's logits and the network's."""

    mean: float  # absolute difference, in standard deviations of the network's logits
    largest: float  # the same of the worst logit

    @classmethod
    def between(cls, found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> LogitError:
        """Return the error over one image's logits, of equal shapes."""
        difference = np.abs(found - expected) / expected.std()
        return cls(float(difference.mean()), float(difference.max()))

    @classmethod
    def mean_of(cls, errors: Sequence[LogitError]) -> LogitError:
        """Return the mean over images, and the largest of all."""
        return cls(float(np.mean([each.mean for each in errors])), max(each.largest for each in errors))


@dataclass(frozen=True)
class Verification:
    """Result of a verification."""

    metadata: ExportMetadata  # the metadata in the file
    images: str | None  # name of the folder that the images are from, or ``None`` if they were drawn for the network
    count: int  # of images
    classes: int  # number of classes that the network found in them; labels of few classes prove little
    agreement: float  # share of pixels, over all images, with the same label as the network's
    worst: float  # the same share on the image where it is smallest
    logits: LogitError | None  # error of the logits, for a file that gives out logits; labels do not show it
    miou_before: float | None  # of the network, in percent, if there were masks
    miou_after: float | None  # of the file
    size: int  # bytes of all the file's parts
    latency: Latencies | None  # of both, if measured
    threads: int  # of both

    @property
    def source(self) -> str:
        """Number and origin of the images, as "8 images in FOLDER"."""
        if self.images is None:
            return counted(self.count, "drawn image")
        return f"{counted(self.count, 'image')} in {self.images}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        values = asdict(self)
        values["metadata"] = self.metadata.to_dict()
        return values

    def rows(self) -> dict[str, str]:
        """Return a table of two columns."""
        rows = {
            "compared on": self.source,
            "classes that the network finds in them": f"{self.classes} of {self.metadata.labels.num_classes}",
            "pixels with the network's own label": f"{100 * self.agreement:.4f} %",
            "the same on the worst image": f"{100 * self.worst:.4f} %",
        }
        if self.logits is None:
            rows["logit error"] = "not known: the file gives out labels"
        else:
            rows["logit error, in standard deviations"] = (
                f"mean {self.logits.mean:.2g}, largest {self.logits.largest:.2g}"
            )
        if self.miou_before is not None and self.miou_after is not None:
            change = self.miou_after - self.miou_before
            rows["mIOU before, after"] = f"{self.miou_before:.2f} %, {self.miou_after:.2f} % ({change:+.2f})"
        rows["size"] = f"{self.size / 1e6:.2f} MB"
        if self.latency is not None:
            height, width = self.latency.size
            threads = counted(self.threads, "thread")
            rows[f"latency at {width}x{height}, {threads}, median (quartiles)"] = str(self.latency.export)
            rows["that of the network in PyTorch"] = str(self.latency.network)
            rows["times as fast"] = f"{self.latency.network.median / self.latency.export.median:.2f}"
        return rows


WARM_UP = 2


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one image."""

    median: float  # of all runs
    low: float  # a quarter of the runs were faster
    high: float  # a quarter were slower

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Return the quartiles of some runs."""
        low, median, high = np.percentile(seconds, (25, 50, 75)) * 1000
        return cls(float(median), float(low), float(high))

    def __str__(self) -> str:
        """Return "12.3 ms (11.9..13.0)"."""
        return f"{self.median:.1f} ms ({self.low:.1f}..{self.high:.1f})"


@dataclass(frozen=True)
class Latencies:
    """Times of both on the same image, measured in turns, so that other load on the machine slows both."""

    export: Latency  # of the file in its runtime
    network: Latency  # of the network in PyTorch, eager
    size: tuple[int, int]  # (height, width) of the image
    runs: int  # of each


def measure_latencies(
    export: OpenedExport, model: Segmenter, image: UInt8[np.ndarray, "h w 3"], runs: int
) -> Latencies:
    """Run a file and its network in turns, ``runs`` times each; the caller sets PyTorch's number of threads."""

    def reference() -> object:
        return predict_labels(model, image, size="native")

    calls: list[Callable[[], object]] = [lambda: export(image), reference]
    seconds: list[list[float]] = [[], []]
    for run in range(WARM_UP + runs):
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            if run >= WARM_UP:
                times.append(time.perf_counter() - start)
    return Latencies(Latency.of(seconds[0]), Latency.of(seconds[1]), (image.shape[0], image.shape[1]), runs)
