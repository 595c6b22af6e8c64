from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
import pytest

from segmnv2.checks import inspection
from segmnv2.checks.inspection import LARGEST_DIFFERENCE, candidates, difference, kept_thumbnail
from segmnv2.datasets.shapes import Shapes
from segmnv2.signals import interrupting


def test_an_interrupt_does_not_wait_for_processes_that_are_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_pool(count: int, context: Any, **_: Any) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(count, context, initializer=time.sleep, initargs=(60,))

    monkeypatch.setattr(inspection, "ProcessPoolExecutor", slow_pool)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.2, partial(signal.pthread_kill, main, signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interrupting():
        list(inspection.read_pairs([], [(0, 0)] * 64, 2))
    assert time.monotonic() - began < 30


IMAGES = [Shapes(30, (96, 128), seed=7)[i].image for i in range(30)]


@pytest.mark.parametrize(("scale", "quality"), [(1.0, 40), (0.5, 80), (1.7, 60)])
def test_copies_are_recognized_and_other_images_are_not(scale: float, quality: int) -> None:
    copies = []
    for image in IMAGES:
        buffer = BytesIO()
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        PIL.Image.fromarray(image).resize(size).save(buffer, "JPEG", quality=quality)
        copies.append(np.asarray(PIL.Image.open(buffer).convert("RGB")))
    near = [[difference(a, b) <= LARGEST_DIFFERENCE for b in copies] for a in IMAGES]
    assert (np.array(near) == np.eye(len(IMAGES), dtype=bool)).all()


def test_small_thumbnails_never_miss_a_copy() -> None:
    rng = np.random.default_rng(0)
    noisy = [
        np.clip(image + rng.normal(0, 12, image.shape) + rng.integers(-3, 4), 0, 255).astype(np.uint8)
        for image in IMAGES
    ]
    found = candidates(
        [kept_thumbnail(image) or b"" for image in IMAGES], [kept_thumbnail(image) or b"" for image in noisy], most=30
    )
    for i, a in enumerate(IMAGES):
        for j, b in enumerate(noisy):
            if difference(a, b) <= LARGEST_DIFFERENCE:
                assert (i, j) in found


def test_plain_images_are_not_compared() -> None:
    assert kept_thumbnail(np.full((50, 60, 3), 130, np.uint8)) is None
    assert candidates([], [b"x" * 64]) == []
