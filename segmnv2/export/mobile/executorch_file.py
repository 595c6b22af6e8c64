"""ExecuTorch's ``.pte``: a program for phones, run by XNNPACK, with its metadata as a method that returns a text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from segmnv2.engines.backend import Calibration
from segmnv2.export.deployable import Deployable, PlaneLabels, RawLogits, build_preparation
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import OpenedExport, readable
from segmnv2.export.mobile.xnnpack_int8 import build_network
from segmnv2.files.documents import dump_json
from segmnv2.models.segmenter import Segmenter
from segmnv2.telemetry import quiet

ENTRIES = "segmnv2"  # name of the method that returns the metadata as JSON
MAIN = "forward"

TRIAL = """
import sys, torch
from executorch.extension.pybindings import _C as runtime
module = runtime._load_for_executorch(sys.argv[1])
for name in module.method_names():
    meta = module.method_meta(name)
    sizes = [tuple(meta.input_tensor_meta(index).sizes()) for index in range(meta.num_inputs())]
    module.run_method(name, [torch.zeros(each, dtype=torch.uint8) for each in sizes])
"""
"""Runs every method of a file. The runtime's own import takes ten times as long, since it brings the compiler."""

TRIAL_SECONDS = 120

UNDECIDED = ("ImportError", "ModuleNotFoundError", "AttributeError", "RuntimeError")
"""Errors of a trial that say nothing of the file, as another version's names, or that this process meets as well."""


def write_executorch(model: Segmenter, path: Path, metadata: ExportMetadata, calibration: Calibration = None) -> None:
    """Write a network as a program for ExecuTorch with XNNPACK.

    Args:
        model: the network.
        path: file to write.
        metadata: what shall be written, with a size: XNNPACK plans memory for one.
        calibration: pixels that int8 chooses its ranges by.

    Raises:
        ConfigError: int8 without calibration.
    """
    assert metadata.size is not None
    network = build_network(model, metadata.precision, calibration)
    logits = metadata.output == "logits"
    ending = RawLogits() if logits else PlaneLabels(metadata.size, model.logits_stride)
    whole = Deployable(_FloatFirst(build_preparation(model)), network, ending)
    image = torch.zeros(1, *metadata.size, 3, dtype=torch.uint8)
    path.write_bytes(lower(whole, image, metadata))


class _FloatFirst(nn.Module):
    """Preparation of pixels that converts bytes to floats first, so that XNNPACK does the rest."""

    def __init__(self, preparation: nn.Module) -> None:
        super().__init__()
        self.preparation = preparation

    def forward(self, image: UInt8[Tensor, "1 h w 3"]) -> Float[Tensor, "1 3 i j"]:
        pixels: Tensor = self.preparation(image.to(torch.float32))
        return pixels


def lower(whole: nn.Module, image: UInt8[Tensor, "1 h w 3"], metadata: ExportMetadata) -> bytes:
    """Return the program of a module.

    Args:
        whole: from a uint8 image to what the file gives out.
        image: of the size that the program takes.
        metadata: what the program says of itself.
    """
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(whole, (image,), strict=False)
        lowered = to_edge_transform_and_lower(
            program,
            partitioner=[XnnpackPartitioner()],
            constant_methods={ENTRIES: dump_json(metadata.to_dict())},
        )
        return bytes(lowered.to_executorch().buffer)


def _try_apart(path: Path) -> None:
    """Run a file in another process first: the runtime ends its process over some damaged files.

    Raises:
        WeightsError: it ends that one, fails there, or takes minutes.
    """
    words = [sys.executable, "-c", TRIAL, str(path.resolve())]
    with readable(path, "ExecuTorch cannot run it"):
        done = subprocess.run(words, capture_output=True, timeout=TRIAL_SECONDS, check=False)
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else f"exit code {done.returncode}"
        if done.returncode and not last.startswith(UNDECIDED):
            raise RuntimeError(last)


def open_executorch(path: Path, threads: int) -> OpenedExport:
    """Open a program in ExecuTorch's runtime, on the CPU.

    Args:
        path: file of :func:`write_executorch`.
        threads: of the runtime, which belong to the process.

    Raises:
        WeightsError: the file is missing, damaged or of another program.
    """
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    _try_apart(path)
    count = getattr(portable_lib, "_threadpool_get_thread_count", None)  # not in 1.0
    if count is None or count() != threads:
        portable_lib._unsafe_reset_threadpool(threads)  # there is no other way to give their number
    with readable(path, "ExecuTorch cannot read it"):
        program = Runtime.get().load_program(path.read_bytes())
        text = str(program.load_method(ENTRIES).execute([])[0]) if ENTRIES in program.method_names else "{}"
        method = program.load_method(MAIN)

    def run(batch: UInt8[np.ndarray, "1 h w 3"]) -> np.ndarray[Any, Any]:
        assert program is not None  # it must live as long as its method
        (found,) = method.execute([torch.from_numpy(batch)])
        return np.array(found)

    return OpenedExport(path, ExportMetadata.from_json(text, str(path)), run)
