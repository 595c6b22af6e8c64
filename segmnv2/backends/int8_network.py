"""The network prepared for 8 bits, still in float: what every engine's quantizer is given."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from segmnv2.backends.equalization import equalize_channels
from segmnv2.backends.fine_tuning import fine_tune_int8
from segmnv2.backends.int8 import check_calibration
from segmnv2.backends.network import GridNetwork
from segmnv2.models.segmenter import Segmenter

PREPARED_ON = 50
"""Images at most that a network is prepared on; ranges are those of all."""


def int8_network(
    model: Segmenter, calibration: Sequence[Float[Tensor, "1 3 _ _"]] | None, fine_tune: int = 0
) -> GridNetwork:
    """Return a network up to its logits at output stride whose rounding to 8 bits changes few labels.

    Args:
        model: the network, which is not changed.
        calibration: RGB pixels, 0..255, sides k * output_stride + 1: 50 or more, like those that will be seen.
        fine_tune: steps of :func:`segmnv2.backends.fine_tuning.fine_tune_int8`; none by default.

    Raises:
        ConfigError: there is no calibration, or torchao is missing that fine-tuning needs.
    """
    images = check_calibration(calibration)
    network = equalize_channels(GridNetwork(model), spread_images(images))
    return fine_tune_int8(network, images, steps=fine_tune) if fine_tune else network


def spread_images(images: Sequence[Float[Tensor, "1 3 _ _"]]) -> Sequence[Float[Tensor, "1 3 _ _"]]:
    """Return every n-th image, so that they are at most :data:`PREPARED_ON`."""
    return images[:: -(-len(images) // PREPARED_ON)]
