"""A training run from start to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from rich.console import Console

from segmnv2.build import build_datasets, build_model, build_transform
from segmnv2.config import Experiment
from segmnv2.data.sample import SegmentationDataset
from segmnv2.engine.averaging import MovingAverage
from segmnv2.engine.checkpoints import Checkpoints
from segmnv2.engine.claim import claimed
from segmnv2.engine.data_module import FirstSamples, SegmentationData
from segmnv2.engine.logs import TRAIN_COLUMNS, CsvLog, LineLog, StepLog
from segmnv2.engine.pictures import Pictures
from segmnv2.engine.processes import Processes
from segmnv2.engine.progress_bar import ProgressBar
from segmnv2.engine.quiet import quiet_lightning
from segmnv2.engine.run_folder import RunFolder, State
from segmnv2.engine.stops import describe_saved, explained
from segmnv2.engine.task import SegmentationTask
from segmnv2.engine.trainer import build_trainer, choose_accelerator, interruptible
from segmnv2.engine.wandb_log import build_wandb_log
from segmnv2.errors import ConfigError
from segmnv2.models.cost import count_parameters
from segmnv2.models.segmenter import Segmenter

Resume = Literal["no", "last", "auto"]


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
    resume: Resume = "no",
    overwrite: bool = False,
    report: Callable[[str], None] = print,
    console: Console | None = None,
) -> TrainingReport:
    """Train a network as an experiment says.

    Everything that the experiment names is opened before the first step and before the folder is touched. In the folder
    there are then ``config.yaml``, ``metrics.csv``, ``tensorboard/``, from the first validation on
    ``last.safetensors`` and ``best.safetensors`` (by validation mIOU), and ``last.ckpt``, from which a run can be
    resumed. With a moving average the networks are the average.

    Args:
        experiment: what to do.
        out: folder of the results, in place of the experiment's.
        resume: ``last`` goes on with the run in the folder, from its latest state; ``auto`` does so where there is a
            state, and otherwise begins, in a folder that holds a run without one too; ``no`` begins. On CPUs the
            result is to the bit that of a run without the break.
        overwrite: delete the files of a run that is in the folder.
        report: takes lines for people.
        console: a terminal for a progress bar; without one, progress is lines too.

    Raises:
        ConfigError: the folder holds a run already, there is nothing to resume, or the device is not there.
        DatasetError: a data set is missing or faulty.
        MediaError: an image cannot be read.
        WeightsError: named weights are missing or do not fit, or a checkpoint cannot be read or written.
        SegmnError: the loss is not finite, or the run was cut off: a full disk, a lost process.
    """
    began = time.perf_counter()
    if resume != "no" and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other; to go on with the run give --resume alone")
    processes = Processes.from_environment()
    processes.share(experiment.data.batch_size, experiment.optimizer.accumulate)
    if not processes.leads:
        report, console = _say_nothing, None
    folder = RunFolder(Path(out) if out is not None else experiment.output_folder)
    going_on = resume == "last" or (resume == "auto" and folder.can_resume())
    accelerator = choose_accelerator(experiment)
    torch.manual_seed(experiment.seed)
    train_set, val_set = build_datasets(experiment)
    processes.check_validation(len(FirstSamples(val_set, experiment.validation.limit)))
    model = build_model(experiment.model, train_set.labels, initial_weights=not going_on)
    data = SegmentationData(train_set, val_set, build_transform(experiment, train_set.labels), experiment)
    task = SegmentationTask(model, experiment)
    state = folder.resume(experiment) if going_on else None
    with claimed(folder.path) if processes.leads else nullcontext():
        if state is None and processes.leads:
            folder.begin(experiment, overwrite=overwrite, unfinished=resume == "auto")
        for line in describe(experiment, model, train_set, val_set, accelerator, processes):
            report(line)
        report(f"results   {folder.path}" + (f", resumed at step {state.step} ({state.file.name})" if state else ""))
        steps, checkpoints = _fit(task, data, folder, state, accelerator, processes, report, console)
    return TrainingReport(
        folder,
        steps=steps,
        seconds=time.perf_counter() - began,
        miou=task.validation.miou if task.validation else None,
        best_miou=checkpoints.best_miou,
        best_step=checkpoints.best_step,
    )


def _fit(
    task: SegmentationTask,
    data: SegmentationData,
    folder: RunFolder,
    state: State | None,
    accelerator: str,
    processes: Processes,
    report: Callable[[str], None],
    console: Console | None,
) -> tuple[int, Checkpoints]:
    """Train to the end, and return the steps done and what was kept."""
    experiment = task.experiment
    average = MovingAverage(experiment.average.decay) if experiment.average else None
    checkpoints = Checkpoints(folder, experiment, lambda: average.task.model if average else task.model)
    bar = ProgressBar(console) if console is not None and console.is_terminal else None
    lines = LineLog(bar.write if bar else report, experiment.steps, training=bar is None)
    loggers = _build_loggers(experiment, folder, task.model, lines, state, processes)
    # In this order: a state that is written holds the average of the step, and the log has the step's entry.
    callbacks = [average, StepLog(experiment.log.every), Pictures(experiment.log.pictures), checkpoints, bar]
    present = [callback for callback in callbacks if callback]

    def tell_stop() -> None:
        report(f"stopped; {describe_saved(folder, checkpoints)}")

    with quiet_lightning(), explained(folder, checkpoints), interruptible(tell_stop):
        trainer = build_trainer(experiment, folder.path, accelerator, processes, loggers, present)
        trainer.fit(task, datamodule=data, ckpt_path=state.file if state else None, weights_only=True)
    return trainer.global_step, checkpoints


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
    options = "".join(f", {key} {value}" for key, value in section.backbone_options.items())
    place = torch.cuda.get_device_name() if accelerator == "gpu" else f"CPU, {torch.get_num_threads()} threads"
    shown = len(val_set) if experiment.validation.limit is None else min(len(val_set), experiment.validation.limit)
    epochs = experiment.steps * data.batch_size / len(train_set)
    return [
        f"model     {section.name}{options}, output stride {section.output_stride}, "
        f"{model.num_classes} classes, {count_parameters(model):,} parameters, {origin}",
        f"data      {len(train_set)} images ({data.train.kind}) to train, {shown} ({data.val.kind}) to validate",
        f"training  {experiment.steps} steps of {data.batch_size} crops of {data.crop_size}x{data.crop_size} "
        f"({epochs:.1f} epochs), precision {experiment.precision}, on {place}"
        + (f", {processes.count} processes on {processes.machines} machine(s)" if processes.count > 1 else ""),
    ]


def _say_nothing(_line: str) -> None:
    """Keep the processes beside the first one quiet."""


def _build_loggers(
    experiment: Experiment,
    folder: RunFolder,
    model: Segmenter,
    lines: LineLog,
    state: State | None,
    processes: Processes,
) -> list[Logger]:
    """Return the loggers; what an interrupted run logged after the state it goes on from is struck out."""
    columns = (*TRAIN_COLUMNS, "val/miou", "val/pixel_accuracy", *(f"val/iou/{name}" for name in model.labels.names))
    purge_step = state.step + 1 if state else None
    tensorboard = TensorBoardLogger(str(folder.path), name="", version=folder.tensorboard.name, purge_step=purge_step)
    loggers: list[Logger] = [CsvLog(folder.metrics, columns, state.step if state else None), tensorboard, lines]
    if experiment.log.wandb and processes.leads:
        loggers.append(build_wandb_log(experiment, folder))
    return loggers
