"""ExecuTorch programs of a narrow model, in ExecuTorch's own runtime."""

from __future__ import annotations

import pytest
import torch

from segmnv2.errors import ConfigError, WeightsError
from segmnv2.export.export_metadata import describe_export
from segmnv2.export.mobile.executorch_file import open_executorch, write_executorch
from segmnv2.inference.scores import predict_labels
from tests.engines.conftest import smooth_pixels
from tests.export.shallow import shallow_model

pytest.importorskip("executorch")
pytest.importorskip("torchao")

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of its many dependencies
SIZE = (50, 71)


@pytest.fixture(scope="module")
def model():
    return shallow_model()


@pytest.fixture(scope="module")
def image():
    return smooth_pixels((1, 3, *SIZE), seed=3)[0].permute(1, 2, 0).round().byte().numpy()


def test_a_program_has_metadata_and_gives_the_models_labels_with_padding(model, image, tmp_path):
    path = tmp_path / "a.pte"
    metadata = describe_export(model, "executorch", size=SIZE)
    write_executorch(model, path, metadata)
    opened = open_executorch(path, threads=1)
    assert opened.metadata == metadata
    labels = opened(image)
    assert labels.shape == SIZE
    assert (labels == predict_labels(model, image, size="native")).mean() > 0.999
    # Such a name ends the process of the runtime.
    path.write_bytes(path.read_bytes().replace(b"XnnpackBackend", b"XnnpackB\xffckend"))
    with pytest.raises(WeightsError, match=r"a\.pte: ExecuTorch cannot run it"):
        open_executorch(path, threads=1)


@pytest.mark.slow
def test_an_8_bit_program_gives_similar_logits(model, tmp_path):
    path = tmp_path / "a.pte"
    calibration = [smooth_pixels((1, 3, 49, 81), seed=seed) for seed in range(4)]
    metadata = describe_export(model, "executorch", precision="int8", size=(65, 65), raw_logits=True)
    write_executorch(model, path, metadata, calibration)
    pixels = smooth_pixels((1, 3, 65, 65), seed=9).round()
    found = torch.from_numpy(open_executorch(path, threads=1)(pixels[0].permute(1, 2, 0).byte().numpy()))
    expected = model.raw_logits(pixels)[0].detach()
    assert found.shape == expected.shape
    assert 0.3 < torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] < 1 - 1e-6


def test_8_bits_need_calibration(model, tmp_path):
    metadata = describe_export(model, "executorch", precision="int8", size=SIZE)
    with pytest.raises(ConfigError, match="calibration"):
        write_executorch(model, tmp_path / "a.pte", metadata, None)


@pytest.mark.parametrize("content", [b"", b"no program at all" * 9])
def test_a_file_that_is_no_program_is_named(tmp_path, content):
    path = tmp_path / "a.pte"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.pte: ExecuTorch cannot (read|run) it"):
        open_executorch(path, threads=1)
