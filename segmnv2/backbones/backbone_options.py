"""Types and ranges of the options of all backbones, checked in one place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from segmnv2.errors import ConfigError, describe_fault, describe_value


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
