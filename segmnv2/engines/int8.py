"""Post-training quantization to 8 bits with NNCF, for OpenVINO and ONNX Runtime.

The image-level branch stays in float: it is a few numbers, whose rounding moves the labels of a whole image.
Ranges are the smallest and largest values seen. NNCF's bias correction goes through the layers one after another
and takes each channel's mean error, over the calibration images, out of its bias; the faster kind, which looks at each
layer alone, leaves more pixels with another label.
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

FEWEST = 20  # images for calibration below which there is a warning: with one, 45 to 99 % of labels stayed


def quantize_graph(graph: Any, inputs: Sequence[Any], floats: Sequence[str] = (), **parameters: Any) -> Any:
    """Return a graph with 8-bit weights and activations.

    Args:
        graph: OpenVINO's or ONNX's, with batch norms folded.
        inputs: the calibration data, in the form that the graph takes.
        floats: names of convolutions that stay unchanged.
        parameters: more for ``nncf.quantize``.
    """
    nncf = import_nncf()
    with quiet(), redirect_stdout(sys.stderr):  # where its progress belongs
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
    """Return NNCF's module. Its import sets up its log, and torch's extensions with it report a missing GPU."""
    with quiet(), redirect_stdout(sys.stderr):
        import nncf
    return nncf


def float_layers(model: Segmenter) -> tuple[str, ...]:
    """Return the names of the layers that stay in float, as the network for inference has them."""
    return tuple(f"head.{name}" for name in model.head.float_layers)


def calibration_arrays(pixels: Calibration) -> list[np.ndarray]:
    """Return calibration pixels as arrays; warn where they are fewer than :data:`FEWEST`.

    Raises:
        ConfigError: there are none.
    """
    if not pixels:
        raise ConfigError(NO_CALIBRATION)
    if len(pixels) < FEWEST:
        warnings.warn(
            f"calibration: {len(pixels)} image(s) choose the ranges of int8, and labels may change much; give 50 or "
            f"more like those that will be seen, {FEWEST} at least",
            SegmnWarning,
            stacklevel=1,  # one place, so that it is shown once
        )
    return [each.contiguous().cpu().numpy() for each in pixels]
