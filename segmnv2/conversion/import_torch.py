"""Import of state dicts of torchvision, timm and DeepLabv3+: a file, or timm's folder with its ``config.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from segmnv2.conversion.import_source import Source, need_weights, own_tensors, read_json, read_numbers
from segmnv2.errors import WeightsError, describe_value
from segmnv2.files.checksum import file_sha256
from segmnv2.heads.deeplab_v3_plus import LOW_LEVEL_CHANNELS
from segmnv2.models.architecture import Architecture
from segmnv2.models.pixels import IMAGENET_NORMALIZATION, TENSORFLOW_NORMALIZATION, Normalization
from segmnv2.weights.key_tables import (
    DEEPLAB_V3_PLUS,
    TIMM_MOBILENET_V1,
    TIMM_MOBILENET_V2,
    TIMM_RESNET101S,
    TORCHVISION,
    TORCHVISION_RESNET101,
    TORCHVISION_SHUFFLENET_V2,
    KeyTable,
)
from segmnv2.weights.safetensors_file import read_tensors

PICKLED = (".pth", ".pt", ".bin")

CLASSIFIERS = ("classifier.", "fc.")
FREE_ARGUMENTS = {"num_classes", "in_chans", "global_pool", "drop_rate", "drop_path_rate"}
"""Arguments of timm's models that do not change the features, or whose values follow from the shapes of the tensors."""

MOBILENET_WIDTHS = (1.0, 1.4, 1.3, 0.75, 0.5, 0.35, 0.25)


@dataclass(frozen=True)
class Family:
    """Models of one library whose weights a backbone of this library can load.

    Attributes:
        source: name of the other library.
        backbone: name of the backbone in this library.
        table: this library's tensor names -> the other library's.
        options: arguments that make our backbone equal to theirs.
        widths: widths to try; empty if the backbone has none.
        normalization: normalization of the pixels with which the weights were trained.
    """

    source: str
    backbone: str
    table: KeyTable
    options: Mapping[str, Any] = field(default_factory=dict)
    widths: tuple[float, ...] = ()
    normalization: Normalization = IMAGENET_NORMALIZATION

    def candidates(self) -> Iterator[dict[str, Any]]:
        """Yield the arguments of each model of the family."""
        yield from ({**self.options, **({} if w == 1.0 else {"width": w})} for w in self.widths or (1.0,))


_LIKE_TORCH: dict[str, Any] = {"padding": "symmetric", "norm_eps": 1e-5}
_LIKE_RESNET: dict[str, Any] = {"padding": "symmetric", "strided_unit": "first", "multi_grid": (1, 1, 1)}

FAMILIES = (
    Family("torchvision", "mobilenet_v2", TORCHVISION, {**_LIKE_TORCH, "last_conv": True}, MOBILENET_WIDTHS),
    Family("timm", "mobilenet_v2", TIMM_MOBILENET_V2, {**_LIKE_TORCH, "last_conv": True}, MOBILENET_WIDTHS),
    Family(
        "timm",
        "mobilenet_v1",
        TIMM_MOBILENET_V1,
        _LIKE_TORCH,
        (1.0, 1.25, 0.75, 0.5, 0.25),
        normalization=TENSORFLOW_NORMALIZATION,
    ),
    Family("torchvision", "resnet101", TORCHVISION_RESNET101, {**_LIKE_RESNET, "stem": "7x7"}),
    Family("timm", "resnet101", TIMM_RESNET101S, _LIKE_RESNET),
    Family("torchvision", "shufflenet_v2", TORCHVISION_SHUFFLENET_V2, {"last_conv": True}, (1.0, 0.5, 1.5, 2.0)),
)


def is_torch(source: str | Path) -> bool:
    """Return whether a source is the file of a state dict, or a folder of timm with ``config.json``."""
    path = Path(source)
    if path.is_dir():
        return (path / "config.json").is_file() and "architecture" in read_json(path / "config.json")
    return path.is_file() and path.suffix in (*PICKLED, ".safetensors")


def read_torch(source: str | Path) -> Source:
    """Read a state dict and find its backbone by the names and shapes of its tensors.

    Args:
        source: a file of tensors, or a folder with timm's ``config.json`` beside the weights. A folder has the
            normalization of its model; for a file it is the usual one of the family.

    Raises:
        WeightsError: the file is missing, damaged, holds more than tensors, or belongs to no known model.
    """
    path, normalization = Path(source), None
    if path.is_dir():
        normalization = _read_normalization(path)
        path = need_weights(path)
    theirs = {name: value for name, value in read_tensors(path).items() if not name.endswith("num_batches_tracked")}
    if any(name.startswith(MARK) for name in theirs):
        return _read_deeplab_v3_plus(path, theirs)
    classifier = {name for name in theirs if name.startswith(CLASSIFIERS)}
    features = {name: value for name, value in theirs.items() if name not in classifier}
    family, options, names = _recognize(path, features)
    return Source(
        name=str(source),
        architecture=Architecture(family.backbone, 0, 32, options),
        tensors={names.get(name, name): value for name, value in features.items()},
        normalization=normalization or family.normalization,
        backbone_only=True,
        skipped={"tensors of the ImageNet classifier": len(classifier)} if classifier else {},
        provenance={
            "format": f"{family.source} state dict",
            "source": path.name,
            "sha256": {path.name: file_sha256(path)},
        },
    )


def _recognize(path: Path, theirs: Mapping[str, Tensor]) -> tuple[Family, dict[str, Any], dict[str, str]]:
    """Return the family, the backbone's arguments, and a map of their tensor names to ours (``backbone.*``)."""
    for family in FAMILIES:
        for options in family.candidates():
            own = own_tensors(Architecture(family.backbone, 0, 32, options))
            names = family.table.ours(own)
            if names and all(t in theirs and theirs[t].shape == own[ours].shape for t, ours in names.items()):
                return family, options, names
    known = ", ".join(sorted({f"{family.source}'s {family.backbone}" for family in FAMILIES}))
    some = ", ".join(list(theirs)[:3])
    raise WeightsError(
        f"{path}: its {len(theirs)} tensors ({some}, ...) belong to no model that can be imported: {known}. For "
        "transformers give the folder with its config.json; a file that segmnv2 wrote needs no import"
    )


def _read_normalization(folder: Path) -> Normalization:
    """Return the normalization in timm's ``pretrained_cfg``, whose numbers are for pixels in 0..1."""
    config = folder / "config.json"
    values = read_json(config)
    arguments = values.get("model_args") or {}
    if not isinstance(arguments, dict) or not arguments.keys() <= FREE_ARGUMENTS:
        raise WeightsError(
            f"{config}: model_args {describe_value(arguments)} build another model than the importable ones; "
            f"give weights of a model without these arguments (allowed are {', '.join(sorted(FREE_ARGUMENTS))})"
        )
    try:
        cfg = values["pretrained_cfg"]
        (red, green, blue), (r, g, b) = ([255 * v for v in read_numbers(cfg[key])] for key in ("mean", "std"))
        return Normalization((red, green, blue), (r, g, b))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{config}: pretrained_cfg has no mean and std of three numbers each ({error}); give timm's folder"
        ) from error


MARK = "backbone.low_level_features."
"""Prefix of a tensor that only checkpoints of DeepLabv3+ have."""

NOTE = (
    "these weights were trained without padding before the first layer and without aligned corners; labels differ from "
    "those of the original code along borders"
)


def _read_deeplab_v3_plus(path: Path, theirs: Mapping[str, Tensor]) -> Source:
    """Return a checkpoint of DeepLabv3+ on MobileNetV2 under our names; loading refuses tensors of other backbones.

    Source: names of ``deeplabv3plus_mobilenet`` in VainF/DeepLabV3Plus-Pytorch. It concatenates the image-level
    feature after the other branches, and the low-level features before the others.
    """
    logits = theirs.get("classifier.classifier.3.weight")
    if logits is None or logits.dim() != 4:
        raise WeightsError(
            f"{path}: has DeepLabv3+'s backbone, but not its decoder (no classifier.classifier.3.weight with 4 axes); "
            "separable decoders cannot be imported"
        )
    architecture = Architecture(
        "deeplabv3plus_mobilenet_v2_aspp",
        logits.shape[0],
        16,
        {"padding": "symmetric", "norm_eps": 1e-5},
        {"refinements": 1, "align_corners": False},
    )
    own = own_tensors(architecture)
    names = DEEPLAB_V3_PLUS.ours(own)
    tensors = {names.get(name, name): value for name, value in theirs.items()}
    for name, first in (("head.projection", 4 * 256), ("head.decoder.0", LOW_LEVEL_CHANNELS)):
        key = f"{name}.conv.weight"
        if key in tensors and tensors[key].shape == own[key].shape:
            tensors[key] = tensors[key].roll(-first, dims=1)
    return Source(
        name=str(path),
        architecture=architecture,
        tensors=tensors,
        normalization=IMAGENET_NORMALIZATION,
        note=NOTE,
        provenance={"format": "DeepLabv3+ state dict", "source": path.name},
    )
