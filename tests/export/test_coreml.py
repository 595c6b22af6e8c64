"""Core ML packages of a narrow model: their content, and the results of their program by its definition."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
import torch

from segmnv2.errors import ConfigError, WeightsError
from segmnv2.export.export_metadata import ExportMetadata, describe_export
from segmnv2.inference.scores import predict_labels
from tests.engines.conftest import smooth_pixels
from tests.export.mil_evaluation import evaluate
from tests.export.shallow import shallow_model

pytest.importorskip("coremltools")

from segmnv2.export.mobile.coreml_file import convert, load_package, open_coreml, write_coreml

pytestmark = pytest.mark.filterwarnings("ignore")
OFF_THE_GRID = (50, 71)


@pytest.fixture(scope="module")
def model():
    return shallow_model()


@torch.inference_mode()
def test_the_program_gives_the_models_labels_at_a_size_that_needs_padding(model):
    program = convert(model, describe_export(model, "coreml", size=OFF_THE_GRID), "milinternal")
    pixels = smooth_pixels((1, 3, *OFF_THE_GRID), seed=3).round()
    expected = predict_labels(model, pixels[0].permute(1, 2, 0).byte().numpy(), size="native")
    found = evaluate(program, pixels)[0].numpy()
    assert found.shape == OFF_THE_GRID
    assert (found == expected).mean() > 0.999


@torch.inference_mode()
def test_the_program_gives_the_models_logits():
    model = shallow_model("deeplabv3_mobilenet_v2_aspp", output_stride=8)
    program = convert(model, describe_export(model, "coreml", size=(65, 65), raw_logits=True), "milinternal")
    pixels = smooth_pixels((1, 3, 65, 65), seed=3).round()
    torch.testing.assert_close(evaluate(program, pixels), model.raw_logits(pixels), rtol=0, atol=1e-3)


def test_packages_have_an_image_input_labels_and_metadata(model, tmp_path):
    sizes = {}
    for precision in ("float32", "float16"):
        path = tmp_path / f"{precision}.mlpackage"
        metadata = describe_export(model, "coreml", size=OFF_THE_GRID, precision=precision)
        write_coreml(model, path, metadata)
        package = load_package(path, run=False)
        assert ExportMetadata.from_entries(package.user_defined_metadata, str(path)) == metadata
        spec = package.get_spec()
        (image,), (labels,) = spec.description.input, spec.description.output
        size = image.type.imageType
        assert (image.name, size.height, size.width) == ("image", *OFF_THE_GRID)
        assert (labels.name, list(labels.type.multiArrayType.shape)) == ("labels", [1, *OFF_THE_GRID])
        (block,) = spec.mlProgram.functions["main"].block_specializations.values()
        kinds = Counter(operation.type for operation in block.operations)
        layers = sum(isinstance(module, torch.nn.Conv2d) for module in model.modules())
        assert kinds["conv"] == layers + 1  # the projection is two
        assert bool(kinds["cast"]) == (precision == "float16")
        sizes[precision] = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    assert sizes["float16"] < 0.7 * sizes["float32"]


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_a_package_runs_only_on_a_mac(tmp_path):
    with pytest.raises(ConfigError, match="macOS and iOS only"):
        open_coreml(tmp_path / "a.mlpackage", 1)


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on a Mac only")
def test_labels_on_a_mac_are_the_models(model, tmp_path):
    path = tmp_path / "a.mlpackage"
    write_coreml(model, path, describe_export(model, "coreml", size=OFF_THE_GRID))
    image = smooth_pixels((1, 3, *OFF_THE_GRID), seed=3)[0].permute(1, 2, 0).round().byte().numpy()
    labels = open_coreml(path, 1)(image)
    assert labels.dtype == np.uint8
    assert (labels == predict_labels(model, image, size="native")).mean() > 0.999


def test_a_folder_that_is_no_package_is_named(tmp_path):
    path = tmp_path / "a.mlpackage"
    path.mkdir()
    with pytest.raises(WeightsError, match=r"a\.mlpackage: coremltools cannot read it"):
        load_package(path, run=False)
