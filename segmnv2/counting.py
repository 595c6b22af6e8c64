"""Numbers of things in messages."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return "1 image" or "2 images" for the noun "image"."""
    return f"{number} {noun}" + "s" * (number != 1)
