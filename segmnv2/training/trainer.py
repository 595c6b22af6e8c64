"""Lightning's trainer as a run needs it: counted in steps, silent, and leaving Ctrl-C to who called."""

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
    """Batch norms that share their statistics among all processes.

    PyTorch's own conversion drops what a subclass adds, as the activation inside timm's norms. timm's keeps it.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert a network's batch norms in place.

        Raises:
            ConfigError: a layer with running statistics is of another kind.
        """
        from timm.layers.norm_act import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        left = [norm for norm in statistical_norms(converted) if not isinstance(norm, nn.SyncBatchNorm)]
        if left:
            kinds = ", ".join(sorted({type(norm).__name__ for norm in left}))
            raise ConfigError(
                f"model.norms: 'synchronized' is not possible for layers of the kind {kinds}; use -o model.norms=batch "
                "or -o model.norms=frozen"
            )
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave the norms unchanged: outside of training they compute the same."""
        return model


class StopAfterLast(pl.Callback):
    """Requests the end with the last step, so that it is validated and kept whatever the interval of validation."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Request the end."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True


def choose_accelerator(experiment: AnyExperiment) -> str:
    """Return ``"gpu"`` or ``"cpu"``.

    Raises:
        ConfigError: a GPU is wanted and there is none, or precision or batch norms need one.
    """
    gpu = torch.cuda.is_available() and experiment.device != "cpu"
    if experiment.device == "cuda" and not gpu:
        raise ConfigError(
            "device: 'cuda' is requested and PyTorch finds no GPU; use -o device=cpu, or repair the driver"
        )
    if experiment.precision != 32 and not gpu:
        # torch 2.14.1 with oneDNN: the weight gradient of a dilated depthwise convolution, bfloat16 and channels last,
        # is wrong (by 1.4 times its length at 384 channels of 33 x 33), as every network here has them.
        raise ConfigError(
            f"precision: '{experiment.precision}' needs a GPU; CPUs compute wrong gradients of dilated convolutions in "
            "it and gain little: use -o precision=32"
        )
    if experiment.model.norms == "synchronized" and not gpu:
        raise ConfigError(
            "model.norms: 'synchronized' needs GPUs, as PyTorch's synchronized batch norm does; on a CPU use "
            "-o model.norms=batch, or -o model.norms=frozen for small batches"
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
        experiment: precision, and how a step is made.
        folder: folder in which Lightning may write.
        accelerator: ``"cpu"`` or ``"gpu"``.
        timing: steps, and the interval of validation.
        processes: with several, gradients are averaged over them (DDP); each normalizes its own part of a batch.
        loggers: take the measures.
        callbacks: beside the one that has the last step validated.
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
        num_sanity_val_steps=1,  # a validation set that cannot be used is noticed at once
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
    """Turn the end that Lightning puts to the process on Ctrl-C back into an interrupt, and listen to Ctrl-C again."""
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
