"""PyTorch as the engine: batch norms folded, channels last, compiled on request."""

from __future__ import annotations

import threading
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from segmnv2.engines.backend import Backend, Calibration
from segmnv2.engines.inference_network import InferenceNetwork
from segmnv2.models.segmenter import Segmenter

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class PyTorchBackend(Backend):
    """Runs the folded network with PyTorch, on a CPU or a GPU."""

    name: ClassVar[str] = "torch"

    def convert(self, model: Segmenter, calibration: Calibration) -> None:
        """Copy the network for inference; there is no int8."""
        self.network = convert_layers(InferenceNetwork(model), DTYPES[self.precision]).to(self.device)

    def open(self) -> None:
        """Set PyTorch's number of threads, which belongs to the process; a stream is a thread of the caller's."""
        torch.set_num_threads(self.threads)

    def check_process(self) -> None:
        """Make sure that PyTorch has one thread, or was not forked."""
        if torch.get_num_threads() > 1:
            super().check_process()

    def run(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Run the network."""
        with torch.inference_mode():
            out: Tensor = self.network(pixels.to(self.device, memory_format=torch.channels_last))
            return out.float()


class CompiledBackend(PyTorchBackend):
    """The same, compiled by torch.compile with frozen weights: tens of seconds for each new size of image."""

    name: ClassVar[str] = "torch-compile"
    opened: ClassVar[tuple[str, ...]] = ("_compiled", "_lock")

    def open(self) -> None:
        """Prepare the compilation, which happens at the first call."""
        super().open()
        self._compiled = torch.compile(self.network, dynamic=False)
        self._lock = threading.Lock()  # settings of the compiler are the process's

    def run(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k i j"]:
        """Run the network, compiling it first for a size not seen before."""
        import torch._inductor.config as inductor

        with self._lock, inductor.patch(freezing=True), torch.inference_mode():
            out: Tensor = self._compiled(pixels.to(self.device, memory_format=torch.channels_last))
            return out.float()


def convert_layers(network: InferenceNetwork, dtype: torch.dtype) -> InferenceNetwork:
    """Convert the layers' numbers in place; the normalization's stay in float32, where pixels are exact."""
    for child in network.children():  # mean and deviation are no children
        child.to(dtype)
    return network
