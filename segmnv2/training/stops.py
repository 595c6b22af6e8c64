"""The lock of a run's folder, and messages for a lost process or a full memory."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from segmnv2.errors import ConfigError, SegmnError
from segmnv2.training.checkpoints import Checkpoints
from segmnv2.training.run_folder import RunFolder

LOCK = ".lock"
LOST_READER = "DataLoader worker"
ONE_VALUE = "Expected more than 1 value per channel"
LOST_PROCESS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Socket Timeout",
    "ncclRemoteError",
    "remote process exited",
    "NCCL communicator was aborted",
    "Timed out waiting",
)
"""Parts of the messages by which gloo and NCCL report that another process was lost."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Lock a folder against other runs while the block runs; the operating system unlocks it if the process dies.

    Raises:
        ConfigError: another run has the lock, or the folder cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"{folder}: another run is writing there; wait for it, end it, or choose another folder (--out DIR)"
        ) from error
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error}); choose another folder with --out DIR") from error
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()


@contextmanager
def explained(folder: RunFolder, checkpoints: Checkpoints) -> Iterator[None]:
    """Turn PyTorch's errors that end a run into one message, which also names the latest state.

    Raises:
        SegmnError: a loader worker or another training process was lost, the memory or the disk is full, or the
            folder was removed.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SegmnError(
            f"the GPU's memory is full ({str(error).split('. ')[0]}); lower data.batch_size or data.crop_size, or "
            f"compute a batch in parts with -o optimizer.accumulate=2; {describe_saved(folder, checkpoints)}"
        ) from error
    except (ConnectionError, EOFError) as error:  # a loader worker was lost while it sent a batch
        reason = _explain(f"{LOST_READER}: {error}")
        raise SegmnError(f"{reason}; {describe_saved(folder, checkpoints)}") from error
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            folder.check_present()
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise SegmnError(
            f"{error.filename or folder.path}: cannot be written ({error.strerror}); free space on the disk, or "
            f"allow writing; {describe_saved(folder, checkpoints)}"
        ) from error
    except (RuntimeError, ValueError) as error:
        reason = _explain(str(error))
        if reason is None:
            raise
        raise SegmnError(f"{reason}; {describe_saved(folder, checkpoints)}") from error


def describe_saved(folder: RunFolder, checkpoints: Checkpoints) -> str:
    """Return a text that says how the run can be resumed and from which step."""
    remedy = "the same `segmnv2 train` command with --resume last continues from"
    if checkpoints.saved_step is not None:
        return f"{folder.state} has the state of step {checkpoints.saved_step}: {remedy} it"
    if folder.can_resume():
        return f"no new state was saved: {remedy} {folder.state}"
    return "no state was saved yet, so the run restarts; -o checkpoint.every=100 would save one every 100 steps"


def _explain(text: str) -> str | None:
    """Return cause and remedy of an error with a known text, else ``None``."""
    if text.startswith(ONE_VALUE):
        return (
            "a batch norm got one value per channel, which has no variance: raise data.batch_size or the images' size, "
            "or lower optimizer.accumulate"
        )
    if LOST_READER in text:
        return (
            f"a process that reads data was lost ({text.splitlines()[0]}); usually the memory is full: lower "
            "data.num_workers, or enlarge the shared memory (docker run --shm-size)"
        )
    if any(sign in text for sign in LOST_PROCESS):
        return "another process of this run was lost, so this one stops too; see the message of that process above"
    return None
