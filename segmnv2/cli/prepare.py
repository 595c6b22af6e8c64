"""``segmnv2 prepare-voc`` and ``segmnv2 prepare-coco``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from segmnv2.cli.inference_options import Archives, Mirror


def prepare_voc(
    root: Annotated[Path, typer.Argument(help="The VOCdevkit folder; created if missing.")],
    sbd: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The Semantic Boundaries Dataset's benchmark_RELEASE folder; ROOT/benchmark_RELEASE by default.",
        ),
    ] = None,
    archives: Archives = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch what is missing, 3.4 GB if all is; this accepts its terms.")
    ] = False,
    mirror: Mirror = None,
) -> None:
    """Make VOC 2012 complete, with SBD's masks and the list train_aug, and check it.

    Existing files are used unchanged, and the network only with --download. VOC's validation images are not put into
    train_aug.
    """
    from segmnv2.cli.progress import byte_progress
    from segmnv2.preparation.voc_preparation import prepare_voc as run

    done = run(
        root,
        sbd=sbd,
        archives=archives,
        download=download,
        mirror=mirror,
        track=byte_progress,
        track_names=_with_progress,
    )
    print(done)


def _with_progress(names: Sequence[str]) -> Iterator[str]:
    from segmnv2.cli.progress import image_progress

    with image_progress(len(names)) as advance:
        for name in names:
            yield name
            advance()


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
    from segmnv2.cli.progress import byte_progress
    from segmnv2.preparation.coco_preparation import prepare_coco as run

    splits = split or ["train2017", "val2017"]
    print(run(root, splits, archives=archives, download=download, mirror=mirror, track=byte_progress))
