from __future__ import annotations

import pytest

from segmnv2.errors import ConfigError, DatasetError, MediaError, SegmnError, WeightsError


@pytest.mark.parametrize("kind", [ConfigError, DatasetError, MediaError, WeightsError])
def test_user_errors_are_caught_as_one_and_as_value_errors(kind: type[SegmnError]) -> None:
    with pytest.raises(SegmnError, match="what is wrong") as caught:
        raise kind("what is wrong")
    assert isinstance(caught.value, ValueError)
