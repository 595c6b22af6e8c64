"""``segmnv2 train`` and ``segmnv2 demo``."""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segmnv2.cli.inference_options import Config, Override
from segmnv2.errors import counted

if TYPE_CHECKING:
    from segmnv2.config.reading import AnyExperiment
    from segmnv2.training.run import TrainingReport


class Resume(str, Enum):
    """Values of ``--resume``."""

    NO = "no"
    LAST = "last"
    AUTO = "auto"


def train(
    config: Config,
    override: Override = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the results; runs/NAME by default.")
    ] = None,
    resume: Annotated[
        Resume,
        typer.Option(
            help="Resume the run in the folder from its latest state. If there is none, `last` fails and `auto` starts "
            "a new run, which suits jobs that may be restarted. The run's own config.yaml is used, then the "
            "overrides; `-o steps=N` makes the run longer."
        ),
    ] = Resume.NO,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Delete an existing run in the folder.")] = False,
) -> None:
    """Train a model from an experiment, which is a YAML file.

    Paths in the experiment are relative to the current folder. For several processes or machines, use `torchrun
    --nproc-per-node N -m segmnv2 train CONFIG`; each batch is divided among the processes.
    """
    from segmnv2.config.reading import load_any_experiment

    overrides = override or ()
    experiment = load_any_experiment(config, overrides)

    from rich.console import Console

    from segmnv2.tasks.processes import Processes
    from segmnv2.training.run import train as run
    from segmnv2.training.run_folder import RunFolder, differences

    is_first = Processes.from_environment().leads
    if resume is not Resume.NO:
        folder = RunFolder(out or experiment.output_folder)
        given, experiment = experiment, folder.own_experiment(experiment, overrides)
        changed = [key for key, _, _ in differences(experiment.to_dict(), given.to_dict())]
        if changed and is_first:
            print(f"note: {folder.config} is used; {config} differs in {', '.join(changed)} (change a value with -o)")
    result = run(experiment, out=out, resume=resume.value, overwrite=overwrite, console=Console(stderr=True))
    if is_first:
        print("\n".join(_summary(result, experiment)))


def _summary(result: TrainingReport, experiment: AnyExperiment) -> list[str]:
    """Return the results, their files and the next commands."""
    folder = result.folder
    lines = [f"{counted(result.steps, 'step')} done in {result.seconds:.0f} s"]
    if result.best_score is not None:
        last = "" if result.score is None else f"{result.score:.2f} % at the end, "
        lines.append(
            f"validation {result.score_name} {last}{result.best_score:.2f} % at best (step {result.best_step})"
        )
    lines += [
        f"{folder.best}: the best model",
        f"{folder.last}: the last model; `--resume last` resumes from {folder.state.name} in the same folder",
        f"{folder.metrics}: losses and validations; also `tensorboard --logdir {folder.path}`",
    ]
    lines += [f"next: {command}" for command in _evaluation(experiment, folder.best)]
    best = shlex.quote(str(folder.best))
    if experiment.task == "classification":
        lines.append(f"next: segmnv2 train CONFIG -o model.backbone_weights={best}")
        return lines
    protocol = _protocol(experiment, "size", "output_stride")
    lines.append(f"next: segmnv2 infer IMAGES --weights {best} --out results{protocol}")
    return lines


def _evaluation(experiment: AnyExperiment, weights: Path) -> list[str]:
    """Return the command that evaluates as the validation does, or an empty list if there is none."""
    val, protocol = experiment.data.val.model_dump(), _protocol(experiment, "size", "output_stride", "limit")
    kind, root = str(val["kind"]), val.get("root", val.get("images"))
    if root is None or val.get("min_pixels"):  # `evaluate` cannot select images of COCO by their pixels
        return []
    chosen = "".join(f" --{key} {shlex.quote(str(val[key]))}" for key in ("split", "annotations") if val.get(key))
    dataset = "coco" if kind == "coco_file" else kind.replace("_", "-")
    paths = f"{shlex.quote(str(weights))} --dataset {dataset} --root {shlex.quote(str(root))}"
    return [f"segmnv2 evaluate {paths}{chosen}{protocol}"]


def _protocol(experiment: AnyExperiment, *keys: str) -> str:
    """Return the options that make other commands predict as the validation does."""
    from segmnv2.inference.canvas import DEFAULT_SIZE

    section, usual = experiment.validation.model_dump(), {"size": DEFAULT_SIZE}
    given = {key: section.get(key) for key in keys}
    return "".join(f" --{k.replace('_', '-')} {v}" for k, v in given.items() if v not in (None, usual.get(k)))


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the results.")] = Path("runs/demo"),
    config: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Experiment on generated shapes: a YAML file, or a name of `segmnv2 configs`."
        ),
    ] = Path("shapes"),
    override: Override = None,
) -> None:
    """Train on generated shapes, evaluate and infer in about three minutes, and print the paper's table."""
    from rich.console import Console

    from segmnv2.config.reading import load_experiment
    from segmnv2.demonstration import run_demo

    experiment = load_experiment(config, override or ())
    run_demo(experiment, out, console=Console(stderr=True))
