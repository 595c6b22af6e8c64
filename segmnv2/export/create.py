"""Creation of a verified export, with its description and card beside it.

An export is a file, several files or a folder. It is written only if it is complete and verified.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from segmnv2.data.image_file import read_image
from segmnv2.engines.backend import Calibration, Precision, check_precision
from segmnv2.engines.selection import check_calibration
from segmnv2.errors import ConfigError, converting
from segmnv2.export.comparison import check_agreement, check_least, verify_export
from segmnv2.export.export_metadata import ExportMetadata, describe_export
from segmnv2.export.formats import FORMATS, Format, find_format
from segmnv2.export.probes import Verification, fit_image, list_image_pairs
from segmnv2.files import ownership
from segmnv2.files.atomic import atomic_path, check_writable
from segmnv2.files.checksum import Track, untracked
from segmnv2.files.documents import dump_json
from segmnv2.hub.model_card import card_table, shorten
from segmnv2.hub.resolve import resolve_weights
from segmnv2.inference.canvas import DEFAULT_SIZE, SMALLEST_SIZE
from segmnv2.inference.options import MOST, calibration_pixels
from segmnv2.labels import table_cell
from segmnv2.models.model_file import load_model


@contextmanager
def staged_path(path: str | Path) -> Iterator[Path]:
    """Yield a path of the same name in an empty folder beside ``path``, which is a file or a folder.

    When the block ends without an error, everything in that folder is moved beside ``path``, with ``path`` itself last.
    It gets the permissions of an existing file. After an error nothing is written, and existing files are unchanged.
    Missing parent folders are created.

    Raises:
        ConfigError: an existing file may not be replaced (:mod:`segmnv2.files.ownership`).
        OSError: something cannot be written or moved.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stage = path.with_name(f".{uuid4().hex}")
    try:
        stage.mkdir()
        yield stage / path.name
        (stage / ownership.LIST).unlink(missing_ok=True)
        parts = sorted(stage.iterdir(), key=lambda each: each.name == path.name)
        for part in parts:
            ownership.place(part, path.with_name(part.name))
        for part in parts:
            _replace(part, path.with_name(part.name))
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _replace(new: Path, target: Path) -> None:
    """Move a file or folder over an existing one; replacing a folder takes two steps."""
    if target.is_dir() and not target.is_symlink():
        old = new.with_name(f"{new.name}.old")
        target.replace(old)
        try:
            new.replace(target)
        except BaseException:
            old.replace(target)
            raise
        shutil.rmtree(old)
    else:
        if target.is_file():
            new.chmod(target.stat().st_mode & 0o7777)
        new.replace(target)


ExportSize = tuple[int, int] | None  # (height, width) of the only image size that a file takes, or ``None`` for any
VERIFIED_IMAGES = 8  # largest number of images for the verification before an export is written


@dataclass(frozen=True)
class Exported:
    """Result of an export."""

    path: Path  # the file
    metadata: ExportMetadata  # the metadata in the file
    verification: Verification | None  # result of the comparison with the model; ``None`` without one
    unproven: str = ""  # reason for a requested verification that is missing, otherwise empty


def export_weights(
    weights: str | Path,
    path: str | Path,
    form: str,
    *,
    size: ExportSize | Literal["auto"] = "auto",
    output_stride: int | None = None,
    precision: str = "float32",
    calibration: str | Path | None = None,
    raw_logits: bool = False,
    verify: bool = True,
    images: str | Path | None = None,
    least_agreement: float | None = None,
    threads: int = 1,
    on_step: Callable[[str], None] = lambda step: None,
    track: Track = untracked,
) -> Exported:
    """Write a model for another runtime, after a comparison with the model.

    Args:
        weights: a model file or a name; see :func:`segmnv2.hub.resolve.resolve_weights`.
        path: file to write, with the suffix of the format.
        form: name of the format, one of :data:`segmnv2.export.formats.FORMATS`.
        size: (height, width) of the only image size that the file takes, or ``None`` for any. ``"auto"`` is any size if
            the format supports that, otherwise 513 by 513.
        output_stride: 8, 16 or 32; by default that of the weights.
        precision: a precision of the format.
        calibration: for int8, a folder with 50 or more images like those to label.
        raw_logits: whether the file returns logits at output stride in place of labels.
        verify: whether the file is compared with the model, and not written if it differs.
        images: folder of images for the comparison; by default the calibration images, or drawn images without these.
        least_agreement: share of pixels that must have the model's label; by default
            :data:`segmnv2.export.comparison.LEAST`.
        threads: number of threads for the comparison.
        on_step: called with a description of each step.
        track: called with numbers of fetched bytes.

    Raises:
        ConfigError: an argument is invalid, packages are missing, or the format does not support the model.
        WeightsError: the weights cannot be read, or the file's labels differ from the model's; nothing is written then.
        MediaError: an image cannot be read.
        OSError: the file cannot be written.
    """
    wanted = check_precision(precision)
    check_least(least_agreement)
    kind, path = find_format(form, wanted), Path(path)
    if path.suffix != kind.suffix:  # OpenVINO and Core ML recognize their files by a suffix in small letters
        raise ConfigError(f"{path}: a file of {kind.title} ends in {kind.suffix}; give {path.with_suffix(kind.suffix)}")
    fixed = _choose_size(form, kind, size)
    check_calibration(calibration, wanted)
    check_writable(path)
    for folder in (images, calibration):
        if folder is not None:
            list_image_pairs(folder)
    weights = resolve_weights(weights, track=track)
    model = load_model(weights, output_stride=output_stride)
    metadata = describe_export(model, form, weights=weights, precision=wanted, size=fixed, raw_logits=raw_logits)
    with staged_path(path) as staged:
        on_step(f"writing {kind.title} in {wanted}")
        pixels = _read_calibration(wanted, calibration, metadata)
        with converting(f"format: '{form}'", "export another format, or a file for one size of image (--size 513)"):
            kind.write(model, staged, metadata, pixels)
        found = None
        if verify and kind.runs_here:
            on_step("comparing it with the model")
            folder = images or calibration
            found = verify_export(staged, model, folder, limit=VERIFIED_IMAGES, threads=threads, repeats=0)
            check_agreement(found, least_agreement)
        write_description(staged, metadata, found)
    return Exported(path, metadata, found, _unproven(path, kind) if verify else "")


def _unproven(path: Path, form: Format) -> str:
    if form.runs_here:
        return ""
    return (
        f"{form.title} does not run on {sys.platform}; compare the file with `segmnv2 verify {path.name} --against "
        "WEIGHTS` on a system that runs it"
    )


def write_description(path: Path, metadata: ExportMetadata, verification: Verification | None) -> None:
    """Write metadata and verification, ``NAME.json``, and the card, ``NAME.md``, beside an existing export."""
    values = metadata.to_dict()
    if verification is not None:
        values["verification"] = {k: v for k, v in verification.to_dict().items() if k != "metadata"}
    texts = {
        ".json": dump_json(values, indent=1) + "\n",
        ".md": build_export_card(path, metadata, verification),
    }
    for suffix, text in texts.items():
        with atomic_path(path.with_name(path.name + suffix)) as partial:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def _choose_size(name: str, form: Format, size: ExportSize | Literal["auto"]) -> ExportSize:
    if size == "auto":
        return None if form.dynamic else (DEFAULT_SIZE, DEFAULT_SIZE)
    if size is None and not form.dynamic:
        raise ConfigError(f"size: '{name}' takes images of one size only; give --size {DEFAULT_SIZE} or H,W")
    if size is not None and min(size) < SMALLEST_SIZE:
        raise ConfigError(f"size: {size[0]},{size[1]} is too small; give sides of at least {SMALLEST_SIZE} pixels")
    return size


def _read_calibration(precision: Precision, folder: str | Path | None, metadata: ExportMetadata) -> Calibration:
    """Return the calibration images in the form of the model's input."""
    if precision != "int8" or folder is None:
        return None
    if metadata.size is None:
        return calibration_pixels(folder, metadata.output_stride, mean_pixel=metadata.padding)
    size = metadata.size
    paths = [path for path, _ in list_image_pairs(folder, limit=MOST)]
    images = [fit_image(read_image(path), size, metadata.padding)[0] for path in paths]
    return calibration_pixels(images, metadata.output_stride, size="native", mean_pixel=metadata.padding)


def build_export_card(path: Path, metadata: ExportMetadata, verification: Verification | None) -> str:
    """Return the text of an export's card, Markdown."""
    model = str(metadata.architecture.get("name", "a model joined from parts"))
    parts = [
        f"# {path.name}",
        f"`{model}` at output stride {metadata.output_stride} as {FORMATS[metadata.format].title}, "
        f"{metadata.precision}, written by segmnv2 {metadata.version}. Pre- and post-processing are inside.",
        card_table(("", ""), _ports(metadata)),
        "## Classes",
        f"{metadata.labels.num_classes} classes; {metadata.labels.ignore_index} in masks marks pixels to ignore, and "
        "the file never returns it.",
        _class_table(metadata),
        "## Verification",
    ]
    if verification is None:
        parts.append("The file was not compared with its model.")
    else:
        parts.append(card_table(("compared with the model in PyTorch", ""), verification.rows()))
    if metadata.provenance:
        rows = {key: shorten(value) for key, value in metadata.provenance.items() if value}
        parts += ["## Origin of the weights", card_table(("", ""), rows)]
    return "\n\n".join(parts) + "\n"


def _ports(metadata: ExportMetadata) -> dict[str, str]:
    """Return the inputs and outputs as rows of a table."""
    height, width = ("height", "width") if metadata.size is None else map(str, metadata.size)
    rows = {"input `image`": f"uint8 (1, {height}, {width}, 3), RGB, 0..255"}
    classes = metadata.labels.num_classes
    if metadata.output == "labels":
        rows["output `labels`"] = f"uint8 (1, {height}, {width}), class ids 0..{classes - 1}"
    else:
        rows["output `logits`"] = (
            f"float32 (1, {classes}, rows, columns); logit (i, j) is at pixel (i, j) * {metadata.logits_stride}"
        )
    if metadata.format == "coreml":
        rows["input `image`"] = f"an image, as CVPixelBuffer, {width} wide and {height} high"
        rows = {name: text.replace("uint8", "int32") for name, text in rows.items()}
    if metadata.size is None:
        rows["larger images"] = (
            "are not scaled, as with `segmnv2 infer --size native`. By default `infer` first scales them down to "
            f"{DEFAULT_SIZE} pixels on their longer side; for the same labels, do so too"
        )
    else:
        color = ", ".join(f"{round(value)}" for value in metadata.padding)
        rows["smaller images"] = f"pad them at the right and bottom with RGB ({color})"
    return rows


def _class_table(metadata: ExportMetadata) -> str:
    lines = ["| id | name | color |", "|---|---|---|"]
    for number, (name, color) in enumerate(zip(metadata.labels.names, metadata.labels.palette, strict=True)):
        lines.append(f"| {number} | {table_cell(name)} | #{color[0]:02x}{color[1]:02x}{color[2]:02x} |")
    return "\n".join(lines)
