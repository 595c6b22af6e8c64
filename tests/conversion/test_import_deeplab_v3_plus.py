from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from segmnv2.conversion.convert import import_checkpoint
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.models.model_file import load_model
from tests.backbones.reference import randomize_norms


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
        self.classifier = nn.Module()
        self.classifier.project = layer(24, 48)
        self.classifier.aspp = aspp
        self.classifier.classifier = nn.Sequential(*layer(304, 256, 3), nn.Conv2d(256, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        low = self.backbone["low_level_features"](x)
        high = self.backbone["high_level_features"](low)
        branches = [branch(high) for branch in self.classifier.aspp.convs]  # type: ignore[union-attr]
        branches[-1] = branches[-1].expand_as(branches[0])
        context = self.classifier.aspp.project(torch.cat(branches, 1))  # type: ignore[union-attr,operator]
        context = F.interpolate(context, low.shape[2:], mode="bilinear", align_corners=False)
        return self.classifier.classifier(torch.cat([self.classifier.project(low), context], 1))  # type: ignore


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
