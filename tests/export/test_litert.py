"""LiteRT files of a narrow model, in LiteRT's own interpreter."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from segmnv2.errors import ConfigError, WeightsError
from segmnv2.export.export_metadata import describe_export
from segmnv2.inference.scores import predict_labels
from segmnv2.models.pixels import Normalization
from tests.engines.conftest import smooth_pixels
from tests.export.shallow import shallow_model

pytest.importorskip("ai_edge_litert")

from segmnv2.export.mobile.litert_file import open_litert, write_litert

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
OFF_THE_GRID = (50, 71)


@pytest.fixture(scope="module")
def model():
    return shallow_model()


def smooth_image(size, seed=3):
    return smooth_pixels((1, 3, *size), seed=seed)[0].permute(1, 2, 0).round().byte().numpy()


def operators(path):
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    codes = [names[code.builtinCode] for code in model.operatorCodes]
    return Counter(codes[each.opcodeIndex] for each in model.subgraphs[0].operators)


@pytest.mark.parametrize("size", [(65, 65), OFF_THE_GRID])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_file_has_metadata_and_gives_the_models_labels(model, tmp_path, size, precision):
    path = tmp_path / "a.tflite"
    metadata = describe_export(model, "litert", size=size, precision=precision)
    write_litert(model, path, metadata)
    opened = open_litert(path, threads=1)
    assert opened.metadata == metadata
    image = smooth_image(size)
    labels = opened(image)
    assert labels.shape == size
    assert labels.dtype == np.uint8
    least = 0.999 if precision == "float32" else 0.98
    assert (labels == predict_labels(model, image, size="native")).mean() > least


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deeplabv3_mobilenet_v2_aspp", {"output_stride": 8}),
        ("deeplabv3_mobilenet_v2", {"padding": "symmetric", "output_stride": 32}),
        ("deeplabv3_mobilenet_v1", {}),
    ],
)
def test_logits_are_the_models(tmp_path, name, options):
    model = shallow_model(name, **options)
    model.set_normalization(Normalization((-300.0, 116.0, 300.0), (60.0, 60.0, 60.0)))  # its mean is no color
    path = tmp_path / "a.tflite"
    write_litert(model, path, describe_export(model, "litert", size=OFF_THE_GRID, raw_logits=True))
    image = smooth_image(OFF_THE_GRID)
    with torch.inference_mode():
        expected = model.raw_logits(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(torch.from_numpy(open_litert(path, threads=1)(image)), expected, rtol=0, atol=1e-3)


def test_dilated_convolutions_and_activations_are_part_of_one_operator(tmp_path):
    model = shallow_model(output_stride=8)
    path = tmp_path / "a.tflite"
    write_litert(model, path, describe_export(model, "litert", size=(65, 65)))
    found = operators(path)
    assert found["DEPTHWISE_CONV_2D"] == 8
    assert not found.keys() & {"RELU", "RELU6", "PAD", "SPACE_TO_BATCH_ND", "TRANSPOSE", "RESHAPE"}


def test_weights_in_16_bits_nearly_halve_the_file(model, tmp_path):
    sizes = []
    for precision in ("float32", "float16"):
        path = tmp_path / f"{precision}.tflite"
        write_litert(model, path, describe_export(model, "litert", size=(33, 33), precision=precision))
        sizes.append(path.stat().st_size)
        assert precision in open_litert(path, threads=1).stored_precisions()
    assert sizes[1] < 0.7 * sizes[0]


def test_an_8_bit_file_computes_in_levels_and_gives_similar_logits(model, tmp_path):
    pytest.importorskip("executorch")
    path = tmp_path / "a.tflite"
    calibration = [smooth_pixels((1, 3, 49, 81), seed=seed) for seed in range(4)]
    metadata = describe_export(model, "litert", precision="int8", size=(65, 65), raw_logits=True)
    write_litert(model, path, metadata, calibration)
    image = smooth_image((65, 65), seed=9)
    export = open_litert(path, threads=1)
    assert export.stored_precisions() == ("int8",)
    found = torch.from_numpy(export(image))
    with torch.inference_mode():
        expected = model.raw_logits(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    assert 0.3 < torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] < 1 - 1e-6
    kinds = operators(path)
    assert (kinds["QUANTIZE"], kinds["DEQUANTIZE"]) == (1, 1)  # at the start and at the end of the model


def test_8_bits_need_calibration(model, tmp_path):
    pytest.importorskip("executorch")
    metadata = describe_export(model, "litert", precision="int8", size=(33, 33))
    with pytest.raises(ConfigError, match="calibration"):
        write_litert(model, tmp_path / "a.tflite", metadata, None)


def test_constants_are_aligned(model, tmp_path):
    from ai_edge_litert import schema_py_generated as schema

    path = tmp_path / "a.tflite"
    write_litert(model, path, describe_export(model, "litert", size=(33, 33)))
    content = path.read_bytes()
    found = schema.Model.GetRootAs(content, 0)
    start = np.frombuffer(content, np.uint8).ctypes.data
    buffers = [found.Buffers(index).DataAsNumpy() for index in range(1, found.BuffersLength())]
    assert len(buffers) > 50
    assert all((each.ctypes.data - start) % 16 == 0 for each in buffers)


@pytest.mark.parametrize("content", [b"", b"no model at all" * 9])
def test_a_file_that_is_no_model_is_named(tmp_path, content):
    path = tmp_path / "a.tflite"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.tflite: LiteRT cannot read it"):
        open_litert(path, threads=1)


def test_a_model_of_another_program_is_refused(model, tmp_path):
    path = tmp_path / "a.tflite"
    write_litert(model, path, describe_export(model, "litert", size=(33, 33)))
    path.write_bytes(path.read_bytes().replace(b"\x07\x00\x00\x00segmnv2\x00", b"\x07\x00\x00\x00another\x00"))
    with pytest.raises(WeightsError, match="has no metadata of segmnv2"):
        open_litert(path, threads=1)
