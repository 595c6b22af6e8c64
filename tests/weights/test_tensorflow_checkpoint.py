from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segmnv2.errors import WeightsError
from segmnv2.weights.tensorflow_checkpoint import TensorFlowCheckpoint, VariableKind, classify
from tests.weights.tensor_bundle_writer import entry, header, message_field, read_all, write_checkpoint, write_table

TENSORS = {
    "MobilenetV2/Conv/weights": torch.randn(3, 3, 3, 8),
    "MobilenetV2/Conv/BatchNorm/gamma": torch.randn(8),
    "MobilenetV2/Conv/BatchNorm/moving_mean": torch.randn(8, dtype=torch.float64),
    "MobilenetV2/expanded_conv/depthwise/depthwise_weights": torch.randn(3, 3, 8, 1).half(),
    "MobilenetV2/expanded_conv/project/weights": torch.randn(1, 1, 8, 4).bfloat16(),
    "empty": torch.empty(0, 4),
    "global_step": torch.tensor(30000),
    "steps": torch.arange(5, dtype=torch.int32),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model.ckpt-30000", TENSORS, shards=2)


def refusal(path: Path) -> str:
    """The message with which a checkpoint is refused, at the latest when its values are read."""
    with pytest.raises(WeightsError) as caught:
        read_all(TensorFlowCheckpoint.open(path))
    return str(caught.value)


def index_of(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


def shard_of(prefix: Path, number: int = 0, count: int = 2) -> Path:
    return prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{count:05d}")


def write_entries(folder: Path, entries: dict[bytes, bytes], **table: int) -> Path:
    prefix = folder / "model.ckpt"
    write_table(index_of(prefix), entries, **table)
    shard_of(prefix, 0, 1).write_bytes(bytes(64))
    return prefix


@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize("keys_a_block", [1, 3, 100])
@pytest.mark.parametrize("restart_interval", [1, 2, 16])
def test_what_was_written_is_read(tmp_path: Path, shards: int, keys_a_block: int, restart_interval: int) -> None:
    prefix = write_checkpoint(
        tmp_path / "model", TENSORS, shards=shards, keys_a_block=keys_a_block, restart_interval=restart_interval
    )
    opened = TensorFlowCheckpoint.open(prefix)
    assert opened.names == tuple(sorted(TENSORS))
    for name, read in read_all(opened).items():
        assert opened.shape(name) == tuple(TENSORS[name].shape)
        assert opened.dtype(name) == read.dtype == TENSORS[name].dtype
        assert torch.equal(read, TENSORS[name])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(st.text("ab/_é", min_size=1, max_size=40), max_size=40), keys_a_block=st.integers(1, 9))
def test_any_names_are_read_back(tmp_path: Path, names: set[str], keys_a_block: int) -> None:
    ordered = sorted(names, key=str.encode)
    tensors = {name: torch.tensor(float(i)) for i, name in enumerate(ordered)}
    prefix = write_checkpoint(tmp_path / "model", tensors, keys_a_block=keys_a_block)
    assert read_all(TensorFlowCheckpoint.open(prefix)) == tensors


def test_read_tensors_are_writable_and_their_own(checkpoint: Path) -> None:
    opened = TensorFlowCheckpoint.open(checkpoint)
    opened.read("steps").zero_()
    assert torch.equal(opened.read("steps"), TENSORS["steps"])


def test_membership_is_by_name(checkpoint: Path) -> None:
    opened = TensorFlowCheckpoint.open(checkpoint)
    assert "steps" in opened
    assert "step" not in opened
    assert "" not in opened  # the header's key
    for ask in (opened.read, opened.shape, opened.dtype):
        with pytest.raises(WeightsError, match="no variable 'step'"):
            ask("step")


def test_every_way_of_naming_a_checkpoint_finds_it(checkpoint: Path) -> None:
    for path in (checkpoint, str(checkpoint), index_of(checkpoint), shard_of(checkpoint, 1), checkpoint.parent):
        assert TensorFlowCheckpoint.open(path).path == checkpoint


def test_folder_of_several_needs_the_latest(checkpoint: Path) -> None:
    folder = checkpoint.parent
    other = write_checkpoint(folder / "model.ckpt-9", {"global_step": torch.tensor(9)})
    assert "model.ckpt-30000, model.ckpt-9" in refusal(folder)
    state = folder / "checkpoint"
    for named in ("model.ckpt-9", "/somewhere/else/model.ckpt-9"):
        state.write_text(f'model_checkpoint_path: "{named}"\nall_model_checkpoint_paths: "model.ckpt-30000"\n')
        assert TensorFlowCheckpoint.open(folder).path == other
    for text in ('model_checkpoint_path: "model.ckpt-7"\n', "", "\0\xff"):
        state.write_text(text)
        assert refusal(folder).startswith(str(state))


def test_nothing_there_names_what_is_near(checkpoint: Path, tmp_path: Path) -> None:
    assert "model.ckpt-30000" in refusal(checkpoint.with_name("model.ckpt-3000"))
    assert "no such checkpoint" in refusal(tmp_path / "missing" / "model.ckpt")
    assert "cannot be read" in refusal(tmp_path / ("long" * 100))
    (tmp_path / "bare").mkdir()
    assert "no *.index file" in refusal(tmp_path / "bare")


def test_missing_parts_are_named(checkpoint: Path) -> None:
    shard_of(checkpoint, 1).unlink()
    assert refusal(checkpoint).startswith(f"{shard_of(checkpoint, 1)}: missing")
    index_of(checkpoint).unlink()
    assert refusal(checkpoint).startswith(f"{index_of(checkpoint)}: missing")


def test_text_and_empty_files_are_no_checkpoint(tmp_path: Path) -> None:
    for name, contents, expected in [
        ("empty.index", b"", "0 bytes"),
        ("short.index", b"x", "1 bytes"),
        ("text.index", b"never a checkpoint\n" * 50, "b'never a checkpoi'"),
        ("text.txt", b"never a checkpoint\n" * 50, "is not a TensorFlow checkpoint"),
    ]:
        (tmp_path / name).write_bytes(contents)
        message = refusal(tmp_path / name)
        assert message.startswith(str(tmp_path / name))
        assert expected in message


def test_folder_in_place_of_a_file_is_refused(checkpoint: Path) -> None:
    shard = shard_of(checkpoint)
    shard.unlink()
    shard.mkdir()
    assert refusal(checkpoint).startswith(f"{shard}: missing")


def test_v1_checkpoints_are_recognized(tmp_path: Path) -> None:
    saved_slices = {b"": message_field(1, b"\x0a\x00"), b"weights": b"\0"}
    for name in ("model.ckpt-1", "sharded.ckpt-00000-of-00002", "renamed.ckpt.index"):
        write_table(tmp_path / name, saved_slices)
    for named in ("model.ckpt-1", "sharded.ckpt", "renamed.ckpt"):
        message = refusal(tmp_path / named)
        assert "V1 checkpoint" in message
        assert "SaverDef.V2" in message


def test_unsupported_kinds_say_so(tmp_path: Path) -> None:
    good = entry(1, (4,), 0, 0, 16, 0)
    for entries, table, expected in [
        ({b"": header(1), b"w": good + message_field(7, b"")}, {}, "'w': it is saved in slices"),
        ({b"": header(1, endianness=1), b"w": good}, {}, "big-endian"),
        ({b"": header(1), b"w": good}, {"compression": 1}, "compressed (Snappy)"),
        ({b"": header(1), b"w": entry(7, (), 0, 0, 16, 0)}, {}, "'w' is of type string"),
        ({b"": header(1), b"w": entry(99, (), 0, 0, 16, 0)}, {}, "'w' is of type number 99"),
    ]:
        assert expected in refusal(write_entries(tmp_path, entries, **table))


def test_contradictions_are_refused(tmp_path: Path) -> None:
    good = entry(1, (4,), 0, 0, 16, 0)
    for entries, expected in [
        ({b"w": good}, "no header"),
        ({b"": header(0), b"w": good}, "no data file"),
        ({b"": header(1), b"w": entry(1, (5,), 0, 0, 16, 0)}, "16 bytes cannot hold shape (5,) of float32"),
        ({b"": header(1), b"w": entry(1, (1 << 60,), 0, 0, 1 << 62, 0)}, "cut short"),
        ({b"": header(1), b"w": entry(1, ((1 << 64) - 1,), 0, 0, 16, 0)}, "a number from 0 on"),
        ({b"": header(1), b"w": entry(1, (4,), 1, 0, 16, 0)}, "data file 1 is named, but there are 1"),
        ({b"": header(1), b"w": good[:-1]}, "'w'"),
        ({b"": header(1), b"w": b"\x0f"}, "unknown kind 7"),
        ({b"": header(1), b"w": b"\x08" + b"\xff" * 11}, "more than 64 bits"),
        ({b"": header(1), b"b": good, b"a": good}, "out of order"),
        ({b"": header(1), b"\xff": good}, "not the name of a variable"),
        ({b"": header(1), b"w": good}, "checksum of variable 'w'"),
    ]:
        assert expected in refusal(write_entries(tmp_path, entries))


def test_truncation_anywhere_is_refused(checkpoint: Path) -> None:
    for file in (index_of(checkpoint), shard_of(checkpoint, 0), shard_of(checkpoint, 1)):
        whole = file.read_bytes()
        for length in {*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1}:
            file.write_bytes(whole[:length])
            assert refusal(checkpoint).startswith(str(file))
        file.write_bytes(whole)


def test_a_flipped_bit_anywhere_is_refused_or_harmless(checkpoint: Path) -> None:
    draw = random.Random(0)
    harmless = 0
    for file in (index_of(checkpoint), shard_of(checkpoint, 0), shard_of(checkpoint, 1)):
        whole = file.read_bytes()
        for _ in range(150):
            damaged = bytearray(whole)
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            file.write_bytes(damaged)
            try:
                read = read_all(TensorFlowCheckpoint.open(checkpoint))
            except WeightsError as error:
                assert str(file) in str(error)  # noqa: PT017 - some flips are harmless, so no `raises`
            else:
                # Only the footer's padding and the unused meta index are not covered by a checksum that is read.
                harmless += 1
                assert file == index_of(checkpoint)
                assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())
        file.write_bytes(whole)
    assert harmless < 45


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.binary(max_size=200))
def test_noise_with_a_good_footer_is_refused(tmp_path: Path, contents: bytes) -> None:
    index = tmp_path / "noise.index"
    index.write_bytes(contents + b"\x00\x00\x00\x04".ljust(40, b"\0") + bytes.fromhex("57fb808b247547db"))
    assert refusal(index).startswith(str(index))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(head=st.binary(max_size=12), message=st.binary(max_size=40), name=st.binary(min_size=1, max_size=8))
def test_noise_behind_good_checksums_raises_nothing_else(
    tmp_path: Path, head: bytes, message: bytes, name: bytes
) -> None:
    prefix = write_entries(tmp_path, {b"": head or header(1), name: message})
    with contextlib.suppress(WeightsError):
        read_all(TensorFlowCheckpoint.open(prefix))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("MobilenetV2/Conv/weights", VariableKind.WEIGHT),
        ("MobilenetV2/Conv/BatchNorm/moving_mean", VariableKind.WEIGHT),
        ("MobilenetV2/Conv/weights/Momentum", VariableKind.MOMENTUM),
        ("MobilenetV2/Conv/weights/ExponentialMovingAverage", VariableKind.EMA),
        ("MobilenetV2/Conv/weights/RMSProp_1", VariableKind.OTHER_SLOT),
        ("MobilenetV2/Conv/weights/Adam", VariableKind.OTHER_SLOT),
        ("beta1_power", VariableKind.OTHER_SLOT),
        ("global_step", VariableKind.GLOBAL_STEP),
        ("my_global_step", VariableKind.WEIGHT),
        ("Momentum/weights", VariableKind.WEIGHT),
    ],
)
def test_names_tell_what_a_variable_is_for(name: str, kind: VariableKind) -> None:
    assert classify(name) is kind
