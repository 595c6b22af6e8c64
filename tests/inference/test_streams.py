from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
import torch
from PIL import Image

from segmnv2.errors import ConfigError, MediaError
from segmnv2.inference.files import ResultFolder, infer_files
from segmnv2.inference.options import LARGEST_SIDE, choose_streams
from segmnv2.inference.predictor import Predictor
from segmnv2.media.pipeline import AHEAD, Outcome, predict_streams, run_streams
from tests.export.shallow import shallow_balanced_model
from tests.media.threads import PATIENCE, Content, fill_the_disk_at, note_reading, refuse, threads_since
from tests.stream_engines import STREAMING, build_engines

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def no_thread_is_left_and_torch_has_its_threads() -> Iterator[None]:
    before, threads = set(threading.enumerate()), torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(threads)
    assert not threads_since(before)


def wait_now_and_then(item: int, remainder: int) -> None:
    if item % 3 == remainder:
        threading.Event().wait(0.003)


def run(
    items: Sequence[int] | count[int],
    read: Callable[[int], int] = int,
    compute: Callable[[Sequence[int]], Sequence[int]] = list,
    write: Callable[[int, int], int] = lambda item, made: made,
    streams: int = 3,
    batch: int = 1,
) -> Iterator[Outcome[int, int]]:
    return run_streams(items, read, compute, write, streams=streams, batch=batch)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("streams", [1, 2, 5])
@pytest.mark.parametrize("items", [0, 1, 4, 23])
def test_outcomes_come_in_order_with_any_slow_item(batch: int, streams: int, items: int) -> None:
    def read(item: int) -> int:
        wait_now_and_then(item, 0)
        return item

    def square(numbers: Sequence[int]) -> list[int]:
        wait_now_and_then(numbers[0], 1)
        return [number * number for number in numbers]

    def write(item: int, made: int) -> tuple[int, int]:
        wait_now_and_then(item, 2)
        return item, made

    outcomes = list(run_streams(range(items), read, square, write, streams=streams, batch=batch))
    assert [outcome.item for outcome in outcomes] == list(range(items))
    assert [outcome.result for outcome in outcomes] == [(item, item * item) for item in range(items)]


@pytest.mark.parametrize(("streams", "batch"), [(1, 1), (3, 1), (2, 4)])
def test_no_more_items_are_held_than_streams(streams: int, batch: int) -> None:
    most = 0
    lock = threading.Lock()

    def read(item: int) -> Content:
        nonlocal most
        with lock:
            content = Content(item)
            most = max(most, len(Content.alive))
        wait_now_and_then(item, 0)
        return content

    def write(item: int, made: Content) -> int:
        wait_now_and_then(item, 1)
        return made.item

    gc.collect()
    for number, outcome in enumerate(run_streams(range(60), read, list, write, streams=streams, batch=batch)):
        assert outcome.result == number
    assert streams <= most <= streams * batch
    assert not Content.alive


def test_a_limited_number_of_predictions_waits_for_the_caller() -> None:
    gc.collect()
    found = predict_streams(count(), Content, list, streams=2)
    for number in range(20):
        assert next(found).item == number
        threading.Event().wait(0.002)
        assert len(Content.alive) <= AHEAD * 2 + 1
    found.close()


def test_each_stream_computes_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=PATIENCE)
    assert len(list(run(range(9), compute=lambda numbers: [together.wait() - number for number in numbers]))) == 9


def test_streams_share_torchs_threads_and_restore_their_number() -> None:
    torch.set_num_threads(3)
    seen = {streams: set(predict_streams(range(8), int, see_threads, streams=streams)) for streams in (1, 2, 3, 5)}
    assert seen == {1: {3}, 2: {1}, 3: {1}, 5: {1}}
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.extend(see_threads([0])))
    thread.start()
    thread.join()
    assert later == [3] == see_threads([0])


def see_threads(numbers: Sequence[int]) -> list[int]:
    return [torch.get_num_threads() for _ in numbers]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_failure_is_reported_in_order_and_the_others_continue(batch: int) -> None:
    def compute(numbers: Sequence[int]) -> Sequence[int]:
        if 5 in numbers:
            raise MediaError("too large")
        return numbers

    outcomes = list(run(range(9), refuse(0, 3, 8), compute, batch=batch))
    assert {outcome.item: str(outcome.failure) for outcome in outcomes if outcome.failure} == {
        0: "0 is broken",
        3: "3 is broken",
        5: "too large",
        8: "8 is broken",
    }
    assert [outcome.result for outcome in outcomes if not outcome.failure] == [1, 2, 4, 6, 7]


def test_predictions_come_in_order_and_an_error_at_its_turn() -> None:
    found = predict_streams(range(9), refuse(2), list, streams=3)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(MediaError, match="2 is broken"):
        next(found)
    assert list(found) == []


def test_an_error_in_writing_stops_the_run_at_its_turn() -> None:
    begun: list[int] = []
    outcomes = run(count(), note_reading(begun), write=fill_the_disk_at(3))
    assert [next(outcomes).result for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ConfigError, match="disk full"):
        next(outcomes)
    assert max(begun) <= 3 + AHEAD * 3


def test_other_errors_are_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(run(range(3), read=lambda item: item // 0))


def test_an_interrupt_drops_items_that_have_not_begun_and_leaves_whole_files() -> None:
    begun: list[int] = []
    ended: list[int] = []
    interrupted = threading.Event()

    def compute(numbers: Sequence[int]) -> Sequence[int]:
        if numbers[0] == 4:
            threading.Timer(0.02, interrupted.set).start()
            signal.raise_signal(signal.SIGINT)
        if numbers[0] > 4:
            assert interrupted.wait(PATIENCE)
        return numbers

    def write(item: int, made: int) -> int:
        begun.append(item)
        threading.Event().wait(0.002)
        ended.append(item)
        return made

    with pytest.raises(KeyboardInterrupt):
        list(run(count(), compute=compute, write=write))
    assert begun
    assert sorted(begun) == sorted(ended)
    assert max(begun) <= 4 + AHEAD * 3


@pytest.fixture
def photos(tmp_path: Path, photo) -> list[Path]:
    paths = [tmp_path / "in" / f"{number:02}.png" for number in range(14)]
    paths[0].parent.mkdir()
    for seed, path in enumerate(paths):
        Image.fromarray(photo(20 + 9 * (seed % 3), 30, seed)).save(path)
    paths[5].write_text("not an image")
    return paths


@pytest.mark.parametrize("name", STREAMING)
def test_files_equal_those_of_one_image_after_another(name, photos, tmp_path):
    model = shallow_balanced_model()
    engines = build_engines(model, name, (1, 3))
    alone, streaming = (Predictor(model, size=33, backend=engine) for engine in engines)
    single, many = (ResultFolder(tmp_path / kind, confidence=True) for kind in ("single", "many"))
    torch.set_num_threads(1)
    expected = {path: single.write(alone(path), path.stem) for path in photos if path != photos[5]}
    torch.set_num_threads(3)
    told: list[Path] = []
    report = infer_files(streaming, photos, many.write, lambda path, _: told.append(path), streams=streaming.streams)
    assert told == photos
    assert list(report.failed) == [photos[5]]
    assert list(report.written) == list(expected)
    for path, files in expected.items():
        for one, other in zip(files, report.written[path], strict=True):
            assert one.relative_to(single.path) == other.relative_to(many.path)
            assert one.read_bytes() == other.read_bytes()
    masks = [prediction.mask for prediction in streaming.predict_many(path for path in expected)]
    for path, mask in zip(expected, masks, strict=True):
        assert (mask == alone(path).mask).all()


def test_an_unwritable_folder_is_one_clear_error(small_model, photos, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="results cannot be written"):
        infer_files(Predictor(small_model, size=33), photos, ResultFolder(tmp_path / "file").write, streams=3)


@pytest.mark.parametrize("streams", [0, -1, True])
def test_streams_must_be_a_positive_integer(streams, small_model, photos, tmp_path):
    with pytest.raises(ConfigError, match="streams"):
        infer_files(Predictor(small_model, size=33), photos, ResultFolder(tmp_path).write, streams=streams)


@pytest.mark.parametrize(
    ("images", "threads", "side", "backend", "device", "expected"),
    [
        (100, 16, 513, "auto", CPU, 16),
        (100, 16, LARGEST_SIDE, "torch", CPU, 16),
        (100, 16, LARGEST_SIDE + 1, "torch", CPU, 1),
        (100, 16, float("inf"), "torch", CPU, 1),
        (3, 16, 513, "openvino", CPU, 3),
        (1, 16, 513, "openvino", CPU, 1),
        (0, 16, 513, "openvino", CPU, 1),  # a video
        (100, 16, 513, "torch-compile", CPU, 1),
        (100, 16, 513, "torch", GPU, 1),
    ],
)
def test_the_number_of_streams_depends_on_images_threads_and_size(images, threads, side, backend, device, expected):
    assert choose_streams(images, threads, side, backend, device) == expected
