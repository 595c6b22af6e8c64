from __future__ import annotations

from pathlib import Path

import pytest

from segmnv2.atomic import atomic_path, check_folder, check_writable
from segmnv2.errors import ConfigError


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
    with pytest.raises(ConfigError, match="file: is a file; name a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(ConfigError, match="out: cannot be written"):
        check_folder(tmp_path / "file" / "out")
    with pytest.raises(ConfigError, match=r"f\.json: cannot be written"):
        check_writable(tmp_path / "file" / "f.json")
    with pytest.raises(ConfigError, match="is a folder"):
        check_writable(tmp_path)
