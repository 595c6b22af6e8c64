"""Checks that weights belong to a network, beyond the shapes of tensors."""

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
"""Options of a backbone that weights do not depend on: a layer that may be left out, and where weights are from."""

FREE_OF_SEGMENTATION = (*FREE, "multi_grid")
"""Those of a backbone that segments: DeepLab dilates the last stage of a network that ImageNet trained without."""


def check_same_network(
    model: PixelNetwork, metadata: Mapping[str, Any], source: str, *, backbone_only: bool = False
) -> None:
    """Refuse a file whose backbone computes something else with the same tensors, or has others.

    A network that was joined from parts does not say how it was built, and is not checked.

    Raises:
        WeightsError: another backbone, or another option such as the epsilon of its norms; both values are named.
    """
    own = model.architecture
    if own is not None:
        segments = isinstance(own, Architecture)
        if isinstance(own, Architecture) and not backbone_only:
            _check_head(own, metadata["architecture"].get("head", {}), source)
        check_same_backbone(_backbone(own.name), own.backbone, metadata, source, segments=segments and backbone_only)


def _check_head(own: Architecture, theirs: Mapping[str, Any], source: str) -> None:
    """Raise an error if a file's head has other options, which the shapes of tensors may not show."""
    here, there = (complete_head_options(MODELS[own.name].head, options) for options in (own.head, theirs))
    if here != there:
        differing = {key: value for key, value in there.items() if here.get(key) != value}
        raise WeightsError(
            f"{source}: its head has the options {there}, the model's head {here}; give head_options={differing} "
            "(model.head)"
        )


def check_same_classes(own: Sequence[str], theirs: Sequence[str], source: str) -> None:
    """Refuse weights of a last layer whose classes have other names than the network's own, or another order.

    Raises:
        WeightsError: they differ; the first difference is named.
    """
    if tuple(own) != tuple(theirs):
        remedy = "give keep_logits=False (model.keep_logits: false) to train a new last layer"
        raise WeightsError(f"{source}: {describe_difference(own, theirs, 'the file', 'the network')}; {remedy}")


def check_same_backbone(
    name: str, options: Mapping[str, Any], metadata: Mapping[str, Any], source: str, *, segments: bool = False
) -> None:
    """Refuse a file for a backbone, as :func:`check_same_network` does for a network.

    ``segments`` says that it is the start of a segmentation network, whose dilations are its own.

    Raises:
        WeightsError: another backbone or another option.
    """
    theirs = _backbone(str(metadata["architecture"].get("name")))
    if theirs != name:
        fitting = " and ".join(key for key, spec in MODELS.items() if spec.backbone == theirs)
        raise WeightsError(
            f"{source}: has the backbone {theirs}, the network {name}; its weights are for "
            f"{fitting or 'no network of this version'}"
        )
    free = FREE_OF_SEGMENTATION if segments else FREE
    here = _compared(name, options, free)
    there = _compared(name, metadata["architecture"].get("backbone") or {}, free)
    differing = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    if differing:
        lines = [f"{key}: {there.get(key)!r} in the file, {here.get(key)!r} in the network" for key in differing]
        given = ", ".join(f"{key}: {there.get(key)}" for key in differing)
        python = ", ".join(f"{key}={there.get(key)!r}" for key in differing)
        raise WeightsError(
            "\n  ".join([f"{source}: was trained with a backbone that was built otherwise:", *lines])
            + f"\nbuild the network as the file has it: {python}; in an experiment model.backbone: {{{given}}}"
        )


def _backbone(name: str) -> str:
    """Return the backbone of a model; a classifier is called as its backbone is."""
    return MODELS[name].backbone if name in MODELS else name


def _compared(backbone: str, given: Mapping[str, Any], free: tuple[str, ...]) -> dict[str, Any]:
    options = complete_options(backbone, given)
    # JSON has turned tuples into lists.
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    return {key: value for key, value in plain.items() if key not in free}
