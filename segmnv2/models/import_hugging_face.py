"""transformers' ``MobileNetV2ForSemanticSegmentation``, from a local folder or the Hub; transformers is not needed."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segmnv2.errors import ConfigError, WeightsError
from segmnv2.labels import LabelSet, voc_palette
from segmnv2.models.architecture import Architecture
from segmnv2.models.catalogue import build_model
from segmnv2.models.import_source import Source
from segmnv2.models.normalization import TENSORFLOW_NORMALIZATION, Normalization
from segmnv2.weights.safetensors_file import read_safetensors
from segmnv2.weights.tables import HUGGING_FACE

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
DEFAULTS: dict[str, Any] = {
    "depth_multiplier": 1.0,
    "depth_divisible_by": 8,
    "expand_ratio": 6,
    "first_layer_is_expansion": True,
    "hidden_act": "relu6",
    "layer_norm_eps": 0.001,
    "output_stride": 32,
    "tf_padding": True,
}
"""Source: transformers' ``MobileNetV2Config``."""

NEEDED = {"expand_ratio": 6, "first_layer_is_expansion": True, "hidden_act": "relu6"}


def read_hugging_face(source: str | Path) -> Source:
    """Read a segmentation network of transformers.

    Its 1280-channel layer is left out: the segmentation head does not use it.

    Args:
        source: a folder with ``config.json`` and the weights, or ``owner/name`` on the Hub.

    Raises:
        WeightsError: there is none, a file is missing or damaged, or it is another kind of network.
    """
    folder = Path(source) if Path(source).is_dir() else download(str(source))
    config = read_json(folder / "config.json")
    kinds = config.get("architectures") or ["MobileNetV2ForSemanticSegmentation"]
    if config.get("model_type") != "mobilenet_v2" or "MobileNetV2ForSemanticSegmentation" not in kinds:
        raise WeightsError(
            f"{folder / 'config.json'}: describes {', '.join(kinds)} of type {config.get('model_type')!r}; only "
            "MobileNetV2ForSemanticSegmentation can be imported"
        )
    values = DEFAULTS | config
    wrong = {key: values[key] for key, needed in NEEDED.items() if values[key] != needed}
    if wrong:
        raise WeightsError(f"{folder / 'config.json'}: has {wrong}; this library's network has {NEEDED}")
    architecture = _describe(values)
    theirs, file = _read_weights(folder)
    with torch.device("meta"):
        names = HUGGING_FACE.ours(build_model(architecture).state_dict())
    unused = [n for n in theirs if n.startswith("mobilenet_v2.conv_1x1.")]
    tensors = {
        names.get(n, n): t for n, t in theirs.items() if n not in unused and not n.endswith("num_batches_tracked")
    }
    return Source(
        name=str(source),
        architecture=architecture,
        tensors=tensors,
        normalization=_read_normalization(folder),
        labels=_read_labels(values, folder),
        skipped={"tensors of the unused 1280-channel layer": len(unused)} if unused else {},
        provenance={
            "format": "transformers MobileNetV2ForSemanticSegmentation",
            "source": str(source) if not Path(source).is_dir() else folder.name,
            "sha256": {file.name: hashlib.sha256(file.read_bytes()).hexdigest()},
        },
    )


def download(name: str) -> Path:
    """Fetch the needed files of ``owner/name`` into the Hub's cache and return their folder.

    Raises:
        WeightsError: no such repository or file, or the Hub cannot be reached and the cache has no copy.
    """
    from huggingface_hub import snapshot_download

    patterns = ["config.json", "preprocessor_config.json", *WEIGHT_FILES]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (OSError, ValueError) as error:  # the Hub's own errors derive from these
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{name}: neither a file or folder here nor to be had from the Hugging Face Hub ({reason}); check the "
            "spelling of the path, or of owner/name"
        ) from error


def _describe(values: dict[str, Any]) -> Architecture:
    options = {
        "width": float(values["depth_multiplier"]),
        "channel_divisor": values["depth_divisible_by"],
        "padding": "tensorflow" if values["tf_padding"] else "symmetric",
        "norm_eps": values["layer_norm_eps"],
    }
    usual = {"width": 1.0, "channel_divisor": 8, "padding": "tensorflow", "norm_eps": 0.001}
    options = {key: value for key, value in options.items() if value != usual[key]}
    num_classes = len(values.get("id2label") or {}) or 2  # transformers' own default
    return Architecture("deeplabv3_mobilenet_v2", num_classes, values["output_stride"], options)


def read_json(path: Path) -> dict[str, Any]:
    """Read a mapping.

    Raises:
        WeightsError: the file is missing, unreadable or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: missing; give the folder that save_pretrained wrote") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error}); copy it again") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: holds {type(values).__name__}, not a mapping; copy it again")
    return values


def _read_weights(folder: Path) -> tuple[dict[str, Tensor], Path]:
    file = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if file is None:
        raise WeightsError(f"{folder}: has neither {' nor '.join(WEIGHT_FILES)}; copy the weights beside config.json")
    if file.suffix == ".safetensors":
        return read_safetensors(file)[0], file
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{file}: is damaged or holds more than tensors ({type(error).__name__}); fetch it again"
        ) from error
    return tensors, file


def _read_normalization(folder: Path) -> Normalization:
    """Their means and deviations are of pixels in 0..1."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return TENSORFLOW_NORMALIZATION
    values = read_json(path)
    try:
        mean, std = ([255 * float(v) for v in values[key]] for key in ("image_mean", "image_std"))
        return Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{path}: image_mean and image_std are not three numbers each ({error}); correct them"
        ) from error


def _read_labels(values: dict[str, Any], folder: Path) -> LabelSet | None:
    names = values.get("id2label")
    if not names:
        return None
    try:
        ordered = tuple(str(names[key]) for key in sorted(names, key=int))
        return LabelSet(ordered, voc_palette(len(ordered)))
    except (ConfigError, ValueError) as error:
        raise WeightsError(f"{folder / 'config.json'}: id2label cannot be used ({error}); correct it") from error
