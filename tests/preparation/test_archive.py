from __future__ import annotations

import errno
import io
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given

from segmnv2.errors import DatasetError
from segmnv2.preparation import archive as module
from segmnv2.preparation.archive import unpack
from tests.damage import check_lawful, damage, many, randoms

FILES = {"top/in/a.txt": b"one", "top/in/deep/b.txt": b"two" * 1000, "top/out.txt": b"three", "else.txt": b"four"}
EXPECTED = {"a.txt": b"one", "deep/b.txt": b"two" * 1000}

Writer = Callable[[Path, dict[str, bytes]], Path]


def write_tar(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return path


def write_tgz(path: Path, files: dict[str, bytes]) -> Path:
    return write_tar(path, files, mode="w:gz")


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        for name, data in files.items():
            content.writestr(name, data)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(path: Path, target: Path, match: str) -> None:
    """Check that a rejected archive leaves no file, inside the target or elsewhere."""
    before = contents(target.parent)
    with pytest.raises(DatasetError, match=match):
        unpack(path, target, inside="top/in")
    assert contents(target.parent) == before
    assert not target.exists()
    assert not list(target.parent.glob(".*"))


@pytest.fixture(params=[write_tar, write_tgz, write_zip], ids=["tar", "tgz", "zip"])
def write(request: pytest.FixtureRequest) -> Writer:
    return request.param


def test_only_the_requested_folder_is_unpacked(write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path / "archive", FILES)
    assert unpack(path, tmp_path / "new" / "target", inside="top/in") == 2
    assert contents(tmp_path / "new") == {f"target/{name}": content for name, content in EXPECTED.items()}


def test_the_current_folder_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    assert unpack(write_tar(tmp_path / "a.tar", FILES), Path(), inside="top/in") == 2
    assert contents(tmp_path / "new") == EXPECTED


def test_leading_dots_and_folder_entries_change_nothing(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("./top/in/empty")
    folder.type = tarfile.DIRTYPE
    path = write_tar(tmp_path / "a.tar", {f"./{name}": content for name, content in FILES.items()}, folder)
    unpack(path, tmp_path / "target", inside="top/in")
    assert contents(tmp_path / "target") == EXPECTED


def test_only_wanted_files_are_unpacked(write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path / "archive", FILES)
    assert unpack(path, tmp_path / "target", inside="top/in", wanted=lambda name: name.startswith("deep/")) == 1
    assert contents(tmp_path / "target") == {"deep/b.txt": EXPECTED["deep/b.txt"]}


def test_a_folder_is_completed_and_keeps_its_files(write: Writer, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "a.txt").write_bytes(b"mine")
    (target / "c.txt").write_bytes(b"mine too")
    path = write(tmp_path / "archive", FILES)
    assert unpack(path, target, inside="top/in") == 1
    assert contents(target) == {**EXPECTED, "a.txt": b"mine", "c.txt": b"mine too"}


@pytest.mark.parametrize(
    "name", ["../evil", "top/in/../../../evil", "/evil", "top/in/..", "C:/evil", "top\\in\\evil", "top/in//evil"]
)
def test_paths_outside_of_the_folder_are_rejected(write: Writer, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "archive", {**FILES, name: b"x"})
    refused(path, tmp_path / "target", r"is outside of the folder .* do not trust it")


@pytest.mark.parametrize(
    ("kind", "word"),
    [(tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.CHRTYPE, "device"), (tarfile.FIFOTYPE, "device")],
)
def test_links_and_devices_are_rejected_in_tar(tmp_path: Path, kind: bytes, word: str) -> None:
    info = tarfile.TarInfo("top/in/odd")
    info.type, info.linkname = kind, "/etc/passwd"
    refused(write_tar(tmp_path / "a.tar", FILES, info), tmp_path / "target", rf"'top/in/odd' is a {word}")


def test_links_and_devices_are_rejected_in_zip(tmp_path: Path) -> None:
    for kind, word in ((stat.S_IFLNK, "link"), (stat.S_IFIFO, "device")):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as content:
            info = zipfile.ZipInfo("top/in/odd")
            info.create_system, info.external_attr = 3, (kind | 0o777) << 16
            content.writestr(info, "/etc/passwd")
        refused(tmp_path / "a.zip", tmp_path / "target", rf"'top/in/odd' is a {word}")


@pytest.mark.parametrize("write", [write_tgz, write_zip])
def test_archive_bombs_are_rejected(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path / "archive", {**FILES, "top/in/bomb": bytes(20 << 20)})
    refused(path, tmp_path / "target", r"holds more than 10 times its own \d+ bytes.*'top/in/bomb'")


def test_a_zip_that_understates_a_size_is_rejected(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"top/in/bomb": bytes(3 << 20)})
    data = path.read_bytes()
    true, stated = (3 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")
    assert data.count(true) == 2
    path.write_bytes(data.replace(true, stated))
    refused(path, tmp_path / "target", "damaged or truncated")


def test_repeated_names_are_rejected(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", FILES, tarfile.TarInfo("top/in/a.txt"))
    refused(tar, tmp_path / "target", r"holds 'top/in/a.txt' twice")
    clash = write_tar(tmp_path / "b.tar", {"top/in/a": b"", "top/in/a/b": b""})
    refused(clash, tmp_path / "target", r"twice, or as file and folder")


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated_archives_leave_nothing(write: Writer, tmp_path: Path, part: float) -> None:
    data = write(tmp_path / "archive", {"top/in/a": bytes(range(256)) * 400, **FILES}).read_bytes()
    end = data.rstrip(b"\0")  # a tar ends in unused zeros
    (tmp_path / "archive").write_bytes(data[: int(part * len(end))])
    refused(tmp_path / "archive", tmp_path / "target", "damaged or truncated")


def test_checksums_find_damaged_bytes_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as content:
        content.writestr("top/in/a", b"good" * 100)
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace(b"good", b"evil", 1))
    refused(tmp_path / "a.zip", tmp_path / "target", "damaged or truncated.*CRC")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\3\4", b"\x1f\x8b"])
def test_a_file_that_is_not_an_archive_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "archive").write_bytes(content)
    refused(tmp_path / "archive", tmp_path / "target", "damaged or truncated")


def test_an_archive_without_the_folder_is_rejected(write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path / "archive", {"other/a": b""})
    refused(path, tmp_path / "target", "has no top/in with the files needed")


def test_a_full_disk_leaves_nothing(write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    refused(write(tmp_path / "archive", FILES), tmp_path / "target", "no space to unpack archive; free about")


def test_files_of_a_killed_run_are_not_used(write: Writer, tmp_path: Path) -> None:
    remains = tmp_path / ".target.unpacking"
    (remains / "deep").mkdir(parents=True)
    (remains / "half.txt").write_bytes(b"ha")
    unpack(write(tmp_path / "archive", FILES), tmp_path / "target", inside="top/in")
    assert contents(tmp_path / "target") == EXPECTED
    assert not remains.exists()


@many
@given(randoms)
def test_any_archive_is_unpacked_inside_or_rejected(tmp_path_factory: pytest.TempPathFactory, random: Random) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    writer = random.choice((write_tar, write_tgz, write_zip))
    path = writer(folder / "a", FILES)
    content = path.read_bytes()
    if writer is write_tar:  # most of it are zeros
        start = 512 * random.randrange(4)
        path.write_bytes(content[:start] + damage(content[start : start + 512], random) + content[start + 512 :])
    else:
        path.write_bytes(damage(content, random))
    check_lawful(lambda: unpack(path, folder / "target", inside="top/in"))
    assert not list(folder.glob(".*"))


def test_names_that_no_file_system_allows_are_rejected(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a", {**FILES, "top/in/" + "x" * 5000: b"1"})
    refused(path, tmp_path / "target", "is damaged or truncated .*File name too long")


def test_unwanted_files_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALLOWANCE", 0)
    refused(write_zip(tmp_path / "a", {"else": b"0" * 10**6, **FILES}), tmp_path / "target", "holds more than 10 times")
