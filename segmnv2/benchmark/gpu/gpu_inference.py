"""Speed of label maps on a GPU by precision: eager, compiled and as a CUDA graph, beside other libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from segmnv2.benchmark.compare import Table
from segmnv2.benchmark.gpu.gpu_setting import NEEDS_GPU, GpuSetting
from segmnv2.benchmark.gpu.gpu_turns import Contender, Limits, Step, take_turns
from segmnv2.benchmark.inference_speed import Images, Setting, build_ours, build_peer
from segmnv2.benchmark.peers import PEERS
from segmnv2.engines.backend import Precision
from segmnv2.engines.pytorch import DTYPES, InferenceNetwork, convert_layers
from segmnv2.inference.options import InferenceOptions
from segmnv2.models.segmenter import Segmenter
from segmnv2.nn.stride import resize_bilinear

GPU_PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")

INFERENCE_PEERS = ("transformers", "torchvision deeplabv3", "smp")

MEANING = (
    "Rows without 'from the host': from uint8 pixels on the GPU to uint8 labels on the GPU, also as CUDA graphs.",
    "Rows 'from the host': from uint8 arrays to label maps, as a user calls the library.",
)


class LabelMaps(nn.Module):
    """A model as engines run it, then resizing of the logits to the image's size, and argmax.

    Args:
        model: the model.
        dtype: number format in which its layers compute.
    """

    def __init__(self, model: Segmenter, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = convert_layers(InferenceNetwork(model), dtype)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return uint8 labels (b, h, w) of uint8 pixels (b, 3, h, w) whose sides are k * output stride + 1."""
        sides = (pixels.shape[-2], pixels.shape[-1])
        return resize_bilinear(self.network(pixels.float()).float(), sides).argmax(1).to(torch.uint8)


def compare_gpu_maps(setting: GpuSetting, batch: int, images: Images, limits: Limits) -> Table:
    """Measure the speed of label maps of several images at once.

    Args:
        setting: model, device and sizes of the measurement.
        batch: number of images per call.
        images: images of the same size.
        limits: limits of the table.
    """
    notes = [*MEANING, *(f"{name}: {PEERS[name].note}." for name in INFERENCE_PEERS)]
    torch._dynamo.reset()  # torch keeps only a few compiled versions of one function
    return take_turns(
        map_contenders(setting, batch, images),
        limits,
        device=setting.place,
        images=batch * setting.burst,
        notes=notes,
        environment={**setting.describe(), "output stride": 16, "batch": batch, "batches a turn": setting.burst},
    )


def map_contenders(setting: GpuSetting, batch: int, images: Images) -> dict[str, Contender]:
    """Return the contenders, the most important first, because the time may not suffice for the last ones."""
    pixels = _pixels(setting, batch, images)
    first, *others = (_peer(setting, pixels, images, batch, name) for name in INFERENCE_PEERS)
    eager, compiled = _ours(setting, pixels, compiled=False), _ours(setting, pixels, compiled=True)
    found = {**first, **_from_host(setting, images, batch), **eager, **compiled}
    for peer in others:
        found |= peer
    return found


def _refuse_precision(setting: GpuSetting, precision: str) -> str | None:
    """Return the reason why a precision cannot be measured here; ``None`` if it can."""
    return None if setting.on_gpu or precision == "float32" else NEEDS_GPU


def _host_setting(setting: GpuSetting, batch: int) -> Setting:
    options = InferenceOptions(size=setting.crop, device=str(setting.place), batch=batch)
    return Setting(options, burst=setting.burst)


def _peer(setting: GpuSetting, pixels: Tensor, images: Images, batch: int, name: str) -> dict[str, Contender]:
    missing = None if PEERS[name].installed else f"{PEERS[name].package} is not installed"
    found = {}
    for precision in ("float32", "bfloat16"):
        build = partial(_peer_maps, setting, pixels, name, DTYPES[precision])
        refusal = missing or _refuse_precision(setting, precision)
        found[f"{name} {precision} eager"] = Contender(build, peer=True, refusal=refusal)
    from_host = partial(build_peer, _host_setting(setting, batch), images, name, False)
    return {**found, f"{name} float32, from the host": Contender(from_host, peer=True, refusal=missing)}


def _from_host(setting: GpuSetting, images: Images, batch: int) -> dict[str, Contender]:
    host, found = _host_setting(setting, batch), {}
    for precision in GPU_PRECISIONS:
        refusal = _refuse_precision(setting, precision)
        options = replace(host.options, precision="float32" if refusal else precision)
        build = partial(build_ours, host, images, options)
        found[f"segmnv2 {precision}, from the host"] = Contender(build, refusal=refusal)
    return found


def _ours(setting: GpuSetting, pixels: Tensor, *, compiled: bool) -> dict[str, Contender]:
    found, gpu = {}, None if setting.on_gpu else NEEDS_GPU
    form, skipped = ("compiled", setting.refusal_of_compiled) if compiled else ("eager", None)
    for precision in GPU_PRECISIONS:
        maps, refusal = _Maps(setting, DTYPES[precision], compiled), _refuse_precision(setting, precision) or skipped
        found[f"segmnv2 {precision} {form}"] = Contender(partial(maps.step, pixels), refusal=refusal)
        found[f"segmnv2 {precision} {form}, graph"] = Contender(partial(maps.graph, pixels), refusal=refusal or gpu)
    return found


class _Maps:
    """A labeling function that is built and compiled once, for the plain step and the CUDA graph."""

    def __init__(self, setting: GpuSetting, dtype: torch.dtype, compiled: bool) -> None:
        self.setting, self.dtype, self.compiled = setting, dtype, compiled
        self._built: Callable[[Tensor], Tensor] | None = None

    def build(self) -> Callable[[Tensor], Tensor]:
        """Return the function."""
        if self._built is None:
            maps = LabelMaps(self.setting.model(), self.dtype).to(self.setting.place)
            self._built = torch.compile(maps, dynamic=False) if self.compiled else maps
        return self._built

    def step(self, pixels: Tensor) -> Step:
        """Return a step that calls the function."""
        return _repeated(self.setting, self.build(), pixels)

    def graph(self, pixels: Tensor) -> Step:
        """Return a step that calls the function's CUDA graph."""
        return _repeated(self.setting, captured(self.build(), pixels), pixels)


def captured(function: Callable[[Tensor], Tensor], example: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function as a CUDA graph; each call overwrites the result of the last one.

    Args:
        function: a function that does not wait for the device.
        example: pixels of the only shape that the graph takes.
    """
    pixels, stream, graph = example.clone(), torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # libraries allocate their memory before the capture
                function(pixels)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            labels = function(pixels)

    def run(given: Tensor) -> Tensor:
        pixels.copy_(given)
        graph.replay()
        return labels

    return run


def _peer_maps(setting: GpuSetting, pixels: Tensor, name: str, dtype: torch.dtype) -> Step:
    peer = PEERS[name].build(setting.model().num_classes, 16, None).to(setting.place, dtype)
    return _repeated(setting, peer, peer.crop(pixels))


def _repeated(setting: GpuSetting, function: Callable[[Tensor], Tensor], pixels: Tensor) -> Step:
    def step(_: int) -> object:
        with torch.inference_mode():
            return [function(pixels) for _ in range(setting.burst)]

    return step


def _pixels(setting: GpuSetting, batch: int, images: Images) -> Tensor:
    """Return the first images on the device, channels last in memory."""
    several = np.stack([images[place % len(images)] for place in range(batch)])
    return torch.from_numpy(several).to(setting.place).permute(0, 3, 1, 2)
