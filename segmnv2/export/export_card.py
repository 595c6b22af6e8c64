"""The card of an exported file: what it takes and gives, and what its proof found."""

from __future__ import annotations

from pathlib import Path

from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import FORMATS
from segmnv2.export.verification import Verification
from segmnv2.hub.model_card import card_table, shorten
from segmnv2.inference.canvas import DEFAULT_SIZE
from segmnv2.labels import table_cell


def build_export_card(path: Path, metadata: ExportMetadata, verification: Verification | None) -> str:
    """Return the text of a card, Markdown.

    Args:
        path: of the file.
        metadata: what it says of itself.
        verification: what its proof found, or ``None`` without one.
    """
    network = str(metadata.architecture.get("name", "a network joined from parts"))
    parts = [
        f"# {path.name}",
        f"`{network}` at output stride {metadata.output_stride} as {FORMATS[metadata.format].title}, "
        f"{metadata.precision}, written by segmnv2 {metadata.version}. Pre- and post-processing are inside.",
        card_table(("", ""), _ports(metadata)),
        "## Classes",
        f"{metadata.labels.num_classes} classes; {metadata.labels.ignore_index} in masks means that a pixel does not "
        "count, and the file never gives it out.",
        _class_table(metadata),
        "## Proof",
    ]
    if verification is None:
        parts.append("The file was not compared with its network.")
    else:
        parts.append(card_table(("compared with the network in PyTorch", ""), verification.rows()))
    if metadata.provenance:
        rows = {key: shorten(value) for key, value in metadata.provenance.items() if value}
        parts += ["## Where the weights come from", card_table(("", ""), rows)]
    return "\n\n".join(parts) + "\n"


def _ports(metadata: ExportMetadata) -> dict[str, str]:
    """Return what goes in and comes out, as rows of a table."""
    height, width = ("height", "width") if metadata.size is None else map(str, metadata.size)
    rows = {"input `image`": f"uint8 (1, {height}, {width}, 3), RGB, 0..255"}
    classes = metadata.labels.num_classes
    if metadata.output == "labels":
        rows["output `labels`"] = f"uint8 (1, {height}, {width}), class ids 0..{classes - 1}"
    else:
        rows["output `logits`"] = (
            f"float32 (1, {classes}, rows, columns); logit (i, j) lies on pixel (i, j) * {metadata.logits_stride}"
        )
    if metadata.format == "coreml":
        rows["input `image`"] = f"an image, as CVPixelBuffer, {width} wide and {height} high"
        rows = {name: text.replace("uint8", "int32") for name, text in rows.items()}
    if metadata.size is None:
        rows["larger images"] = (
            "are not scaled: labels are those of `segmnv2 infer --size native`. By default `infer` first scales them "
            f"down to {DEFAULT_SIZE} pixels on their longer side; do so too for its labels"
        )
    else:
        color = ", ".join(f"{round(value)}" for value in metadata.padding)
        rows["smaller images"] = f"pad them right and bottom with RGB ({color})"
    return rows


def _class_table(metadata: ExportMetadata) -> str:
    lines = ["| id | name | color |", "|---|---|---|"]
    for number, (name, color) in enumerate(zip(metadata.labels.names, metadata.labels.palette, strict=True)):
        lines.append(f"| {number} | {table_cell(name)} | #{color[0]:02x}{color[1]:02x}{color[2]:02x} |")
    return "\n".join(lines)
