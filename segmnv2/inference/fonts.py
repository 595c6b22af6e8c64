"""Fonts that have the letters of class names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "C:/Windows/Fonts",
)
"""Folders of installed fonts, if matplotlib's DejaVu Sans lacks a letter (it has no Chinese, for example)."""

_ENDINGS = (".ttf", ".ttc", ".otf")


def find_font(texts: Iterable[str]) -> str:
    """Return the file of the font that can write the most of the texts: DejaVu Sans, or an installed one."""
    return _choose(tuple(texts))[0]


def writable_names(names: Sequence[str]) -> list[str]:
    """Return class names, those replaced by ``class ID (no font)`` that :func:`find_font`'s font has no letters for."""
    missing = _choose(tuple(names))[1]
    return [f"class {index} (no font)" if name in missing else name for index, name in enumerate(names)]


@lru_cache(maxsize=256)
def _choose(texts: tuple[str, ...]) -> tuple[str, frozenset[str]]:
    best, missing = "", frozenset(texts)
    for path in _fonts():
        unwritten = _unwritten(path, texts)
        if not best or len(unwritten) < len(missing):
            best, missing = path, unwritten
        if not missing:
            break
    return best, missing


def _fonts() -> Iterator[str]:
    matplotlib = find_spec("matplotlib")
    assert matplotlib is not None, "a dependency"
    assert matplotlib.origin is not None
    yield str(Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")
    for folder in FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob("*")):
            if path.suffix.lower() in _ENDINGS:
                yield str(path)


def _unwritten(path: str, texts: tuple[str, ...]) -> frozenset[str]:
    """Return the texts with letters that a font lacks; all of them if it cannot be read."""
    others = {text: {ord(letter) for letter in text if not letter.isascii()} for text in texts}
    if not any(others.values()):
        return frozenset()
    letters = _letters(path)
    return frozenset(text for text, wanted in others.items() if not wanted <= letters)


@lru_cache(maxsize=1024)
def _letters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font  # slow to import, and names are mostly ASCII

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()
