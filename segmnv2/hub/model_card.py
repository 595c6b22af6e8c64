"""Model cards of repositories: the model, its evaluation and its use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from segmnv2.errors import ConfigError
from segmnv2.files.documents import dump_json

TASKS = {
    "model": ("image-segmentation", "mean_iou", "mIOU", "miou"),
    "classifier": ("image-classification", "accuracy", "top-1 accuracy", "top1"),
    "detector": ("object-detection", "mean_average_precision", "AP", "ap"),
}
"""Kind of file -> the Hub's names of task and metric, the metric for people, and its key in an evaluation."""

USES = {
    "model": 'import segmnv2\n\nmodel = segmnv2.from_pretrained("{name}")\n'
    "logits = model(pixels)  # (B, 3, H, W), RGB 0..255",
    "classifier": 'import segmnv2\n\nclassifier = segmnv2.from_pretrained("{name}")',
    "backbone": 'import segmnv2\n\nmodel = segmnv2.create_model("deeplabv3_{network}", backbone_weights="{name}")',
    "detector": 'import segmnv2\n\ndetector = segmnv2.detection.load_detector("{name}")',
}
"""Kind of file -> Python example."""


def build_card(
    name: str,
    config: Mapping[str, Any],
    costs: Mapping[str, str],
    *,
    license: str,
    evaluation: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
) -> str:
    """Return the text of a card, which starts with the Hub's metadata.

    Args:
        name: ``owner/name`` of the repository.
        config: content of ``config.json``.
        costs: rows of the table of costs.
        license: identifier of the license.
        evaluation: result of ``segmnv2 evaluate --json``.
        provenance: origin of the weights, from the metadata of their file.

    Raises:
        ConfigError: the evaluation is of another model, or lacks its protocol.
    """
    from huggingface_hub import ModelCardData

    kind, network = str(config["kind"]), str(config["architecture"]["name"])
    detector = config["architecture"].get("detector")
    title = f"{detector} on {network}" if detector else network
    task = TASKS.get(kind)
    data = ModelCardData(
        license=license,
        library_name="segmnv2",
        tags=["segmnv2", network, *([detector] if detector else []), *([task[0]] if task else [])],
        pipeline_tag=task[0] if task else None,
        **_results(name, config, evaluation),
    )
    parts = [f"---\n{data.to_yaml()}\n---", f"# {name.split('/')[-1]}", f"`{title}` of segmnv2, a {_word(kind)}."]
    parts += [card_table(("", ""), costs), *_evaluation_text(kind, evaluation)]
    parts.append(f"## Use\n\n```python\n{USES[kind].format(name=name, network=network)}\n```")
    if kind in ("model", "detector"):
        parts.append(f"    segmnv2 infer images --weights {name} --out results")
    if provenance:
        rows = {key: shorten(value) for key, value in provenance.items() if key != "experiment"}
        parts.append("## Where the weights come from\n\n" + card_table(("", ""), rows))
    if "experiment" in provenance:
        parts.append("The metadata of `model.safetensors` contains the whole experiment of the training.")
    return "\n\n".join(parts) + "\n"


def _results(name: str, config: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    from huggingface_hub import EvalResult

    if evaluation is None:
        return {}
    kind = str(config["kind"])
    if kind not in TASKS:
        raise ConfigError(f"an evaluation was given for a {kind}, which cannot be evaluated; leave it out")
    task, metric, words, key = TASKS[kind]
    value, protocol = evaluation.get(key), evaluation.get("protocol")
    if not _is_percentage(value) or not isinstance(protocol, dict):
        raise ConfigError(
            f"the evaluation has no {key} with its protocol; give the file of `segmnv2 evaluate --json` for a "
            f"{_word(kind)}"
        )
    _check_network(config["architecture"], evaluation.get("network"))
    _check_classes(_class_names(config), evaluation.get("iou" if kind == "model" else "classes"))
    dataset = str(protocol.get("dataset", "unknown"))
    split = protocol.get("split")
    result = EvalResult(
        task_type=task,
        dataset_type=dataset,
        dataset_name=f"{dataset} {split}" if split else dataset,
        dataset_split=None if split is None else str(split),
        metric_type=metric,
        metric_name=f"{words} on {evaluation.get('images')} images",  # it may be a part of the split
        metric_value=round(float(value), 2),
    )
    return {"model_name": name.split("/")[-1], "eval_results": [result]}


def _is_percentage(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def _check_network(own: Mapping[str, Any], evaluated: Any) -> None:
    if not isinstance(evaluated, dict):
        return
    for key in ("detector", "name", "num_classes", "class_names", "size", "backbone", "head", "options"):
        mine, theirs = (dump_json(model.get(key)) for model in (own, evaluated))
        stated = key in evaluated or (key == "head" and "name" in evaluated)  # a head without options is omitted
        if stated and mine != theirs:
            raise ConfigError(
                f"the evaluation is of another model: {key} is {theirs:.80} there, {mine:.80} in the weights; evaluate "
                "these weights"
            )


def _class_names(config: Mapping[str, Any]) -> list[str]:
    names = config["labels"]["names"] if "labels" in config else config["architecture"]["class_names"]
    return list(names.values() if isinstance(names, dict) else names)


def _check_classes(names: list[str], measured: Any) -> None:
    """Check that an evaluation has figures of exactly the model's classes."""
    if isinstance(measured, dict) and list(measured) != names:
        raise ConfigError(
            f"the evaluation is of another model: its classes are {', '.join(measured):.80}, not "
            f"{', '.join(names):.80}; evaluate these weights"
        )


def _evaluation_text(kind: str, evaluation: Mapping[str, Any] | None) -> list[str]:
    if evaluation is None:
        return ["These weights come without an evaluation."]
    *_, words, key = TASKS[kind]
    images = evaluation.get("images")
    sentence = (
        f"{words} {float(evaluation[key]):.2f} % on {images} images, measured by `segmnv2 evaluate` with this protocol:"
    )
    rows = {name: shorten(value) for name, value in evaluation["protocol"].items() if name != "root"}
    return ["## Evaluation", sentence, card_table(("", ""), rows)]


def card_table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    """Return a Markdown table of two columns."""
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {key} | {value} |" for key, value in rows.items())])


def shorten(value: object) -> str:
    """Return a value as one line of a table cell."""
    text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    text = " ".join(text.replace("|", "/").split())
    return text if len(text) <= 200 else text[:200] + "..."


def _word(kind: str) -> str:
    return {"model": "segmentation model", "backbone": "backbone without a head"}.get(kind, kind)
