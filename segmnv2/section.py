"""Base class of all sections of an experiment, and the types of values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _check_path(value: Any) -> Any:
    """Replace ``~`` with the home folder, and refuse an empty path, which would mean the current folder."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("it is empty; give a path ('.' for the current folder)")
    # Path.expanduser raises an error for unknown users.
    return os.path.expanduser(value) if isinstance(value, str) else value  # noqa: PTH111


PositiveInt = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
PositiveFloat = Annotated[float, Field(gt=0)]
NaturalFloat = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
OutputStride = Literal[8, 16, 32]
# Strict validation requires a Path or a tuple, which YAML does not have.
FilePath = Annotated[Path, Field(strict=False), BeforeValidator(_check_path)]
Scales = Annotated[tuple[PositiveFloat, ...], Field(strict=False, min_length=1)]


class Section(BaseModel):
    """A part of an experiment: immutable, no unknown keys, no silent conversions such as ``"16"`` to 16."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
