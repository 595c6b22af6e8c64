"""``segmnv2 evaluate``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from segmnv2.data.sample import SegmentationDataset
    from segmnv2.labels import LabelSet


SHAPES: dict[str, Any] = {"length": 100, "size": (129, 129), "seed": 2}
"""The pictures that configs/shapes.yaml validates on."""


class DatasetKind(str, Enum):
    """Data sets that can be named on the command line."""

    VOC = "voc"
    SHAPES = "shapes"


def evaluate(
    weights: Annotated[Path, typer.Argument(help="Safetensors file of `segmnv2 import` or `segmnv2 train`.")],
    dataset: Annotated[DatasetKind, typer.Option(help="voc (also data in its layout) or generated shapes.")],
    root: Annotated[Path | None, typer.Option(help="The VOCdevkit folder.")] = None,
    split: Annotated[str, typer.Option(help="List in ImageSets/Segmentation.")] = "val",
    output_stride: Annotated[int | None, typer.Option(help="8, 16 or 32; the file's by default.")] = None,
    size: Annotated[str, typer.Option(help="Longest side the network sees, in pixels, or 'native'.")] = "513",
    multi_scale: Annotated[bool, typer.Option("--multi-scale", help="Average over the paper's six scales.")] = False,
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")] = False,
    limit: Annotated[int | None, typer.Option(help="Count only the first images.")] = None,
    masks_out: Annotated[Path | None, typer.Option(help="Folder for the predicted masks.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="File for figures and confusion matrix.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Measure mIOU by TensorFlow's protocol: whole images, one confusion matrix."""
    from rich.console import Console
    from rich.markdown import Markdown

    from segmnv2.atomic import check_writable
    from segmnv2.cli.options import parse_size
    from segmnv2.cli.progress import image_progress
    from segmnv2.engine.evaluate import evaluate as run
    from segmnv2.inference.multi_scale import SCALES
    from segmnv2.inference.predictor import check_device
    from segmnv2.models.file import load_model

    if json_out is not None:
        check_writable(json_out)
    model = load_model(weights, output_stride=output_stride).to(check_device(device))
    data = _open(dataset, root, split, model.labels)
    with image_progress(len(data) if limit is None else min(limit, len(data))) as advance:
        result = run(
            model,
            data,
            size=parse_size(size),
            scales=SCALES if multi_scale else (1.0,),
            flip=flip,
            limit=limit,
            masks_out=masks_out,
            progress=advance,
        )
    if json_out is not None:
        result.write_json(json_out)
    table = result.to_markdown()
    console = Console()
    console.print(Markdown(table)) if console.is_terminal else print(table)


def _open(kind: DatasetKind, root: Path | None, split: str, labels: LabelSet) -> SegmentationDataset:
    from segmnv2.data.shapes import Shapes
    from segmnv2.data.voc import VocSegmentation
    from segmnv2.errors import ConfigError

    if kind is DatasetKind.SHAPES:
        return Shapes(**SHAPES)
    if root is None:
        raise ConfigError("--root is missing; --dataset voc needs the VOCdevkit folder")
    return VocSegmentation(root, split, labels=labels)
