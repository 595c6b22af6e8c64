from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from segmnv2.backbones.backbone import create_backbone
from segmnv2.conversion.convert import import_checkpoint
from segmnv2.conversion.import_hugging_face import _read_normalization
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.labels import VOC_LABELS, LabelSet
from segmnv2.models.model_file import load_backbone_weights, load_model, load_weights, read_model_file
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model
from segmnv2.weights.key_tables import (
    TENSORFLOW,
    TENSORFLOW_MOBILENET_V1,
    TENSORFLOW_RESNET101,
    TENSORFLOW_RESNET101_7X7,
    KeyTable,
)
from segmnv2.weights.loading import FREE_SUFFIXES
from tests.weights.tensor_bundle_writer import write_checkpoint


def small(**options: Any) -> Segmenter:
    torch.manual_seed(3)
    model = create_model(options.pop("name", "deeplabv3_mobilenet_v2_aspp"), width=0.35, **options)
    for value in model.state_dict().values():
        if value.is_floating_point() and value.dim() == 1:
            value.uniform_(0.5, 1.5)
    return model.eval()


def as_tensorflow(model: Segmenter, table: KeyTable = TENSORFLOW) -> dict[str, Tensor]:
    """The network's tensors under TensorFlow's names, in its order of axes."""
    state = {k: v for k, v in model.state_dict().items() if not k.endswith(FREE_SUFFIXES)}
    tensors = {}
    for ours, theirs in table.theirs(state).items():
        value = state[ours]
        if value.dim() == 4:
            value = value.permute(2, 3, 0, 1) if "depthwise_weights" in theirs else value.permute(2, 3, 1, 0)
        tensors[theirs] = value.contiguous()
    return tensors


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v2", "deeplabv3_mobilenet_v2_aspp"])
def test_a_tensorflow_checkpoint_becomes_the_network_it_was(tmp_path: Path, name: str) -> None:
    model = small(name=name, num_classes=4)
    tensors = as_tensorflow(model)
    slots = {f"{k}/Momentum": v for k, v in tensors.items()}
    write_checkpoint(tmp_path / "model.ckpt-7", {**tensors, **slots, "global_step": torch.tensor(7)})
    report = import_checkpoint(tmp_path, tmp_path / "out.safetensors")
    assert report.used == len(tensors)
    assert report.skipped == {"momentum": len(tensors), "global step": 1}
    back = load_model(tmp_path / "out.safetensors")
    pixels = torch.randint(0, 256, (1, 3, 49, 33), dtype=torch.uint8)
    assert torch.equal(back(pixels), model(pixels))
    provenance = read_model_file(report.path)[1]["provenance"]
    assert provenance["global_step"] == 7
    assert set(provenance["sha256"]) == {"model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001"}


V1 = ("mobilenet_v1", TENSORFLOW_MOBILENET_V1, {"width": 0.25}, "MobilenetV1/Logits/Conv2d_1c_1x1/weights")
RESNET: tuple[Any, ...] = ("resnet101", TENSORFLOW_RESNET101, {}, "resnet_v1_101/logits/weights")
RESNET_7X7 = ("resnet101", TENSORFLOW_RESNET101_7X7, {"stem": "7x7"}, "resnet_v1_101/logits/weights")


@pytest.mark.parametrize(("backbone", "table", "options", "_classifier"), [V1, RESNET, RESNET_7X7])
def test_deeplabs_other_networks_become_what_they_were(
    tmp_path: Path, backbone: str, table: KeyTable, options: dict[str, Any], _classifier: str
) -> None:
    model = create_model(f"deeplabv3_{backbone}", num_classes=3, **options)
    tensors = as_tensorflow(model, table)
    assert len(tensors) == len([k for k in model.state_dict() if not k.endswith(FREE_SUFFIXES)])
    write_checkpoint(tmp_path / "deeplab.ckpt", tensors)
    back = load_model(import_checkpoint(tmp_path / "deeplab.ckpt", tmp_path / "m.safetensors").path)
    assert back.normalization.mean == ((123.15, 115.9, 103.06) if options.get("stem") == "7x7" else 3 * (127.5,))
    state = back.state_dict()
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items() if not k.endswith(FREE_SUFFIXES))


@pytest.mark.parametrize(("backbone", "table", "options", "classifier"), [V1, RESNET_7X7])
def test_slims_other_classifiers_become_backbones(
    tmp_path: Path, backbone: str, table: KeyTable, options: dict[str, Any], classifier: str
) -> None:
    model = create_model(f"deeplabv3_{backbone}", num_classes=3, **options)
    head = ("aspp0", "concat_projection", "image_pooling", "logits/")
    tensors = {name: value for name, value in as_tensorflow(model, table).items() if not name.startswith(head)}
    write_checkpoint(tmp_path / "slim.ckpt", {**tensors, classifier: torch.zeros(2, 2)})
    report = import_checkpoint(tmp_path / "slim.ckpt", tmp_path / "b.safetensors")
    assert (report.kind, report.used, report.skipped) == ("backbone", len(tensors), {"ImageNet classifier": 1})
    architecture = read_model_file(report.path)[1]["architecture"]
    undilated = {"multi_grid": [1, 1, 1]} if backbone == "resnet101" else {}
    assert (architecture["name"], architecture["backbone"]) == (backbone, {**options, **undilated})
    fresh = create_model(f"deeplabv3_{backbone}", backbone_weights=report.path, **options)
    own = model.backbone.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in fresh.backbone.state_dict().items())
    expected = (123.68, 116.779, 103.939) if options.get("stem") == "7x7" else (127.5, 127.5, 127.5)
    assert fresh.normalization.mean == expected


def test_a_width_that_no_network_has_and_a_network_that_is_not_known(tmp_path: Path) -> None:
    model = create_model("deeplabv3_mobilenet_v1", num_classes=3, width=0.25)
    tensors = as_tensorflow(model, TENSORFLOW_MOBILENET_V1)
    name = "MobilenetV1/Conv2d_3_pointwise/weights"
    write_checkpoint(tmp_path / "odd.ckpt", {**tensors, name: tensors[name][..., :-1].contiguous()})
    with pytest.raises(WeightsError, match=r"32, 31, 64.*0\.25, 0\.5, 0\.75, 1\.0 gives; only MobileNetV1"):
        import_checkpoint(tmp_path / "odd.ckpt", tmp_path / "x.safetensors")
    write_checkpoint(tmp_path / "less.ckpt", {k: v for k, v in tensors.items() if k != name})
    with pytest.raises(WeightsError, match=f"variable '{name}' is not among"):
        import_checkpoint(tmp_path / "less.ckpt", tmp_path / "x.safetensors")
    write_checkpoint(tmp_path / "xception.ckpt", {"xception_65/entry_flow/conv1_1/weights": torch.zeros(1)})
    with pytest.raises(
        WeightsError, match=r"xception_65/entry_flow.*slim's or DeepLab's MobileNetV2, MobileNetV1, Res"
    ):
        import_checkpoint(tmp_path / "xception.ckpt", tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MobilenetV2/Conv/weights", torch.tensor(1.0), r"has shape \(\), not that of a convolution"),
        ("logits/semantic/weights", torch.zeros(1, 1, 256, 0), "has shape .1, 1, 256, 0., not that"),
        ("logits/semantic/biases", torch.zeros(2, dtype=torch.int32), "is of type torch.int32"),
    ],
)
def test_variables_of_other_shapes_and_types_are_named(tmp_path: Path, name: str, value: Tensor, message: str) -> None:
    write_checkpoint(tmp_path / "m.ckpt", {**as_tensorflow(small(num_classes=2)), name: value})
    with pytest.raises(WeightsError, match=f"m.ckpt: '{name}' {message}"):
        import_checkpoint(tmp_path / "m.ckpt", tmp_path / "out.safetensors")


def test_moving_averages_are_taken_on_request_only(tmp_path: Path) -> None:
    model = small(num_classes=2)
    tensors = as_tensorflow(model)
    twins = {f"{k}/ExponentialMovingAverage": v + 1 for k, v in tensors.items() if "/moving_" not in k}
    write_checkpoint(tmp_path / "model.ckpt", {**tensors, **twins})
    plain, averaged = (
        load_model(import_checkpoint(tmp_path, tmp_path / f"{ema}.safetensors", ema=ema).path).state_dict()
        for ema in (False, True)
    )
    for name, value in plain.items():
        shift = 0 if "running_" in name or name.endswith(FREE_SUFFIXES) else 1
        torch.testing.assert_close(averaged[name], value + shift)
    for twin in twins:
        write_checkpoint(tmp_path / "model.ckpt", {**tensors, **{k: v for k, v in twins.items() if k != twin}})
        with pytest.raises(WeightsError, match="without --ema"):
            import_checkpoint(tmp_path, tmp_path / "x.safetensors", ema=True)
        break


def test_what_is_missing_unexpected_or_misshapen_is_listed_and_nothing_written(tmp_path: Path) -> None:
    tensors = as_tensorflow(small(num_classes=2))
    tensors["MobilenetV2/Conv/BatchNorm/beta_twice"] = tensors.pop("MobilenetV2/Conv/BatchNorm/beta")
    tensors["aspp0/BatchNorm/gamma"] = torch.zeros(3)
    write_checkpoint(tmp_path / "model.ckpt", tensors)
    with pytest.raises(WeightsError) as caught:
        import_checkpoint(tmp_path / "model.ckpt", tmp_path / "out.safetensors")
    for part in ("backbone.stem.norm.bias", "beta_twice", "checkpoint (3,), model (256,)"):
        assert part in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_an_imagenet_checkpoint_becomes_a_backbone_that_starts_a_network(tmp_path: Path) -> None:
    backbone = create_backbone("mobilenet_v2", width=0.35, last_conv=True)
    whole = small(last_conv=True)
    whole.backbone.load_state_dict(backbone.state_dict())
    tensors = {k: v for k, v in as_tensorflow(whole).items() if k.startswith("MobilenetV2/")}
    tensors["MobilenetV2/Logits/Conv2d_1c_1x1/weights"] = torch.zeros(1, 1, 1280, 1001)
    write_checkpoint(tmp_path / "m.ckpt", tensors)
    with pytest.raises(ConfigError, match="holds a backbone, which has no classes to name"):
        import_checkpoint(tmp_path, tmp_path / "b.safetensors", labels=VOC_LABELS)
    report = import_checkpoint(tmp_path, tmp_path / "b.safetensors")
    assert (report.kind, report.skipped) == ("backbone", {"ImageNet classifier": 1})
    model = create_model("deeplabv3_mobilenet_v2", width=0.35)
    load_weights(model, report.path, backbone_only=True)
    assert torch.equal(model.backbone.state_dict()["stem.conv.weight"], backbone.state_dict()["stem.conv.weight"])


def test_another_network_is_told_apart(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "r.ckpt", {"resnet/conv1/weights": torch.zeros(7, 7, 3, 64)})
    with pytest.raises(WeightsError, match=r"no model that can be imported.*resnet/conv1/weights"):
        import_checkpoint(tmp_path, tmp_path / "x.safetensors")


def test_labels_must_be_as_many_as_the_classes(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m.ckpt", as_tensorflow(small(num_classes=2)))
    with pytest.raises(ConfigError, match="has 2 classes, the labels name 21"):
        import_checkpoint(tmp_path, tmp_path / "x.safetensors", labels=VOC_LABELS)
    named = LabelSet(("ground", "tree"), ((0, 0, 0), (0, 255, 0)))
    report = import_checkpoint(tmp_path, tmp_path / "x.safetensors", labels=named, output_stride=8)
    model = load_model(report.path)
    assert (model.labels, model.output_stride) == (named, 8)


def test_single_files_and_wrong_paths_get_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "model.h5").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"model\.h5.*folder with its config\.json"):
        import_checkpoint(tmp_path / "model.h5", tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="nowhere"):
        import_checkpoint(tmp_path / "nowhere", tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"owner/absent.*not a local file or folder, and not available from"):
        import_checkpoint("owner/absent", tmp_path / "x.safetensors")


@pytest.fixture(scope="module")
def transformers_network() -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(5)
    config = transformers.MobileNetV2Config(
        depth_multiplier=0.35, output_stride=16, tf_padding=True, id2label={0: "sky", 1: "sea", 2: "sand"}
    )
    network = transformers.MobileNetV2ForSemanticSegmentation(config).eval()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            spread = (0.5, 1.5) if name.endswith(("normalization.weight", "running_var")) else (-0.3, 0.3)
            value.uniform_(*spread)
    return network


@pytest.mark.parametrize("safe", [True, False])
def test_parity_with_transformers(tmp_path: Path, transformers_network: Any, safe: bool) -> None:
    """Even and odd sides: their TensorFlow padding is ours."""
    transformers_network.save_pretrained(tmp_path / "hf")
    if not safe:
        (tmp_path / "hf" / "model.safetensors").unlink()
        torch.save(transformers_network.state_dict(), tmp_path / "hf" / "pytorch_model.bin")
    report = import_checkpoint(tmp_path / "hf", tmp_path / "out.safetensors")
    assert report.skipped == {"tensors of the unused 1280-channel layer": 6}
    model = load_model(report.path)
    assert model.labels.names == ("sky", "sea", "sand")
    x = torch.rand(1, 3, 66, 97) * 2 - 1
    with torch.no_grad():
        theirs = transformers_network(pixel_values=x).logits
        ours = model.head([model.backbone(x)[-1]])
    assert theirs.abs().max() > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_their_preprocessing_becomes_our_normalization(tmp_path: Path, transformers_network: Any) -> None:
    transformers_network.save_pretrained(tmp_path)
    values = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 1.0]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    found = load_model(import_checkpoint(tmp_path, tmp_path / "o.safetensors").path).normalization
    assert found.mean == pytest.approx((25.5, 51.0, 76.5))
    assert found.std == pytest.approx((127.5, 63.75, 255.0))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"image_mean": [0.1, 0.2, 0.3]},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [100.0, 110.0, 120.0], "image_std": [50.0, 60.0, 70.0]},
        {"rescale_factor": 0.01},
        {"do_rescale": False, "do_normalize": False},
    ],
)
def test_pixels_are_what_their_processor_makes_of_them(values: dict[str, Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.MobileNetV2ImageProcessor(do_resize=False, do_center_crop=False, **values)
    processor.save_pretrained(tmp_path)
    image = np.random.default_rng(3).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    theirs = processor(image, return_tensors="pt")["pixel_values"]
    found = _read_normalization(tmp_path)
    ours = (torch.from_numpy(image).float() - torch.tensor(found.mean)) / torch.tensor(found.std)
    torch.testing.assert_close(ours.permute(2, 0, 1)[None], theirs.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("key", ["do_reduce_labels", "do_flip_channel_order"])
def test_a_processor_that_does_what_this_library_does_not_is_refused(key: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({key: True}))
    with pytest.raises(WeightsError, match=rf"{key} is True, which this library does not support; .*set it to false"):
        _read_normalization(tmp_path)


def test_their_ignored_id_is_ours_or_refused(tmp_path: Path, transformers_network: Any) -> None:
    transformers_network.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "semantic_loss_ignore_index": 9}))
    report = import_checkpoint(tmp_path, tmp_path / "o.safetensors")
    assert load_model(report.path).labels.ignore_index == 9
    assert "note: logits equal transformers' at sides of 32 k + 1" in str(report)
    (tmp_path / "config.json").write_text(json.dumps({**config, "semantic_loss_ignore_index": 0}))
    with pytest.raises(WeightsError, match="semantic_loss_ignore_index cannot be used"):
        import_checkpoint(tmp_path, tmp_path / "o.safetensors")


def test_their_classifiers_backbone_is_imported(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.MobileNetV2ForImageClassification(
        transformers.MobileNetV2Config(depth_multiplier=0.35)
    ).eval()
    theirs.save_pretrained(tmp_path)
    report = import_checkpoint(tmp_path, tmp_path / "o.safetensors")
    assert report.skipped == {"tensors of the ImageNet classifier": 2}
    backbone = create_backbone("mobilenet_v2", width=0.35, last_conv=True).eval()
    load_backbone_weights(backbone, "mobilenet_v2", {"width": 0.35, "last_conv": True}, report.path)
    x = torch.rand(1, 3, 65, 65)
    with torch.no_grad():
        expected = theirs.mobilenet_v2(x).last_hidden_state
        torch.testing.assert_close(backbone(x)[-1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["voc.tflite", "voc.onnx", "frozen_inference_graph.pb"])
def test_an_exported_file_is_called_so(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(WeightsError, match="is an exported file"):
        import_checkpoint(tmp_path / name, tmp_path / "o.safetensors")


def test_transformers_folders_that_do_not_fit_are_named(tmp_path: Path, transformers_network: Any) -> None:
    transformers_network.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"model_type": "resnet"}, "type 'resnet'"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"depth_multiplier": 0.5}, "of another shape"),
        ({"id2label": {"0": "a"}}, "of another shape"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(WeightsError, match=message):
            import_checkpoint(tmp_path, tmp_path / "o.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="JSON"):
        import_checkpoint(tmp_path, tmp_path / "o.safetensors")


def test_a_pickle_with_code_in_it_is_not_run(tmp_path: Path, transformers_network: Any) -> None:
    transformers_network.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"a": Path("x")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="holds more than tensors"):
        import_checkpoint(tmp_path, tmp_path / "o.safetensors")


def test_a_name_on_the_hub_is_taken_from_the_cache_when_there_is_no_network(
    tmp_path: Path, transformers_network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache's own layout: a branch names a commit, whose folder holds the files."""
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--owner--network"
    transformers_network.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    report = import_checkpoint("owner/network", tmp_path / "out.safetensors")
    assert load_model(report.path).labels.names == ("sky", "sea", "sand")
    assert read_model_file(report.path)[1]["provenance"]["source"] == "owner/network"


@pytest.mark.parametrize("step", [torch.zeros(2), torch.tensor(float("nan")), torch.zeros(0, dtype=torch.int64)])
def test_a_step_that_is_no_integer_is_refused(tmp_path: Path, step: Tensor) -> None:
    write_checkpoint(tmp_path / "model.ckpt", {**as_tensorflow(small(num_classes=2)), "global_step": step})
    with pytest.raises(WeightsError, match=r"global_step is .*, not an integer"):
        import_checkpoint(tmp_path, tmp_path / "out.safetensors")
