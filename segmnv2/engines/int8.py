"""Post-training quantization to 8 bits with NNCF, for OpenVINO and ONNX Runtime.

The image-level branch stays in float, because it has only a few numbers and their rounding changes labels in the whole
image. Ranges are from the smallest to the largest value in the calibration images. NNCF's bias correction visits the
layers in order and subtracts each channel's mean error from its bias. The faster kind treats each layer alone, and more
labels change.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from segmnv2.engines.backend import NO_CALIBRATION, Calibration
from segmnv2.errors import ConfigError, SegmnWarning
from segmnv2.models.segmenter import Segmenter
from segmnv2.telemetry import quiet

FEWEST = 20  # images for calibration without a warning; with a single one, 45 to 99 % of the labels stayed the same


def quantize_graph(graph: Any, inputs: Sequence[Any], floats: Sequence[str] = (), **parameters: Any) -> Any:
    """Return a graph with 8-bit weights and activations.

    Args:
        graph: OpenVINO's or ONNX's graph, with folded batch norms.
        inputs: the calibration data, as inputs of the graph.
        floats: names of convolutions that stay unchanged.
        parameters: further arguments of ``nncf.quantize``.
    """
    nncf = import_nncf()
    with quiet(), redirect_stdout(sys.stderr):  # NNCF prints its progress on stdout
        return nncf.quantize(
            graph,
            nncf.Dataset(inputs),
            subset_size=len(inputs),
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(names=list(floats)),
            **parameters,
        )


def import_nncf() -> Any:
    """Return NNCF's module, without the log messages of its import, such as those about a missing GPU."""
    with quiet(), redirect_stdout(sys.stderr):
        import nncf
    return nncf


def float_layers(model: Segmenter) -> tuple[str, ...]:
    """Return the names of the layers that stay in float, as in the model's copy for inference."""
    return tuple(f"head.{name}" for name in model.head.float_layers)


def calibration_arrays(pixels: Calibration) -> list[np.ndarray]:
    """Return calibration pixels as arrays; warn if there are fewer than :data:`FEWEST`.

    Raises:
        ConfigError: there are none.
    """
    if not pixels:
        raise ConfigError(NO_CALIBRATION)
    if len(pixels) < FEWEST:
        warnings.warn(
            f"calibration: {len(pixels)} image(s) are few to choose the ranges of int8, and many labels may change; "
            f"give 50 or more images like those to label, and at least {FEWEST}",
            SegmnWarning,
            stacklevel=1,  # the same line for all callers, so that Python shows the warning once
        )
    return [each.contiguous().cpu().numpy() for each in pixels]
