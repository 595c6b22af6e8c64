"""SSD's default boxes as TensorFlow's detection networks have them."""

from __future__ import annotations

from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

MIN_SCALE, MAX_SCALE = 0.2, 0.95
LOWEST_SCALE = 0.1
RATIOS = (2.0, 3.0)


class TensorFlowBoxes(DefaultBoxGenerator):  # type: ignore[misc]
    """torchvision's default boxes, but three in place of six at each place of the first map.

    The first map's are a square of a tenth of the image and two oblongs (1:2, 2:1) of a fifth; every other map's are
    squares of its scale and of the mean with the next one, and oblongs of 1:2, 2:1, 1:3 and 3:1.

    Source: ``create_ssd_anchors`` of object_detection/anchor_generators/multiple_grid_anchor_generator.py,
    ``reduce_boxes_in_lowest_layer``.
    """

    def __init__(self, maps: int = 6) -> None:
        """Lay boxes on so many maps.

        Args:
            maps: their number, finest first.
        """
        super().__init__([[RATIOS[0]], *([list(RATIOS)] * (maps - 1))], MIN_SCALE, MAX_SCALE)
        long, short = MIN_SCALE * RATIOS[0] ** 0.5, MIN_SCALE / RATIOS[0] ** 0.5
        pairs = [[LOWEST_SCALE, LOWEST_SCALE], [long, short], [short, long]]
        self._wh_pairs[0] = self._wh_pairs[0].new_tensor(pairs)

    def num_anchors_per_location(self) -> list[int]:
        """Return the number of boxes at each place of each map."""
        return [len(pairs) for pairs in self._wh_pairs]
