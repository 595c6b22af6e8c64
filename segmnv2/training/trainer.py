"""Lightning's trainer for a run: it counts steps, prints nothing and leaves Ctrl-C to the caller."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import nn

from segmnv2.config.reading import AnyExperiment
from segmnv2.errors import ConfigError
from segmnv2.nn.network import statistical_norms
from segmnv2.tasks.processes import Processes, keep_freed_memory
from segmnv2.tasks.task import Timing


class SynchronizedNorms(LayerSync):
    """Plugin for batch norms that share their statistics among all processes.

    PyTorch's conversion drops what a subclass adds, such as the activation in timm's norms. timm's conversion keeps it.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert the batch norms of a model in place.

        Raises:
            ConfigError: a layer with running statistics cannot be synchronized.
        """
        from timm.layers.norm_act import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        others = [norm for norm in statistical_norms(converted) if not isinstance(norm, nn.SyncBatchNorm)]
        if others:
            kinds = ", ".join(sorted({type(norm).__name__ for norm in others}))
            raise ConfigError(
                f"model.norms: 'synchronized' is not possible for layers of the kind {kinds}; use -o model.norms=batch "
                "or -o model.norms=frozen"
            )
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged, because outside of training its norms compute the same."""
        return model


class StopAfterLast(pl.Callback):
    """Callback that stops the trainer at the last step, so that this step is always validated."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop the trainer after the last step."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True


def choose_accelerator(experiment: AnyExperiment) -> str:
    """Return ``"gpu"`` or ``"cpu"``.

    Raises:
        ConfigError: the device, the precision or the batch norms need a GPU and there is none.
    """
    gpu = torch.cuda.is_available() and experiment.device != "cpu"
    if experiment.device == "cuda" and not gpu:
        raise ConfigError(
            "device: 'cuda' is requested, but PyTorch finds no GPU; use -o device=cpu, or repair the driver"
        )
    if experiment.precision != 32 and not gpu:
        # Every model here has dilated depthwise convolutions. In bfloat16 with channels last, torch 2.14.1 with oneDNN
        # computes their weight gradients wrong: by 1.4 times their length at 384 channels of 33 x 33.
        raise ConfigError(
            f"precision: '{experiment.precision}' needs a GPU; on CPUs it is hardly faster and gives wrong gradients "
            "of dilated convolutions: use -o precision=32"
        )
    if experiment.model.norms == "synchronized" and not gpu:
        raise ConfigError(
            "model.norms: 'synchronized' needs GPUs; on a CPU use -o model.norms=batch, or -o model.norms=frozen for "
            "small batches"
        )
    return "gpu" if gpu else "cpu"


def build_trainer(
    experiment: AnyExperiment,
    folder: Path,
    accelerator: str,
    timing: Timing,
    processes: Processes,
    loggers: list[Logger],
    callbacks: Sequence[pl.Callback],
) -> pl.Trainer:
    """Return a trainer.

    Args:
        experiment: precision, gradient accumulation and gradient clipping.
        folder: folder in which Lightning may write.
        accelerator: ``"cpu"`` or ``"gpu"``.
        timing: number of steps and interval of the validations.
        processes: the processes; several average their gradients (DDP), and each normalizes its own part of a batch.
        loggers: loggers of the measures.
        callbacks: callbacks besides :class:`StopAfterLast`.
    """
    if accelerator == "cpu":
        keep_freed_memory()
    section = experiment.optimizer
    return pl.Trainer(
        accelerator=accelerator,
        devices=processes.local,
        num_nodes=processes.machines,
        strategy="ddp" if processes.count > 1 else "auto",
        plugins=[SynchronizedNorms()] if experiment.model.norms == "synchronized" and processes.count > 1 else None,
        precision=experiment.precision,
        max_steps=timing.steps,
        max_epochs=-1,
        accumulate_grad_batches=section.accumulate,
        gradient_clip_val=section.clip_norm,
        val_check_interval=timing.validate_every * section.accumulate,  # counted in batches
        check_val_every_n_epoch=None,
        num_sanity_val_steps=1,  # an unusable validation set fails before the first step
        logger=loggers,
        callbacks=[StopAfterLast(), *callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # Lightning's would repeat images
        default_root_dir=folder,
    )


@contextmanager
def interruptible(on_interrupt: Callable[[], None]) -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` in place of Lightning's ``SystemExit`` on Ctrl-C, and restore the signal handler."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        on_interrupt()
        raise KeyboardInterrupt from stop
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
