"""torch.export's ``.pt2``: the whole as one program of PyTorch's, which runs without this library."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from segmnv2.backbones.timm import never_unpickling
from segmnv2.backends.network import GridNetwork
from segmnv2.backends.pytorch import DTYPES, convert_layers
from segmnv2.backends.quiet import quiet_loggers
from segmnv2.backends.selection import Calibration
from segmnv2.errors import WeightsError
from segmnv2.export.deployable import Deployable, build_preparation
from segmnv2.export.endings import CellLabels, RawLogits
from segmnv2.export.metadata import ExportMetadata
from segmnv2.export.opened import OpenedExport, unreadable
from segmnv2.export.torch_archive import check_archive
from segmnv2.files.documents import dump_json
from segmnv2.models.segmenter import Segmenter

ENTRY = "segmnv2.json"
"""Name of the archive's extra file that holds the metadata."""

LOGGER = "torch.export"

EXAMPLE = (97, 129)
"""Height and width that a program for any size is traced with; unequal, so that they are not taken for one."""


def write_torch(model: Segmenter, path: Path, metadata: ExportMetadata, _calibration: Calibration = None) -> None:
    """Write a network as a program of torch.export.

    Args:
        model: the network.
        path: file to write.
        metadata: what shall be written; in bfloat16 the layers compute in it.
    """
    network = convert_layers(GridNetwork(model), DTYPES[metadata.precision])
    ending = RawLogits() if metadata.output == "logits" else CellLabels(model.logits_stride)
    whole = Deployable(build_preparation(model), network, ending)
    height, width = metadata.size or EXAMPLE
    # Named axes would be refused: the sizes of the ending's tensors are proven at run time only.
    any_size = {1: torch.export.Dim.DYNAMIC(min=2), 2: torch.export.Dim.DYNAMIC(min=2)}
    example = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    with quiet_loggers(LOGGER):
        program = torch.export.export(
            whole,
            (example,),
            dynamic_shapes=None if metadata.size else (any_size,),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        content = BytesIO()  # torch's own writer ends the process where a disk is full
        torch.export.save(program, content, extra_files={ENTRY: dump_json(metadata.to_dict())})
    path.write_bytes(content.getbuffer())


class TorchProgram(OpenedExport):
    """A program of torch.export, run by PyTorch."""

    def __init__(self, source: Path, call: nn.Module, metadata: ExportMetadata) -> None:
        """Take the module of a program that was loaded."""
        super().__init__(source, metadata)
        self._call = call

    def run(self, batch: UInt8[np.ndarray, "1 h w 3"]) -> np.ndarray[Any, Any]:
        """Run the program."""
        with torch.inference_mode():
            found: np.ndarray[Any, Any] = self._call(torch.from_numpy(batch)).numpy()
            return found


def open_torch(path: Path, _threads: int = 1) -> TorchProgram:
    """Open a program.

    Args:
        path: file of :func:`write_torch`.
        _threads: taken by other runtimes; this one computes with PyTorch's own number, which belongs to the process.

    Raises:
        WeightsError: the file is missing, damaged, of another program, or contains
            something that no export contains.
    """
    extra = {ENTRY: ""}
    try:
        with quiet_loggers(LOGGER), never_unpickling():
            check_archive(path)
            call = torch.export.load(path, extra_files=extra).module()
    except WeightsError:
        raise
    except Exception as error:  # torch has no class for what may be wrong with an archive
        raise unreadable(path, "cannot be read as a program of torch.export", error) from error
    return TorchProgram(path, call, ExportMetadata.from_json(extra[ENTRY] or "{}", str(path)))
