"""``segmnv2 prepare-coco``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segmnv2.cli.options import Archives, Mirror


def prepare_coco(
    root: Annotated[Path, typer.Argument(help="The folder of annotations and images; created if missing.")],
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="SPLIT", help="train2017 or val2017; repeatable, both by default."),
    ] = None,
    archives: Archives = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Fetch what is missing, 20.4 GB if all is; this accepts its terms."),
    ] = False,
    mirror: Mirror = None,
) -> None:
    """Make COCO 2017 complete, index it for `kind: coco_voc`, and check it.

    Existing files are used unchanged, and the network only with --download. With the index, which is written beside the
    annotations, the data set opens at once.
    """
    from segmnv2.cli.byte_progress import byte_progress
    from segmnv2.preparation.coco_preparation import prepare_coco as run

    splits = split or ["train2017", "val2017"]
    print(run(root, splits, archives=archives, download=download, mirror=mirror, track=byte_progress))
