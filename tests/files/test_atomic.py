from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from segmnv2.errors import ConfigError
from segmnv2.files.atomic import atomic_path, check_folder, check_writable, write_image


def test_a_finished_file_takes_its_place_and_nothing_else_stays(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.suffix == ".txt"
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_older_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("older")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("ha")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_half()
    assert target.read_text() == "older"
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_noticed_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert check_writable(tmp_path / "new" / "f.json") == tmp_path / "new" / "f.json"
    assert check_folder(tmp_path / "new" / "out") == tmp_path / "new" / "out"
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "nothing is made"
    in_the_way = pytest.raises(ConfigError, match=r"file:? is a file")
    with in_the_way:
        check_folder(tmp_path / "file")
    with in_the_way:
        check_folder(tmp_path / "file" / "out")
    with in_the_way:
        check_writable(tmp_path / "file" / "f.json")
    with pytest.raises(ConfigError, match="is a folder"):
        check_writable(tmp_path)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_permissions_that_the_process_allows(mask: int, mode: int, tmp_path: Path) -> None:
    with umask(mask), atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("x")
        temporary.chmod(0o600)  # as some writers do
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("older")
    file.chmod(0o640)
    with umask(0o077), atomic_path(file) as temporary:
        temporary.write_text("newer")
    assert file.read_text() == "newer"
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_pipe_is_written_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_path(pipe) as place:
        place.write_text("through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="the system has no /dev/full")
def test_a_full_device_is_an_error() -> None:
    with pytest.raises(OSError, match="No space left"):
        write_image("/dev/full", Image.new("RGB", (64, 64)), "JPEG")
    assert Path("/dev/full").is_char_device()
