from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable

import pytest

from segmnv2.data.decoder_messages import listen
from tests.media.threads import PATIENCE

LIBRARY = ctypes.CDLL(None)
pytestmark = pytest.mark.skipif(not hasattr(LIBRARY, "fopencookie"), reason="nothing is heard without glibc")


def stream() -> int | None:
    return ctypes.c_void_p.in_dll(LIBRARY, "stderr").value


def say(text: str) -> Callable[[], int | None]:
    """Return a decoder that prints as C does, and returns the stream that it printed to."""

    def decode() -> int | None:
        LIBRARY.fputs(text.encode(), ctypes.c_void_p(stream()))
        return stream()

    return decode


def test_the_stream_of_c_is_the_usual_one_but_while_something_is_decoded() -> None:
    usual = stream()
    during, heard = listen(say("corrupt\n"))
    assert heard == "corrupt"
    assert during != usual == stream()
    with pytest.raises(ZeroDivisionError):
        listen(lambda: 1 // 0)
    assert stream() == usual


def test_each_thread_hears_its_own_decoder() -> None:
    usual, together, heard = stream(), threading.Barrier(3, timeout=PATIENCE), {}

    def work(name: str) -> None:
        def decode() -> None:
            together.wait()
            say(name)()
            together.wait()

        heard[name] = listen(decode)[1]

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {"a": "a", "b": "b", "c": "c"}
    assert stream() == usual


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_listens_whatever_other_threads_did() -> None:
    def fork() -> int:
        if (child := os.fork()) == 0:
            os._exit(7 if listen(say("own"))[1] == "own" else 1)
        return child

    child, _ = listen(fork)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
