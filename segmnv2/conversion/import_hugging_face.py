"""Import of transformers' MobileNetV2 for segmentation and classification, without transformers installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from segmnv2.conversion.import_source import (
    NUMBER,
    WEIGHT_FILES,
    Source,
    find_weights,
    need_weights,
    own_tensors,
    read_json,
    read_numbers,
)
from segmnv2.errors import ConfigError, WeightsError
from segmnv2.files.checksum import file_sha256
from segmnv2.labels import IGNORE_INDEX, LabelSet, voc_palette
from segmnv2.models.architecture import Architecture
from segmnv2.models.pixels import TENSORFLOW_NORMALIZATION, Normalization
from segmnv2.telemetry import is_offline
from segmnv2.weights.key_tables import HUGGING_FACE
from segmnv2.weights.safetensors_file import read_tensors

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

TYPES: dict[str, tuple[type, ...]] = {
    **{key: (type(value),) for key, value in DEFAULTS.items()},
    **dict.fromkeys(("depth_multiplier", "expand_ratio", "layer_norm_eps"), NUMBER),
    "architectures": (list, type(None)),
    "id2label": (dict, type(None)),
}

SEGMENTATION, CLASSIFICATION = "MobileNetV2ForSemanticSegmentation", "MobileNetV2ForImageClassification"
PREPROCESSING: dict[str, Any] = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
"""Source: transformers' ``MobileNetV2ImageProcessor``."""

REFUSED = {
    "do_reduce_labels": "subtract 1 from the ids of your masks, 0 becoming 255, and set it to false",
    "do_flip_channel_order": "exchange red and blue in the first layer's weights, and set it to false",
}
LAST_CONV = "mobilenet_v2.conv_1x1."
EVEN_SIZES = (
    "logits equal transformers' at sides of 32 k + 1, such as 513, and differ at others, such as 512. Some labels at "
    "borders differ at each size: like TensorFlow, this library aligns corners when it enlarges logits"
)
NEEDED = {"expand_ratio": 6, "first_layer_is_expansion": True, "hidden_act": "relu6"}


def read_hugging_face(source: str | Path) -> Source:
    """Read a segmentation model of transformers, or the backbone of a classifier.

    The 1280-channel layer of a segmentation model is omitted, because its head does not use it. The normalization is
    that of ``preprocessor_config.json``.

    Args:
        source: a folder with ``config.json`` and the weights, or ``owner/name`` on the Hub.

    Raises:
        WeightsError: a file is missing or damaged, or describes another kind of model.
    """
    folder = Path(source) if Path(source).is_dir() else download(str(source))
    config = read_json(folder / "config.json")
    _check_types(config, TYPES, folder / "config.json")
    kinds = config.get("architectures") or [SEGMENTATION]
    classifies = CLASSIFICATION in kinds
    if config.get("model_type") != "mobilenet_v2" or not (classifies or SEGMENTATION in kinds):
        raise WeightsError(
            f"{folder / 'config.json'}: describes {kinds!r:.200} of type {config.get('model_type')!r:.80}; only "
            f"{SEGMENTATION} and {CLASSIFICATION} can be imported"
        )
    values = DEFAULTS | config
    wrong = {key: values[key] for key, needed in NEEDED.items() if values[key] != needed}
    if wrong:
        raise WeightsError(f"{folder / 'config.json'}: has {wrong}; only {NEEDED} can be imported")
    architecture = _describe(values, classifies)
    file = need_weights(folder)
    theirs = read_tensors(file)
    names = HUGGING_FACE.ours(own_tensors(architecture))
    prefix, kind = ("classifier.", "ImageNet classifier") if classifies else (LAST_CONV, "unused 1280-channel layer")
    unused = [name for name in theirs if name.startswith(prefix)]
    tensors = {
        names.get(n, n): t for n, t in theirs.items() if n not in unused and not n.endswith("num_batches_tracked")
    }
    return Source(
        name=str(source),
        architecture=architecture,
        tensors=tensors,
        normalization=_read_normalization(folder),
        labels=None if classifies else _read_labels(values, folder),
        backbone_only=classifies,
        skipped={f"tensors of the {kind}": len(unused)} if unused else {},
        note="" if classifies else EVEN_SIZES,
        provenance={
            "format": f"transformers {CLASSIFICATION if classifies else SEGMENTATION}",
            "source": str(source) if not Path(source).is_dir() else folder.name,
            "sha256": {file.name: file_sha256(file)},
        },
    )


def _check_types(values: dict[str, Any], kinds: dict[str, tuple[type, ...]], path: Path) -> None:
    """Refuse values whose type is not the one that transformers writes; a boolean does not count as a number."""
    for key, types in kinds.items():
        if key in values and type(values[key]) not in types:
            raise WeightsError(f"{path}: {key} is {values[key]!r:.80}; copy it again, as save_pretrained wrote it")


def download(name: str) -> Path:
    """Fetch the needed files of ``owner/name`` into the Hub's cache and return their folder.

    Raises:
        WeightsError: the repository or file does not exist, the Hub cannot be reached or the network is turned off
            and the cache has no copy, or the weights are damaged.
    """
    from huggingface_hub import snapshot_download

    patterns = ["config.json", "preprocessor_config.json", *WEIGHT_FILES]
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=is_offline()))
    except (OSError, ValueError) as error:  # the Hub's own errors derive from these
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{name}: not a local file or folder, and not available from the Hugging Face Hub ({reason}); check the "
            "spelling of the path, or of owner/name"
        ) from error
    _check_weights(folder)
    return folder


def _check_weights(folder: Path) -> None:
    """Compare the weights with the Hub's checksum, which is the name of their file in its client's cache."""
    file = find_weights(folder)
    stated = "" if file is None else file.resolve().name
    if file is not None and re.fullmatch("[0-9a-f]{64}", stated) and file_sha256(file) != stated:
        raise WeightsError(f"{file}: its SHA-256 is not {stated}: it is damaged; delete it and repeat")


def _describe(values: dict[str, Any], classifies: bool) -> Architecture:
    options = {
        "width": float(values["depth_multiplier"]),
        "channel_divisor": values["depth_divisible_by"],
        "padding": "tensorflow" if values["tf_padding"] else "symmetric",
        "norm_eps": values["layer_norm_eps"],
    }
    usual = {"width": 1.0, "channel_divisor": 8, "padding": "tensorflow", "norm_eps": 0.001}
    options = {key: value for key, value in options.items() if value != usual[key]}
    if classifies:
        return Architecture("mobilenet_v2", 0, values["output_stride"], {**options, "last_conv": True})
    num_classes = len(values.get("id2label") or {}) or 2  # transformers' default
    return Architecture("deeplabv3_mobilenet_v2", num_classes, values["output_stride"], options)


def _read_normalization(folder: Path) -> Normalization:
    """Return the normalization of pixels 0..255 that equals the processor's scaling and normalization."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return TENSORFLOW_NORMALIZATION
    values = PREPROCESSING | read_json(path)
    _check_types(values, {"do_rescale": (bool,), "do_normalize": (bool,), "rescale_factor": NUMBER}, path)
    for key, remedy in REFUSED.items():
        if values.get(key):
            raise WeightsError(f"{path}: {key} is {values[key]!r}, which this library does not support; {remedy}")
    try:
        factor = float(values["rescale_factor"]) if values["do_rescale"] else 1.0
        normalizes = values["do_normalize"]
        red, green, blue = (value / factor for value in read_numbers(values["image_mean"] if normalizes else [0, 0, 0]))
        r, g, b = (value / factor for value in read_numbers(values["image_std"] if normalizes else [1, 1, 1]))
        return Normalization((red, green, blue), (r, g, b))
    except (ConfigError, TypeError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(
            f"{path}: image_mean or image_std are not three numbers, or rescale_factor is not above 0 ({error}); "
            "correct them"
        ) from error


def _read_labels(values: dict[str, Any], folder: Path) -> LabelSet | None:
    names = values.get("id2label")
    ignored = values.get("semantic_loss_ignore_index", IGNORE_INDEX)
    if not names and ignored == IGNORE_INDEX:
        return None
    try:
        names = names or {"0": "0", "1": "1"}
        if missing := [number for number in range(len(names)) if str(number) not in names]:
            raise ValueError(f"{len(names)} classes, and none with id {missing[0]}")
        ordered = tuple(names[str(number)] for number in range(len(names)))
        if wrong := [name for name in ordered if not isinstance(name, str)]:
            raise ValueError(f"the name {wrong[0]!r:.80} is not text")
        return LabelSet(ordered, voc_palette(len(ordered)), ignored)
    except (ConfigError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{folder / 'config.json'}: id2label or semantic_loss_ignore_index cannot be used ({error}); correct them"
        ) from error
