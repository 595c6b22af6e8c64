"""``segmnv2 check-data``, ``prepare-voc`` and ``prepare-coco``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segmnv2.cli.inference_options import Archives, Mirror
from segmnv2.cli.output import STANDARD_OUTPUT, JsonOption, byte_progress, check_json, image_progress, write_json
from segmnv2.errors import ConfigError
from segmnv2.files.atomic import atomic_path, check_writable

if TYPE_CHECKING:
    from segmnv2.checks.examination import Examination


FAULTS_FOUND = 1
"""Exit code for errors in the data; warnings alone give 0."""


def check_data(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG-or-ROOT",
            help="Folder of a data set, or an experiment: a YAML file or a name of `segmnv2 configs`.",
        ),
    ],
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Folders only: split to check; repeatable, training set first. Default: train and val, if present."
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Folders only: YAML file of the classes.")] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("-o", "--override", metavar="KEY=VALUE", help="Experiments only: replace a value; repeatable."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; one per core by default.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Read only this number of pairs of each split, the first ones.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="Files to list for each kind of finding.")] = 3,
    json_out: JsonOption = None,
    html_out: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the findings as an HTML page with images.")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a copy of the data set with repaired masks to this new folder."),
    ] = None,
) -> None:
    """Read every image and mask, and report all faults before training.

    The exit code is 0 without errors (warnings are allowed), 1 with errors, and 2 for a wrong command.
    """
    from rich.console import Console

    from segmnv2.checks.examination import examine, listings_of, tasks_of
    from segmnv2.checks.page import LEAST_WIDTH, print_examination, print_repaired_copy
    from segmnv2.checks.repaired_copy import check_folder, write_repaired_copy

    check_json(json_out)
    if html_out is not None:
        check_writable(html_out)
    listings = listings_of(target, splits=split or (), labels=labels, overrides=override or ())
    if fix is not None:
        check_folder(fix, listings)
        if limit is not None:
            raise ConfigError("--fix: needs all pairs; leave out --limit")
    with image_progress(len(tasks_of(listings, limit))) as advance:
        examination = examine(listings, workers=workers, limit=limit, progress=advance)
    console = Console(stderr=json_out == STANDARD_OUTPUT)
    if not console.is_terminal:
        console.width = max(console.width, LEAST_WIDTH)
    print_examination(examination, console, examples)
    _write(examination, json_out, html_out)
    if fix is not None:
        print_repaired_copy(write_repaired_copy(examination, fix), console, examples)
    console.print(examination.verdict, markup=False, highlight=False, soft_wrap=True)
    if examination.errors:
        raise typer.Exit(FAULTS_FOUND)


def _write(examination: Examination, json_out: Path | None, html_out: Path | None) -> None:
    write_json(examination.to_dict() if json_out else None, json_out)
    if html_out is not None:
        from segmnv2.checks.page import html_page

        with atomic_path(html_out) as temporary:
            temporary.write_text(html_page(examination), encoding="utf-8", errors="backslashreplace")


def prepare_voc(
    root: Annotated[Path, typer.Argument(help="VOCdevkit folder; created if missing.")],
    sbd: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder benchmark_RELEASE of the Semantic Boundaries Dataset; by default the one in ROOT.",
        ),
    ] = None,
    archives: Archives = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download missing files, up to 3.4 GB; you accept their terms.")
    ] = False,
    mirror: Mirror = None,
) -> None:
    """Prepare VOC 2012 with SBD's masks and the list train_aug, and check that it is complete.

    Existing files are not changed. Nothing is downloaded without --download. train_aug has no image of VOC's val.
    """
    from segmnv2.preparation.prepare import prepare_voc as run

    done = run(
        root, sbd=sbd, archives=archives, download=download, mirror=mirror, track=byte_progress, track_names=_progress
    )
    print(done)


def _progress(names: Sequence[str]) -> Iterator[str]:
    with image_progress(len(names)) as advance:
        for name in names:
            yield name
            advance()


def prepare_coco(
    root: Annotated[Path, typer.Argument(help="Folder of annotations and images; created if missing.")],
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="SPLIT", help="train2017 or val2017; repeatable, both by default."),
    ] = None,
    archives: Archives = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Download missing files, up to 20.4 GB; you accept their terms."),
    ] = False,
    mirror: Mirror = None,
) -> None:
    """Prepare COCO 2017 with an index for `kind: coco_voc`, and check that it is complete.

    Existing files are not changed. Nothing is downloaded without --download. The index is written next to the
    annotations, so that the data set opens at once.
    """
    from segmnv2.preparation.prepare import prepare_coco as run

    splits = split or ["train2017", "val2017"]
    print(run(root, splits, archives=archives, download=download, mirror=mirror, track=byte_progress))
