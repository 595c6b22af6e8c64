"""The prediction for one image: label map, confidence, overlay, regions and their files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float32, UInt8

from segmnv2.data.mask_file import write_mask
from segmnv2.errors import ConfigError
from segmnv2.files.atomic import atomic_path, encode_image
from segmnv2.inference import regions
from segmnv2.inference.overlay import DEFAULT_OPACITY, overlay_image, share_text
from segmnv2.inference.scores import Scores
from segmnv2.labels import LabelSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes


ICONS = ("ICNS", "ICO")
"""Formats in which Pillow scales images."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction for one image.

    Attributes:
        image: (H, W, 3) uint8 RGB, 0..255: the image, upright.
        mask: (H, W) uint8 class ids.
        labels: names and colors of the classes.
        scores: the model's passes, from which confidence and probabilities are computed on request.
    """

    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]
    labels: LabelSet
    scores: Scores

    @cached_property
    def confidence(self) -> Float32[np.ndarray, "h w"]:
        """(H, W) probability, 0..1, of each pixel's class; computed at first use."""
        return self.scores.confidence()

    def probabilities(self) -> Float32[np.ndarray, "k h w"]:
        """Return (num_classes, H, W) probabilities, 0..1; large for large images, and computed on each call."""
        return self.scores.probabilities()

    @property
    def shares(self) -> dict[str, float]:
        """Name -> share of the pixels, 0..1, of the classes that occur, the largest share first."""
        return regions.class_shares(self.mask, self.labels)

    def area(self, name: str | int) -> int:
        """Return the number of pixels of a class, given by name or id.

        Raises:
            ConfigError: there is no such class.
        """
        return int(self._area(name).sum())

    def polygons(self, tolerance: float = 0.0) -> dict[str, list[regions.Polygon]]:
        """Return class name -> outlines of its regions, with holes, of the classes that occur except the background.

        Args:
            tolerance: largest distance in pixels by which simplified outlines may differ; see
                :func:`segmnv2.inference.regions.trace_polygons`.

        Raises:
            ConfigError: ``tolerance`` is not a number of at least 0.
        """
        found = regions.found_classes(self.mask, self.labels)
        return {self.labels.names[each]: regions.trace_polygons(self._area(each), tolerance) for each in found}

    def to_rle(self) -> dict[str, dict[str, Any]]:
        """Return class name -> COCO's run-length encoding, of the classes that occur except the background."""
        found = regions.found_classes(self.mask, self.labels)
        return {self.labels.names[each]: regions.encode_rle(self._area(each)) for each in found}

    def to_coco(self, file_name: str = "image.jpg", image_id: int = 1) -> dict[str, Any]:
        """Return a COCO data set of this image, as JSON values; see :func:`segmnv2.inference.regions.to_coco`."""
        return regions.to_coco(self.mask, self.labels, file_name, image_id)

    def crop(self, name: str | int) -> PIL.Image.Image:
        """Return the image cut to the box around a class, RGBA, with all other pixels transparent.

        Args:
            name: name or id of the class.

        Raises:
            ConfigError: there is no such class, or the image has no pixel of it.
        """
        area = self._area(name)
        if not area.any():
            raise ConfigError(f"class {name!r}: has no pixel in this image; choose one of {', '.join(self.shares)}")
        left, top, width, height = regions.bounding_box(area)
        box = np.s_[top : top + height, left : left + width]
        return PIL.Image.fromarray(np.dstack([self.image[box], area[box].astype(np.uint8) * 255]))

    def _area(self, name: str | int) -> Bool[np.ndarray, "h w"]:
        return np.asarray(self.mask == regions.class_id(self.labels, name), dtype=bool)

    def overlay(self, opacity: float = DEFAULT_OPACITY, legend: bool = True) -> PIL.Image.Image:
        """Return the image under its classes' colors, with a legend beside it.

        Args:
            opacity: 0 for outlines only, 1 for plain colors.
            legend: names, colors and shares of the classes present, in a strip beside the image.

        Raises:
            ConfigError: ``opacity`` is not in 0..1.
        """
        return overlay_image(self.image, self.mask, self.labels, opacity, legend)

    def save_mask(self, path: str | Path) -> None:
        """Write the class ids as a palette PNG in the classes' colors."""
        write_mask(path, self.mask, self.labels)

    def save(self, path: str | Path) -> None:
        """Write the overlay with its legend; the suffix decides on the format, such as ``.png`` or ``.jpg``.

        Raises:
            ConfigError: Pillow does not write files with that suffix, or they cannot have this size or colors.
            OSError: the file cannot be written.
        """
        file = Path(path)
        form = PIL.Image.registered_extensions().get(file.suffix.lower())
        if form not in PIL.Image.SAVE or form in ICONS:
            raise ConfigError(f"{file}: Pillow writes no overlays with this suffix; give one such as .png or .jpg")
        image = self.overlay()
        try:
            content = encode_image(image, form)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: {form} cannot hold this overlay ({error}); give a .png file") from error
        with atomic_path(file) as temporary:
            temporary.write_bytes(content)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the overlay with its legend with matplotlib, and return the axes.

        Args:
            axes: where to draw; new ones by default.
        """
        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.figure(layout="constrained").add_subplot()
        axes.imshow(np.asarray(self.overlay()))
        axes.set_axis_off()
        return axes

    def show(self) -> None:
        """Open the overlay with its legend in the desktop's image viewer."""
        self.overlay().show()

    def _repr_png_(self) -> bytes:
        """Return the overlay as PNG, which notebooks display."""
        return encode_image(self.overlay(), "PNG")

    def __repr__(self) -> str:
        """Return size, classes and shares, such as ``<Prediction 500x375: background 62%, person 38%>``."""
        height, width = self.mask.shape
        shares = ", ".join(f"{name} {share_text(share)}" for name, share in self.shares.items())
        return f"<Prediction {width}x{height}: {shares or 'no class'}>"
