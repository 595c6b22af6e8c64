"""Summary of a run: model, data and schedule in a few lines."""

from __future__ import annotations

from segmnv2.config.reading import AnyExperiment
from segmnv2.datasets.dataset_kinds import count_shared
from segmnv2.errors import counted
from segmnv2.tasks.job import Job
from segmnv2.tasks.processes import Processes


def describe_job(job: Job, experiment: AnyExperiment, processes: Processes, device: str) -> list[str]:
    """Return a few lines that describe the model, the data and the schedule.

    Args:
        job: the task and its data.
        experiment: the experiment of the job.
        processes: the processes of the run.
        device: description of the device.
    """
    section, data, steps = experiment.model, experiment.data, job.task.timing.steps
    origin = "from scratch"
    if start := section.weights or section.backbone_weights:
        origin = f"from {'the backbone of ' if section.weights is None else ''}{start}"
    elif section.backbone_options.get("pretrained"):
        origin = f"from {section.backbone_name}'s weights of the backbone"
    several = f", {processes.count} processes on {processes.machines} machine(s)" if processes.count > 1 else ""
    return [
        f"model     {job.model_text}, {origin}",
        f"data      {job.data_text}",
        f"training  {counted(steps, 'step')} of {data.batch_size} {job.crops_text} "
        f"({steps * data.batch_size / job.images:.1f} epochs), precision {experiment.precision}, on {device}{several}",
        *_schedule_warnings(experiment, job),
        *_shared_warning(job),
    ]


def _shared_warning(job: Job) -> list[str]:
    """Return a line if images of the validation set are also in the training set."""
    train, val = job.datasets["train"], job.datasets["val"]
    shared = count_shared(train, val)
    if not shared:
        return []
    score = job.task.score_name
    return [
        f"warning: {shared} of the {len(val)} images of data.val are also in data.train, so the {score} will be higher "
        "than on new images; validate on other images"
    ]


def _schedule_warnings(experiment: AnyExperiment, job: Job) -> list[str]:
    """Return a line for each part of the schedule that is after the end of the run."""
    section, steps = experiment.optimizer, job.task.timing.steps
    per_epoch = job.images / experiment.data.batch_size
    warmup = {
        "warmup_steps": float(getattr(section, "warmup_steps", 0)),
        "warmup_epochs": getattr(section, "warmup_epochs", 0.0) * per_epoch,
    }
    lines = [
        f"warning: optimizer.{key} is {getattr(section, key)}, and the run has {counted(steps, 'step')}"
        f"{f' ({steps / per_epoch:.1f} epochs)' if key.endswith('epochs') else ''}: the learning rate never reaches "
        f"optimizer.lr; set {key} to a tenth of the run or less"
        for key, needed in warmup.items()
        if needed > steps
    ]
    late = [epoch for epoch in getattr(section, "milestones", ()) if epoch * per_epoch >= steps]
    if late:
        lines.append(
            f"warning: optimizer.milestones: {', '.join(map(str, late))} are not before the end of the run "
            f"({steps / per_epoch:.1f} epochs), so they do not lower the learning rate"
        )
    return lines
