from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

import segmnv2
import segmnv2.backbones.timm
from segmnv2.errors import ConfigError
from segmnv2.models.classifier import create_classifier
from segmnv2.models.model_file import save_model
from segmnv2.models.pixels import IMAGENET_NORMALIZATION
from segmnv2.models.segmenter import MODELS
from segmnv2.models.zoo import create_model


def test_every_name_builds_its_model() -> None:
    needed: dict[str, dict[str, Any]] = {"timm": {"model": "resnet18"}, "smp": {"encoder": "resnet18"}}
    for name in segmnv2.list_models():
        with torch.device("meta"):
            model = segmnv2.create_model(name, **needed.get(MODELS[name].backbone, {}))
        assert model.num_classes == 21
        assert model.labels == segmnv2.VOC_LABELS
        assert MODELS[name].backbone == name.removesuffix("_aspp").partition("_")[2]
        atrous: Any = model.head.aspp.atrous
        assert (len(atrous) == 3) == name.endswith("_aspp")
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


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_weights_set_the_output_stride_unless_one_is_given(tmp_path: Path, stride: int) -> None:
    model = create_model("deeplabv3_mobilenet_v2", num_classes=3, width=0.35, output_stride=stride)
    path = save_model(tmp_path / "a.safetensors", model)
    options: dict[str, Any] = {"num_classes": 3, "width": 0.35, "weights": path}
    again = create_model("deeplabv3_mobilenet_v2", **options)
    assert again.output_stride == again.architecture.output_stride == stride
    assert create_model("deeplabv3_mobilenet_v2", **options, keep_logits=False).output_stride == stride
    assert create_model("deeplabv3_mobilenet_v2", **options, output_stride=16).output_stride == 16
    hub = runpy.run_path(str(Path(segmnv2.__file__).parents[1] / "hubconf.py"))
    assert hub["deeplabv3_mobilenet_v2"](**options).output_stride == stride
    del options["weights"]
    assert create_model("deeplabv3_mobilenet_v2", **options, backbone_weights=path).output_stride == 16


def test_a_seed_makes_the_same_weights() -> None:
    def weights() -> list[torch.Tensor]:
        torch.manual_seed(7)
        return list(create_model("deeplabv3_mobilenet_v2", width=0.35).parameters())

    assert all(torch.equal(a, b) for a, b in zip(weights(), weights(), strict=True))


def test_a_model_on_timms_weights_has_their_normalization_and_its_file_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def build(name: str, arguments: dict[str, Any], *, empty: bool = False) -> Any:
        if not empty:
            fetched.append(arguments["pretrained"])
        return real(name, arguments | {"pretrained": False}, empty=empty)

    real = segmnv2.backbones.timm.build
    monkeypatch.setattr("segmnv2.backbones.timm.build", build)
    model = create_model("deeplabv3_timm", model="resnet18", pretrained=True, num_classes=2)
    assert model.normalization == IMAGENET_NORMALIZATION
    again = segmnv2.load_model(segmnv2.save_model(tmp_path / "m.safetensors", model), output_stride=8)
    assert fetched[0]
    assert not any(fetched[1:])
    assert again.normalization == IMAGENET_NORMALIZATION
    model.eval().set_output_stride(8)
    pixels = torch.randint(0, 256, (1, 3, 40, 60), dtype=torch.uint8)
    assert torch.equal(again(pixels), model(pixels))


@pytest.mark.parametrize(
    ("backbone", "said"),
    [("mobilenet_v2", "no option pretrained.*weights='voc_mobilenet_v2'"), ("timm", "needs model")],
)
def test_pretrained_is_refused_with_a_remedy_if_there_are_no_weights(backbone: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        create_model(f"deeplabv3_{backbone}", pretrained=True)
    with pytest.raises(ConfigError, match=said):
        create_classifier(backbone, pretrained=True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("stride", [0, 12, "8", True])
def test_an_impossible_output_stride_is_refused(stride: object) -> None:
    with pytest.raises(ConfigError, match="output_stride"):
        create_model("deeplabv3_mobilenet_v2", width=0.35, output_stride=stride)  # type: ignore[arg-type]
