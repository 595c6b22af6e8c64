"""Checks that weights belong to a model, beyond the shapes of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segmnv2.backbones.backbone import complete_options
from segmnv2.errors import WeightsError
from segmnv2.heads.head import complete_head_options
from segmnv2.labels import describe_difference
from segmnv2.models.architecture import Architecture
from segmnv2.models.pixels import PixelNetwork
from segmnv2.models.segmenter import MODELS

FREE = ("last_conv", "pretrained")
"""Options of a backbone that may differ: a layer that may be omitted, and the origin of the weights."""

FREE_OF_SEGMENTATION = (*FREE, "multi_grid")
"""The same for segmentation, where DeepLab dilates the last stage; ImageNet weights are trained without dilation."""


def check_same_network(
    model: PixelNetwork, metadata: Mapping[str, Any], source: str, *, backbone_only: bool = False
) -> None:
    """Refuse a file whose backbone or head has other options, even if its tensors have the same shapes.

    A model that was joined from parts has no description and is not checked.

    Raises:
        WeightsError: the backbone or an option differs, such as the epsilon of the norms; the message names both
            values.
    """
    own = model.architecture
    if own is not None:
        segments = isinstance(own, Architecture) and backbone_only
        if isinstance(own, Architecture) and not backbone_only:
            _check_head(own, metadata["architecture"].get("head", {}), source)
        check_same_backbone(_backbone(own.name), own.backbone, metadata, source, segments=segments)


def _check_head(own: Architecture, theirs: Mapping[str, Any], source: str) -> None:
    here, there = (complete_head_options(MODELS[own.name].head, options) for options in (own.head, theirs))
    if here != there:
        differing = {key: value for key, value in there.items() if here.get(key) != value}
        raise WeightsError(
            f"{source}: its head has the options {there}, the model's head {here}; give head_options={differing} "
            "(model.head)"
        )


def check_same_classes(own: Sequence[str], theirs: Sequence[str], source: str) -> None:
    """Refuse weights whose classes have other names or another order than those of the model.

    Raises:
        WeightsError: the classes differ; the message names the first difference.
    """
    if tuple(own) != tuple(theirs):
        remedy = "give keep_logits=False (model.keep_logits: false) to train a new last layer"
        raise WeightsError(f"{source}: {describe_difference(own, theirs, 'the file', 'the model')}; {remedy}")


def check_same_backbone(
    name: str, options: Mapping[str, Any], metadata: Mapping[str, Any], source: str, *, segments: bool = False
) -> None:
    """Refuse a file with another backbone, or with other options of it.

    With ``segments``, the file is the start of a segmentation model, whose dilations may differ.

    Raises:
        WeightsError: the backbone or an option differs.
    """
    theirs = _backbone(str(metadata["architecture"].get("name")))
    if theirs != name:
        fitting = " and ".join(key for key, spec in MODELS.items() if spec.backbone == theirs)
        raise WeightsError(
            f"{source}: has the backbone {theirs}, the model {name}; its weights are for "
            f"{fitting or 'no model of this version'}"
        )
    free = FREE_OF_SEGMENTATION if segments else FREE
    here = _compared(name, options, free)
    there = _compared(name, metadata["architecture"].get("backbone") or {}, free)
    differing = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    if differing:
        lines = [f"{key}: {there.get(key)!r} in the file, {here.get(key)!r} in the model" for key in differing]
        given = ", ".join(f"{key}: {there.get(key)}" for key in differing)
        python = ", ".join(f"{key}={there.get(key)!r}" for key in differing)
        raise WeightsError(
            "\n  ".join([f"{source}: was trained with other options of the backbone:", *lines])
            + f"\nbuild the model with the file's options: {python}; in an experiment model.backbone: {{{given}}}"
        )


def _backbone(name: str) -> str:
    """Return the name of a model's backbone, which is also the name of classifiers on it."""
    return MODELS[name].backbone if name in MODELS else name


def _compared(backbone: str, given: Mapping[str, Any], free: tuple[str, ...]) -> dict[str, Any]:
    options = complete_options(backbone, given)
    # JSON has turned tuples into lists.
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    return {key: value for key, value in plain.items() if key not in free}
