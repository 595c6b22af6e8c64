from __future__ import annotations

import sys
import warnings
from collections import Counter

import numpy as np
import onnx.parser
import pytest
import torch

from segmnv2.engines import onnx_runtime, openvino
from segmnv2.engines.int8 import FEWEST, calibration_arrays, quantize_graph
from segmnv2.engines.onnx_runtime import open_session, quantize_onnx
from segmnv2.engines.selection import create_backend
from tests.export.shallow import shallow_balanced_model


@pytest.fixture(scope="module")
def model():
    return shallow_balanced_model()


@pytest.fixture(scope="module")
def calibration(make_pixels):
    return [make_pixels((1, 3, 65, 65), seed=seed) for seed in range(6)]


@pytest.mark.parametrize("count", [1, FEWEST - 1, FEWEST])
def test_few_images_for_calibration_are_used_with_a_warning(count):
    pixels = [torch.zeros(1, 3, 17, 17)] * count
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert len(calibration_arrays(pixels)) == count
    assert [str(each.message).split(" ")[1] for each in found] == [str(count)] * (count < FEWEST)


def test_log_messages_of_nncf_are_not_shown(tmp_path, monkeypatch, caplog):
    (tmp_path / "nncf.py").write_text(
        'import logging\nlogging.getLogger("torch.utils.cpp_extension").warning("No CUDA runtime is found")\n'
        "class QuantizationPreset:\n    MIXED = 0\n"
        "log = logging.getLogger('nncf')\nlog.setLevel(logging.INFO)\nDataset, IgnoredScope = list, dict\n"
        "def quantize(graph, *_, **__):\n    log.info('2 ignored nodes')\n    return graph\n"
    )
    monkeypatch.setitem(sys.modules, "nncf", None)
    del sys.modules["nncf"]
    monkeypatch.syspath_prepend(tmp_path)
    assert quantize_graph("graph", []) == "graph"
    assert not caplog.records


@pytest.fixture(scope="module")
def graph(model, calibration):
    return onnx_runtime.build_graph(model, "int8", calibration)


@pytest.fixture(scope="module")
def openvino_graph(model, calibration):
    return openvino.build_graph(model, "int8", calibration)


# A narrow untrained model changes much in 8 bits; tests/real requires more of a trained one.
def similarity(found, expected):
    return float(torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1])


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
@torch.inference_mode()
def test_logits_are_similar_at_any_size(model, graph, openvino_graph, calibration, make_pixels, monkeypatch, name):
    monkeypatch.setattr(onnx_runtime, "build_graph", lambda *_: graph)
    monkeypatch.setattr(openvino, "build_graph", lambda *_, **__: openvino_graph)
    backend = create_backend(model, name, "int8", threads=1, calibration=calibration)
    for shape in [(1, 3, 65, 65), (2, 3, 49, 81)]:
        pixels = make_pixels(shape, seed=9)
        found = backend.raw_logits(pixels)
        assert 0.3 < similarity(found, model.raw_logits(pixels)) < 1 - 1e-9


def test_every_convolution_has_the_form_that_onnx_runtime_fuses(graph):
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(graph)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kinds = Counter(node.op_type for node in model.graph.node)
    assert "Clip" not in kinds
    assert kinds["Relu"] == 1  # in the image-level branch
    readers = {name: node.op_type for node in model.graph.node for name in node.input}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 25
    assert sum(readers.get(node.output[0]) == "QuantizeLinear" for node in convolutions) >= len(convolutions) - 4
    assert sorted(node.input[1] for node in convolutions if node.input[1] in constants) == [
        "head.aspp.image_pooling.conv.weight/float",
        "head.aspp.pooled.weight/float",
    ]
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert constants[node.input[1]].shape == ()
            assert constants[node.input[2]].dtype == np.uint8


def test_openvino_quantizes_every_convolution_except_the_image_level_branch(openvino_graph):
    plain = [
        each.get_friendly_name()
        for each in openvino_graph.get_ops()
        if "Convolution" in each.get_type_name() and each.input_value(0).get_node().get_type_name() != "FakeQuantize"
    ]
    assert len(plain) == 2
    assert all("pool" in name for name in plain)


@pytest.mark.skipif(torch.cpu._is_vnni_supported(), reason="sums of this CPU do not saturate")
def test_an_engine_keeps_as_many_labels_as_seven_bits_or_enough(model, calibration, openvino_graph):
    graph, images = openvino.grid_model(model), calibration_arrays(calibration)
    chosen = openvino.build_graph(model, "int8", calibration, portable=False)
    least = min(openvino.ENOUGH, openvino._kept_labels(openvino_graph, graph, images))
    assert openvino._kept_labels(chosen, graph, images) >= least


def test_weights_for_openvino_have_seven_bits(openvino_graph):
    """With eight, sums saturate on x86 CPUs without VNNI; depthwise layers add no pairs of products."""
    largest = []
    for layer in (each for each in openvino_graph.get_ops() if each.get_type_name() == "Convolution"):
        node = layer.input_value(1).get_node()
        while node.get_type_name() in ("Multiply", "Convert"):
            node = node.input_value(0).get_node()
        if node.data.dtype == np.int8:
            largest.append(int(np.abs(node.data.astype(int)).max()))
    assert len(largest) > 15
    assert max(largest) <= 64


def test_every_constant_of_an_onnx_file_is_read(graph):
    model = onnx.load_from_string(graph)
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read


def test_branches_that_read_one_tensor_are_quantized_for_onnx_runtime():
    """ASPP has such branches. Bias correction cuts the graph there, and NNCF names the cut once for each branch."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
        stem = Conv(x, w0, b0)
        one = Conv(stem, w1, b1)
        other = Conv(stem, w2, b2)
        both = Concat<axis = 1>(one, other)
        y = Conv(both, w3, b3)
    }"""
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    for index, node in enumerate(model.graph.node):
        node.name = f"layer{index}"
    for index, channels in enumerate((4, 4, 4, 8)):
        for name, shape in (f"w{index}", (4, channels, 1, 1)), (f"b{index}", 4):
            values = random.normal(size=shape).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    image = random.normal(size=(1, 4, 8, 8)).astype(np.float32)
    plain, rounded = (
        open_session(graph, 1).run(None, {"x": image})[0]
        for graph in (model.SerializeToString(), quantize_onnx(model.SerializeToString(), "x", [image]))
    )
    assert 0 < np.abs(rounded - plain).max() < 0.1 * np.abs(plain).max()


def test_large_products_of_8_bits_do_not_saturate():
    """CPUs without VNNI add pairs of products in 16 bits, but 255 * 127 + 255 * 127 needs more."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1,64,4,4] x) => (float[1,8,4,4] y)
    <float one = {1.0}, uint8 zero = {0}, float large = {10000.0}, int8 none = {0}> {
        levels = QuantizeLinear(x, one, zero)
        values = DequantizeLinear(levels, one, zero)
        weights = DequantizeLinear(w, one, none)
        sums = Conv(values, weights)
        rounded = QuantizeLinear(sums, large, zero)
        y = DequantizeLinear(rounded, large, zero)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full((8, 64, 1, 1), 127, np.int8), "w"))
    (found,) = open_session(model.SerializeToString(), 1).run(None, {"x": np.full((1, 64, 4, 4), 255, np.float32)})
    assert set(found.flatten().tolist()) == {round(64 * 255 * 127 / 10000) * 10000.0}
