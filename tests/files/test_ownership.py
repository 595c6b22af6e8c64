from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import segmnv2.files.ownership as ownership
from segmnv2.errors import ConfigError
from segmnv2.export.create import staged_path
from segmnv2.files.atomic import atomic_path, check_writable
from segmnv2.files.ownership import LIST, check_replaceable, claim, protect, protected


def write(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text)


def test_only_files_of_this_program_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text in ("one", "two"):  # two runs of one command
        with protected([]):
            check_replaceable([path])
            write(path, text)
    path.write_text("corrected by hand")
    with protected([]):
        for refused in (lambda: write(path, "three"), lambda: check_replaceable([path]), lambda: check_writable(path)):
            with pytest.raises(ConfigError, match=r"a.txt: exists, and segmnv2 did not write it.*--overwrite"):
                refused()
    assert path.read_text() == "corrected by hand"
    assert sorted(file.name for file in tmp_path.iterdir()) == [LIST, "a.txt"]
    with protected([], overwrite=True):
        write(path, "three")
    with protected([]):
        write(path, "four")


def test_a_file_with_the_same_content_is_no_loss(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a\n")
    with protected([]):
        write(tmp_path / "list.txt", "a\n")


@pytest.mark.parametrize("given", ["file", "folder", "later"])
def test_inputs_are_never_replaced(tmp_path: Path, given: str) -> None:
    path = tmp_path / "own/masks/a.png"
    path.parent.mkdir(parents=True)
    path.write_text("by hand")
    inputs = {"file": [path], "folder": [tmp_path / "own"], "later": []}[given]
    with protected(inputs, overwrite=True):
        if given == "later":
            protect([path])
        with pytest.raises(ConfigError, match="is an input of this command"):
            write(path, "predicted")
    assert path.read_text() == "by hand"


def test_inputs_of_this_program_are_kept_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("a")
    with protected([]):
        write(tmp_path / "a", "predicted")
    with protected([tmp_path]):  # as a data set that has its own report
        write(tmp_path / "a", "predicted again")
    for name in ("a", "link"):
        with protected([tmp_path / name], overwrite=True), pytest.raises(ConfigError, match="is an input"):
            write(tmp_path / "a", "new")
    with protected([]):
        protect([tmp_path])
        with pytest.raises(ConfigError, match="is an input"):
            write(tmp_path / "a", "new")


def test_python_programs_and_claimed_places_replace_as_usual(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    write(tmp_path / "a", "new")
    with protected([]):
        claim(tmp_path)
        write(tmp_path / "a", "newer")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a"]


def test_exports_ask_too_and_keep_the_list_of_their_folder(tmp_path: Path) -> None:
    def export(text: str) -> None:
        with staged_path(tmp_path / "net.onnx") as staged:
            staged.write_text(text)
            write(staged.with_name("net.onnx.json"), text)

    with protected([]):
        write(tmp_path / "other", "x")
        export("one")
    with protected([]):
        export("two")
        write(tmp_path / "other", "y")
    (tmp_path / "net.onnx.json").write_text("mine")
    with protected([]), pytest.raises(ConfigError, match=r"net.onnx.json: exists"):
        export("three")
    assert (tmp_path / "net.onnx").read_text() == "two"


def test_names_that_are_no_utf_8_and_damaged_lists_are_met(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9\nx.txt")
    (tmp_path / LIST).write_bytes(b"\xff\n[[[\n")
    for text in ("one", "two"):
        with protected([]):
            write(path, text)


def test_a_list_does_not_grow_with_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "MOST_OLD", 3)
    for run in range(20):
        with protected([]):
            write(tmp_path / "a", "x" * run)
            write(tmp_path / f"{run}, é", "new each day")
        (tmp_path / f"{run}, é").unlink()
    assert len((tmp_path / LIST).read_text().splitlines()) < 10
    (tmp_path / "a").write_text("by hand")
    with protected([]), pytest.raises(ConfigError, match="a: exists"):
        write(tmp_path / "a", "new")


def test_a_list_may_be_shortened_while_files_are_written(tmp_path: Path) -> None:
    def write_some(worker: int) -> None:
        for number in range(20):
            write(tmp_path / f"{worker}-{number}", "one")

    with protected([]):
        write(tmp_path / "first", "one")
        with ThreadPoolExecutor(4) as pool:
            workers = [pool.submit(write_some, worker) for worker in range(3)]
            while not all(worker.done() for worker in workers):
                ownership._compact(tmp_path)
    with protected([]):
        for path in tmp_path.glob("[!.]*"):
            write(path, "two")


def test_a_list_that_cannot_be_shortened_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with protected([]):
        write(tmp_path / "a", "one")
    monkeypatch.setattr(ownership, "MOST_OLD", -100)
    monkeypatch.setattr(ownership, "_compact", lambda folder: (tmp_path / "gone/list").stat())
    with protected([]):
        check_replaceable([tmp_path / "a"])
