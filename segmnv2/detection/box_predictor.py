"""Detection in images: named boxes, overlays and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from segmnv2.detection.detector import Detector, load_detector
from segmnv2.engines.selection import choose_device
from segmnv2.errors import ConfigError
from segmnv2.files.atomic import atomic_path
from segmnv2.files.documents import dump_json
from segmnv2.hub.resolve import resolve_weights
from segmnv2.inference.files import BOXES, OVERLAYS, naming_folder, overlay_ending, save_image
from segmnv2.inference.overlay import find_font, writable_names
from segmnv2.inference.predictor import load_pixels
from segmnv2.labels import Color, voc_palette

THRESHOLD = 0.5

PALETTE_SIZE = 256

BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)

SMALLEST_FONT, LARGEST_FONT = 10, 120

SIDE_PER_LETTER = 40
"""Mean side of an image, divided by the height of a letter."""


@dataclass(frozen=True, eq=False)
class BoxPrediction:
    """Boxes of a detector in one image, by descending score.

    Attributes:
        image: the upright image, (H, W, 3) uint8 RGB, 0..255.
        boxes: float (n, 4), x1, y1, x2, y2 in pixels of the image.
        labels: int64 (n,), category ids.
        scores: float (n,), 0..1.
        class_names: category id -> name.
    """

    image: UInt8[np.ndarray, "h w 3"]
    boxes: Float[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    scores: Float[Tensor, " n"]
    class_names: dict[int, str]

    def overlay(self) -> PIL.Image.Image:
        """Return the image with the boxes, each with its class and score."""
        return draw_boxes(self.image, self.boxes, self.labels, self.scores, self.class_names)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: the image's size, and each box with its class and score."""
        height, width = self.image.shape[:2]
        rows = zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True)
        return {
            "width": width,
            "height": height,
            "boxes": [
                {
                    "box": [round(side, 2) for side in box],
                    "category_id": label,
                    "name": self.class_names.get(label, str(label)),
                    "score": round(score, 4),
                }
                for box, label, score in rows
            ],
        }


class BoxPredictor:
    """Detector for images of any kind and size."""

    def __init__(self, model: Detector, *, threshold: float = THRESHOLD, device: str | torch.device = "auto") -> None:
        """Prepare a detector; it is put in evaluation mode, in place.

        Args:
            model: the detector.
            threshold: minimum score of a box, 0..1, at least the detector's own minimum.
            device: as for :func:`segmnv2.engines.selection.choose_device`.

        Raises:
            ConfigError: the threshold is outside 0..1 or below the detector's own, or the device does not exist.
        """
        if not 0 <= threshold <= 1:
            raise ConfigError(
                f"threshold: {threshold!r} is not in 0..1; give the lowest score to report, such as {THRESHOLD}"
            )
        own = lowest_score(model)
        if threshold < own:
            raise ConfigError(
                f"threshold: {threshold} is too low, because the detector itself drops boxes with scores below {own}; "
                f"give {own} or more"
            )
        self.threshold = threshold
        self.device = choose_device(device)
        self.model = model.eval().to(self.device)

    @classmethod
    def load(
        cls, path: str | Path, *, threshold: float = THRESHOLD, device: str | torch.device = "auto"
    ) -> BoxPredictor:
        """Build a predictor from a detector's file, or from ``owner/name`` on the Hugging Face Hub.

        Raises:
            ConfigError: as for the constructor.
            WeightsError: the file is missing or damaged, or holds no detector.
        """
        return cls(load_detector(resolve_weights(path)), threshold=threshold, device=device)

    def __call__(self, image: str | Path | PIL.Image.Image | npt.NDArray[Any]) -> BoxPrediction:
        """Find the objects in an image.

        Args:
            image: a file, a PIL image of any mode, or a uint8 RGB array, 0..255, (H, W, 3), or (H, W) if gray.

        Raises:
            MediaError: the file cannot be read, or the array is of another type or shape.
        """
        (prediction,) = self.predict([self.prepare(image)])
        return prediction

    def prepare(self, image: str | Path | PIL.Image.Image | npt.NDArray[Any]) -> UInt8[np.ndarray, "h w 3"]:
        """Return an image's RGB pixels, 0..255; several threads may call this at once.

        Raises:
            MediaError: the file cannot be read, or the array is of another type or shape.
        """
        return load_pixels(image)

    def predict(self, prepared: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[BoxPrediction]:
        """Find the objects in prepared images, one by one, because some detectors pad a batch to its largest image."""
        return [self._find(pixels) for pixels in prepared]

    def _find(self, pixels: UInt8[np.ndarray, "h w 3"]) -> BoxPrediction:
        image = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            detections = {key: value.cpu() for key, value in self.model([image])[0].items()}
        named = torch.isin(detections["labels"], torch.tensor(list(self.model.class_names)))  # ids have gaps
        kept = named & (detections["scores"] >= self.threshold)
        boxes, labels, scores = (detections[key][kept] for key in ("boxes", "labels", "scores"))
        order = scores.argsort(descending=True)
        return BoxPrediction(pixels, boxes[order], labels[order], scores[order], dict(self.model.class_names))


def lowest_score(model: Detector) -> float:
    """Return the score below which a detector itself drops boxes."""
    return float(getattr(model.network, "roi_heads", model.network).score_thresh)


@dataclass(frozen=True)
class BoxFolder:
    """Output folder: ``boxes/NAME.json``, and ``overlays/NAME.jpg`` if requested.

    Attributes:
        path: the folder; it and its subfolders are created when needed.
        overlay: whether to write overlays.
    """

    path: Path
    overlay: bool = True

    @property
    def subfolders(self) -> list[Path]:
        """Folders of the results."""
        return [self.path / name for name in (BOXES, OVERLAYS)]

    def write(self, prediction: BoxPrediction, name: str) -> list[Path]:
        """Write the files of one image and return their paths; each file is written whole or not at all."""
        paths = [self.path / BOXES / f"{name}.json"]
        with naming_folder(self.path):
            with atomic_path(paths[0]) as partial:
                partial.write_text(dump_json(prediction.to_dict(), indent=1) + "\n", encoding="utf-8")
            if self.overlay:
                overlay = prediction.overlay()
                paths.append(save_image(overlay, self.path / OVERLAYS / f"{name}{overlay_ending(overlay)}"))
        return paths


def draw_boxes(
    image: UInt8[np.ndarray, "h w 3"],
    boxes: Float[Tensor, "n 4"],
    labels: Int64[Tensor, " n"],
    scores: Float[Tensor, " n"],
    class_names: Mapping[int, str],
) -> PIL.Image.Image:
    """Return the image with boxes, those with the highest scores on top; units as in `BoxPrediction`.

    The sizes of lines and letters are proportional to the image.
    """
    if not len(boxes):
        return PIL.Image.fromarray(image)
    order = scores.argsort()  # later ones are drawn over earlier ones
    boxes, labels, scores = boxes[order], labels[order], scores[order]
    colors = [box_color(label) for label in labels.tolist()]
    side = float(image.shape[0] * image.shape[1]) ** 0.5
    letter = round(min(max(side / SIDE_PER_LETTER, SMALLEST_FONT), LARGEST_FONT))
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
    return PIL.Image.fromarray(drawn.permute(1, 2, 0).numpy())


def captions(labels: Sequence[int], scores: Sequence[float], class_names: Mapping[int, str]) -> list[str]:
    """Return the text of each box: its class (or its id if no font has the letters) and its score in percent."""
    names = [str(class_names.get(label, label)) for label in labels]
    return [
        f"{name if name == writable else label} {100 * score:.0f}%"
        for label, name, writable, score in zip(labels, names, writable_names(names), scores, strict=True)
    ]


def box_color(label: int) -> Color:
    """Return the color of a category, RGB 0..255: that of VOC's class with the same number."""
    return voc_palette(PALETTE_SIZE)[1 + (label - 1) % (PALETTE_SIZE - 1)]


def readable_on(color: Color) -> Color:
    """Return black or white, whichever is further from a color in brightness."""
    red, green, blue = color
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else WHITE
