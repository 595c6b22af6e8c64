from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from segmnv2.data.decoders import listen
from segmnv2.data.image_file import decode_image, read_image, rgb_array
from segmnv2.data.mask_file import read_mask
from segmnv2.data.raw_mask import read_raw_mask
from segmnv2.labels import LabelSet
from tests.media.threads import PATIENCE
from tests.png_files import DEPTHS, SAMPLES, png

LIBRARY = ctypes.CDLL(None)
pytestmark = pytest.mark.skipif(not hasattr(LIBRARY, "fopencookie"), reason="nothing is heard without glibc")


def stream() -> int | None:
    return ctypes.c_void_p.in_dll(LIBRARY, "stderr").value


def say(text: str) -> Callable[[], int | None]:
    """Return a decoder that prints by C's stderr and returns the stream that it printed to."""

    def decode() -> int | None:
        LIBRARY.fputs(text.encode(), ctypes.c_void_p(stream()))
        return stream()

    return decode


def test_stderr_of_c_is_replaced_only_while_decoding() -> None:
    usual = stream()
    during, heard = listen(say("corrupt\n"))
    assert heard == "corrupt"
    assert during != usual == stream()
    with pytest.raises(ZeroDivisionError):
        listen(lambda: 1 // 0)
    assert stream() == usual


def test_each_thread_gets_the_messages_of_its_own_decoder() -> None:
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
def test_a_forked_process_gets_messages_whatever_other_threads_did() -> None:
    def fork() -> int:
        if (child := os.fork()) == 0:
            os._exit(7 if listen(say("own"))[1] == "own" else 1)
        return child

    child, _ = listen(fork)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


FORMS = [(color, bits) for color, depths in DEPTHS.items() for bits in depths]
WITH_LEVEL = [(color, bits) for color, bits in FORMS if color in (0, 2)]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def check_all_readers(path: Path, expected: np.ndarray) -> None:
    with PIL.Image.open(path) as picture:
        opened = rgb_array(picture)
    for found in (read_image(path), opened):
        assert np.abs(found.astype(int) - expected).max() <= 1


def spread(color: int, bits: int) -> np.ndarray:
    """Return rows of pixels: levels from black to white, another order for each sample, alpha last."""
    steps = np.linspace(0, (1 << bits) - 1, min(1 << bits, 16)).round().astype(int)
    return np.stack([np.roll(steps, 3 * each) for each in range(SAMPLES[color])], 1)[None]


@pytest.mark.parametrize("place", [0, 1, -1])
@pytest.mark.parametrize(("color", "bits"), WITH_LEVEL)
def test_the_transparent_gray_level_of_a_png_becomes_white(tmp_path: Path, color: int, bits: int, place: int) -> None:
    values = spread(color, bits)
    clear = values[0, place]
    levels = struct.pack(f">{len(clear)}H", *clear.tolist())
    path = written(tmp_path / "a.png", png(color, bits, [values.tolist()], transparency=levels))
    expected = np.broadcast_to(np.round(values / ((1 << bits) - 1) * 255), (*values.shape[:2], 3)).copy()
    expected[(values == clear).all(-1)] = 255
    check_all_readers(path, expected)


def test_only_the_exact_16_bit_level_is_transparent(tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", png(0, 16, [[[[256], [257], [65535]]]], transparency=struct.pack(">H", 256)))
    check_all_readers(path, np.array([[[255] * 3, [1] * 3, [255] * 3]]))


@pytest.mark.parametrize("bits", DEPTHS[3])
@pytest.mark.parametrize("opacity", [b"\0", b"\xff\0", b"\x80", b"\x40\x80"])
def test_transparent_palette_entries_are_blended_with_white(tmp_path: Path, bits: int, opacity: bytes) -> None:
    colors = bytes([10, 20, 30, 200, 100, 50])
    path = written(tmp_path / "a.png", png(3, bits, [[[[0], [1]]]], palette=colors, transparency=opacity))
    alpha = np.frombuffer(opacity.ljust(2, b"\xff"), np.uint8)[:, None] / 255
    check_all_readers(path, (np.frombuffer(colors, np.uint8).reshape(2, 3) * alpha + 255 * (1 - alpha))[None])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("color", [4, 6])
def test_alpha_is_blended_with_white(tmp_path: Path, color: int, bits: int) -> None:
    values = spread(color, bits)
    path = written(tmp_path / "a.png", png(color, bits, [values.tolist()]))
    *colors, alpha = np.moveaxis(values / ((1 << bits) - 1), -1, 0)
    shown = np.stack([alpha * each + 1 - alpha for each in colors], -1) * 255
    check_all_readers(path, np.broadcast_to(shown, (*shown.shape[:2], 3)))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(("color", "bits"), FORMS)
def test_all_readers_use_the_default_image_of_an_animated_png(
    tmp_path: Path, color: int, bits: int, count: int, apart: bool
) -> None:
    most = (1 << bits) - 1
    frames = [[[[min(level, most)] * SAMPLES[color]] * 3] * 2 for level in (1, 0, most)[:count]]
    frames[0][0] = [[most] * SAMPLES[color]] * 3
    colors = bytes([0, 0, 0, 255, 255, 255]) if color == 3 and bits == 1 else bytes(range(255, 249, -1)) * 8
    palette = colors[: 3 << min(bits, 4)] if color == 3 else None
    still = written(tmp_path / "still.png", png(color, bits, frames[:1], palette=palette))
    path = written(tmp_path / "a.png", png(color, bits, frames, palette=palette, first_is_apart=apart))
    check_all_readers(path, read_image(still))
    assert decode_image(path).animated
    assert not decode_image(still).animated
    assert read_raw_mask(path).animated
    assert np.array_equal(read_raw_mask(path).values, read_raw_mask(still).values)


def test_values_of_masks_are_ids_even_if_transparent(tmp_path: Path) -> None:
    labels = LabelSet.from_dict({"names": ["ground", "thing"]})
    gray = png(0, 8, [[[[0], [1]]]], transparency=b"\0\1")
    palette = png(3, 8, [[[[0], [1]]]], palette=bytes([0, 0, 0, 9, 9, 9]), transparency=b"\0")
    for content in (gray, palette):
        assert read_mask(written(tmp_path / "m.png", content), labels).tolist() == [[0, 1]]
