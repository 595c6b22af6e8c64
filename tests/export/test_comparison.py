"""Verification finds errors, and a file that fails it is not written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from segmnv2.data.mask_file import write_mask
from segmnv2.errors import ConfigError, DatasetError, WeightsError
from segmnv2.export import comparison as verify
from segmnv2.export import create, torch_file
from segmnv2.export.comparison import check_agreement, verify_export
from segmnv2.export.create import Exported, export_weights
from segmnv2.export.deployable import build_preparation
from segmnv2.export.export_metadata import ExportMetadata, describe_export
from segmnv2.export.formats import FORMATS, OpenedExport
from segmnv2.export.probes import draw_image, fit_image, restore_labels
from segmnv2.inference.scores import predict_labels
from segmnv2.models.model_file import load_model
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model

SIZE = (75, 100)


@pytest.fixture
def model(weights):
    return load_model(weights)


@pytest.fixture(scope="module")
def folders(images, balanced_model, tmp_path_factory) -> tuple[Path, Path]:
    """Return folders of images and of masks, which have the model's labels except in the last rows, to ignore."""
    folders = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("masks")
    for index, image in enumerate(images):
        Image.fromarray(image).save(folders[0] / f"{index}.png")
        mask = predict_labels(balanced_model, image, size="native")
        mask[-5:] = 255
        write_mask(folders[1] / f"{index}.png", mask, balanced_model.labels)
    return folders


@pytest.fixture(scope="module")
def done(weights, folders, tmp_path_factory) -> Exported:
    return export_weights(weights, tmp_path_factory.mktemp("export") / "a.pt2", "torch", images=folders[0])


def test_an_export_is_written_with_its_description_and_card(done):
    folder = done.path.parent
    assert sorted(path.name for path in folder.iterdir()) == ["a.pt2", "a.pt2.json", "a.pt2.md"]
    described = json.loads((folder / "a.pt2.json").read_text())
    assert described["verification"]["agreement"] == done.verification.agreement >= 0.9999
    assert described["verification"]["classes"] >= 4
    assert "3 images in images" in (folder / "a.pt2.md").read_text()


def test_a_file_that_differs_from_the_model_is_not_written(weights, folders, tmp_path, monkeypatch):
    def upside_down(model, **options):
        return torch.nn.Sequential(build_preparation(model, **options), Flip())

    class Flip(torch.nn.Module):
        def forward(self, pixels):
            return pixels.flip(1)  # BGR

    monkeypatch.setattr(torch_file, "build_preparation", upside_down)
    (tmp_path / "a.pt2").write_text("an older file")
    for images in (folders[0], None):
        with pytest.raises(WeightsError, match=r"torch float32: \d.* % of pixels have the model's label"):
            export_weights(weights, tmp_path / "a.pt2", "torch", size=SIZE, images=images)
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.pt2", "an older file")]
    export_weights(weights, tmp_path / "a.pt2", "torch", size=SIZE, verify=False)
    assert "not compared" in (tmp_path / "a.pt2.md").read_text()


def test_masks_give_the_miou_of_model_and_file(done, model, folders):
    ticks: list[None] = []
    found = verify_export(done.path, model, *folders, repeats=2, on_image=lambda: ticks.append(None))
    assert len(ticks) == found.count == 3
    assert found.miou_before == 100
    assert found.miou_after == pytest.approx(100, abs=0.1)
    assert found.latency is not None
    assert found.latency.export.low <= found.latency.export.median <= found.latency.export.high
    assert found.size == done.path.stat().st_size
    assert {"mIOU before, after", "size", "times as fast"} <= found.rows().keys()
    json.dumps(found.to_dict())
    with pytest.raises(WeightsError, match="101 % must"):
        check_agreement(found, 1.01)


def test_raw_logits_have_a_small_error_and_the_same_labels(weights, model, folders, tmp_path):
    path = export_weights(weights, tmp_path / "a.pt2", "torch", size=SIZE, raw_logits=True, verify=False).path
    found = verify_export(path, model, *folders, repeats=0)
    assert found.logits is not None
    assert 0 < found.logits.mean < found.logits.largest < 1e-3
    assert found.agreement >= 0.9999
    assert found.miou_after == pytest.approx(found.miou_before, abs=0.1)


def test_images_are_scaled_and_padded_to_a_fixed_size(weights, model, folders, tmp_path):
    path = export_weights(weights, tmp_path / "a.pt2", "torch", size=(81, 70), output_stride=8, verify=False).path
    found = verify_export(path, model, *folders, repeats=0)
    assert found.agreement >= 0.9999
    assert model.output_stride == 8
    assert found.miou_before is not None
    assert found.miou_before < 100


def test_other_weights_are_refused(done):
    other = create_model("deeplabv3_mobilenet_v2", num_classes=3, width=0.35).eval()
    with pytest.raises(WeightsError, match=r"a\.pt2: the file has other classes: 5 in the file, 3 in the weights"):
        verify_export(done.path, other)


def faulty_export(path, metadata, *stored):
    return OpenedExport(Path(path), metadata, lambda batch: np.full((1, 5, 6, 8), np.nan, np.float32), lambda: stored)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "onnx"}, "its format is 'onnx', not 'torch'"),
        ({"logits_stride": 8}, "its logits_stride is 8, not 16"),
        ({"architecture": {"name": "other"}}, "its architecture has name 'other', not 'deeplabv3_mobilenet_v2'"),
        ({"architecture": {"backbone": {}}}, r"its architecture has backbone {}, not {'width': 0.35}"),
        ({"padding": (123.7, 116.3, 103.5)}, r"its padding is \(123.7, 116.3, 103.5\), not \(127.5, 127.5, 127.5\)"),
        ({"labels": {"ignore_index": 254}}, "ignore_index is 254 in the file, 255 in the weights"),
        ({"labels": {"palette": ((9, 9, 9),) * 5}}, r"the color of 'class_0' is \(9, 9, 9\) in the file"),
        ({"output": "logits"}, "its logits contain NaN or infinity"),
    ],
)
def test_wrong_metadata_is_refused(model, monkeypatch, change, message):
    change = {"labels": replace(model.labels, **change["labels"])} if "labels" in change else change
    own = describe_export(model, "torch", size=SIZE)
    change |= {"architecture": {**own.architecture, **change["architecture"]}} if "architecture" in change else {}
    metadata = replace(own, **change)
    monkeypatch.setattr(verify, "open_export", lambda path, threads: faulty_export(path, metadata))
    with pytest.raises(WeightsError, match=rf"a\.pt2: .*{message}"):
        verify_export("a.pt2", model)


@pytest.mark.parametrize("stored", ["float32", ""])
def test_a_file_of_floats_that_states_int8_is_refused(model, monkeypatch, tmp_path, stored):
    path = tmp_path / "a.pt2"
    path.write_bytes(bytes(4 * sum(each.numel() for each in model.parameters())))
    metadata = replace(describe_export(model, "torch", size=SIZE), precision="int8")
    monkeypatch.setattr(
        verify, "open_export", lambda path, threads: faulty_export(path, metadata, *filter(None, [stored]))
    )
    with pytest.raises(WeightsError, match=r"a\.pt2: its metadata states int8, but its weights are float32"):
        verify_export(path, model)


def test_masks_without_images_are_refused(done, model, folders, tmp_path):
    with pytest.raises(ConfigError, match="masks: given without images"):
        verify_export(done.path, model, None, folders[1])
    with pytest.raises(DatasetError, match=r"has no NAME\.png"):
        verify_export(done.path, model, folders[0], tmp_path)
    with pytest.raises(ConfigError, match="limit: 0"):
        verify_export(done.path, model, folders[0], limit=0)


def test_masks_by_which_nothing_can_be_measured_are_refused(done, model, folders, tmp_path):
    with Image.open(folders[0] / "0.png") as image:
        write_mask(tmp_path / "0.png", np.full(image.size[::-1], 255, np.uint8), model.labels)
        (turned := tmp_path / "turned").mkdir()
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 3
        image.save(turned / "0.png", exif=exif)
        (twice := tmp_path / "twice").mkdir()
        for name in ("0.png", "0.jpg"):
            image.save(twice / name)
    with pytest.raises(DatasetError, match=r"all pixels of 1 mask are ignored \(255\), so no mIOU can be measured"):
        verify_export(done.path, model, folders[0], tmp_path, repeats=0)
    with pytest.raises(DatasetError, match=r"2 images have the name 0, so 0\.png in .* cannot be the mask of each"):
        verify_export(done.path, model, twice, folders[1], repeats=0)
    with pytest.raises(DatasetError, match="is turned by EXIF orientation 3"):
        verify_export(done.path, model, turned, folders[1], repeats=0)
    assert verify_export(done.path, model, turned, repeats=0).agreement >= 0.9999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "'int8' needs images"),
        ({"calibration": "."}, "calibration: is for int8"),
        ({"size": (3, 99)}, "size: 3,99 is too small"),
        ({"least_agreement": 98}, "least agreement: 98"),
        ({"form": "torch"}, r"a file of torch\.export ends in \.pt2; give .*a\.pt2"),
        ({"form": "openvino", "path": "a.XML"}, r"a\.XML: a file of OpenVINO IR ends in \.xml; give .*a\.xml"),
    ],
)
def test_invalid_options_are_refused_before_the_work(weights, tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(create, "load_model", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(ConfigError, match=message):
        export_weights(weights, tmp_path / options.pop("path", "a.onnx"), **{"form": "onnx", **options})
    assert not list(tmp_path.iterdir())


def test_a_model_that_a_format_does_not_support_gives_one_message(weights, tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError("op ceil is not in\n_SYM_OPS")  # as torch.export does for timm's mobilevit_s

    monkeypatch.setitem(FORMATS, "torch", replace(FORMATS["torch"], write=fail))
    with pytest.raises(ConfigError, match=r"^format: 'torch' cannot convert this model \(op ceil is not in _SYM_OPS\)"):
        export_weights(weights, tmp_path / "a.pt2", "torch")
    assert not list(tmp_path.iterdir())


def test_a_format_of_one_size_has_513_by_default(weights, tmp_path, monkeypatch):
    orders: list[ExportMetadata] = []

    def write(model: Segmenter, path: Path, order: ExportMetadata, *_: object) -> None:
        orders.append(order)
        path.touch()

    only = replace(FORMATS["torch"], dynamic=False, write=write)
    monkeypatch.setitem(FORMATS, "torch", only)
    for size in ("auto", (81, 70)):
        export_weights(weights, tmp_path / "a.pt2", "torch", size=size, verify=False)
    assert [order.size for order in orders] == [(513, 513), (81, 70)]
    with pytest.raises(ConfigError, match="'torch' takes images of one size only"):
        export_weights(weights, tmp_path / "a.pt2", "torch", size=None)


def test_fitting_only_scales_down_and_pads_with_the_mean(images):
    image = images[0]
    fitted, content = fit_image(image, (80, 120), (127.5, 1.2, 255.0))
    assert content == image.shape[:2]
    assert np.array_equal(fitted[:75, :100], image)
    assert (fitted[75:] == (128, 1, 255)).all()
    fitted, content = fit_image(image, (50, 50), (0, 0, 0))
    assert content == (38, 50)
    labels = np.arange(50 * 50, dtype=np.uint8).reshape(50, 50)
    assert restore_labels(labels, content, (75, 100)).shape == (75, 100)
    assert np.array_equal(restore_labels(labels, (38, 50), (38, 50)), labels[:38])


def test_a_model_finds_many_classes_in_drawn_images_and_is_unchanged(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = [draw_image(model, (75, 90), seed) for seed in (0, 0, 1)]
    assert drawn[0].dtype == np.uint8
    assert drawn[0].shape == (75, 90, 3)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    seen = [predict_labels(model, image, size="native") for image in drawn]
    assert len(np.unique(np.stack(seen))) >= 3
