"""Images for the verification of an export, drawn ones and your own, and its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8

from segmnv2.data.annotated_image import read_annotated_image
from segmnv2.data.image_file import read_image
from segmnv2.data.mask_file import read_mask
from segmnv2.engines.timing import time_in_turns
from segmnv2.errors import ConfigError, DatasetError, counted
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import OpenedExport
from segmnv2.inference.scores import predict_labels
from segmnv2.labels import LabelSet
from segmnv2.media.inputs import list_images, pick_evenly
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.stride import resize_bilinear

STEPS = 12
LEARNING_RATE = 0.2
CELL = 4  # pixels between optimized colors; the others are interpolated, because real images are smooth
MOSAIC = (3, 3)  # rows and columns of the target classes


def draw_image(model: Segmenter, size: tuple[int, int], seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image, uint8 RGB, 0..255, in which a model on the CPU finds several classes.

    It is optimized from a random pattern towards random classes, which the ``seed`` determines.
    """
    generator = torch.Generator().manual_seed(seed)
    sides = [-(-side // CELL) + 1 for side in size]
    pattern = torch.rand(1, 3, *sides, generator=generator).mul_(2).sub_(1).requires_grad_()
    classes = torch.randint(model.num_classes, (1, 1, *MOSAIC), generator=generator)
    optimizer = torch.optim.Adam([pattern], lr=LEARNING_RATE)
    for _ in range(STEPS):
        logits = model.raw_logits(_to_pixels(pattern, size))
        wanted = F.interpolate(classes.float(), logits.shape[-2:], mode="nearest")[:, 0].long()
        (pattern.grad,) = torch.autograd.grad(F.cross_entropy(logits, wanted), pattern)
        optimizer.step()
    with torch.no_grad():
        pixels = _to_pixels(pattern, size).round().to(torch.uint8)
    return pixels[0].permute(1, 2, 0).contiguous().numpy()


def _to_pixels(pattern: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return float RGB pixels (1, 3, h, w), 0..255, of a pattern with values of any range."""
    return 127.5 + 127.5 * torch.tanh(resize_bilinear(pattern, size))


DRAWN_SIZES = ((193, 257), (150, 203), (257, 161), (129, 129))
"""Heights and widths of drawn images for a file that takes any size: odd and even, with and without padding."""


@dataclass(frozen=True, eq=False)
class Probe:
    """An image for the verification.

    Attributes:
        name: name of its file.
        image: uint8 RGB, 0..255, as the export takes it.
        content: (height, width) of its upper left part without padding.
        mask: (H, W) class ids of the original image, or ``None``.
    """

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    content: tuple[int, int]
    mask: UInt8[np.ndarray, "_ _"] | None = None


def draw_probes(model: Segmenter, metadata: ExportMetadata) -> Iterator[Probe]:
    """Yield drawn images of sizes that the file takes, in which the model finds many classes."""
    for seed, size in enumerate(DRAWN_SIZES if metadata.size is None else (metadata.size,) * 2):
        yield Probe(f"drawn {seed}", draw_image(model, size, seed), size)


def list_image_pairs(
    folder: str | Path, masks: str | Path | None = None, limit: int | None = None
) -> list[tuple[Path, Path | None]]:
    """Return the paths of images and their masks, evenly distributed over the sorted names.

    Args:
        folder: folder of images.
        masks: folder of ``NAME.png`` for each image ``NAME``; images without a mask are omitted.
        limit: largest number of images.

    Raises:
        ConfigError: a folder does not exist, or the limit is below 1.
        MediaError: the folder has no image.
        DatasetError: no image has a mask, or two images have one name.
    """
    for each in (folder, masks):
        if each is not None and not Path(each).is_dir():
            raise ConfigError(f"{each}: is not a folder; give one with images (and one with masks of the same names)")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: {limit} is below 1; give the number of images, 1 or more")
    images = list_images([folder])
    if masks is not None and len(stems := Counter(path.stem for path in images)) < len(images):
        (stem, count), *_ = stems.most_common(1)
        raise DatasetError(
            f"{folder}: {count} images have the name {stem}, so {stem}.png in {masks} cannot be the mask of each; "
            "rename them, or leave the masks out"
        )
    pairs = [(path, None if masks is None else Path(masks) / f"{path.stem}.png") for path in images]
    if masks is not None:
        pairs = [(path, mask) for path, mask in pairs if mask is not None and mask.is_file()]
        if not pairs:
            raise DatasetError(f"{masks}: has no NAME.png for any image of {folder}; give the folder of their masks")
    return pick_evenly(pairs, limit)


def read_probe(path: Path, mask: Path | None, metadata: ExportMetadata, labels: LabelSet) -> Probe:
    """Read an image and its mask, and fit the image to the size that the export takes.

    Raises:
        MediaError: the image cannot be read.
        DatasetError: the mask cannot be read, or has another size than the image; or EXIF turns the image, and the
            files do not show whether the mask is turned too.
    """
    image = read_image(path) if mask is None else read_annotated_image(path, mask)
    truth = None if mask is None else read_mask(mask, labels)
    if truth is not None and truth.shape != image.shape[:2]:
        raise DatasetError(f"{mask}: has shape {truth.shape}, its image {image.shape[:2]}; give masks of these images")
    if metadata.size is None:
        return Probe(path.name, image, image.shape[:2], truth)
    fitted, content = fit_image(image, metadata.size, metadata.padding)
    return Probe(path.name, fitted, content, truth)


def fit_image(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], padding: Sequence[float]
) -> tuple[UInt8[np.ndarray, "i j 3"], tuple[int, int]]:
    """Scale an image down if necessary and pad it at the right and bottom; return it and the size of its content.

    Args:
        image: uint8 RGB, 0..255.
        size: (height, width) of the result.
        padding: RGB color, 0..255; it is rounded to whole numbers.
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
    """Difference between the file's logits and the model's, in standard deviations of the model's logits."""

    mean: float  # mean absolute difference
    largest: float  # largest absolute difference

    @classmethod
    def between(cls, found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> LogitError:
        """Return the difference of two arrays of logits for one image, of equal shapes."""
        difference = np.abs(found - expected) / expected.std()
        return cls(float(difference.mean()), float(difference.max()))

    @classmethod
    def mean_of(cls, errors: Sequence[LogitError]) -> LogitError:
        """Return the mean and the largest difference over several images."""
        return cls(float(np.mean([each.mean for each in errors])), max(each.largest for each in errors))


@dataclass(frozen=True)
class Verification:
    """Result of a verification.

    Attributes:
        metadata: the metadata in the file.
        images: name of the folder of the images, or ``None`` if they were drawn for the model.
        count: number of images.
        classes: number of classes that the model found in them; a comparison on few classes is weak.
        agreement: share of pixels, over all images, with the model's label.
        worst: the same share on the image where it is smallest.
        logits: difference of the logits, or ``None`` if the file returns labels.
        miou_before: mIOU of the model in percent, or ``None`` without masks.
        miou_after: mIOU of the file in percent, or ``None`` without masks.
        size: bytes of all parts of the file.
        latency: times of file and model, or ``None`` if not measured.
        threads: number of threads of both.
    """

    metadata: ExportMetadata
    images: str | None
    count: int
    classes: int
    agreement: float
    worst: float
    logits: LogitError | None
    miou_before: float | None
    miou_after: float | None
    size: int
    latency: Latencies | None
    threads: int

    @property
    def source(self) -> str:
        """Number and origin of the images, for example "8 images in FOLDER"."""
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
            "classes that the model finds in them": f"{self.classes} of {self.metadata.labels.num_classes}",
            "pixels with the model's label": f"{100 * self.agreement:.4f} %",
            "the same on the worst image": f"{100 * self.worst:.4f} %",
        }
        if self.logits is None:
            rows["logit error"] = "not known: the file returns labels"
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
            rows["latency of the model in PyTorch"] = str(self.latency.network)
            rows["times as fast"] = f"{self.latency.network.median / self.latency.export.median:.2f}"
        return rows


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one image: the median of several runs, and the quartiles ``low`` and ``high``."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Return the latency from the seconds of several runs."""
        low, median, high = np.percentile(seconds, (25, 50, 75)) * 1000
        return cls(float(median), float(low), float(high))

    def __str__(self) -> str:
        """Return the median and the quartiles, for example "12.3 ms (11.9..13.0)"."""
        return f"{self.median:.1f} ms ({self.low:.1f}..{self.high:.1f})"


@dataclass(frozen=True)
class Latencies:
    """Times of a file in its runtime and of its model in eager PyTorch, for an image of ``size`` (height, width)."""

    export: Latency
    network: Latency
    size: tuple[int, int]
    runs: int


def measure_latencies(
    export: OpenedExport, model: Segmenter, image: UInt8[np.ndarray, "h w 3"], runs: int
) -> Latencies:
    """Run a file and its model in turns, ``runs`` times each; the caller sets PyTorch's number of threads."""
    seconds = time_in_turns(
        {"export": lambda _: export(image), "model": lambda _: predict_labels(model, image, size="native")}, rounds=runs
    )
    size = (image.shape[0], image.shape[1])
    return Latencies(Latency.of(seconds["export"]), Latency.of(seconds["model"]), size, runs)
