"""Messages that a C decoder prints while it decodes, as a value of the call.

libjpeg reports corrupt data only as text on C's ``stderr``, without the file's name, and OpenCV has no other way to
pass it on. So while any thread listens, that variable of the C library points to a stream of ours: text of a thread
that listens is kept for it, and all other text goes to file descriptor 2 as before. It needs glibc (``fopencookie``);
elsewhere nothing is heard.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from functools import cache
from typing import TypeVar

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
    """Call a decoder and return its result and the text that it printed on C's ``stderr``, empty if none."""
    heard: list[bytes] = []
    _thread.heard = heard
    _count(1)
    try:
        result = decode()
    finally:
        _count(-1)
        _thread.heard = None
    return result, b"".join(heard).decode(errors="replace").strip()


def _count(change: int) -> None:
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
    # A thread inside `_write` may wait for Python's lock, so no other thread may wait for the stream's with it.
    library.__fsetlocking(stream, _LOCKED_BY_CALLER)
    variable = ctypes.c_void_p.in_dll(library, "stderr")
    return variable, variable.value, stream.value
