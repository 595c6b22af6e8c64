"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segmnv2.inference.canvas import Size


def parse_size(text: str) -> Size:
    """Read ``--size``.

    Raises:
        ConfigError: neither an integer of at least 17 nor ``native``.
    """
    from segmnv2.inference.canvas import check_size

    return check_size(int(text) if text.isdecimal() else text)
