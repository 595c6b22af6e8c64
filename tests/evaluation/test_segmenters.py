from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from segmnv2.data.mask_file import read_mask
from segmnv2.data.sample import Sample
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.errors import ConfigError, DatasetError
from segmnv2.evaluation.segmenters import Evaluation, evaluate
from segmnv2.inference.options import InferenceOptions
from segmnv2.inference.predictor import Predictor
from segmnv2.inference.scores import predict_labels
from segmnv2.labels import LabelSet, voc_palette
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model


@pytest.fixture(scope="module")
def model() -> Segmenter:
    torch.manual_seed(0)
    return create_model("deeplabv3_mobilenet_v2", labels=SHAPES_LABELS, width=0.35)


DATA = Shapes(4, (40, 33), seed=5)


def test_the_counts_equal_those_of_a_plain_loop(model: Segmenter) -> None:
    result = evaluate(model, DATA, size=65)
    expected = np.zeros((5, 5), np.int64)
    model.eval()
    for index in range(len(DATA)):
        sample = DATA[index]
        prediction = predict_labels(model, sample.image, size=65)
        for truth, guess in zip(sample.mask.ravel(), prediction.ravel(), strict=True):
            if truth != 255:
                expected[truth, guess] += 1
    assert result.confusion.tolist() == expected.tolist()
    assert result.images == 4


def test_evaluation_does_not_round_float32_on_a_gpu(model: Segmenter) -> None:
    convolution = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    seen, before = [], convolution.fp32_precision
    evaluate(model, DATA, size=65, limit=1, progress=lambda: seen.append(convolution.fp32_precision))
    assert seen == ["ieee"]
    assert convolution.fp32_precision == before


def test_the_protocol_states_the_ignored_value_of_the_data(model: Segmenter) -> None:
    class Other(Shapes):
        labels = LabelSet(SHAPES_LABELS.names, SHAPES_LABELS.palette, ignore_index=9)

        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample(sample.image, np.where(sample.mask == 255, np.uint8(9), sample.mask), sample.name)

    result = evaluate(model, Other(1, (40, 33), seed=5), size=65)
    assert result.protocol["ignore_index"] == 9
    assert result.confusion.tolist() == evaluate(model, DATA, size=65, limit=1).confusion.tolist()


def test_a_model_of_one_class_is_rejected() -> None:
    one = create_model("deeplabv3_mobilenet_v2", labels=LabelSet(("road",), ((0, 0, 0),)), width=0.35)
    with pytest.raises(ConfigError, match=r"one class, 'road'.*right by definition"):
        evaluate(one, DATA, size=65)


def test_options_are_an_object_or_names_and_a_predictor_has_its_own(model: Segmenter) -> None:
    options = InferenceOptions(size=65, output_stride=8, flip=True)
    result = evaluate(model, DATA, options)
    named = evaluate(model, DATA, size=65, output_stride=8, flip=True)
    own = evaluate(Predictor.of(model, options), DATA)
    assert result.confusion.tolist() == named.confusion.tolist() == own.confusion.tolist()
    assert result.protocol == named.protocol == own.protocol
    assert [result.protocol[key] for key in ("output_stride", "backend", "precision")] == [8, "torch", "float32"]
    with pytest.raises(ConfigError, match=r"the predictor has its own; leave them out"):
        evaluate(Predictor(model, size=65), DATA, options)
    with pytest.raises(ConfigError, match=r"output_stride 7 is not possible"):
        InferenceOptions(output_stride=7)
    model.set_output_stride(16)


def test_evaluation_keeps_the_models_mode_and_weights(model: Segmenter) -> None:
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evaluate(model, DATA, size=65, limit=1)
    assert model.training
    after = model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def test_each_layer_keeps_its_own_mode(model: Segmenter) -> None:
    trained = copy.deepcopy(model).train()
    trained.backbone.eval()  # as norms that were frozen by hand
    modes = [module.training for module in trained.modules()]
    evaluate(trained, DATA, size=65, limit=1)
    assert [module.training for module in trained.modules()] == modes


def test_masks_are_written_as_predicted(model: Segmenter, tmp_path: Path) -> None:
    calls: list[None] = []
    result = evaluate(model, DATA, size=65, limit=2, masks_out=tmp_path, progress=lambda: calls.append(None))
    assert len(calls) == result.images == 2
    assert sorted(p.stem for p in tmp_path.iterdir()) == [DATA[0].name, DATA[3].name], "evenly over the set"
    model.eval()
    written = read_mask(tmp_path / f"{DATA[3].name}.png", SHAPES_LABELS)
    assert np.array_equal(written, predict_labels(model, DATA[3].image, size=65))


def test_masks_with_the_same_name_are_rejected_first(model: Segmenter, tmp_path: Path) -> None:
    class Twins(Shapes):
        @property
        def names(self) -> list[str]:
            return ["a/x", "b/x", "a/x", "b"]

        def __getitem__(self, index: int) -> Sample:
            return pytest.fail("work began")

    with pytest.raises(ConfigError, match=r"masks of several images would be a/x\.png \(1 such names\); rename"):
        evaluate(model, Twins(4, (40, 33), seed=5), size=65, masks_out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_json_has_the_stated_keys_and_values(model: Segmenter, tmp_path: Path) -> None:
    result = evaluate(model, DATA, size=65, multi_scale=(0.5, 1.0), flip=True, limit=1)
    result.write_json(tmp_path / "r.json")
    values = json.loads((tmp_path / "r.json").read_text())
    assert {"miou", "iou", "confusion", "images", "protocol"} <= set(values)
    assert values["protocol"]["scales"] == [0.5, 1.0]
    assert values["protocol"]["flip"] is True
    assert list(values["iou"]) == list(SHAPES_LABELS.names)
    assert values["network"]["name"] == "deeplabv3_mobilenet_v2"


def test_a_name_with_a_bar_stays_in_its_cell() -> None:
    labels = LabelSet(("bare", "tree|shrub"), voc_palette(2))
    table = Evaluation(torch.tensor([[6, 2], [1, 1]]), labels, 1, protocol={}, network={}).to_markdown()
    assert "| tree\\|shrub | 25.00 |" in table


def test_masks_without_a_class_are_rejected(model: Segmenter) -> None:
    class Ignored(Shapes):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample(sample.image, np.full_like(sample.mask, 255), sample.name)

    with pytest.raises(DatasetError, match=r"all pixels of 1 image are ignored \(255\)"):
        evaluate(model, Ignored(4, (40, 33), seed=5), size=65, limit=1)


def test_absent_classes_have_no_iou_and_only_predicted_ones_have_zero() -> None:
    labels = LabelSet.numbered(3)
    confusion = torch.tensor([[6, 2, 0], [0, 0, 0], [0, 0, 0]])
    result = Evaluation(confusion, labels, 1, protocol={}, network={})
    assert result.iou == {"class_0": 75.0, "class_1": 0.0, "class_2": None}
    assert result.miou == 37.5
    assert result.accuracy == 75.0
    assert "absent" in result.to_markdown()
    assert "class_1, class_2" in result.to_markdown()
    empty = Evaluation(torch.zeros(3, 3, dtype=torch.int64), labels, 0, protocol={}, network={})
    assert math.isnan(empty.miou)
    assert empty.to_dict()["miou"] is None


def test_another_order_of_classes_is_rejected_and_numbers_fit(model: Segmenter) -> None:
    names = SHAPES_LABELS.names
    swapped = LabelSet((*names[:3], names[4], names[3]), SHAPES_LABELS.palette)
    other = create_model("deeplabv3_mobilenet_v2", labels=swapped, width=0.35)
    with pytest.raises(ConfigError, match=f"same classes in another order.*class 3 is '{names[3]}'"):
        evaluate(other, DATA, size=65, limit=1)
    unnamed = create_model("deeplabv3_mobilenet_v2", num_classes=len(names), width=0.35)
    assert evaluate(unnamed, DATA, size=65, limit=1).images == 1


class Broken(Shapes):
    def __getitem__(self, index: int, /) -> Sample:
        sample = super().__getitem__(index)
        sample.mask[0, 0] = 77
        return sample


def test_mistakes_are_reported(model: Segmenter) -> None:
    with pytest.raises(ConfigError, match="5 in the data set, 21 in the model"):
        evaluate(create_model("deeplabv3_mobilenet_v2", width=0.35), DATA)
    with pytest.raises(ConfigError, match="limit 0"):
        evaluate(model, DATA, limit=0)
    with pytest.raises(DatasetError, match=r"shapes_5_000000.*77"):
        evaluate(model, Broken(2, (40, 33), seed=5), size=65)
