"""Reports of the dependencies: of usage, which is never sent, and logs, which a user can do nothing about."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

SWITCHES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub: packages and versions in the requests of its client
    "NO_ALBUMENTATIONS_UPDATE": "1",  # albumentations: looks for a newer version when it is imported
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime 1.29 and later: events, and a device id in the home folder
}
"""Environment variables, which worker processes inherit."""

OPENVINO = "openvino_telemetry"
"""The package through which OpenVINO and NNCF send; both work without it. No variable turns it off."""


def forbid_telemetry() -> None:
    """Turn off all reports of the dependencies, in this process and those that it starts.

    Libraries read their switches when they are imported, so this is called before any of them. Where OpenVINO's
    package is imported already, its functions are replaced by ones that do nothing.
    """
    os.environ.update(SWITCHES)
    loaded = sys.modules.setdefault(OPENVINO, None)  # type: ignore[arg-type]  # Python's form of "not installed"
    if loaded is not None:
        for name in ("init", "start_session", "end_session", "send_event", "send_error", "send_stack_trace"):
            setattr(loaded.Telemetry, name, lambda *_, **__: None)


@contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Let other libraries log nothing up to a level, and warn of nothing, while the block runs.

    They have too many loggers to name.
    """
    before = logging.root.manager.disable
    logging.disable(level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
