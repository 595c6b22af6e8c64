from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segmnv2.engines.pytorch import InferenceNetwork
from segmnv2.export.deployable import CellLabels, Deployable, Preparation, RawLogits, best_class, build_preparation
from segmnv2.inference.scores import predict_labels
from segmnv2.nn.stride import upsample_logits


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_labels_are_the_argmax_of_the_resized_logits(stride):
    chance = torch.Generator().manual_seed(stride)
    for height, width in [(65, 97), (50, 33), (2, 90), (64, 31)]:
        rows, columns = (-(-(side - 1) // stride) + 1 for side in (height, width))
        logits = torch.randn(1, 7, rows, columns, generator=chance)
        expected = upsample_logits(logits, stride, (height, width)).argmax(1)
        found = CellLabels(stride)(logits, torch.zeros(1, height, width, 3, dtype=torch.uint8))
        assert (found.dtype, found.shape) == (torch.uint8, expected.shape)
        assert (found == expected).float().mean() >= 0.9999


def test_the_lowest_of_equally_good_classes_is_chosen():
    logits = torch.tensor([[1.0, 3.0], [3.0, 3.0], [3.0, 2.0]])
    assert best_class(logits[None]).tolist() == [[1, 0]]
    same = torch.zeros(1, 4, 3, 3)
    assert not CellLabels(16)(same, torch.zeros(1, 33, 33, 3, dtype=torch.uint8)).any()


@pytest.mark.parametrize("mean", [(127.5, 127.5, 127.5), (123.7, 116.3, 103.5)])
def test_padding_is_the_mean_pixel(mean):
    color = torch.tensor(mean).reshape(1, 3, 1, 1)
    image = torch.randint(0, 256, (1, 18, 33, 3), dtype=torch.uint8)
    found = Preparation(color, 16)(image)
    assert found.shape == (1, 3, 33, 33)
    torch.testing.assert_close(found[..., :18, :], image.permute(0, 3, 1, 2).float())
    torch.testing.assert_close(found[..., 18:, :], color.expand(1, 3, 15, 33))


@torch.inference_mode()
def test_a_deployable_model_gives_the_models_labels(balanced_model, images):
    whole = Deployable(build_preparation(balanced_model), InferenceNetwork(balanced_model), CellLabels(16))
    for image in images:
        expected = predict_labels(balanced_model, image, size="native")
        assert (whole(torch.from_numpy(image)[None])[0].numpy() == expected).mean() >= 0.9999


@torch.inference_mode()
def test_raw_logits_are_not_resized(balanced_model, images):
    image = torch.from_numpy(images[0])[None]
    found = Deployable(build_preparation(balanced_model), InferenceNetwork(balanced_model), RawLogits())(image)
    expected = balanced_model.raw_logits(image.permute(0, 3, 1, 2))
    assert F.mse_loss(found, expected) < 1e-6 * expected.var()
