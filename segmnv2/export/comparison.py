"""Verification of exports: a file in its own runtime is compared with the original model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from segmnv2.engines.backend import Precision
from segmnv2.engines.pytorch import torch_threads
from segmnv2.errors import ConfigError, DatasetError, WeightsError, counted
from segmnv2.export.export_metadata import describe_export
from segmnv2.export.formats import OpenedExport, export_files, find_format, recognize_format
from segmnv2.export.probes import (
    LogitError,
    Probe,
    Verification,
    draw_probes,
    list_image_pairs,
    measure_latencies,
    read_probe,
    restore_labels,
)
from segmnv2.files.documents import dump_json, parse_json
from segmnv2.inference.scores import predict_labels
from segmnv2.metrics.confusion import ConfusionMatrix, mean_iou
from segmnv2.models.cost import count_parameters
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.stride import upsample_logits

LEAST: dict[Precision, float] = {"float32": 0.9999, "float16": 0.995, "bfloat16": 0.97, "int8": 0.95}
"""Share of pixels of real images that must have the model's label, by precision.

The paper's model keeps all labels with weights in float16, 99.5 % in bfloat16 and 98 to 99 % in int8. A share below
these bounds is a sign of an error, such as calibration on other images.
"""

LEAST_DRAWN: dict[Precision, float] = {"float32": 0.9999, "float16": 0.98, "bfloat16": 0.7, "int8": 0.4}
"""Shares for drawn images. These lie near class borders by design, so rounding changes many more labels."""

REPEATS = 15

BYTES_OF_FLOATS, LEAST_BYTES = 4, 1_000_000
"""Bytes of a float32 weight, and the smallest total for which the size of a file shows its precision."""


def open_export(path: str | Path, threads: int = 1) -> OpenedExport:
    """Open an exported file in its own runtime.

    Args:
        path: file of ``segmnv2 export``.
        threads: number of threads.

    Raises:
        ConfigError: no format has the suffix, or the runtime is not installed.
        WeightsError: the file is missing, damaged or from another program.
    """
    form = find_format(recognize_format(path))
    export_files(path)
    return form.open(Path(path), threads)


def verify_export(
    path: str | Path,
    model: Segmenter,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    *,
    limit: int | None = None,
    threads: int = 1,
    repeats: int = REPEATS,
    on_image: Callable[[], None] = lambda: None,
) -> Verification:
    """Compare an exported file with a model.

    Both get the same pixels. A file for any size gets whole images. A file of a fixed size gets images that are scaled
    down if necessary and padded with the mean pixel; padding is not compared.

    Args:
        path: file of ``segmnv2 export``.
        model: the model, in evaluation mode; its output stride is set to the file's.
        images: folder of images; by default images are drawn.
        masks: folder of ``NAME.png`` for each image, to measure mIOU.
        limit: maximum number of images, evenly distributed over the folder.
        threads: number of threads of the runtime and of PyTorch.
        repeats: number of runs to measure latency; 0 skips the measurement.
        on_image: called after each image.

    Raises:
        ConfigError: no format has the suffix, the runtime is not installed, or a folder does not exist.
        WeightsError: the file is missing, damaged, or of another model.
        MediaError: an image cannot be read.
        DatasetError: a mask cannot be read, there are no masks, or all of their pixels are ignored. Or EXIF turns an
            image, and the files do not show whether its mask is turned too.
    """
    if masks is not None and images is None:
        raise ConfigError("masks: given without images; give the folder of their images too")
    pairs = None if images is None else list_image_pairs(images, masks, limit)
    export = open_export(path, threads)
    model.set_output_stride(export.metadata.output_stride)
    _check_same_model(path, export, model)
    _check_precision(path, export, model)
    probes: Iterable[Probe]
    if pairs is None:
        probes = draw_probes(model, export.metadata)
    else:
        probes = (read_probe(*pair, export.metadata, model.labels) for pair in pairs)
    comparison = Comparison(export, model)
    with torch_threads(threads):
        for probe in probes:
            comparison.add(probe)
            on_image()
        assert comparison.last is not None
        if masks is not None and not comparison.before.counts.any():
            raise DatasetError(
                f"{masks}: all pixels of {counted(comparison.with_mask, 'mask')} are ignored "
                f"({model.labels.ignore_index}), so no mIOU can be measured; give other masks, or leave them out"
            )
        latency = measure_latencies(export, model, comparison.last, repeats) if repeats else None
    size = sum(file.stat().st_size for file in export_files(path))
    folder = None if images is None else Path(images).name
    return comparison.conclude(images=folder, size=size, latency=latency, threads=threads)


class Comparison:
    """Counts of a comparison, which grow with each image."""

    def __init__(self, export: OpenedExport, model: Segmenter) -> None:
        """Start with counts of zero."""
        self.export = export
        self.model = model.eval().to(memory_format=torch.channels_last)
        self.shares: list[float] = []
        self.equal = self.pixels = 0
        self.classes = np.zeros(model.num_classes, dtype=bool)
        self.errors: list[LogitError] = []
        self.before = ConfusionMatrix(model.num_classes, model.labels.ignore_index)
        self.after = ConfusionMatrix(model.num_classes, model.labels.ignore_index)
        self.with_mask = 0
        self.last: UInt8[np.ndarray, "h w 3"] | None = None

    def add(self, probe: Probe) -> None:
        """Compare the results for one image and add them to the counts."""
        image, mask, (height, width) = probe.image, probe.mask, probe.content
        found = self.export(image)
        expected = predict_labels(self.model, image, size="native")
        if self.export.metadata.output == "logits":
            self.errors.append(self._logit_error(found, image))
            stride = self.export.metadata.logits_stride
            full = upsample_logits(torch.from_numpy(found)[None], stride, image.shape[:2])
            found = full[0].argmax(0).to(torch.uint8).numpy()
        if found.shape != expected.shape or found.dtype != np.uint8:
            raise WeightsError(
                f"{self.export.metadata.format}: the file's result has shape {found.shape} and type {found.dtype}, not "
                f"{expected.shape} and uint8; export it again"
            )
        same = found[:height, :width] == expected[:height, :width]
        self.shares.append(float(same.mean()))
        self.equal += int(same.sum())
        self.pixels += same.size
        self.classes[np.unique(expected[:height, :width])] = True
        self.last = image
        if mask is not None:
            self.with_mask += 1
            for matrix, labels in ((self.before, expected), (self.after, found)):
                matrix.update(mask, restore_labels(labels, probe.content, mask.shape))

    def conclude(self, **others: Any) -> Verification:
        """Return the result; ``others`` are the fields of :class:`Verification` that are not counted here."""
        return Verification(
            metadata=self.export.metadata,
            count=len(self.shares),
            classes=int(self.classes.sum()),
            agreement=self.equal / self.pixels,
            worst=min(self.shares),
            logits=LogitError.mean_of(self.errors) if self.errors else None,
            miou_before=100 * mean_iou(self.before.counts) if self.with_mask else None,
            miou_after=100 * mean_iou(self.after.counts) if self.with_mask else None,
            **others,
        )

    def _logit_error(self, found: np.ndarray[Any, Any], image: UInt8[np.ndarray, "h w 3"]) -> LogitError:
        with torch.inference_mode():
            expected = self.model.raw_logits(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
        if found.shape != expected.shape:
            raise WeightsError(
                f"{self.export.metadata.format}: the file's logits have shape {found.shape}, the model's "
                f"{expected.shape}; give the weights that were exported"
            )
        if not np.isfinite(found).all():
            raise WeightsError(f"{self.export.source}: its logits contain NaN or infinity; export it again")
        return LogitError.between(found, expected)


def check_agreement(verification: Verification, least: float | None = None) -> None:
    """Check that enough pixels have the model's label.

    Args:
        verification: the result of the comparison.
        least: share of pixels, 0..1; by default :data:`LEAST` of the file's precision, or :data:`LEAST_DRAWN`.

    Raises:
        WeightsError: too few pixels have the same label.
    """
    metadata = verification.metadata
    bounds = LEAST_DRAWN if verification.images is None else LEAST
    wanted = bounds[metadata.precision] if least is None else least
    if not verification.agreement >= wanted:
        raise WeightsError(
            f"{metadata.format} {metadata.precision}: {100 * verification.agreement:.3f} % of pixels have the "
            f"model's label ({verification.source}), and {100 * wanted:g} % must; "
            + (
                "calibrate on 50 or more images like those to label"
                if metadata.precision == "int8"
                else "give --images with images like those to label"
            )
            + ", another precision, or a lower --least-agreement"
        )


def check_least(least: float | None) -> float | None:
    """Return a share of pixels if it is in 0..1; otherwise raise a ConfigError."""
    if least is not None and not 0 <= least <= 1:
        raise ConfigError(f"least agreement: {least} is not a share of pixels; give a number from 0 to 1, such as 0.98")
    return least


def _check_same_model(path: str | Path, export: OpenedExport, model: Segmenter) -> None:
    """Compare the file's metadata with the model, because results do not show wrong metadata."""
    stated, expected = export.metadata, describe_export(model, recognize_format(path))
    different = model.labels.differences(stated.labels, "the file", "the weights")
    for key in ("format", "padding", "logits_stride"):
        if getattr(stated, key) != getattr(expected, key):
            different = f"its {key} is {getattr(stated, key)!r:.80}, not {getattr(expected, key)!r}"
    architecture = parse_json(dump_json(expected.architecture), str(path), "") if model.architecture else {}
    for key, value in architecture.items():
        if not different and stated.architecture.get(key) != value:
            different = f"its architecture has {key} {stated.architecture.get(key)!r:.80}, not {value!r:.80}"
    if different:
        raise WeightsError(f"{path}: {different}; give the weights that were exported, or export it again")


def _check_precision(path: str | Path, export: OpenedExport, model: Segmenter) -> None:
    """Raise an error if the weights have another precision than the file states, because the bounds depend on it."""
    stated, found = export.metadata.precision, export.stored_precisions()
    if not found and stated == "int8":  # the format does not show the precision, but floats need more bytes
        size = sum(file.stat().st_size for file in export_files(path))
        found = ("float32",) if size >= BYTES_OF_FLOATS * count_parameters(model) >= LEAST_BYTES else ()
    if found and stated not in found:
        raise WeightsError(
            f"{path}: its metadata states {stated}, but its weights are {' or '.join(found)}, so the metadata was "
            "changed later; export it again"
        )
