"""``segmnv2 export`` and ``segmnv2 verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segmnv2.cli.inference_options import CalibrationOption, ThreadsOption, check_inputs, refuse_options
from segmnv2.cli.output import JsonOption, byte_progress, check_json, image_progress, text_stream, write_json
from segmnv2.errors import ConfigError

if TYPE_CHECKING:
    from segmnv2.export.create import ExportSize


LeastOption = Annotated[
    float | None,
    typer.Option(
        help="Minimum share of pixels, 0 to 1, with the same label as the original model.",
        show_default="0.9999 in float32, 0.995 in float16, 0.97 in bfloat16, 0.95 in int8; on generated images "
        "0.9999, 0.98, 0.7, 0.4",
    ),
]


def export(
    weights: Annotated[
        Path,
        typer.Argument(
            help="Model file of `segmnv2 import` or `segmnv2 train`, a name of `segmnv2 weights`, or owner/name on the "
            "Hugging Face Hub.",
            show_default=False,
        ),
    ],
    form: Annotated[str, typer.Option("--format", help="onnx, openvino, torch, executorch, litert or coreml.")],
    out: Annotated[
        Path, typer.Option(help="File to write. NAME.json and the model card NAME.md are written next to it.")
    ],
    size: Annotated[
        str | None,
        typer.Option(
            help="dynamic for images of any size, or one fixed size in pixels: a side, or H,W.",
            show_default="dynamic if the format allows it, else 513",
        ),
    ] = None,
    output_stride: Annotated[
        int | None, typer.Option(help="8, 16 or 32: smaller is finer and slower.", show_default="that of the weights")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="float32; float16 or bfloat16, half as large; int8, less than half as large, needs --calibration. "
            "Some formats lack some of these."
        ),
    ] = "float32",
    calibration: CalibrationOption = None,
    raw_logits: Annotated[
        bool, typer.Option("--raw-logits", help="Return float logits at the output stride instead of a label map.")
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Images on which the file is compared with the model; a few are used.",
            show_default="those of --calibration, or generated ones",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option(help="Compare the file with the model, and write it only if they agree.")
    ] = True,
    least_agreement: LeastOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Export a model to a file of another runtime, which turns uint8 RGB images into label maps.

    The file includes pre- and post-processing. It is opened in its own runtime and compared with the model first. If
    they differ, no file is written.
    """
    from segmnv2.engines.backend import check_threads
    from segmnv2.export.create import export_weights
    from segmnv2.export.formats import find_format

    find_format(form)
    if not verify:
        compared = {"images": images, "least_agreement": least_agreement, "threads": threads}
        refuse_options("exports without comparison", "leave it out, or leave out --no-verify", **compared)
    done = export_weights(
        weights,
        out,
        form,
        size="auto" if size is None else parse_export_size(size),
        output_stride=output_stride,
        precision=precision,
        calibration=calibration,
        raw_logits=raw_logits,
        verify=verify,
        images=images,
        least_agreement=least_agreement,
        threads=check_threads(threads),
        track=byte_progress,
        on_step=lambda step: typer.echo(f"{step} ...", err=True),
    )
    if done.verification is None:
        reason = f": {done.unproven}" if done.unproven else ""
        typer.echo(f"{done.path} written, not compared with the model{reason}", err=bool(reason))
        return
    share = 100 * done.verification.agreement
    typer.echo(
        f"{done.path} written, {done.verification.size / 1e6:.2f} MB; {share:.4f} % of pixels have the model's label "
        f"on {done.verification.source} (classes in them: {done.verification.classes})"
    )


def parse_export_size(text: str) -> ExportSize:
    """Parse ``--size``: ``dynamic``, a side, or ``H,W``.

    Raises:
        ConfigError: the text has another form.
    """
    if text == "dynamic":
        return None
    sides = [part.strip() for part in text.split(",")]
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ConfigError(
            f"--size: {text!r} is not understood; give dynamic, a side such as 513, or H,W such as 375,500"
        )
    return int(sides[0]), int(sides[-1])


def verify(
    export: Annotated[Path, typer.Argument(help="File of `segmnv2 export`.", show_default=False)],
    against: Annotated[
        Path,
        typer.Option(
            metavar="WEIGHTS",
            help="Original weights: a model file, a name of `segmnv2 weights`, or owner/name on the Hub.",
            show_default=False,
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Images to compare on.", show_default="generated ones")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of masks of class ids, NAME.png for each image, to measure mIOU before and after.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Number of images, evenly distributed over the folder.", show_default="all")
    ] = None,
    repeats: Annotated[int, typer.Option(min=0, help="Runs to measure latency; 0 skips the measurement.")] = 15,
    json_out: JsonOption = None,
    least_agreement: LeastOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Compare an exported file, in its own runtime, with the original model.

    Prints the share of pixels with the same label, the error of the logits, mIOU before and after, size and latency.
    The exit code is 2 if the share is below --least-agreement.
    """
    from segmnv2.engines.backend import check_threads
    from segmnv2.export.comparison import check_agreement, check_least, verify_export
    from segmnv2.export.probes import list_image_pairs
    from segmnv2.hub.resolve import resolve_weights
    from segmnv2.models.model_file import load_model

    check_least(least_agreement)
    check_json(json_out)
    check_inputs({"EXPORT": export, "--images": images, "--masks": masks})
    if images is None:
        refuse_options("comparisons on generated images", "leave it out, or give --images", limit=limit)
    count = None if images is None else len(list_image_pairs(images, masks, limit))
    model = load_model(resolve_weights(against, track=byte_progress))
    with image_progress(count) as advance:
        comparison = verify_export(
            export,
            model,
            images,
            masks,
            limit=limit,
            threads=check_threads(threads),
            repeats=repeats,
            on_image=advance,
        )
    rows = comparison.rows()
    width = max(map(len, rows))
    lines = [f"{export} compared with {against}", *(f"  {name:<{width}}  {value}" for name, value in rows.items())]
    typer.echo("\n".join(lines), file=text_stream(json_out))
    write_json(comparison.to_dict(), json_out)
    check_agreement(comparison, least_agreement)
