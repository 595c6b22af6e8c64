"""Damaged copies of small valid files, for one law: reading succeeds or raises a `SegmnError`, and nothing else.

`SEGMNV2_DAMAGED=20000 pytest -k lawful` tries more copies than the suite.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from segmnv2.errors import SegmnError

EXAMPLES = int(os.environ.get("SEGMNV2_DAMAGED", "60"))

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="SEGMNV2_DAMAGED" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""Settings of every test of the law."""

randoms = st.integers(0, 2**64 - 1).map(Random)
"""Sources of damage."""

DIGITS, NESTED = "@digits", "@nested"
VALUES: tuple[Any, ...] = (
    *({}, [], None, True, "x", "", "1", -1, 0, 7, 1.5, 10**30, float("nan"), float("inf"), 1e308, [1, 2], {"a": 1}),
    *("\ud800", "\0", "../../x", "a" * 5000, DIGITS, NESTED),
)
PIECES = (b"", b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\0" * 8, b"\xff" * 8, b"[" * 3000, b"9" * 5000, b"NaN", b"..")


def damage(content: bytes, random: Random) -> bytes:
    """Return bytes with a few changed, cut out, inserted, moved or repeated."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 1, 2, 4, 8, 64)))
        match random.randrange(6):
            case 0:
                data[at:end] = random.randbytes(end - at)
            case 1 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case 2:
                data[at:end] = b""
            case 3:
                data[at:at] = random.choice(PIECES)
            case 4:
                data[at:end] = random.choice(PIECES)[: end - at]
            case _:
                del data[at if random.random() < 0.2 else len(data) :]
    return bytes(data)


def damage_json(tree: Any, random: Random) -> str:
    """Return JSON of a tree with one to three values replaced, left out or doubled, or with damaged text."""
    for _ in range(random.choice((1, 1, 2, 3))):
        tree = _damaged(tree, random)
    text = json.dumps(tree).replace(f'"{DIGITS}"', "9" * 5000).replace(f'"{NESTED}"', "[" * 9000 + "]" * 9000)
    return text if random.random() < 0.9 else damage(text.encode(), random).decode(errors="replace")


def _damaged(tree: Any, random: Random) -> Any:
    if not isinstance(tree, dict | list) or not tree or random.random() < 0.05:
        return random.choice(VALUES)
    copy: Any = tree.copy()
    key = random.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
    choice = random.random()
    if choice < 0.1:
        del copy[key]
    elif choice < 0.15 and isinstance(copy, list):
        copy.append(copy[key])
    elif choice < 0.2 and isinstance(copy, dict):
        copy[random.choice(("x", "", "1", DIGITS))] = copy.pop(key)
    else:
        copy[key] = _damaged(copy[key], random)
    return copy


def check_lawful(read: Callable[[], object]) -> bool:
    """Return whether reading succeeds; any error but a `SegmnError` passes."""
    try:
        read()
    except SegmnError:
        return False
    return True
