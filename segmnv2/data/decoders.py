"""Messages of libjpeg, and the properties of PNG files that Pillow and OpenCV do not report.

libjpeg reports corrupt data only as text on C's ``stderr``, without the file's name, and OpenCV does not report it in
another way. So while any thread is in :func:`listen`, C's variable ``stderr`` points to a stream of this module. The
stream keeps the text of these threads, and writes all other text to file descriptor 2. This needs glibc
(``fopencookie``); on other systems the messages are not read.
"""

from __future__ import annotations

import ctypes
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeVar

import PIL.Image

T = TypeVar("T")

_STDERR = 2
_IONBF = 2
_LOCKED_BY_CALLER = 2

_Write = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _Functions(ctypes.Structure):
    _fields_ = (("read", ctypes.c_void_p), ("write", _Write), ("seek", ctypes.c_void_p), ("close", ctypes.c_void_p))


_thread = threading.local()
_lock = threading.Lock()
_listening = 0
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def listen(decode: Callable[[], T]) -> tuple[T, str]:
    """Call a decoder; return its result and the text that it printed on C's ``stderr``, which may be empty."""
    heard: list[bytes] = []
    _thread.heard = heard
    _add_listeners(1)
    try:
        result = decode()
    finally:
        _add_listeners(-1)
        _thread.heard = None
    return result, b"".join(heard).decode(errors="replace").strip()


def _add_listeners(change: int) -> None:
    """Point C's ``stderr`` to :func:`_write` while any thread listens."""
    global _listening
    with _lock:
        _listening += change
        if (streams := _streams()) is not None:
            variable, usual, ours = streams
            variable.value = ours if _listening else usual


def _write(_cookie: int, text: int, size: int) -> int:
    heard = getattr(_thread, "heard", None)
    if heard is None:
        return os.write(_STDERR, ctypes.string_at(text, size))
    heard.append(ctypes.string_at(text, size))
    return size


_WRITE = _Write(_write)


@cache
def _streams() -> tuple[ctypes.c_void_p, int | None, int] | None:
    """Return C's variable ``stderr``, its value, and a stream that calls :func:`_write`; ``None`` without glibc."""
    if os.name != "posix":
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "fopencookie"):
        return None
    library.fopencookie.restype = ctypes.c_void_p
    library.fopencookie.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Functions]
    stream = ctypes.c_void_p(library.fopencookie(None, b"w", _Functions(None, _WRITE, None, None)))
    if not stream.value:
        return None
    library.setvbuf(stream, None, _IONBF, ctypes.c_size_t(0))
    # A thread inside `_write` may wait for Python's lock, so no thread that holds it may wait for the stream's lock.
    library.__fsetlocking(stream, _LOCKED_BY_CALLER)
    variable = ctypes.c_void_p.in_dll(library, "stderr")
    return variable, variable.value, stream.value


_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_GRAY_FACTORS = {"L;2": 85, "L;4": 17}
"""Pillow's name of 2- or 4-bit gray -> factor by which decoding multiplies a level."""


def check_png(content: bytes) -> None:
    """Compare each chunk of a PNG file with its checksum; Pillow does not check those of the pixels.

    Raises:
        ValueError: a chunk is damaged, or the end is missing.
    """
    view = memoryview(content)
    for kind, at, end in _chunks(content):
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ValueError(f"chunk {kind!r} at byte {at} does not match its checksum")
        if kind == b"IEND":
            return
    raise ValueError("the end is missing")


def default_image(content: bytes) -> bytes:
    """Return an animated PNG file without its animation, and any other file unchanged.

    Programs without animation show this image. It may differ from all frames; OpenCV would return the first frame.
    """
    if b"acTL" not in content:
        return content
    view = memoryview(content)
    return content[:8] + b"".join(view[at:end] for kind, at, end in _chunks(content) if kind not in _ANIMATION)


def transparent_gray(pil: PIL.Image.Image) -> int | None:
    """Return the transparent gray level of a PNG file after decoding; ``None`` if the file declares none.

    Pillow returns the stored level, although decoding multiplies the levels of 2- and 4-bit files. It ignores a
    transparent level of 16 bits.

    Args:
        pil: an image that is not decoded yet, because decoding removes its stored form.
    """
    level = pil.info.get("transparency")
    if pil.format != "PNG" or not pil.mode.startswith(("L", "I")) or not isinstance(level, int):
        return None
    return level * _GRAY_FACTORS.get(stored_form(pil), 1)


def stored_form(pil: PIL.Image.Image) -> str:
    """Return the decoder's name of the pixel format, such as ``L;4``; empty if the image is already decoded."""
    tiles = getattr(pil, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments if isinstance(arguments, str) else arguments[0] if arguments else "")


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each complete chunk."""
    at = 8
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        yield content[at + 4 : at + 8], at, end
        at = end
