"""The interface of all backbones: feature maps with channels and strides, an output stride to set, checked options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from jaxtyping import Float
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from segmnv2.errors import ConfigError, describe_fault, describe_value
from segmnv2.nn.stride import Strided, check_output_stride, plan_strides_and_dilations


@dataclass(frozen=True)
class FeatureInfo:
    """One feature map of a backbone: its channels and how many image pixels lie between its samples."""

    channels: int
    stride: int


class FeatureInfos(tuple[FeatureInfo, ...]):
    """All feature maps of a backbone, finest first, with the questions that timm's ``feature_info`` answers."""

    __slots__ = ()

    def channels(self, index: int | Sequence[int] | None = None) -> int | list[int]:
        """Return the channels of one map, of some, or of all."""
        return self._ask("channels", index)

    def reduction(self, index: int | Sequence[int] | None = None) -> int | list[int]:
        """Return the stride of one map, of some, or of all."""
        return self._ask("stride", index)

    def _ask(self, what: str, index: int | Sequence[int] | None) -> int | list[int]:
        if isinstance(index, int):
            return int(getattr(self[index], what))
        return [int(getattr(self[each], what)) for each in (range(len(self)) if index is None else index)]


class Backbone(nn.Module, ABC):
    """A network from normalized images to feature maps, finest first.

    Attributes:
        output_stride: stride of the last feature map, in pixels.
    """

    output_stride: int
    _nominal: Sequence[FeatureInfo]

    @property
    def nominal_features(self) -> tuple[FeatureInfo, ...]:
        """Channels and strides of the feature maps without any dilation."""
        return tuple(self._nominal)

    @abstractmethod
    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _c _h _w"], ...]:
        """Map normalized images (b, 3, h, w) to feature maps (b, channels, ceil(h / stride), ceil(w / stride))."""

    @property
    def feature_info(self) -> FeatureInfos:
        """Channels and strides of the feature maps at the present output stride, in timm's form too."""
        return FeatureInfos(FeatureInfo(f.channels, min(f.stride, self.output_stride)) for f in self.nominal_features)

    def set_output_stride(self, output_stride: int) -> None:
        """Change the stride of the last feature map on the live network; the weights stay.

        Features at a smaller output stride, sampled on the grid of a larger one, are the features of the larger one
        (exact for sides of 32 k + 1 pixels, and where no layer looks at the whole map).

        Args:
            output_stride: 8, 16 or 32.

        Raises:
            ConfigError: any other value, or one that this network cannot have.
        """
        check_output_stride(output_stride)
        self._apply_output_stride(output_stride)
        self.output_stride = output_stride

    @abstractmethod
    def _apply_output_stride(self, output_stride: int) -> None:
        """Change strides and dilations."""


class ChainBackbone(Backbone):
    """A backbone whose layers, or blocks of layers, form one chain, so that the stride rule can be stated for all."""

    @abstractmethod
    def strided_layers(self) -> Sequence[tuple[Strided, int]]:
        """Return the layers that stride or can be dilated, in order, with their nominal strides."""

    def _apply_output_stride(self, output_stride: int) -> None:
        layers = self.strided_layers()
        rates = plan_strides_and_dilations([stride for _, stride in layers], output_stride)
        for (layer, _), (stride, dilation) in zip(layers, rates, strict=True):
            layer.set_stride_and_dilation(stride, dilation)


def _check_whole(value: Any) -> Any:
    if type(value) is not int:  # 16.0 and True equal members of a Literal
        raise ValueError(f"{describe_value(value)} is not an integer")
    return value


Whole = BeforeValidator(_check_whole)
Count = Annotated[int, Field(ge=1, le=64)]
Share = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Options(BaseModel):
    """Options by name; those that several backbones have mean the same in all of them.

    The upper bounds leave room beyond every published network, and keep the largest one below about two billion
    parameters.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    width: Annotated[float, Field(ge=0.05, le=4)] = 1.0
    channel_divisor: Count = 8
    padding: Literal["tensorflow", "symmetric"] = "tensorflow"
    norm_eps: Share = 1e-3
    norm_momentum: Share = 0.003
    last_conv: bool = False
    bottleneck_activation: bool = False
    shortcut: Literal["bottleneck", "expansion", "none"] = "bottleneck"
    groups: Annotated[Literal[1, 2, 3, 4, 8], Whole] = 3
    units: Annotated[tuple[Count, Count, Count, Count], Field(strict=False)] = (3, 4, 23, 3)
    multi_grid: Annotated[tuple[Count, ...], Field(strict=False)] = (1, 2, 4)
    stem: Literal["deep", "7x7"] = "deep"
    strided_unit: Literal["last", "first"] = "last"
    filters: Annotated[int, Field(ge=4, le=256, multiple_of=4)] = 44
    cells: Annotated[int, Field(ge=1, le=12)] = 4
    stem_channels: Annotated[int, Field(ge=1, le=512)] = 32
    skip_reduction_input: bool = False
    encoder: Name = "resnet34"
    model: Name = "resnet50"
    pretrained: bool | str | None = None


def check_options(**options: Any) -> None:
    """Refuse values of options that are of another type or outside their range.

    Args:
        options: by name, as ``width=0.5``; the names exist.

    Raises:
        ConfigError: one or more are; all of them are named, with the values found and what is allowed.
    """
    try:
        Options.model_validate(options)
    except ValidationError as error:
        raise ConfigError("; ".join(map(describe_fault, error.errors(include_url=False)))) from None
