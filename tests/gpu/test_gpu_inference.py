from __future__ import annotations

import numpy as np
import pytest
import torch

from segmnv2.benchmark.gpu.gpu_inference import LabelMaps, captured
from segmnv2.benchmark.gpu.gpu_report import benchmark_gpu
from segmnv2.benchmark.gpu.gpu_setting import GpuSetting
from segmnv2.inference.canvas import ModelPass
from segmnv2.inference.cells import Axis
from segmnv2.inference.predictor import Predictor
from segmnv2.inference.scores import Scores
from segmnv2.models.zoo import create_model

pytestmark = pytest.mark.gpu


def test_labels_are_those_of_the_cpu() -> None:
    grid = torch.randn(33, 33, 21, generator=torch.Generator().manual_seed(0))
    found = []
    for device in ("cpu", "cuda"):
        rows, columns = (Axis.at(torch.linspace(0, 32, side, dtype=torch.float64), 33, device) for side in (400, 500))
        found.append(Scores([ModelPass(grid.to(device), rows, columns)], (400, 500)).labels())
    assert np.mean(found[0] != found[1]) < 1e-4  # as good as equal classes


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_batch_has_the_labels_of_its_images(precision: str) -> None:
    model = create_model("deeplabv3_mobilenet_v2", width=0.35).eval()
    predictor = Predictor.of(model, device="cuda", precision=precision, batch=4)
    images = np.random.default_rng(0).integers(0, 256, (4, 300, 400, 3), np.uint8)
    together = [each.mask for each in predictor.predict_many(list(images))]
    for image, mask in zip(images, together, strict=True):
        assert np.mean(predictor(image).mask == mask) > 0.95  # of an untrained network many classes are nearly equal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_graph_gives_what_its_function_gives(dtype: torch.dtype) -> None:
    maps = LabelMaps(create_model("deeplabv3_mobilenet_v2", width=0.35).eval(), dtype).cuda()
    first, second = torch.randint(0, 256, (2, 2, 3, 129, 129), dtype=torch.uint8, device="cuda")
    graph = captured(maps, first)
    with torch.inference_mode():
        for pixels in (second, first):
            assert float((graph(pixels) == maps(pixels)).float().mean()) > 0.99


def test_the_benchmark_measures_every_table() -> None:
    setting = GpuSetting(None, 65, 2, (1,), (16,), 1, 3, 150.0, compiled=False, device="cuda")
    tables = dict(benchmark_gpu(setting))
    assert len(tables) == 3
    training, maps = tables["Training step, output stride 16"], tables["Label maps, 1 at once"]
    assert training["segmnv2 bf16"].rate.median > 0
    assert maps["segmnv2 float32 eager, graph"].rate.median > maps["segmnv2 float32 eager"].rate.median
    reasons = [line for table in (training, maps) for line in table.verdict if line.startswith("Not measured")]
    assert all(any(word in line for word in ("on request", "installed", "no time")) for line in reasons)
