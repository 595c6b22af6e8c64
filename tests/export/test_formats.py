"""Files in their own runtimes give the model's labels, also for odd sizes if the format allows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segmnv2.engines import onnx_runtime, openvino
from segmnv2.engines.backend import Precision
from segmnv2.errors import ConfigError, MediaError, WeightsError
from segmnv2.export.comparison import open_export
from segmnv2.export.create import _unproven
from segmnv2.export.export_metadata import describe_export
from segmnv2.export.formats import FORMATS, Format, export_files, find_format, recognize_format
from segmnv2.inference.scores import predict_labels

OWN = ("onnx", "openvino", "torch")


@pytest.fixture(scope="module")
def model(shallow_balanced_model):
    return shallow_balanced_model


@pytest.fixture(scope="module")
def write(model, tmp_path_factory):
    """Return a function that writes each requested file once, and converts the model once per format."""
    found: dict[tuple[Any, ...], Path] = {}
    graph, ir = onnx_runtime.grid_graph(model), openvino.grid_model(model)
    patch = pytest.MonkeyPatch()
    patch.setattr(onnx_runtime, "grid_graph", lambda model: graph)
    patch.setattr(openvino, "grid_model", lambda model: ir.clone())

    def get(form: str, precision: Precision = "float32", size=None, raw_logits: bool = False, calibration=None) -> Path:
        key = (form, precision, size, raw_logits)
        if key not in found:
            path = tmp_path_factory.mktemp(form) / f"small{FORMATS[form].suffix}"
            metadata = describe_export(model, form, precision=precision, size=size, raw_logits=raw_logits)
            FORMATS[form].write(model, path, metadata, calibration)
            found[key] = path
        return found[key]

    yield get
    patch.undo()


def equal(export, model, images) -> float:
    same = [export(image) == predict_labels(model, image, size="native") for image in images]
    return float(np.concatenate([part.ravel() for part in same]).mean())


def test_the_model_finds_many_classes_in_the_images(model, images):
    labels = [predict_labels(model, image, size="native") for image in images]
    assert len(np.unique(np.concatenate([each.ravel() for each in labels]))) >= 4


@pytest.mark.parametrize("form", OWN)
def test_labels_of_any_size_are_the_models(write, model, images, form):
    export = open_export(write(form))
    for image in [*images, images[0][:17, :33], images[0][:2, :9]]:
        found = export(image)
        assert (found.dtype, found.shape) == (np.uint8, image.shape[:2])
    assert equal(export, model, images) >= 0.9999


@pytest.mark.parametrize("form", OWN)
def test_labels_of_a_fixed_size_are_the_models(write, model, images, form):
    export = open_export(write(form, size=(75, 100)))
    assert equal(export, model, images[:1]) >= 0.9999
    with pytest.raises(MediaError, match=r"65x97 pixels, and this .* file takes 100x75 only"):
        export(images[1])


@pytest.mark.parametrize("form", OWN)
@torch.inference_mode()
def test_raw_logits_are_the_models(write, model, images, form):
    found = open_export(write(form, size=(75, 100), raw_logits=True))(images[0])
    expected = model.raw_logits(torch.from_numpy(images[0]).permute(2, 0, 1)[None])[0].numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 1e-4 * expected.std()


@pytest.mark.parametrize(
    ("form", "precision", "least", "smaller"),
    [("onnx", "float16", 0.9, 0.65), ("openvino", "float16", 0.9, 0.8), ("torch", "bfloat16", 0.5, 0.8)],
)
def test_files_in_16_bits_are_smaller_and_give_similar_labels(write, model, images, form, precision, least, smaller):
    path = write(form, precision, size=(75, 100))
    # A narrow untrained model loses many labels with few bits; tests/real requires more of a trained one.
    export = open_export(path)
    assert equal(export, model, images[:1]) >= least
    assert precision in export.stored_precisions()
    assert open_export(write(form, size=(75, 100))).stored_precisions() == ("float32",)

    def size(path: Path) -> int:
        return sum(file.stat().st_size for file in export_files(path))

    assert size(path) < smaller * size(write(form, size=(75, 100)))


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_a_file_shows_its_weights_of_8_bits(write, form):
    if form == "openvino":
        pytest.importorskip("nncf")
    calibration = [torch.full((1, 3, 33, 49), level) for level in (20.0, 200.0)]
    assert open_export(write(form, "int8", calibration=calibration)).stored_precisions() == ("int8",)


@pytest.mark.parametrize("form", OWN)
def test_results_are_unchanged_by_the_next_call(write, images, form):
    export = open_export(write(form))
    first = export(images[0])
    kept = first.copy()
    export(np.zeros_like(images[0]))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("form", OWN)
def test_a_file_has_its_metadata(write, model, form):
    metadata = open_export(write(form, size=(75, 100))).metadata
    assert metadata == describe_export(model, form, size=(75, 100))
    assert metadata.labels == model.labels


@pytest.mark.parametrize("form", OWN)
def test_a_damaged_file_gives_one_message(form, tmp_path):
    path = tmp_path / f"broken{FORMATS[form].suffix}"
    for part in (path, *(path.with_suffix(each) for each in FORMATS[form].companions)):
        part.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match=r"broken.*export it again"):
        open_export(path)


def test_a_missing_part_is_named(tmp_path):
    (tmp_path / "half.xml").write_text("<net/>")
    with pytest.raises(WeightsError, match=r"half\.bin: no such file"):
        open_export(tmp_path / "half.xml")


def test_onnx_of_another_program_is_refused(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Neg", ["a"], ["b"])], "other", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="has no metadata of segmnv2"):
        open_export(tmp_path / "other.onnx")


def test_a_torch_program_is_read_without_unpickling(write, tmp_path):
    import pickle
    import zipfile

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "trap.pt2"
    with zipfile.ZipFile(write("torch")) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.namelist():
            trapped = "sample_inputs" in entry
            target.writestr(entry, pickle.dumps(Trap()) if trapped else source.read(entry))
        assert any("sample_inputs" in entry for entry in source.namelist())
    with pytest.raises(WeightsError, match="cannot be read"):
        open_export(path)
    assert not (tmp_path / "sprung").exists()


def test_formats_are_found_by_name_and_suffix(monkeypatch):
    assert recognize_format("a/b/model.ONNX") == "onnx"
    with pytest.raises(ConfigError, match=r"no format has the suffix '\.h5'; give a file that ends in one of \.onnx, "):
        recognize_format("model.h5")
    with pytest.raises(ConfigError, match="'keras' is not known; give one of onnx, "):
        find_format("keras")
    with pytest.raises(ConfigError, match="'onnx' is not written in bfloat16; give one of float32, "):
        find_format("onnx", "bfloat16")
    absent: Format = replace(FORMATS["onnx"], packages=("no_such_package", "no.such_package"))
    monkeypatch.setitem(FORMATS, "onnx", absent)
    with pytest.raises(
        ConfigError, match=r"needs no_such_package and no\.such_package, .*pip install 'segmnv2\[onnx\]'"
    ):
        find_format("onnx")


def test_a_file_for_another_system_is_written_with_the_command_to_verify_it(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    assert "`segmnv2 verify a.mlpackage --against WEIGHTS`" in _unproven(Path("a.mlpackage"), FORMATS["coreml"])
