from __future__ import annotations

from pathlib import Path

import pytest

from segmnv2.export.create import staged_path


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_all_written_files_are_moved_together(tmp_path):
    with staged_path(tmp_path / "deep" / "model.xml") as staged:
        assert staged.name == "model.xml"
        staged.write_text("graph")
        staged.with_suffix(".bin").write_text("weights")
        assert contents(tmp_path / "deep").keys().isdisjoint({"model.xml", "model.bin"})
    assert contents(tmp_path) == {"deep/model.xml": "graph", "deep/model.bin": "weights"}


def test_a_folder_replaces_a_folder(tmp_path):
    for text in ("old", "new"):
        with staged_path(tmp_path / "model.mlpackage") as staged:
            staged.mkdir()
            (staged / text).write_text(text)
    assert contents(tmp_path) == {"model.mlpackage/new": "new"}


def test_permissions_of_an_existing_file_are_kept(tmp_path):
    (tmp_path / "model.xml").touch(mode=0o600)
    with staged_path(tmp_path / "model.xml") as staged:
        staged.touch(mode=0o644)
        staged.with_suffix(".bin").touch(mode=0o644)
    assert (tmp_path / "model.xml").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "model.bin").stat().st_mode & 0o777 == 0o644


def test_an_error_writes_nothing_and_keeps_existing_files(tmp_path):
    (tmp_path / "model.xml").write_text("old")

    def fail() -> None:
        with staged_path(tmp_path / "model.xml") as staged:
            staged.write_text("half")
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert contents(tmp_path) == {"model.xml": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["model.xml"]
