from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segmnv2.data.box_transforms import BoxedImage, BoxTransform, collate_boxes
from segmnv2.data.sample import Target
from segmnv2.data.transforms import ColorJitter


def marked(boxes: list[list[float]], size: tuple[int, int] = (40, 60)) -> BoxedImage:
    """A black image whose boxes are white."""
    pixels = torch.zeros(3, *size, dtype=torch.uint8)
    for x1, y1, x2, y2 in boxes:
        pixels[:, int(y1) : int(y2), int(x1) : int(x2)] = 255
    labels = torch.arange(1, len(boxes) + 1)
    target: Target = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": labels, "image_id": 7, "name": "a.jpg"}
    return pixels, target


BOX = [12.0, 8.0, 30.0, 20.0]


@given(seed=st.integers(0, 2**32 - 1), crop=st.booleans())
@settings(max_examples=30, deadline=None)
def test_boxes_stay_on_their_objects(seed: int, crop: bool) -> None:
    pixels, target = BoxTransform(0.5, iou_crop=crop)(marked([BOX]), seed)
    white = pixels[0].nonzero()
    assert type(pixels) is type(target["boxes"]) is torch.Tensor
    if not len(target["boxes"]):  # its center was cut away
        return
    (x1, y1, x2, y2) = target["boxes"][0].tolist()
    assert (white[:, 1].min(), white[:, 0].min()) == (x1, y1)
    assert (white[:, 1].max() + 1, white[:, 0].max() + 1) == (x2, y2)
    assert (target["labels"].tolist(), target["image_id"], target["name"]) == ([1], 7, "a.jpg")


def test_the_result_depends_on_the_seed_alone() -> None:
    transform = BoxTransform(0.5, iou_crop=True, colors=ColorJitter(chance=1.0))
    sample = marked([BOX, [0.0, 0.0, 60.0, 40.0]])
    results = []
    for disturbance in (0, 1):
        torch.manual_seed(disturbance)
        results.append([transform(sample, seed) for seed in range(8)])
    for (one, first), (other, second) in zip(*results, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(first["boxes"], second["boxes"])
    assert len({pixels.shape for pixels, _ in results[0]}) > 1


def test_mirroring_twice_gives_the_original() -> None:
    mirror = BoxTransform(1.0)
    pixels, target = marked([BOX])
    once = mirror((pixels, target), 0)
    assert once[1]["boxes"].tolist() == [[30.0, 8.0, 48.0, 20.0]]
    back, twice = mirror(once, 1)
    assert torch.equal(back, pixels)
    assert torch.equal(twice["boxes"], target["boxes"])


@pytest.mark.parametrize("crop", [False, True])
def test_an_image_without_boxes_is_not_cropped(crop: bool) -> None:
    pixels, target = BoxTransform(0.0, iou_crop=crop)(marked([]), 3)
    assert pixels.shape == (3, 40, 60)
    assert (target["boxes"].shape, target["labels"].shape) == ((0, 4), (0,))


def test_a_batch_keeps_the_size_of_each_image() -> None:
    batch = collate_boxes([marked([BOX]), marked([], (8, 9))])
    images: Any = batch["images"]
    assert [tuple(image.shape) for image in images] == [(3, 40, 60), (3, 8, 9)]
    assert batch["name"] == ["a.jpg", "a.jpg"]
