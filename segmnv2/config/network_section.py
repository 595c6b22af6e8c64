"""Keys of the model in all tasks: the backbone and its arguments, and the initial weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from segmnv2.section import FilePath, PositiveInt, Section


def _known_backbone(name: str) -> str:
    from segmnv2.backbones.backbone import BACKBONES

    if name not in BACKBONES:
        raise ValueError(f"available are {', '.join(sorted(BACKBONES))}")
    return name


BackboneName = Annotated[str, AfterValidator(_known_backbone)]


SHORT_OPTIONS = ("width", "channel_divisor")
"""Arguments of backbones that have their own key."""


class NetworkSection(Section):
    """Keys of the ``model`` section that do not depend on the task.

    Attributes:
        name: name of the model.
        width: multiplier of the backbone's channels, if the backbone has one; ``null`` for 1.0.
        channel_divisor: divisor of MobileNetV2's numbers of channels, which are rounded to it; ``null`` for 8.
        backbone: further arguments of the backbone, such as ``{model: resnet50}`` for timm.
        weights: file of a whole model to start from.
        keep_logits: whether to load the last layer of ``weights`` too; ``false`` if the classes differ.
        backbone_weights: file of which only the backbone is loaded, such as one trained on ImageNet.
        norm_momentum: weight of a new batch in the running statistics of batch norms; ``null`` for the paper's value.
    """

    name: str
    width: Annotated[float, Field(ge=0.05, le=4)] | None = None
    channel_divisor: PositiveInt | None = None
    backbone: dict[str, Any] = Field(default_factory=dict)
    weights: FilePath | None = None
    keep_logits: bool = True
    backbone_weights: FilePath | None = None
    norm_momentum: Annotated[float, Field(gt=0, le=1)] | None = None

    @property
    def backbone_name(self) -> str:
        """Name of the backbone."""
        return self.name

    @property
    def backbone_options(self) -> dict[str, Any]:
        """All given arguments of the backbone."""
        short = {key: getattr(self, key) for key in SHORT_OPTIONS}
        return {**{key: value for key, value in short.items() if value is not None}, **self.backbone}

    @model_validator(mode="after")
    def _options_exist(self) -> NetworkSection:
        from segmnv2.backbones.backbone import backbone_options, check_options, missing_options

        twice = [key for key in SHORT_OPTIONS if getattr(self, key) is not None and key in self.backbone]
        if twice:
            raise ValueError(f"{twice[0]} is given both here and in backbone; set one of them to null")
        allowed = backbone_options(self.backbone_name)
        unknown = [key for key in self.backbone_options if key not in allowed]
        if unknown:
            raise ValueError(
                f"the backbone of {self.name} has no option {', '.join(unknown)}; it has {', '.join(allowed)}"
            )
        missing = missing_options(self.backbone_name, self.backbone_options)
        if missing:
            raise ValueError(f"the backbone of {self.name} requires {', '.join(missing)}; give it in model.backbone")
        check_options(**self.backbone_options)
        return self

    @model_validator(mode="after")
    def _one_start(self) -> NetworkSection:
        if self.weights is not None and self.backbone_weights is not None:
            raise ValueError("weights and backbone_weights are both given; set one of them to null")
        return self


class FreezableSection(NetworkSection):
    """A model whose batch norms may keep the statistics of its initial weights.

    Attributes:
        norms: ``batch`` normalizes by the statistics of each process's part of a batch. ``synchronized`` uses those of
            the whole batch, on GPUs. ``frozen`` uses the statistics in the weights, for batches below about 12. Layers
            without initial weights are not frozen.
    """

    norms: Literal["batch", "synchronized", "frozen"] = "batch"

    @model_validator(mode="after")
    def _frozen_norms(self) -> FreezableSection:
        if self.norms == "frozen" and self.norm_momentum is not None:
            raise ValueError("norms 'frozen' does not change the running statistics; set norm_momentum to null")
        starts_from_weights = self.weights or self.backbone_weights or self.backbone.get("pretrained")
        if self.norms == "frozen" and not starts_from_weights:
            raise ValueError(
                "norms 'frozen' needs initial weights, and none are given; give weights, backbone_weights or "
                "backbone.pretrained, or set norms to 'batch'"
            )
        return self
