from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import pytest

from segmnv2.checks import pair_reading as reading
from segmnv2.signals import interrupting


def test_an_interrupt_does_not_wait_for_processes_that_are_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_pool(count: int, context: Any, **_: Any) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(count, context, initializer=time.sleep, initargs=(60,))

    monkeypatch.setattr(reading, "ProcessPoolExecutor", slow_pool)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.2, partial(signal.pthread_kill, main, signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupting():
        list(reading.read_pairs([], [(0, 0)] * 64, 2))
    assert time.monotonic() - began < 30
