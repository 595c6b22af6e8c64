"""Lightning without its advertisements and without warnings that mean nothing in training here."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning_fabric", "pytorch_lightning")

MEANINGLESS = (
    # Number of workers is the user's choice, and 0 is right for generated data.
    ".*does not have many workers.*",
    # Dependencies of Lightning's own.
    ".*LeafSpec.*is deprecated.*",
    # The device is named in the experiment.
    "GPU available but not used.*",
    # Frozen batch norms are.
    ".*module\\(s\\) in eval mode.*",
    # Slurm's command may be there without a job of it.
    ".*`srun` command is available.*",
    # A user's folder for several runs is no mistake.
    ".*Experiment logs directory.*",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what is listed above while the block runs; other warnings and all errors come through."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    report = threading.excepthook

    def report_others(fault: threading.ExceptHookArgs) -> None:
        """Pass over what the thread that writes for TensorBoard cannot write: the run itself reports it."""
        if not isinstance(fault.exc_value, OSError):
            report(fault)

    threading.excepthook = report_others
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for pattern in MEANINGLESS:
                warnings.filterwarnings("ignore", message=pattern)
            yield
    finally:
        threading.excepthook = report
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
