from __future__ import annotations

import numpy as np
import pytest

from segmnv2.metrics.calibration import Calibration


def test_a_confidence_that_is_kept_has_no_error_and_one_that_is_not_has_the_gap():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, (400, 500)).astype(np.float32)
    truth = np.where(rng.random(confidence.shape) < confidence, 1, 0).astype(np.uint8)
    exact, bold = Calibration(255), Calibration(255)
    exact.update(truth, np.ones_like(truth), confidence)
    bold.update(truth, np.ones_like(truth), np.full_like(confidence, 0.95))
    assert exact.error < 0.01
    assert bold.error == pytest.approx(0.95 - truth.mean(), abs=1e-6)
    for mean, accuracy, _ in exact.points():
        assert accuracy == pytest.approx(mean, abs=0.02)
    assert sum(share for _, _, share in exact.points()) == pytest.approx(1)


def test_ignored_pixels_do_not_count():
    mask = np.array([[0, 255]], dtype=np.uint8)
    calibration = Calibration(255)
    calibration.update(mask, np.zeros_like(mask), np.array([[1.0, 0.3]], dtype=np.float32))
    assert calibration.points() == [(1.0, 1.0, 1.0)]
    assert np.isnan(Calibration(255).error)
