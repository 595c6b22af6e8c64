"""Exports of the paper's network, in their own runtimes, on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segmnv2.datasets.voc import VocSegmentation
from segmnv2.engines import onnx_runtime, openvino
from segmnv2.engines.backend import Calibration, Precision
from segmnv2.errors import ConfigError
from segmnv2.export.comparison import open_export, verify_export
from segmnv2.export.export_metadata import describe_export
from segmnv2.export.formats import FORMATS, OpenedExport
from segmnv2.inference.options import calibration_pixels
from segmnv2.inference.scores import predict_labels
from segmnv2.models.segmenter import Segmenter


@pytest.fixture(scope="module")
def dataset(shared: Path) -> VocSegmentation:
    return VocSegmentation(shared / "data/VOCdevkit", "val")


@pytest.fixture(scope="module")
def images(dataset: VocSegmentation) -> list[np.ndarray]:
    """Return images of VOC's sizes, and one that is cropped to 333 by 257."""
    return [dataset[0].image[:333, :257], *(dataset[index].image for index in (1, 5))]


@pytest.fixture(scope="module")
def write(model, tmp_path_factory):
    def get(form: str, precision: Precision = "float32", size=None, calibration: Calibration = None) -> OpenedExport:
        path = tmp_path_factory.mktemp(form) / f"voc{FORMATS[form].suffix}"
        metadata = describe_export(model, form, precision=precision, size=size)
        FORMATS[form].write(model, path, metadata, calibration)
        return open_export(path)

    graph, ir = onnx_runtime.grid_graph(model), openvino.grid_model(model)
    with pytest.MonkeyPatch.context() as patch:  # the model is converted once for all sizes
        patch.setattr(onnx_runtime, "grid_graph", lambda _: graph)
        patch.setattr(openvino, "grid_model", lambda _: ir.clone())
        yield get


def agreement(export: OpenedExport, model: Segmenter, images: list[np.ndarray]) -> float:
    same = [export(image) == predict_labels(model, image, size="native") for image in images]
    return float(np.concatenate([part.ravel() for part in same]).mean())


@pytest.mark.parametrize("form", ["onnx", "openvino", "torch"])
def test_float32_labels_are_the_models_at_any_and_at_a_fixed_size(write, model, images, form):
    assert images[0].shape[:2] == (333, 257)
    assert agreement(write(form), model, images) >= 0.9999
    size = images[1].shape[:2]
    assert agreement(write(form, size=size), model, images[1:2]) >= 0.9999


@pytest.mark.parametrize(
    ("form", "precision", "least"),
    [
        ("onnx", "float16", 0.999),
        ("openvino", "float16", 0.999),
        pytest.param("openvino", "bfloat16", 0.98, marks=pytest.mark.slow),
        pytest.param("torch", "bfloat16", 0.98, marks=pytest.mark.slow),
    ],
)
def test_16_bits_keep_nearly_all_labels(write, model, images, form, precision, least):
    assert agreement(write(form, precision), model, images) >= least


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_int8_keeps_nearly_all_labels_of_other_images(write, model, dataset, images, form):
    calibration = calibration_pixels([dataset[index].image for index in range(40, 440, 20)], model.output_stride)
    assert agreement(write(form, "int8", calibration=calibration), model, images) >= 0.985


def test_the_verification_measures_miou_on_real_masks(model, shared, tmp_path):
    path = tmp_path / "voc.pt2"
    FORMATS["torch"].write(model, path, describe_export(model, "torch"), None)
    root = shared / "data/VOCdevkit/VOC2012"
    found = verify_export(path, model, root / "JPEGImages", root / "SegmentationClass", limit=3, repeats=0)
    assert found.agreement >= 0.9999
    assert found.miou_before == pytest.approx(found.miou_after, abs=0.01)
    assert found.miou_before is not None
    assert found.miou_before > 50
    with pytest.raises(ConfigError, match="is not a folder"):
        verify_export(path, model, root / "nowhere")
