"""Silence of other libraries, which warn of what a user can do nothing about."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Let loggers report errors only, and no warnings be shown, while the block runs.

    Args:
        names: of the loggers.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def quiet_logging(level: int = logging.WARNING) -> Iterator[None]:
    """Let no logger report anything up to a level, and no warnings be shown, while the block runs.

    Args:
        level: the highest that is not shown, for libraries whose loggers are too many to name.
    """
    before = logging.root.manager.disable
    logging.disable(level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
