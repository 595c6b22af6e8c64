"""Switches for the dependencies: usage reports are never sent, downloads can be turned off, and logs can be hidden."""

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
"""Package through which OpenVINO and NNCF send reports. Both work without it, but no variable turns it off."""


OFFLINE = "SEGMNV2_OFFLINE", "HF_HUB_OFFLINE"
TRUE = ("1", "on", "yes", "true")


def is_offline() -> bool:
    """Return whether ``SEGMNV2_OFFLINE`` or ``HF_HUB_OFFLINE`` turns network access for weights off."""
    return any(os.environ.get(name, "").lower() in TRUE for name in OFFLINE)


def forbid_telemetry() -> None:
    """Turn off all usage reports of the dependencies, in this process and those that it starts.

    If ``SEGMNV2_OFFLINE`` is set, the downloads of other libraries, such as timm's weights, are turned off too.

    Libraries read their switches when they are imported, so call this before any import. If OpenVINO's package is
    already imported, its functions are replaced by functions that do nothing.
    """
    os.environ.update(SWITCHES)
    if is_offline():
        os.environ[OFFLINE[1]] = "1"  # huggingface_hub reads it; timm and smp download through it
    loaded = sys.modules.setdefault(OPENVINO, None)  # type: ignore[arg-type]  # marks it as not installed
    if loaded is not None:
        for name in ("init", "start_session", "end_session", "send_event", "send_error", "send_stack_trace"):
            setattr(loaded.Telemetry, name, lambda *_, **__: None)


@contextmanager
def quiet(level: int = logging.WARNING) -> Iterator[None]:
    """Hide all warnings, and all log messages up to a level, while the block runs."""
    before = logging.root.manager.disable
    logging.disable(level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
