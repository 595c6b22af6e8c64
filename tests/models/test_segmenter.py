from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from segmnv2.backbones.backbone import create_backbone
from segmnv2.errors import ConfigError
from segmnv2.heads.deeplab_v3 import DeepLabV3Head
from segmnv2.labels import VOC_LABELS
from segmnv2.models.pixels import IMAGENET_NORMALIZATION, Normalization
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model


def small(**options: object) -> Segmenter:
    torch.manual_seed(0)
    return create_model("deeplabv3_mobilenet_v2_aspp", num_classes=5, width=0.35, **options)  # type: ignore[arg-type]


def random_pixels(*size: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 33), (50, 37), (64, 65)])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_logits_have_the_size_of_any_image(size: tuple[int, int], output_stride: int) -> None:
    model = small(output_stride=output_stride).eval()
    with torch.no_grad():
        logits = model(random_pixels(*size))
    assert logits.shape == (2, 5, *size)
    assert bool(logits.isfinite().all())


def test_uint8_and_float_pixels_are_the_same_pixels() -> None:
    model = small().eval()
    pixels = random_pixels(33, 40)
    assert torch.equal(model(pixels), model(pixels.float()))


def test_padding_is_the_mean_pixel_after_normalization() -> None:
    """An image that is padded with the mean pixel to k * 16 + 1 before gives the same logits."""
    model = small().eval()
    canvas = torch.full((2, 3, 49, 65), 127.5)
    canvas[..., :40, :50] = random_pixels(40, 50).float()
    torch.testing.assert_close(model(canvas)[..., :40, :50], model(random_pixels(40, 50)))


def test_logits_pass_through_the_raw_ones_on_the_grid() -> None:
    model = small().eval()
    pixels = random_pixels(49, 33)
    torch.testing.assert_close(model(pixels)[..., ::16, ::16], model.raw_logits(pixels))


def test_the_model_normalizes_its_own_pixels() -> None:
    model = small(normalization=IMAGENET_NORMALIZATION)
    pixels = random_pixels(5, 6)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(model.normalize(pixels), (pixels / 255 - mean) / std)
    assert model.normalization == IMAGENET_NORMALIZATION
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert small().normalize(black_and_white).flatten(1).tolist() == [[-1.0] * 3, [1.0] * 3]


def test_the_output_stride_changes_strides_and_dilations_and_keeps_the_weights() -> None:
    model = small(output_stride=16).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    pixels = random_pixels(65, 65)
    coarse = model(pixels)
    model.set_output_stride(8)
    atrous: Any = model.head.aspp.atrous
    assert [branch.conv.dilation[0] for branch in atrous] == [12, 24, 36]
    assert model.raw_logits(pixels).shape[-2:] == (9, 9)
    assert model.output_stride == 8
    model.set_output_stride(16)
    assert torch.equal(model(pixels), coarse)
    after = model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def test_a_batch_of_one_trains() -> None:
    model = small().train()
    model(random_pixels(33, 33)[:1]).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_images_of_a_batch_are_independent_in_evaluation() -> None:
    model = small().eval()
    pixels = random_pixels(33, 49)
    torch.testing.assert_close(model(pixels)[1:], model(pixels[1:]), rtol=1e-4, atol=1e-6)


def test_the_whole_model_exports_with_pixels_as_input() -> None:
    model = small().eval()
    program = torch.export.export(model, (random_pixels(65, 49),))
    torch.testing.assert_close(program.module()(random_pixels(65, 49)), model(random_pixels(65, 49)))


def test_norm_momentum_is_set_everywhere_or_refused() -> None:
    model = small()
    model.set_norm_momentum(0.1)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {n.momentum for n in norms} == {0.1}
    with pytest.raises(ConfigError, match="momentum 0"):
        model.set_norm_momentum(0)


@pytest.mark.parametrize("pixels", [torch.zeros(1, 1, 8, 8), torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8).int()])
def test_pixels_of_another_form_are_refused(pixels: Tensor) -> None:
    from jaxtyping import TypeCheckError

    with pytest.raises((ConfigError, TypeCheckError), match=r"pixels"):
        small().eval()(pixels)


def test_parts_that_do_not_fit_are_refused() -> None:
    backbone = create_backbone("mobilenet_v2", width=0.35)
    with pytest.raises(ConfigError, match=r"reads 320 channels, the backbone has 112 there"):
        Segmenter(backbone, DeepLabV3Head(320, 21, aspp=False))
    with pytest.raises(ConfigError, match="21 labels for 5 classes"):
        Segmenter(backbone, DeepLabV3Head(112, 5, aspp=False), labels=VOC_LABELS)


def test_impossible_normalizations_are_refused() -> None:
    with pytest.raises(ConfigError, match="std"):
        Normalization((0.0, 0.0, 0.0), (1.0, 0.0, 1.0))
