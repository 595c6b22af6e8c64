from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.models._utils import IntermediateLayerGetter

from segmnv2.conversion.convert import import_checkpoint
from segmnv2.conversion.import_torch import read_torch
from segmnv2.detection import faster_rcnn
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.models.classifier import create_classifier
from segmnv2.models.model_file import load_model, read_model_file
from segmnv2.models.pixels import IMAGENET_NORMALIZATION
from segmnv2.models.zoo import create_model
from segmnv2.weights.safetensors_file import read_tensors
from tests.backbones.reference import randomize_norms


def test_torchvisions_file_becomes_a_backbone_that_segmentation_starts_from(tmp_path: Path) -> None:
    theirs = torchvision.models.mobilenet_v2(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "mobilenet_v2.pth")
    report = import_checkpoint(tmp_path / "mobilenet_v2.pth", tmp_path / "b.safetensors")
    assert report.kind == "backbone"
    assert report.skipped == {"tensors of the ImageNet classifier": 2}
    options = read_model_file(report.path)[1]["architecture"]["backbone"]
    assert options == {"padding": "symmetric", "norm_eps": 1e-5, "last_conv": True}
    model = create_model("deeplabv3_mobilenet_v2", backbone_weights=report.path, padding="symmetric", norm_eps=1e-5)
    assert model.normalization == IMAGENET_NORMALIZATION
    x = torch.randn(1, 3, 65, 65)
    model.eval().set_output_stride(32)
    with torch.no_grad():
        torch.testing.assert_close(model.backbone(x)[-1], theirs.features[:18](x), rtol=1e-4, atol=1e-5)


def test_timms_folder_says_what_normalization_its_network_wants(tmp_path: Path) -> None:
    theirs = timm.create_model("mobilenetv1_100")
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    config = {"architecture": "mobilenetv1_100", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 1.0]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    report = import_checkpoint(tmp_path, tmp_path / "b.safetensors")
    metadata = read_model_file(report.path)[1]
    assert metadata["architecture"]["name"] == "mobilenet_v1"
    assert metadata["normalization"] == {"mean": [127.5, 127.5, 127.5], "std": [127.5, 63.75, 255.0]}
    config["model_args"] = {"num_classes": 3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert import_checkpoint(tmp_path, tmp_path / "b.safetensors").used == report.used
    for arguments in ({"act_layer": "silu"}, ["act_layer"]):
        (tmp_path / "config.json").write_text(json.dumps({**config, "model_args": arguments}))
        with pytest.raises(WeightsError, match=r"config\.json: model_args .*act_layer.* build another model"):
            import_checkpoint(tmp_path, tmp_path / "c.safetensors")
    for mean in ([0.5] * 4, "123"):
        (tmp_path / "config.json").write_text(
            json.dumps({**config, "pretrained_cfg": {"mean": mean, "std": [0.5] * 3}})
        )
        with pytest.raises(WeightsError, match="pretrained_cfg has no mean and std"):
            import_checkpoint(tmp_path, tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()


def test_a_file_alone_is_normalized_as_timms_weights_of_its_network(tmp_path: Path) -> None:
    torch.save(timm.create_model("mobilenetv1_100").state_dict(), tmp_path / "weights.pth")
    config = timm.get_pretrained_cfg("mobilenetv1_100")
    assert config is not None
    found = read_torch(tmp_path / "weights.pth").normalization
    assert found.mean == tuple(255 * value for value in config.mean)
    assert found.std == tuple(255 * value for value in config.std)


def test_wrapped_state_dicts_are_unwrapped(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.ones(1), "b.weight": torch.zeros(2)}
    wrapped = {f"module._orig_mod.{name}": value for name, value in tensors.items()}
    path = tmp_path / "checkpoint.pth"
    for content in (tensors, {"model": tensors, "epoch": 3, "optimizer": {"state": {}}}, wrapped, {"net": wrapped}):
        torch.save(content, path)
        found = read_tensors(path)
        assert list(found) == list(tensors)
        assert all(found[name].equal(value) for name, value in tensors.items())


def test_of_several_state_dicts_each_key_is_named(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}, "model_ema": {"a": torch.ones(1)}}, tmp_path / "c.pth")
    with pytest.raises(
        WeightsError, match=r"under 'model', 'model_ema'; save one alone: torch.save\(checkpoint\['model"
    ):
        read_tensors(tmp_path / "c.pth")


@pytest.mark.parametrize(("width", "name"), [(1.0, "shufflenet_v2_x1_0"), (0.5, "shufflenet_v2_x0_5")])
def test_torchvisions_shufflenet_is_imported_with_its_features(tmp_path: Path, width: float, name: str) -> None:
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    randomize_norms(theirs)
    torch.save(theirs.state_dict(), tmp_path / "s.pth")
    report = import_checkpoint(tmp_path / "s.pth", tmp_path / "b.safetensors")
    assert report.skipped == {"tensors of the ImageNet classifier": 2}
    classifier = create_classifier("shufflenet_v2", width=width, backbone_weights=report.path).eval()
    assert classifier.normalization == IMAGENET_NORMALIZATION
    x = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        expected = theirs.conv5(theirs.stage4(theirs.stage3(theirs.stage2(theirs.maxpool(theirs.conv1(x))))))
        torch.testing.assert_close(classifier.backbone(x)[-1], expected, rtol=1e-4, atol=1e-5)
    assert create_model("deeplabv3_shufflenet_v2", width=width, backbone_weights=report.path).architecture is not None


def test_torchvisions_resnet_is_imported_undilated_and_classifiers_must_be_so_too(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet101(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "r.pth")
    path = import_checkpoint(tmp_path / "r.pth", tmp_path / "b.safetensors").path
    options: dict[str, Any] = {"padding": "symmetric", "strided_unit": "first", "stem": "7x7"}
    with pytest.raises(WeightsError, match=r"multi_grid: \[1, 1, 1\] in the file, \[1, 2, 4\] in the model"):
        create_classifier("resnet101", backbone_weights=path, **options)
    with pytest.raises(WeightsError, match=r"multi_grid: \[1, 1, 1\] in the file, \[1, 2, 4\] in the model"):
        faster_rcnn("resnet101", backbone_weights=path, backbone_options=options)
    classifier = create_classifier("resnet101", backbone_weights=path, multi_grid=(1, 1, 1), **options).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = IntermediateLayerGetter(theirs, {"layer4": "last"})(x)["last"]
    torch.testing.assert_close(classifier.backbone(x)[-1], expected, rtol=1e-4, atol=1e-5)


def test_a_width_is_read_off_the_shapes(tmp_path: Path) -> None:
    torch.save(timm.create_model("mobilenetv2_050").state_dict(), tmp_path / "half.pth")
    report = import_checkpoint(tmp_path / "half.pth", tmp_path / "b.safetensors")
    assert read_model_file(report.path)[1]["architecture"]["backbone"]["width"] == 0.5


def test_other_files_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "b.safetensors"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "squeeze.pth")
    with pytest.raises(WeightsError, match=r"squeeze\.pth.*no model that can be imported.*torchvision's resnet101"):
        import_checkpoint(tmp_path / "squeeze.pth", out)
    (tmp_path / "broken.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"broken\.pth: is damaged or holds more"):
        import_checkpoint(tmp_path / "broken.pth", out)
    torch.save({"model": {"a": [0.0]}, "epoch": 3}, tmp_path / "training.pth")
    with pytest.raises(WeightsError, match=r"training\.pth: holds more than named tensors"):
        import_checkpoint(tmp_path / "training.pth", out)
    assert not out.exists()


class Reference(nn.Module):
    """The layers of the implementation that these checkpoints come from, in the order of its state dict."""

    def __init__(self, classes: int) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
            padding = dilation * (kernel // 2)
            conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

        features = mobilenet_v2(weights=None).features
        self.backbone = nn.ModuleDict({"low_level_features": features[:4], "high_level_features": features[4:-1]})
        pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), *layer(320, 256))
        aspp = nn.Module()
        aspp.convs = nn.ModuleList([layer(320, 256), *(layer(320, 256, 3, rate) for rate in (3, 6, 9)), pooling])
        aspp.project = layer(5 * 256, 256)
        self.classifier: Any = nn.Module()
        self.classifier.project = layer(24, 48)
        self.classifier.aspp = aspp
        self.classifier.classifier = nn.Sequential(*layer(304, 256, 3), nn.Conv2d(256, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        low = self.backbone["low_level_features"](x)
        high = self.backbone["high_level_features"](low)
        branches = [branch(high) for branch in self.classifier.aspp.convs]
        branches[-1] = branches[-1].expand_as(branches[0])
        context = self.classifier.aspp.project(torch.cat(branches, 1))
        context = F.interpolate(context, low.shape[2:], mode="bilinear", align_corners=False)
        return self.classifier.classifier(torch.cat([self.classifier.project(low), context], 1))


@torch.inference_mode()
def test_a_checkpoint_computes_what_its_own_code_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = Reference(5).eval()
    randomize_norms(reference)
    torch.save({"cur_itrs": 3, "model_state": reference.state_dict()}, tmp_path / "best.pth")
    report = import_checkpoint(tmp_path / "best.pth", tmp_path / "ours.safetensors", output_stride=32)
    with pytest.raises(ConfigError, match="without --ema"):
        import_checkpoint(tmp_path / "best.pth", tmp_path / "averages.safetensors", ema=True)
    assert "along borders" in report.note
    model = load_model(tmp_path / "ours.safetensors")
    pixels = torch.randint(0, 256, (1, 3, 97, 129)).float()
    expected = reference(model.normalize(pixels))
    torch.testing.assert_close(model.raw_logits(pixels), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("change", ["classifier.classifier.3.weight", "classifier.aspp.convs.2.0.weight"])
def test_another_decoder_is_refused(tmp_path: Path, change: str) -> None:
    state = Reference(2).state_dict()
    del state[change]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a\.pth: .*(decoder|fit)"):
        import_checkpoint(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()
