from __future__ import annotations

import pytest
import torch

import segmnv2
from segmnv2.errors import ConfigError
from segmnv2.models.catalogue import MODELS
from segmnv2.models.zoo import create_model


def test_every_name_builds_what_it_says() -> None:
    for name in segmnv2.list_models():
        with torch.device("meta"):
            model = segmnv2.create_model(name, **({"model": "resnet18"} if "timm" in name else {}))
        assert model.num_classes == 21
        assert model.labels == segmnv2.VOC_LABELS
        assert f"deeplabv3_{MODELS[name].backbone}" == name.removesuffix("_aspp")
        assert (len(model.head.aspp.atrous) == 3) == name.endswith("_aspp")
        assert model.training


def test_labels_give_the_number_of_classes() -> None:
    assert create_model("deeplabv3_mobilenet_v2", width=0.35, labels=segmnv2.LabelSet.numbered(4)).num_classes == 4
    assert create_model("deeplabv3_mobilenet_v2", width=0.35, num_classes=2).labels.names == ("class_0", "class_1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "deeplab"}, r"available are deeplabv3_mobilenet_v1.*deeplabv3_mobilenet_v2, "),
        ({"num_classes": 300}, "num_classes 300"),
        ({"output_stride": 12}, "output_stride 12"),
        ({"widht": 0.5}, "widht"),
        ({"num_classes": 4, "labels": segmnv2.VOC_LABELS}, "21 labels for 4 classes"),
        ({"weights": "a", "backbone_weights": "b"}, "name one file"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(**{"name": "deeplabv3_mobilenet_v2", **options})  # type: ignore[arg-type]


def test_a_seed_makes_the_same_weights() -> None:
    def weights() -> list[torch.Tensor]:
        torch.manual_seed(7)
        return list(create_model("deeplabv3_mobilenet_v2", width=0.35).parameters())

    assert all(torch.equal(a, b) for a, b in zip(weights(), weights(), strict=True))
