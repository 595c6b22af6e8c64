"""Engines and exports of a model with the head of DeepLabv3+, whose logits have a smaller stride."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segmnv2.engines.selection import create_backend
from segmnv2.export.comparison import open_export
from segmnv2.export.export_metadata import describe_export
from segmnv2.export.formats import FORMATS
from segmnv2.inference.scores import predict_labels
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from tests.export.shallow import balance_classes, smooth_image

SIZE = (50, 71)
FIXED = ("executorch", "litert")


@pytest.fixture(scope="module", params=[16, 8])
def model(request: pytest.FixtureRequest) -> Segmenter:
    torch.manual_seed(0)
    network = create_model(
        "deeplabv3plus_mobilenet_v2_aspp", num_classes=5, width=0.35, output_stride=16, head_options={"separable": True}
    )
    network = balance_classes(network)
    network.set_output_stride(request.param)
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
@torch.inference_mode()
def test_engines_give_the_models_logits(model: Segmenter, engine: str) -> None:
    pixels = smooth_image(SIZE, 3)
    expected = model.raw_logits(pixels)
    found = create_backend(model, engine, threads=1).raw_logits(pixels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(abs(expected).max()))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino", "torch", *FIXED])
@torch.inference_mode()
def test_exports_give_the_models_logits_and_labels(model: Segmenter, form: str, tmp_path: Path) -> None:
    image = np.ascontiguousarray(smooth_image(SIZE, 3)[0].permute(1, 2, 0).byte().numpy())
    size = SIZE if form in FIXED else None
    for raw in (True, False):
        path = tmp_path / f"{raw}{FORMATS[form].suffix}"
        metadata = describe_export(model, form, size=size, raw_logits=raw)
        FORMATS[form].write(model, path, metadata, None)
        export = open_export(path)
        assert export.metadata.logits_stride == 4
        found = export.run(image[None])[0] if raw else export(image)
        if raw:
            expected = model.raw_logits(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(abs(expected).max()))
        else:
            same = found == predict_labels(model, image, size="native")
            assert same.mean() > 0.999
            assert len(np.unique(found)) > 1
