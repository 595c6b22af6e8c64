"""Boxes drawn into an image, each with its class and score.

SSD's default boxes as TensorFlow's detection networks have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.utils import draw_bounding_boxes

from segmnv2.inference.legend import find_font, writable_names
from segmnv2.labels import Color, voc_palette

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


PALETTE = 256
INK: Color = (0, 0, 0)
PAPER: Color = (255, 255, 255)
SMALLEST_FONT, LARGEST_FONT = 10, 120
SIDES_OF_A_LETTER = 40
"""Mean side of an image in letters' heights."""


def draw_boxes(
    image: UInt8[np.ndarray, "h w 3"],
    boxes: Float[Tensor, "n 4"],
    labels: Int64[Tensor, " n"],
    scores: Float[Tensor, " n"],
    class_names: Mapping[int, str],
) -> Image.Image:
    """Return the image with boxes, the surest on top; lines and letters grow with it.

    Args:
        image: RGB, 0..255.
        boxes: x1, y1, x2, y2 in pixels.
        labels: category ids.
        scores: 0..1.
        class_names: category id -> name.
    """
    if not len(boxes):
        return Image.fromarray(image)
    order = scores.argsort()  # later ones are drawn over earlier ones
    boxes, labels, scores = boxes[order], labels[order], scores[order]
    colors = [box_color(label) for label in labels.tolist()]
    side = float(image.shape[0] * image.shape[1]) ** 0.5
    letter = round(min(max(side / SIDES_OF_A_LETTER, SMALLEST_FONT), LARGEST_FONT))
    texts = captions(labels.tolist(), scores.tolist(), class_names)
    drawn = draw_bounding_boxes(
        torch.from_numpy(image).permute(2, 0, 1).contiguous(),
        boxes.round(),
        texts,
        colors,
        width=max(2, letter // 6),
        font=find_font(texts),
        font_size=letter,
        label_colors=[readable_on(color) for color in colors],
        label_background_colors=colors,
        fill_labels=True,
    )
    return Image.fromarray(drawn.permute(1, 2, 0).numpy())


def captions(labels: Sequence[int], scores: Sequence[float], class_names: Mapping[int, str]) -> list[str]:
    """Return what is written on each box: its class (its id if no font has the letters) and its score in percent."""
    shown = [str(class_names.get(label, label)) for label in labels]
    written = [
        str(label) if text != name else text
        for label, name, text in zip(labels, shown, writable_names(shown), strict=True)
    ]
    return [f"{text} {100 * score:.0f}%" for text, score in zip(written, scores, strict=True)]


def box_color(label: int) -> Color:
    """Return a category's color, RGB 0..255: VOC's of the same number."""
    return voc_palette(PALETTE)[1 + (label - 1) % (PALETTE - 1)]


def readable_on(color: Color) -> Color:
    """Return black or white, whichever is further from a color in brightness."""
    red, green, blue = color
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else PAPER
