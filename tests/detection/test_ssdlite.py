from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection.ssd import SSD

from segmnv2.backbones.backbone import create_backbone
from segmnv2.detection import ssdlite
from segmnv2.detection.features import SsdliteFeatures
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.models.cost import count_parameters
from segmnv2.models.model_file import save_backbone
from segmnv2.models.pixels import IMAGENET_NORMALIZATION

SMALL = {"width": 0.35}


def small(**options: object) -> SSD:
    torch.manual_seed(0)
    return ssdlite(num_classes=4, size=(96, 96), **{"backbone_options": SMALL, **options})  # type: ignore[arg-type]


def picture(height: int = 70, width: int = 90) -> Tensor:
    return torch.rand(3, height, width)


def target() -> dict[str, Tensor]:
    return {"boxes": torch.tensor([[10.0, 10.0, 50.0, 60.0]]), "labels": torch.tensor([2])}


@pytest.mark.parametrize(("backbone", "params", "madds"), [("mobilenet_v2", 4.3, 0.8), ("mobilenet_v1", 5.1, 1.3)])
def test_it_costs_what_the_papers_table_6_prints(backbone: str, params: float, madds: float) -> None:
    """For the 80 classes of COCO and the background, at 320 x 320; within 2 %."""
    with torch.device("meta"):
        model = ssdlite(backbone, num_classes=81).eval()
        with FlopCounterMode(display=False) as counter:
            model.head(list(model.backbone(torch.empty(1, 3, 320, 320)).values()))
    assert count_parameters(model) / 1e6 == pytest.approx(params, rel=0.02)
    assert counter.get_total_flops() / 2e9 == pytest.approx(madds, rel=0.02)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_the_first_map_is_the_expansion_of_layer_15(output_stride: int) -> None:
    backbone = create_backbone("mobilenet_v2", last_conv=True, output_stride=output_stride).eval()
    features = SsdliteFeatures(backbone).eval()
    assert features.out_channels == [576, 1280, 512, 256, 256, 128]
    x = torch.randn(1, 3, 65, 97)
    maps = list(features(x).values())
    first = min(16, output_stride)
    assert maps[0].shape == (1, 576, -(-65 // first), -(-97 // first))
    assert maps[1].shape == (1, 1280, -(-65 // output_stride), -(-97 // output_stride))
    for before, after in itertools.pairwise(maps[1:]):
        assert after.shape[-2:] == tuple(-(-side // 2) for side in before.shape[-2:])
    blocks = backbone.blocks
    assert isinstance(blocks, torch.nn.ModuleList)
    y = backbone.stem(x)  # type: ignore[operator]
    for block in blocks[:13]:
        y = block(y)
    torch.testing.assert_close(maps[0], blocks[13].expand(y))  # type: ignore[operator]
    torch.testing.assert_close(maps[1], backbone(x)[-1])


def test_other_backbones_are_looked_at_where_they_stride() -> None:
    features = SsdliteFeatures(create_backbone("mobilenet_v1", width=0.25)).eval()
    assert features.out_channels[:2] == [128, 256]
    maps = features(torch.randn(1, 3, 96, 96))
    assert [each.shape[-1] for each in maps.values()] == [6, 3, 2, 1, 1, 1]


def test_torchvisions_api_trains_and_predicts() -> None:
    model = small()
    images = [picture(), picture(50, 60)]
    losses = model(images, [target(), {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}])
    assert set(losses) == {"bbox_regression", "classification"}
    sum(losses.values()).backward()
    # SSD has no use for the last map's places where no box is near, but every weight of the backbone learns.
    assert all(parameter.grad is not None for parameter in model.backbone.parameters())
    model.eval()
    with torch.no_grad():
        for image, found in zip(images, model(images), strict=True):
            height, width = image.shape[-2:]
            assert set(found) == {"boxes", "labels", "scores"}
            kept = torchvision.ops.clip_boxes_to_image(found["boxes"], (height, width))
            assert torch.equal(kept, found["boxes"])
            assert set(found["labels"].tolist()) <= {1, 2, 3}


def test_the_boxes_are_tensorflows() -> None:
    """Three at each place of the first map and six elsewhere; squares of a tenth of the image are the smallest."""
    model = small().eval()
    maps = list(model.backbone(torch.rand(1, 3, 96, 96)).values())
    images = torchvision.models.detection.image_list.ImageList(torch.rand(1, 3, 96, 96), [(96, 96)])
    (boxes,) = model.anchor_generator(images, maps)
    places = [each.shape[-1] * each.shape[-2] for each in maps]
    assert len(boxes) == 3 * places[0] + 6 * sum(places[1:])
    sides = boxes[:, 2:] - boxes[:, :2]
    torch.testing.assert_close(sides[0], torch.tensor([9.6, 9.6]))
    areas = sides[1:3].prod(1).sqrt()
    torch.testing.assert_close(areas, torch.tensor([19.2, 19.2]))
    assert float(sides[1, 0] / sides[1, 1]) == pytest.approx(2)


def test_imagenets_weights_are_one_argument(tmp_path: Path) -> None:
    options: dict[str, Any] = {"width": 0.35, "last_conv": True}
    backbone = create_backbone("mobilenet_v2", **options)
    path = save_backbone(tmp_path / "b.safetensors", backbone, "mobilenet_v2", options, IMAGENET_NORMALIZATION)
    model = small(backbone_weights=path)
    loaded = backbone.state_dict()
    for name, value in model.backbone.backbone.state_dict().items():
        assert torch.equal(value, loaded[name])
    assert model.transform.image_mean == pytest.approx([0.485, 0.456, 0.406])
    assert model.transform.image_std == pytest.approx([0.229, 0.224, 0.225])
    with pytest.raises(WeightsError, match=r"width: 0\.35 in the file, 0\.5 in the model"):
        small(backbone_weights=path, backbone_options={"width": 0.5})
    assert small().transform.image_mean == [0.5, 0.5, 0.5]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="backbone 'vgg' is unknown"):
        ssdlite("vgg")
    with pytest.raises(ConfigError, match="num_classes 1 is not possible; count the background"):
        ssdlite(num_classes=1)
    with pytest.raises(ConfigError, match="has no option depth"):
        ssdlite(backbone_options={"depth": 3})
