from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

import segmnv2
from segmnv2.cli import main
from segmnv2.detection import create_detector, load_detector, save_detector
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.evaluation.segmenters import describe_network
from segmnv2.hub.by_name import from_pretrained
from segmnv2.hub.publish import push_to_hub, save_pretrained
from segmnv2.hub.resolve import resolve_weights
from segmnv2.models.segmenter import Segmenter
from tests.hub.hub_server import Hub

NAME = "someone/net"
EVALUATION: dict[str, Any] = {
    "miou": 71.234,
    "images": 12,
    "protocol": {"dataset": "voc", "split": "val", "scales": [1.0], "flip": False, "root": "/home/someone/data"},
}


def same(one: Any, other: Any) -> bool:
    pixels = torch.randint(0, 256, (1, 3, 49, 65), dtype=torch.uint8)
    with torch.no_grad():
        return torch.equal(one(pixels), other(pixels))


def push(source: Any, **options: Any) -> str:
    return push_to_hub(source, NAME, license="apache-2.0", token="hf_token", **options)


def test_what_is_pushed_is_what_is_loaded(hub: Hub, model: Segmenter) -> None:
    address = push(model, evaluation=EVALUATION)
    assert address == f"{hub.url}/{NAME}/commit/{hub.commits[NAME][-1][0]}"
    assert hub.commits[NAME][-1][1].keys() == {"README.md", "config.json", "model.safetensors"}
    again = from_pretrained(NAME)
    assert isinstance(again, Segmenter)
    assert not again.training
    assert again.labels == model.labels
    assert same(again, model)
    assert from_pretrained(NAME, output_stride=8).output_stride == 8


def test_a_revision_is_loaded_by_its_commit(hub: Hub, model: Segmenter) -> None:
    push(model)
    first = hub.commits[NAME][-1][0]
    other = segmnv2.create_model("deeplabv3_mobilenet_v2", num_classes=3, width=0.35).eval()
    push(other)
    assert same(from_pretrained(NAME, revision=first), model)
    assert same(from_pretrained(f"{NAME}@{first}"), model)
    assert same(from_pretrained(NAME), other)


def test_the_card_tells_protocol_figures_and_costs(model: Segmenter, tmp_path: Path) -> None:
    evaluation = {**EVALUATION, "network": describe_network(model)}
    folder = save_pretrained(model, tmp_path / "repo", name=NAME, license="apache-2.0", evaluation=evaluation)
    card = ModelCard.load(folder / "README.md")
    (result,) = card.data.eval_results
    assert (result.metric_value, result.metric_type, result.dataset_name) == (71.23, "mean_iou", "voc val")
    assert result.metric_name == "mIOU on 12 images"
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "apache-2.0",
        "segmnv2",
        "image-segmentation",
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for part in ("mIOU 71.23 % on 12 images", "| split | val |", f"{parameters:,}", "multiply-adds", f'"{NAME}"'):
        assert part in card.text
    assert "/home/someone" not in card.text
    config = json.loads((folder / "config.json").read_text())
    assert (config["kind"], config["architecture"]["name"]) == ("model", "deeplabv3_mobilenet_v2")
    assert "These weights come without an evaluation" in (
        save_pretrained(model, tmp_path / "bare", name=NAME, license="mit") / "README.md"
    ).read_text(encoding="utf-8")


def test_every_kind_of_file_has_a_card(tmp_path: Path, hub: Hub) -> None:
    classifier = segmnv2.create_classifier("mobilenet_v2", width=0.35, num_classes=4).eval()
    push(classifier)
    assert same(from_pretrained(NAME), classifier)
    detector = create_detector("ssdlite", class_names={1: "a"}, size=96, backbone_options={"width": 0.35})
    path = save_detector(tmp_path / "d.safetensors", detector)
    push(path, evaluation={"ap": 1.5, "images": 3, "protocol": {"dataset": "coco"}})
    card = hub.commits[NAME][-1][1]["README.md"].decode()
    assert "`ssdlite on mobilenet_v2` of segmnv2, a detector." in card
    assert "AP 1.50 % on 3 images" in card
    again = load_detector(segmnv2.resolve_weights(NAME))
    assert again.architecture == detector.architecture
    with pytest.raises(WeightsError, match="holds a detector, not a segmentation model"):
        from_pretrained(NAME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 128}, "size is 128 there, 96 in the weights"),
        ({"score_thresh": 0.5}, 'options is {"score_thresh": 0.5} there, {} in the weights'),
        ({"class_names": {1: "ship", 2: "tree"}}, "its classes are ship, tree, not cat, dog"),
    ],
)
def test_an_evaluation_of_another_detector_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    own: dict[str, Any] = {"class_names": {1: "cat", 2: "dog"}, "size": 96, "backbone_options": {"width": 0.35}}
    path = save_detector(tmp_path / "d.safetensors", create_detector("ssdlite", **own))
    measured = create_detector("ssdlite", **{**own, **change}).architecture.to_dict()
    classes = dict.fromkeys(measured.pop("class_names").values(), 1.5)
    evaluation = {"ap": 1.5, "images": 3, "protocol": {"dataset": "coco"}, "classes": classes, "network": measured}
    with pytest.raises(ConfigError, match=f"the evaluation is of another model: {message}"):
        save_pretrained(path, tmp_path / "repo", name=NAME, license="mit", evaluation=evaluation)


def test_a_folder_that_was_changed_is_refused(model: Segmenter, tmp_path: Path) -> None:
    folder = save_pretrained(model, tmp_path, name=NAME, license="mit")
    assert same(from_pretrained(folder), model)
    with pytest.raises(ConfigError, match=r"revision 'v2': .* is a local folder"):
        from_pretrained(folder, revision="v2")
    weights = folder / "model.safetensors"
    assert resolve_weights(folder) == weights
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(WeightsError, match=r"its SHA-256 is .*, not .*write or copy the folder again"):
        from_pretrained(folder)
    with pytest.raises(WeightsError, match=r"its SHA-256 is .*, not .*write or copy the folder again"):
        resolve_weights(folder)
    config = folder / "config.json"
    stated = json.loads(config.read_text())
    config.write_text(json.dumps({**stated, "sha256": None}))
    with pytest.raises(WeightsError, match=r"config\.json: has no sha256 of the weights"):
        from_pretrained(folder)
    config.write_text(json.dumps(stated))
    weights.unlink()
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        from_pretrained(folder)


def test_the_hubs_refusal_is_told(hub: Hub, model: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: None)
    with pytest.raises(WeightsError, match=r"someone/net: cannot be written on the Hugging Face Hub .*check the name"):
        push_to_hub(model, NAME, license="mit")
    assert hub.commits == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "net"}, "repository 'net' is not possible; give owner/name"),
        ({"evaluation": {"top1": 3}}, "has no miou with its protocol"),
        ({"evaluation": {**EVALUATION, "miou": 101}}, "has no miou with its protocol"),
        (
            {"evaluation": {**EVALUATION, "network": {"name": "deeplabv3_resnet101"}}},
            'of another model: name is "deeplabv3_resnet101" there, "deeplabv3_mobilenet_v2" in the weights',
        ),
        ({"evaluation": {**EVALUATION, "network": {"num_classes": 99}}}, "num_classes is 99 there"),
        (
            {"evaluation": {**EVALUATION, "network": {"name": "deeplabv3_mobilenet_v2", "head": {"refinements": 1}}}},
            'head is {"refinements": 1} there, null in the weights',
        ),
        ({"evaluation": {**EVALUATION, "iou": {"road": 50.0, "tree": None}}}, "its classes are road, tree, not "),
        ({"evaluation": "nowhere.json"}, "there is no such file; give a file of `segmnv2 evaluate --json`"),
    ],
)
def test_values_that_are_not_possible_are_named(
    model: Segmenter, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        save_pretrained(model, tmp_path / "repo", **{"name": NAME, "license": "mit", **options})
    assert not (tmp_path / "repo").exists()


def test_the_command_pushes_or_shows_what_it_would(
    hub: Hub, model: Segmenter, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: "hf_token")
    weights = str(segmnv2.save_model(tmp_path / "m.safetensors", model))
    (tmp_path / "e.json").write_text(json.dumps(EVALUATION))
    words = ["push", weights, NAME, "--license", "mit", "--evaluation", str(tmp_path / "e.json")]
    assert main([*words, "--dry-run", str(tmp_path / "repo")]) == 0
    assert hub.requests == []
    assert (tmp_path / "repo" / "README.md").is_file()
    assert main(words) == 0
    assert f"{NAME}/commit/" in capsys.readouterr().out
    shown = {path.name: path.read_bytes() for path in (tmp_path / "repo").glob("[!.]*")}
    assert hub.commits[NAME][-1][1] == shown
    card = tmp_path / "repo" / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + "\nA line of my own.\n", encoding="utf-8")
    assert main(["push", str(tmp_path / "repo"), NAME]) == 0
    assert hub.commits[NAME][-1][1]["README.md"] == card.read_bytes(), "a folder is pushed as it was looked at"
    capsys.readouterr()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "README.md").write_text("mine")
    for words, message in (
        (["push", weights, NAME, "--license", "mit", "--dry-run", str(tmp_path / "own")], "segmnv2 did not write it"),
        (["push", str(tmp_path / "repo"), NAME, "--license", "mit"], "is a folder whose card already states"),
        (["push", weights, NAME], "license is missing"),
        (["push", weights, NAME, "--dry-run", str(tmp_path / "z")], "--license is missing"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["README.md"], "nothing is half-written"
    assert main(["push", str(tmp_path / "none.safetensors"), NAME, "--license", "mit"]) == 2
    assert "there is no such file" in capsys.readouterr().err
