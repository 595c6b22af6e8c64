"""Folders in the format of the Hugging Face Hub, and their upload."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segmnv2.errors import ConfigError, WeightsError
from segmnv2.files.atomic import atomic_path
from segmnv2.files.checksum import file_sha256
from segmnv2.files.documents import dump_json, read_json
from segmnv2.files.ownership import check_replaceable
from segmnv2.hub.hugging_face import CONFIG, LIBRARY, WEIGHTS, check_weights
from segmnv2.hub.model_card import build_card
from segmnv2.hub.resolve import resolve_weights
from segmnv2.models.classifier import Classifier, load_classifier, save_classifier
from segmnv2.models.cost import count_parameters, trace_madds
from segmnv2.models.model_file import load_model, read_model_file, save_model
from segmnv2.models.segmenter import Segmenter

FORMAT = 1
CARD = "README.md"
SIZE = 513
"""Side in pixels of the image for which multiply-adds are counted."""

Source = Segmenter | Classifier | str | Path


def save_pretrained(
    source: Source,
    folder: str | Path,
    *,
    name: str,
    license: str,
    evaluation: Mapping[str, Any] | str | Path | None = None,
) -> Path:
    """Write the files of a repository on the Hub: ``model.safetensors``, ``config.json`` and the card ``README.md``.

    Args:
        source: a model that was built by name, or a file of any kind that this library wrote.
        folder: the folder, which is created if necessary. Existing files of these names are replaced.
        name: ``owner/name`` of the repository, for the card.
        license: identifier of the weights' license, such as ``apache-2.0``.
        evaluation: result of ``segmnv2 evaluate --json``, or its file. The card shows its protocol and figures.

    Returns:
        The folder.

    Raises:
        ConfigError: the model was not built by name, the evaluation does not fit, or the name is not that of a
            repository.
        WeightsError: the file cannot be read, or the folder cannot be written.
    """
    if name.count("/") != 1 or not all(name.split("/")):
        raise ConfigError(f"repository {name!r} is not possible; give owner/name")
    evaluated = _read_evaluation(evaluation)
    folder = Path(folder)
    check_replaceable(folder / file for file in (WEIGHTS, CONFIG, CARD))
    try:
        with tempfile.TemporaryDirectory() as temporary:
            weights = _weights_file(source, Path(temporary))
            texts = _describe(weights, name, license, evaluated)
            if weights.resolve() != (folder / WEIGHTS).resolve():
                with atomic_path(folder / WEIGHTS) as partial:
                    shutil.copyfile(weights, partial)
        for file, text in texts.items():
            with atomic_path(folder / file) as partial:
                partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be written ({error}); choose a folder with space and access") from error
    return folder


def push_to_hub(
    source: Source,
    name: str,
    *,
    license: str | None = None,
    evaluation: Mapping[str, Any] | str | Path | None = None,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    message: str = "Upload weights of segmnv2",
) -> str:
    """Write a repository on the Hugging Face Hub in one commit, and create it if necessary.

    Args:
        source: as for :func:`save_pretrained`, or a folder that it wrote, which is uploaded unchanged.
        name: ``owner/name``.
        license: as for :func:`save_pretrained`; not for a folder, which already has one.
        evaluation: as for :func:`save_pretrained`; not for a folder.
        private: whether a new repository is private.
        revision: branch; the main one by default.
        token: token of the Hub's user; by default the one that ``hf auth login`` stores.
        message: message of the commit.

    Returns:
        URL of the commit.

    Raises:
        ConfigError: as for :func:`save_pretrained`, or the license is missing, or is given for a folder.
        WeightsError: the file or folder cannot be read, or the Hub rejects the upload or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    with tempfile.TemporaryDirectory() as temporary:
        folder = _folder_to_push(source, Path(temporary), name, license, evaluation)
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
        try:
            api.create_repo(name, private=private, exist_ok=True)
            operations = [CommitOperationAdd(file, folder / file) for file in (CARD, CONFIG, WEIGHTS)]
            commit = api.create_commit(name, operations, revision=revision, commit_message=message)
        except Exception as error:  # the client's versions use different HTTP libraries
            reason = " ".join(str(error).split())
            raise WeightsError(
                f"{name}: cannot be written on the Hugging Face Hub ({reason}); check the name, the connection and the "
                "token (`hf auth login`, with write permission)"
            ) from error
    return str(commit.commit_url)


def _folder_to_push(
    source: Source,
    temporary: Path,
    name: str,
    license: str | None,
    evaluation: Mapping[str, Any] | str | Path | None,
) -> Path:
    if isinstance(source, str | Path) and Path(source).is_dir():
        if license is not None or evaluation is not None:
            raise ConfigError(
                f"{source}: is a folder whose card already states license and evaluation; change them in the card, or "
                "push the file"
            )
        fault = check_weights(Path(source))
        if fault is None and not (Path(source) / CARD).is_file():
            fault = f"{source}: has no {CARD}"
        if fault:
            raise WeightsError(f"{fault}; write the folder again")
        return Path(source)
    if license is None:
        raise ConfigError("license is missing; give its identifier, such as apache-2.0 (--license)")
    return save_pretrained(source, temporary, name=name, license=license, evaluation=evaluation)


def _weights_file(source: Source, temporary: Path) -> Path:
    """Return the file of weights; a model is written to a file in the temporary folder first."""
    if isinstance(source, Segmenter):
        return save_model(temporary / WEIGHTS, source)
    if isinstance(source, Classifier):
        return save_classifier(temporary / WEIGHTS, source)
    return resolve_weights(source)


def _describe(weights: Path, name: str, license: str, evaluation: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the texts of ``config.json`` and of the card."""
    metadata = read_model_file(weights)[1]
    config: dict[str, Any] = {
        "library_name": LIBRARY,
        "format": FORMAT,
        **{key: metadata[key] for key in ("kind", "architecture", "normalization", "labels") if key in metadata},
        "sha256": file_sha256(weights),
        "size": weights.stat().st_size,
    }
    card = build_card(
        name,
        config,
        _costs(weights, str(config["kind"])),
        license=license,
        evaluation=evaluation,
        provenance=metadata.get("provenance") or {},
    )
    return {CONFIG: dump_json(config, indent=1) + "\n", CARD: card}


def _costs(path: Path, kind: str) -> dict[str, str]:
    """Return the rows of the table of costs: parameters, and for segmentation models multiply-adds and classes."""
    if kind == Segmenter.kind:
        model = load_model(path)
        madds = trace_madds(model, (SIZE, SIZE)).plain
        return {
            "parameters": f"{count_parameters(model):,}",
            "multiply-adds": f"{madds / 1e9:.2f} B at {SIZE} x {SIZE}, output stride {model.output_stride}",
            "classes": ", ".join(model.labels.names),
        }
    if kind == Classifier.kind:
        return {"parameters": f"{count_parameters(load_classifier(path)):,}"}
    tensors = read_model_file(path)[0]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return {"parameters": f"{sum(t.numel() for name, t in tensors.items() if not name.endswith(statistics)):,}"}


def _read_evaluation(evaluation: Mapping[str, Any] | str | Path | None) -> Mapping[str, Any] | None:
    if evaluation is None or isinstance(evaluation, Mapping):
        return evaluation
    values = read_json(evaluation, "give a file of `segmnv2 evaluate --json`", ConfigError)
    if not isinstance(values, dict):
        raise ConfigError(f"{evaluation}: is not an evaluation; give a file of `segmnv2 evaluate --json`")
    return values
