"""``segmnv2 import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_checkpoint(
    source: Annotated[
        str,
        typer.Argument(
            help="TensorFlow checkpoint (its prefix or folder); folder of transformers or timm; .pth, .pt, .bin or "
            ".safetensors file of a backbone of torchvision or timm; or owner/name on the Hub."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Safetensors file to write.")],
    output_stride: Annotated[int | None, typer.Option(help="8, 16 or 32; the source's by default.")] = None,
    labels: Annotated[Path | None, typer.Option(help="YAML file with the names of the classes.")] = None,
    ema: Annotated[bool, typer.Option("--ema", help="Take moving averages instead of weights.")] = False,
) -> None:
    """Convert a foreign checkpoint into one file that is enough to rebuild the network."""
    from segmnv2.conversion.convert import import_checkpoint as convert
    from segmnv2.files.atomic import check_writable
    from segmnv2.labels import LabelSet

    check_writable(out)
    names = LabelSet.from_yaml(labels) if labels else None
    print(convert(source, out, output_stride=output_stride, labels=names, ema=ema))
