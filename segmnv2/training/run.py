"""A training run from start to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from rich.console import Console

from segmnv2.config.reading import AnyExperiment
from segmnv2.engines.pytorch import convolutions
from segmnv2.errors import ConfigError, counted
from segmnv2.models.model_file import read_normalization
from segmnv2.signals import Held, held
from segmnv2.tasks.job import Job, build_job
from segmnv2.tasks.optimizer import MovingAverage
from segmnv2.tasks.processes import Processes
from segmnv2.tasks.task import Task
from segmnv2.training.checkpoints import Checkpoints, StoppedError
from segmnv2.training.curves import draw_curves
from segmnv2.training.logs import TRAIN_COLUMNS, CsvLog, LineLog, StepLog, build_wandb_log
from segmnv2.training.progress_bar import ProgressBar, quiet_lightning
from segmnv2.training.record import describe_changes, run_record, with_defaults
from segmnv2.training.run_folder import Record, RunFolder, State
from segmnv2.training.stops import claimed, describe_saved, explained
from segmnv2.training.summary import describe_job
from segmnv2.training.trainer import build_trainer, choose_accelerator, interruptible

Resume = Literal["no", "last", "auto"]


@dataclass(frozen=True)
class TrainingReport:
    """Result of a run.

    Attributes:
        folder: folder of its files.
        steps: number of completed optimizer steps, including those before a resume.
        seconds: duration of this call.
        score_name: name of the score by which models are compared, such as mIOU.
        score: score of the latest validation in percent, or ``None`` if this call did not validate.
        best_score: score of the best validation in percent.
        best_step: step of the best validation.
    """

    folder: RunFolder
    steps: int
    seconds: float
    score_name: str
    score: float | None
    best_score: float | None
    best_step: int


def train(
    experiment: AnyExperiment,
    *,
    out: str | Path | None = None,
    resume: Resume = "no",
    overwrite: bool = False,
    report: Callable[[str], None] = print,
    console: Console | None = None,
) -> TrainingReport:
    """Train a model as an experiment describes.

    Everything that the experiment names is opened before the first step and before the folder is changed. The run
    writes these files to its folder:

    - ``config.yaml``, ``metrics.csv``, ``tensorboard/``, and at the end ``results.png`` with the curves
    - ``last.ckpt``, from which the run can be resumed
    - ``last.safetensors`` and ``best.safetensors`` from the first validation on; the best model has the highest mIOU,
      top-1 accuracy or average precision

    With a moving average, the models are the average.

    Args:
        experiment: the experiment.
        out: folder of the results; by default that of the experiment.
        resume: ``no`` starts a new run. ``last`` resumes the run in the folder from its latest state. ``auto`` resumes
            if there is a state and otherwise starts, even if the folder holds a run without a state. On CPUs the
            results equal those of an uninterrupted run to the bit. ``steps`` or ``epochs`` may be raised.
        overwrite: delete the files of a run that is in the folder.
        report: function that receives lines of text.
        console: a terminal for a progress bar; without one, progress is reported as lines too.

    Raises:
        ConfigError: the folder already holds a run, there is nothing to resume, the run to resume has other values,
            images or classes, or the device does not exist.
        DatasetError: a data set is missing or faulty.
        MediaError: an image cannot be read.
        WeightsError: named weights are missing or do not fit, or a checkpoint cannot be read or written.
        SegmnError: the loss is not finite, or a full disk or a lost process stopped the run.
    """
    started = time.perf_counter()
    if resume != "no" and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other; to continue the run give --resume alone")
    processes = Processes.from_environment()
    processes.share(experiment.data.batch_size, experiment.optimizer.accumulate)
    if not processes.leads:
        report, console = (lambda _line: None), None
    folder = RunFolder(Path(out) if out is not None else experiment.output_folder)
    accelerator = choose_accelerator(experiment)
    torch.manual_seed(experiment.seed)
    state = folder.resume() if resume == "last" or (resume == "auto" and folder.can_resume()) else None
    job = build_job(experiment, processes, initial_weights=state is None)
    model: Any = job.task.model
    if state is not None:
        model.set_normalization(read_normalization(state.record))
    record = run_record(experiment, processes, model, job.classes, job.datasets)
    if state is not None:
        folder.check_same(with_defaults(state.record), with_defaults(record))
    with claimed(folder.path) if processes.leads else nullcontext():
        if processes.leads and state is None:
            folder.begin(experiment, overwrite=overwrite, unfinished=resume == "auto")
        elif processes.leads:
            folder.write_config(experiment)
        cpu = f"CPU, {counted(torch.get_num_threads(), 'thread')}"
        device = torch.cuda.get_device_name() if accelerator == "gpu" else cpu
        changes = describe_changes(state.record, record) if state else []
        for line in [*describe_job(job, experiment, processes, device), *changes]:
            report(line)
        report(f"results   {folder.path}" + (f", resumed at step {state.step} ({state.file.name})" if state else ""))
        with held() as signals:
            steps, checkpoints = _fit(
                job, experiment, folder, state, record, accelerator, processes, report, console, signals
            )
        if processes.leads:
            _draw(folder, job.task, report)
    validation = job.task.validation
    return TrainingReport(
        folder,
        score_name=job.task.score_name,
        steps=steps,
        seconds=time.perf_counter() - started,
        score=validation.score if validation else None,
        best_score=checkpoints.best_score,
        best_step=checkpoints.best_step,
    )


def _draw(folder: RunFolder, task: Task, report: Callable[[str], None]) -> None:
    """Draw the curves; a picture that cannot be written does not fail a run that is complete."""
    try:
        if draw_curves(folder.metrics, task.columns[0], task.score_name, folder.picture):
            report(f"curves    {folder.picture}")
    except OSError as error:
        report(
            f"warning: {folder.picture}: cannot be written ({error.strerror or error}); the run is complete without it"
        )


def _fit(
    job: Job,
    experiment: AnyExperiment,
    folder: RunFolder,
    state: State | None,
    record: Record,
    accelerator: str,
    processes: Processes,
    report: Callable[[str], None],
    console: Console | None,
    signals: Held,
) -> tuple[int, Checkpoints]:
    """Train to the end; return the number of completed steps and the checkpoints."""
    task = job.task
    average = MovingAverage(experiment.average.decay) if experiment.average else None
    checkpoints = Checkpoints(
        folder, experiment, task.timing, lambda: average.task if average else task, record, signals
    )
    bar = ProgressBar(console) if console is not None and console.is_terminal else None
    lines = LineLog(bar.write if bar else report, task.timing.steps, task.describe_validation, training=bar is None)
    loggers = _build_loggers(experiment, folder, task, lines, state, processes)
    # The order matters: a state must have the average of its step, and the log must have the entry of that step.
    optional = [average, StepLog(experiment.log.every), *job.callbacks, bar, checkpoints]
    callbacks = [callback for callback in optional if callback]

    def report_stop() -> None:
        report(f"stopped; {describe_saved(folder, checkpoints)}")

    with quiet_lightning(), explained(folder, checkpoints), interruptible(report_stop), convolutions(tuned=True):
        trainer = build_trainer(experiment, folder.path, accelerator, task.timing, processes, loggers, callbacks)
        try:
            trainer.fit(task, datamodule=job.data, ckpt_path=state.file if state else None, weights_only=True)
        except StoppedError:
            report_stop()
    return trainer.global_step, checkpoints


def _build_loggers(
    experiment: AnyExperiment,
    folder: RunFolder,
    task: Task,
    lines: LineLog,
    state: State | None,
    processes: Processes,
) -> list[Logger]:
    """Return the loggers; entries after the state that the run resumes from are deleted."""
    columns = (*TRAIN_COLUMNS, *task.columns)
    purge_step = state.step + 1 if state else None
    tensorboard = TensorBoardLogger(str(folder.path), name="", version=folder.tensorboard.name, purge_step=purge_step)
    loggers: list[Logger] = [CsvLog(folder.metrics, columns, state.step if state else None), tensorboard, lines]
    if experiment.log.wandb and processes.leads:
        loggers.append(build_wandb_log(experiment, folder.path, folder.wandb_id))
    return loggers
