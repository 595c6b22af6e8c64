"""Network settings of all tasks: a backbone with its arguments, and the weights to start from."""

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
"""Arguments of backbones that have a key of their own."""


class NetworkSection(Section):
    """The parts of a ``model`` section that do not depend on the task.

    Attributes:
        name: name of the network.
        width: multiplier of the backbone's channels, for backbones that have widths; ``null`` for the default, 1.0.
        channel_divisor: MobileNetV2's channels are rounded to multiples of it; ``null`` for 8.
        backbone: further arguments of the backbone, such as ``{model: resnet50}`` for timm's.
        weights: file of a whole network to start from.
        keep_logits: with ``weights``, whether its last layer is loaded too; ``false`` for other classes.
        backbone_weights: file of which only the backbone is loaded, such as one trained on ImageNet.
        norm_momentum: share of a new batch in the running statistics of every batch norm; ``null`` for the paper's.
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
        raise NotImplementedError

    @property
    def backbone_options(self) -> dict[str, Any]:
        """All arguments of the backbone that are given."""
        short = {key: getattr(self, key) for key in SHORT_OPTIONS}
        return {**{key: value for key, value in short.items() if value is not None}, **self.backbone}

    @model_validator(mode="after")
    def _options_exist(self) -> NetworkSection:
        from segmnv2.backbones.backbone import backbone_options, check_options, missing_options

        twice = [key for key in SHORT_OPTIONS if getattr(self, key) is not None and key in self.backbone]
        if twice:
            raise ValueError(f"{twice[0]} is given here and in backbone; give one of them and set the other to null")
        allowed = backbone_options(self.backbone_name)
        unknown = [key for key in self.backbone_options if key not in allowed]
        if unknown:
            raise ValueError(
                f"the backbone of {self.name} has no option {', '.join(unknown)}; it has {', '.join(allowed)}"
            )
        missing = missing_options(self.backbone_name, self.backbone_options)
        if missing:
            raise ValueError(f"the backbone of {self.name} needs {', '.join(missing)}; give it in model.backbone")
        check_options(**self.backbone_options)
        return self

    @model_validator(mode="after")
    def _one_start(self) -> NetworkSection:
        if self.weights is not None and self.backbone_weights is not None:
            raise ValueError("weights and backbone_weights are both given; name one file and set the other to null")
        return self


class FreezableSection(NetworkSection):
    """A network whose batch norms may keep the statistics of its weights.

    Attributes:
        norms: ``batch`` normalizes by the statistics of each process's part of a batch, ``synchronized`` by those of
            the whole batch, on GPUs. ``frozen`` normalizes by the statistics in the weights, for batches below about
            12; where only the backbone has weights, the norms of the other layers are still trained.
    """

    norms: Literal["batch", "synchronized", "frozen"] = "batch"

    @model_validator(mode="after")
    def _frozen_norms(self) -> FreezableSection:
        if self.norms == "frozen" and self.norm_momentum is not None:
            raise ValueError("norms 'frozen' does not change the running statistics; set norm_momentum to null")
        named = self.weights or self.backbone_weights or self.backbone.get("pretrained")
        if self.norms == "frozen" and not named:
            raise ValueError(
                "norms 'frozen' needs weights with statistics of the norms, and none are given; "
                "name a file as weights or backbone_weights, give pretrained in backbone, or set norms to 'batch'"
            )
        return self
