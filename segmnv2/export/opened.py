"""An exported file, opened in its own runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from segmnv2.engines.backend import Precision
from segmnv2.errors import MediaError, WeightsError
from segmnv2.export.export_metadata import ExportMetadata


class OpenedExport(ABC):
    """Calls an exported file on one image after another.

    Attributes:
        metadata: what the file says of itself.
        source: the file, for messages.
    """

    def __init__(self, source: Path, metadata: ExportMetadata) -> None:
        """Keep what the file says of itself."""
        self.source = source
        self.metadata = metadata

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> np.ndarray[Any, Any]:
        """Return uint8 labels (h, w), or float32 logits (classes, rows, columns).

        Args:
            image: uint8 RGB, 0..255, of the file's size if it has one.

        Raises:
            MediaError: the image has another size.
            WeightsError: the runtime fails, as it does on damaged files that it opens.
        """
        size = self.metadata.size
        if size is not None and image.shape[:2] != size:
            raise MediaError(
                f"image: has {image.shape[1]}x{image.shape[0]} pixels, and this {self.metadata.format} file takes "
                f"{size[1]}x{size[0]} only; fit the image, or export with --size dynamic"
            )
        try:
            found: np.ndarray[Any, Any] = self.run(np.ascontiguousarray(image)[None])[0]
        except Exception as error:  # the runtimes have no common class of errors
            raise unreadable(
                self.source, f"its runtime cannot run it on {image.shape[1]}x{image.shape[0]} pixels", error
            ) from error
        return found

    def stored_precisions(self) -> tuple[Precision, ...]:
        """Return the precisions that the weights in the file may be of; none where the format does not show them."""
        return ()

    @abstractmethod
    def run(self, batch: UInt8[np.ndarray, "1 h w 3"]) -> np.ndarray[Any, Any]:
        """Run the file on a batch of one image; the result has an axis for the batch too, and stays unchanged."""


def unreadable(path: Path, what: str, error: Exception) -> WeightsError:
    """Return the error of a file that a runtime refuses.

    Args:
        path: the file.
        what: happened, as "ONNX Runtime cannot read it".
        error: the runtime's own, of which a line is shown.
    """
    reason = " ".join(str(error).split())[:200]
    return WeightsError(f"{path}: {what} ({reason}); export it again")
