"""The interface of all backbones, and the backbones by name."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from jaxtyping import Float
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from segmnv2.errors import ConfigError, describe_fault, describe_value
from segmnv2.lazy_registry import Registry
from segmnv2.nn.network import freeze_unused
from segmnv2.nn.stride import Strided, check_output_stride, plan_strides_and_dilations

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's images, red, green, blue in 0..1."""


@dataclass(frozen=True)
class FeatureInfo:
    """One feature map of a backbone: its channels and its stride in pixels of the image."""

    channels: int
    stride: int


class FeatureInfos(tuple[FeatureInfo, ...]):
    """All feature maps of a backbone, finest first, with the methods of timm's ``feature_info``."""

    __slots__ = ()

    def channels(self, index: int | Sequence[int] | None = None) -> int | list[int]:
        """Return the channels of one map, of some, or of all."""
        return self._read("channels", index)

    def reduction(self, index: int | Sequence[int] | None = None) -> int | list[int]:
        """Return the stride of one map, of some, or of all."""
        return self._read("stride", index)

    def _read(self, attribute: str, index: int | Sequence[int] | None) -> int | list[int]:
        if isinstance(index, int):
            return int(getattr(self[index], attribute))
        return [int(getattr(self[i], attribute)) for i in (range(len(self)) if index is None else index)]


class Backbone(nn.Module, ABC):
    """Base class of backbones, which map normalized images to feature maps, finest first.

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
        """Channels and strides of the feature maps at the current output stride."""
        return FeatureInfos(FeatureInfo(f.channels, min(f.stride, self.output_stride)) for f in self.nominal_features)

    def set_output_stride(self, output_stride: int) -> None:
        """Change the stride of the last feature map; the weights stay.

        Features at a smaller output stride contain those of a larger one: sampled on its grid, they are equal. This is
        exact for sides of 32 k + 1 pixels if no layer reads the whole map.

        Args:
            output_stride: 8, 16 or 32.

        Raises:
            ConfigError: any other value, or one that this backbone cannot have.
        """
        check_output_stride(output_stride)
        self._apply_output_stride(output_stride)
        self.output_stride = output_stride

    @abstractmethod
    def _apply_output_stride(self, output_stride: int) -> None:
        """Change strides and dilations."""


class ChainBackbone(Backbone):
    """A backbone whose layers or blocks form one chain; one rule sets their strides and dilations."""

    @abstractmethod
    def strided_layers(self) -> Sequence[tuple[Strided, int]]:
        """Return the layers whose stride or dilation can change, in order, with their nominal strides."""

    def _apply_output_stride(self, output_stride: int) -> None:
        layers = self.strided_layers()
        rates = plan_strides_and_dilations([stride for _, stride in layers], output_stride)
        for (layer, _), (stride, dilation) in zip(layers, rates, strict=True):
            layer.set_stride_and_dilation(stride, dilation)


def stage_ends(strides: Sequence[int]) -> tuple[int, ...]:
    """Return the indices of layers before a stride of 2, and of the last layer."""
    return tuple(i for i in range(len(strides)) if i + 1 == len(strides) or strides[i + 1] == 2)


def _check_whole(value: Any) -> Any:
    if type(value) is not int:  # a Literal accepts 16.0 for 16 and True for 1
        raise ValueError(f"{describe_value(value)} is not an integer")
    return value


Whole = BeforeValidator(_check_whole)
Count = Annotated[int, Field(ge=1, le=64)]
Share = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Options(BaseModel):
    """Ranges of the backbones' options; an option has the same meaning in all backbones.

    The upper bounds exceed every published model and keep the largest one below about two billion parameters.
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
    """Refuse options, which must exist, whose values have a wrong type or are out of range.

    Raises:
        ConfigError: a value is not possible; the message names each such value and the allowed values.
    """
    try:
        Options.model_validate(options)
    except ValidationError as error:
        raise ConfigError("; ".join(map(describe_fault, error.errors(include_url=False)))) from None


def scale_normalization(mean: Sequence[float], std: Sequence[float], scale: float = 255.0) -> tuple[Triple, Triple]:
    """Return a mean and a standard deviation of red, green and blue, multiplied by ``scale``."""
    (r, g, b), (x, y, z) = mean, std
    return (scale * r, scale * g, scale * b), (scale * x, scale * y, scale * z)


def crop_maps(maps: Iterable[Tensor], infos: Iterable[FeatureInfo], image: Tensor) -> tuple[Tensor, ...]:
    """Crop the feature maps of a padded image to the sides of ``image`` divided by their strides.

    The sides may be symbolic while a model is exported.
    """
    height, width = image.shape[-2:]
    sizes = ((-(-height // info.stride), -(-width // info.stride)) for info in infos)
    return tuple(feature[..., :h, :w] for feature, (h, w) in zip(maps, sizes, strict=True))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class if the message is empty."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def suggest(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return a hint with the names closest to an unknown one, or ``otherwise`` if none is close."""
    near = get_close_matches(name, known, n=3)
    return f"did you mean {', '.join(near)}?" if near else otherwise


BACKBONES: Registry[Callable[..., Backbone]] = Registry(
    "segmnv2.backbones",
    {
        "mobilenet_v1": "mobilenet_v1:MobileNetV1",
        "mobilenet_v2": "mobilenet_v2:MobileNetV2",
        "nasnet_a_mobile": "nasnet:NASNet",
        "resnet101": "resnet:ResNet",
        "shufflenet_v1": "shufflenet:ShuffleNetV1",
        "shufflenet_v2": "shufflenet:ShuffleNetV2",
        "smp": "smp:SmpBackbone",
        "timm": "timm:TimmBackbone",
    },
)
"""Name -> class of the backbone."""

FOREIGN = ("smp", "timm")
"""Backbones of other libraries, which may have parameters that no feature map depends on."""

EXAMPLES = {"smp": "encoder='resnet34'", "timm": "model='resnet50'"}
"""Examples of the required arguments of backbones."""


def backbone_options(name: str) -> tuple[str, ...]:
    """Return the names of a backbone's arguments except the output stride."""
    return tuple(option for option in inspect.signature(BACKBONES[name]).parameters if option != "output_stride")


def missing_options(name: str, given: Iterable[str]) -> tuple[str, ...]:
    """Return the names of a backbone's required arguments that are not among ``given``."""
    parameters = inspect.signature(BACKBONES[name]).parameters
    needed = [option for option, parameter in parameters.items() if parameter.default is parameter.empty]
    return tuple(option for option in needed if option not in set(given))


def complete_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of a backbone except the output stride: the given ones, and defaults."""
    parameters = inspect.signature(BACKBONES[name]).parameters
    defaults = {option: parameters[option].default for option in backbone_options(name)}
    return {option: value for option, value in {**defaults, **given}.items() if value is not inspect.Parameter.empty}


def create_backbone(name: str, *, output_stride: int = 32, **options: Any) -> Backbone:
    """Build a backbone with fresh weights.

    Args:
        name: a key of :data:`BACKBONES`.
        output_stride: 8, 16 or 32: stride of the last feature map.
        options: other arguments of the backbone, such as ``width=0.5``.

    Returns:
        A module that maps normalized images (b, 3, h, w) to a tuple of feature maps, finest first. Parameters that no
        feature map depends on are frozen.

    Raises:
        ConfigError: the name is unknown, or the backbone does not have an option or refuses a value.
    """
    if not isinstance(name, str) or name not in BACKBONES:
        raise ConfigError(f"backbone {describe_value(name)} is unknown; available are {', '.join(sorted(BACKBONES))}")
    unknown = sorted(set(options) - set(backbone_options(name)))
    if unknown:
        remedy = (
            "; give published weights by name, such as weights='voc_mobilenet_v2'" if "pretrained" in unknown else ""
        )
        raise ConfigError(
            f"backbone '{name}' has no option {', '.join(unknown)}; it has {', '.join(backbone_options(name))}{remedy}"
        )
    missing = missing_options(name, options)
    if missing:
        raise ConfigError(f"backbone '{name}' needs {', '.join(missing)}; give for example {EXAMPLES[name]}")
    backbone = BACKBONES[name](output_stride=output_stride, **options)
    if name in FOREIGN:
        freeze_unused(backbone, backbone)
    return backbone
