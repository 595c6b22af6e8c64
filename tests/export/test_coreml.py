"""Core ML packages of a narrow network: what they say, and what their program computes by its definition."""

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
def test_the_program_computes_the_networks_labels_at_a_size_off_the_grid(model):
    program = convert(model, describe_export(model, "coreml", size=OFF_THE_GRID), "milinternal")
    pixels = smooth_pixels((1, 3, *OFF_THE_GRID), seed=3).round()
    expected = predict_labels(model, pixels[0].permute(1, 2, 0).byte().numpy(), size="native")
    found = evaluate(program, pixels)[0].numpy()
    assert found.shape == OFF_THE_GRID
    assert (found == expected).mean() > 0.999


@torch.inference_mode()
def test_the_program_computes_the_networks_logits():
    model = shallow_model("deeplabv3_mobilenet_v2_aspp", output_stride=8)
    program = convert(model, describe_export(model, "coreml", size=(65, 65), raw_logits=True), "milinternal")
    pixels = smooth_pixels((1, 3, 65, 65), seed=3).round()
    torch.testing.assert_close(evaluate(program, pixels), model.raw_logits(pixels), rtol=0, atol=1e-3)


def test_packages_take_an_image_give_labels_and_tell_of_themselves(model, tmp_path):
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
def test_elsewhere_than_on_a_mac_it_is_refused_to_run(tmp_path):
    with pytest.raises(ConfigError, match="macOS and iOS only"):
        open_coreml(tmp_path / "a.mlpackage", 1)


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on a Mac only")
def test_on_a_mac_labels_are_the_networks(model, tmp_path):
    path = tmp_path / "a.mlpackage"
    write_coreml(model, path, describe_export(model, "coreml", size=OFF_THE_GRID))
    image = smooth_pixels((1, 3, *OFF_THE_GRID), seed=3)[0].permute(1, 2, 0).round().byte().numpy()
    labels = open_coreml(path, 1)(image)
    assert labels.dtype == np.uint8
    assert (labels == predict_labels(model, image, size="native")).mean() > 0.999


def test_a_folder_that_is_no_package_is_refused_by_name(tmp_path):
    path = tmp_path / "a.mlpackage"
    path.mkdir()
    with pytest.raises(WeightsError, match=r"a\.mlpackage: coremltools cannot read it"):
        load_package(path, run=False)
