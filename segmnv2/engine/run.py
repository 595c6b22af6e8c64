"""A training run from start to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from rich.console import Console

from segmnv2.build import build_datasets, build_model, build_transform
from segmnv2.config import Experiment
from segmnv2.data.sample import SegmentationDataset
from segmnv2.engine.checkpoints import Checkpoints
from segmnv2.engine.data_module import SegmentationData
from segmnv2.engine.logs import TRAIN_COLUMNS, CsvLog, LineLog, StepLog
from segmnv2.engine.processes import Processes
from segmnv2.engine.progress_bar import ProgressBar
from segmnv2.engine.quiet import quiet_lightning
from segmnv2.engine.run_folder import RunFolder
from segmnv2.engine.task import SegmentationTask
from segmnv2.engine.trainer import build_trainer, choose_accelerator, interruptible
from segmnv2.errors import ConfigError
from segmnv2.models.cost import count_parameters
from segmnv2.models.segmenter import Segmenter


@dataclass(frozen=True)
class TrainingReport:
    """How a run ended.

    Attributes:
        folder: where its files are.
        steps: optimizer steps done, those before a resume included.
        seconds: what this call took.
        miou: of the latest validation, in percent; ``None`` if this call made none.
        best_miou: of the best validation, in percent.
        best_step: its step.
    """

    folder: RunFolder
    steps: int
    seconds: float
    miou: float | None
    best_miou: float | None
    best_step: int


def train(
    experiment: Experiment,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
    console: Console | None = None,
) -> TrainingReport:
    """Train a network as an experiment says.

    Everything that the experiment names is opened before the first step and before the folder is touched. In the folder
    there are then ``config.yaml``, ``metrics.csv``, ``tensorboard/`` and, from the first validation on,
    ``last.safetensors``, ``best.safetensors`` (by validation mIOU) and ``last.ckpt``, from which a run can be resumed.

    Args:
        experiment: what to do.
        out: folder of the results, in place of the experiment's.
        resume: go on with the run in the folder, from its latest validation; on a CPU the result is to the bit that of
            a run without the break.
        overwrite: delete the files of a run that is in the folder.
        report: takes lines for people.
        console: a terminal for a progress bar; without one, progress is lines too.

    Raises:
        ConfigError: the folder holds a run already, there is nothing to resume, or the device is not there.
        DatasetError: a data set is missing or faulty.
        MediaError: an image cannot be read.
        WeightsError: named weights are missing or do not fit, or a checkpoint cannot be read or written.
        SegmnError: the loss is not finite.
    """
    began = time.perf_counter()
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other; to go on with the run give --resume alone")
    processes = Processes.from_environment()
    processes.share(experiment.data.batch_size)
    if not processes.leads:
        report, console = _say_nothing, None
    folder = RunFolder(Path(out) if out is not None else experiment.output_folder)
    accelerator = choose_accelerator(experiment)
    torch.manual_seed(experiment.seed)
    train_set, val_set = build_datasets(experiment)
    model = build_model(experiment.model, train_set.labels, initial_weights=not resume)
    data = SegmentationData(train_set, val_set, build_transform(experiment, train_set.labels), experiment)
    state = folder.resume(experiment) if resume else None
    if state is None and processes.leads:
        folder.begin(experiment, overwrite=overwrite)
    for line in describe(experiment, model, train_set, val_set, accelerator, processes):
        report(line)
    report(f"results   {folder.path}" + (f", resumed at step {state['global_step']}" if state else ""))

    task = SegmentationTask(model, experiment)
    checkpoints = Checkpoints(folder, experiment.to_dict())
    bar = ProgressBar(console) if console is not None and console.is_terminal else None
    lines = LineLog(bar.write if bar else report, experiment.steps, training=bar is None)
    loggers = _build_loggers(folder, model, lines, state["global_step"] if state else None)
    callbacks: list[pl.Callback] = [StepLog(experiment.log_every), checkpoints, *([bar] if bar else [])]
    with quiet_lightning(), interruptible(lambda: _describe_stop(folder, checkpoints, report)):
        trainer = build_trainer(experiment, folder.path, accelerator, processes, loggers, callbacks)
        trainer.fit(task, datamodule=data, ckpt_path=folder.state if resume else None, weights_only=True)
    return TrainingReport(
        folder,
        steps=trainer.global_step,
        seconds=time.perf_counter() - began,
        miou=task.validation.miou if task.validation else None,
        best_miou=checkpoints.best_miou,
        best_step=checkpoints.best_step,
    )


def describe(
    experiment: Experiment,
    model: Segmenter,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    accelerator: str,
    processes: Processes,
) -> list[str]:
    """Return in a few lines what is trained on what."""
    section, data = experiment.model, experiment.data
    start = section.weights or section.backbone_weights
    origin = f"from {'the backbone of ' if section.weights is None else ''}{start}" if start else "from scratch"
    place = torch.cuda.get_device_name() if accelerator == "gpu" else f"CPU, {torch.get_num_threads()} threads"
    shown = len(val_set) if experiment.validation.limit is None else min(len(val_set), experiment.validation.limit)
    epochs = experiment.steps * data.batch_size / len(train_set)
    return [
        f"model     {section.name}, width {section.width:g}, output stride {section.output_stride}, "
        f"{model.num_classes} classes, {count_parameters(model):,} parameters, {origin}",
        f"data      {len(train_set)} images ({data.train.kind}) to train, {shown} ({data.val.kind}) to validate",
        f"training  {experiment.steps} steps of {data.batch_size} crops of {data.crop_size}x{data.crop_size} "
        f"({epochs:.1f} epochs), precision {experiment.precision}, on {place}"
        + (f", {processes.count} processes on {processes.machines} machine(s)" if processes.count > 1 else ""),
    ]


def _say_nothing(_line: str) -> None:
    """Keep the processes beside the first one quiet."""


def _build_loggers(folder: RunFolder, model: Segmenter, lines: LineLog, resume_step: int | None) -> list[Logger]:
    """Return the loggers; what an interrupted run logged after its last checkpoint is struck out."""
    columns = (*TRAIN_COLUMNS, "val/miou", "val/pixel_accuracy", *(f"val/iou/{name}" for name in model.labels.names))
    purge_step = None if resume_step is None else resume_step + 1
    tensorboard = TensorBoardLogger(str(folder.path), name="", version=folder.tensorboard.name, purge_step=purge_step)
    return [CsvLog(folder.metrics, columns, resume_step), tensorboard, lines]


def _describe_stop(folder: RunFolder, checkpoints: Checkpoints, report: Callable[[str], None]) -> None:
    if checkpoints.saved_step is not None:
        step = checkpoints.saved_step
        report(f"stopped; {folder.state} is of step {step}: the same command with --resume goes on from it")
    else:
        report("stopped before the first validation; nothing new was saved")
