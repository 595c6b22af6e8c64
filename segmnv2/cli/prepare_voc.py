"""``segmnv2 prepare-voc``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer


def prepare_voc(
    root: Annotated[Path, typer.Argument(help="The VOCdevkit folder, VOC 2012 unpacked in it.")],
    sbd: Annotated[Path, typer.Option(help="The Semantic Boundaries Dataset's benchmark_RELEASE folder.")],
) -> None:
    """Add SBD's masks and the list train_aug to VOC 2012, without VOC's validation images."""
    from segmnv2.data.sbd import build_train_aug

    print(build_train_aug(root, sbd, track=_with_progress))


def _with_progress(names: Sequence[str]) -> Iterator[str]:
    from segmnv2.cli.progress import image_progress

    with image_progress(len(names)) as advance:
        for name in names:
            yield name
            advance()
