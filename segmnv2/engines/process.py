"""Settings of the whole process that are changed for a while: PyTorch's number of threads, and logging."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let PyTorch compute on so many threads while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Let other libraries log nothing up to a level, and warn of nothing, while the block runs.

    They warn of what a user can do nothing about, and their loggers are too many to name.
    """
    before = logging.root.manager.disable
    logging.disable(level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
