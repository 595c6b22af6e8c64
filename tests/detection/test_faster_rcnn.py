from __future__ import annotations

import pytest
import torch

from segmnv2.backbones.backbone import BACKBONES, create_backbone
from segmnv2.detection import faster_rcnn
from segmnv2.detection.features import PyramidFeatures
from segmnv2.errors import ConfigError
from tests.contracts.test_backbones import SMALL


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_a_pyramid_stands_on_every_backbone(name: str) -> None:
    features = PyramidFeatures(create_backbone(name, **SMALL[name]), channels=32).eval()
    maps = features(torch.randn(1, 3, 97, 129))
    sizes = [tuple(each.shape[-2:]) for each in maps.values()]
    assert sizes[:4] == [tuple(-(-side // stride) for side in (97, 129)) for stride in (4, 8, 16, 32)]
    assert list(maps)[-1] == "pool"
    assert {each.shape[1] for each in maps.values()} == {32} == {features.out_channels}


@pytest.mark.parametrize(("fpn", "output_stride"), [(True, 32), (True, 8), (False, 16)])
def test_torchvisions_api_trains_and_predicts(fpn: bool, output_stride: int) -> None:
    torch.manual_seed(0)
    model = faster_rcnn(
        fpn=fpn, num_classes=3, output_stride=output_stride, backbone_options={"width": 0.35}, min_size=64, max_size=96
    )
    image = torch.rand(3, 60, 80)
    target = {"boxes": torch.tensor([[10.0, 10.0, 50.0, 55.0]]), "labels": torch.tensor([1])}
    losses = model([image], [target])
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.backbone.backbone.parameters())
    with torch.no_grad():
        (found,) = model.eval()([image])
    assert set(found) == {"boxes", "labels", "scores"}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="output_stride 12 is not possible"):
        faster_rcnn(output_stride=12)
    with pytest.raises(ConfigError, match="num_classes 0 is not possible"):
        faster_rcnn(num_classes=0)
