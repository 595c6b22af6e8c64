from __future__ import annotations

import errno
import random
import shutil
import socket
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segmnv2.errors import DatasetError
from segmnv2.preparation import download
from segmnv2.preparation.download import ATTEMPTS, fetch_archive
from segmnv2.preparation.prepare import Need, obtain
from tests.preparation.loopback import Server, serve

CONTENT = random.Random(3).randbytes(300_000)
OTHER = random.Random(4).randbytes(300_000)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    monkeypatch.setattr(download, "CHUNK", 1 << 14)
    with serve() as running:
        yield running


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_download_is_complete_and_leaves_no_other_file(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a.tar", CONTENT)
    path = fetch_archive(archive, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["a.tar"]


def test_an_existing_archive_is_not_requested(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a.tar", CONTENT)
    (tmp_path / "a.tar").write_bytes(CONTENT)
    assert fetch_archive(archive, tmp_path) == tmp_path / "a.tar"
    assert obtain([Need(tmp_path / "x", archive)], tmp_path, download=False) == [tmp_path / "a.tar"]
    assert server.requests == 0


def test_dropped_connections_are_resumed(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a.tar", CONTENT)
    server.script = [-100_000, -50_000, 503, 429]
    assert fetch_archive(archive, tmp_path).read_bytes() == CONTENT
    assert server.ranges_asked == [None, "bytes=100000-", *["bytes=150000-"] * 3]


def test_a_silent_connection_counts_as_lost(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    archive = server.archive("a.tar", CONTENT)
    server.script, server.stalls = [-(1 << 14)], 1
    assert fetch_archive(archive, tmp_path).read_bytes() == CONTENT
    assert server.requests == 2


def test_a_later_call_resumes_an_earlier_one(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a.tar", CONTENT)
    server.script = [-100_000, *[500] * ATTEMPTS]
    with pytest.raises(DatasetError, match=r"a.tar: cannot be downloaded, 5 attempts .*500 .*100000 downloaded bytes"):
        fetch_archive(archive, tmp_path)
    assert names(tmp_path) == ["a.tar.partial", "a.tar.partial.json"]
    assert fetch_archive(archive, tmp_path).read_bytes() == CONTENT
    assert server.ranges_asked[-1] == "bytes=100000-"
    assert names(tmp_path) == ["a.tar"]


@pytest.mark.parametrize(("ranges", "marks"), [(False, True), (True, False), (False, False)])
def test_servers_without_ranges_or_identifiers_are_asked_for_the_whole(
    server: Server, tmp_path: Path, ranges: bool, marks: bool
) -> None:
    archive = server.archive("a.tar", CONTENT)
    server.ranges, server.marks = ranges, marks
    server.script = [-100_000, -100_000]
    assert fetch_archive(archive, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("checks", [True, False])
def test_a_changed_file_is_not_mixed_with_the_old_one(server: Server, tmp_path: Path, checks: bool) -> None:
    old = server.archive("a.tar", OTHER)
    server.script = [-100_000, *[500] * ATTEMPTS]
    with pytest.raises(DatasetError, match="kept"):
        fetch_archive(old, tmp_path)
    new = server.archive("a.tar", CONTENT)
    server.checks = checks
    assert fetch_archive(new, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("note", [None, b"", b"[]", b'{"version": 3}', b"\xff"])
def test_bytes_of_unknown_origin_are_dropped(server: Server, tmp_path: Path, note: bytes | None) -> None:
    archive = server.archive("a.tar", CONTENT)
    (tmp_path / "a.tar.partial").write_bytes(OTHER[:1000])
    if note is not None:
        (tmp_path / "a.tar.partial.json").write_bytes(note)
    assert fetch_archive(archive, tmp_path).read_bytes() == CONTENT


def test_a_partial_file_that_is_too_large_restarts(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a.tar", CONTENT)
    (tmp_path / "a.tar.partial").write_bytes(CONTENT + b"x")
    assert fetch_archive(archive, tmp_path).read_bytes() == CONTENT


def test_progress_ends_at_the_total(server: Server, tmp_path: Path) -> None:
    counts: dict[str, int] = {}

    @contextmanager
    def track(title: str, total: int) -> Iterator[Any]:
        def advance(done: int) -> None:
            counts[title] = counts.get(title, 0) + done

        assert total == len(CONTENT)
        yield advance

    archive = server.archive("a.tar", CONTENT)
    server.ranges, server.script = False, [-100_000, -20_000]
    fetch_archive(archive, tmp_path, track=track)
    assert counts == {"download a.tar": len(CONTENT), "check a.tar": len(CONTENT)}


def test_a_wrong_checksum_is_reported_and_the_file_kept_apart(server: Server, tmp_path: Path) -> None:
    wrong, right = server.archive("a.tar", OTHER), server.archive("a.tar", CONTENT)
    server.archive("a.tar", OTHER)
    with pytest.raises(DatasetError) as caught:
        fetch_archive(right, tmp_path)
    for part in (wrong.checksum, right.checksum, "a.tar.rejected", right.url, "--mirror"):
        assert part in str(caught.value)
    assert names(tmp_path) == ["a.tar.rejected"]
    server.archive("a.tar", CONTENT)
    assert fetch_archive(right, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(("content", "reason"), [(OTHER, "SHA-256 is"), (CONTENT[:9], "truncated"), (b"", "truncated")])
def test_a_damaged_archive_of_the_user_is_reported_and_kept(
    server: Server, tmp_path: Path, content: bytes, reason: str
) -> None:
    archive = server.archive("a.tar", CONTENT)
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"a.tar: .*{reason}.*delete or move it"):
        fetch_archive(archive, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == content
    assert server.requests == 0


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refused_request_is_not_repeated(server: Server, tmp_path: Path, code: int) -> None:
    archive = server.archive("a.tar", CONTENT)
    server.script = [code]
    with pytest.raises(DatasetError, match=rf"a.tar: the server answers {code} .*--mirror URL"):
        fetch_archive(archive, tmp_path)
    assert server.requests == 1


def test_a_file_of_another_size_is_rejected_before_the_download(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a.tar", CONTENT)
    server.files["a.tar"] = b"<html>please log in"
    with pytest.raises(DatasetError, match=r"the server offers 19 bytes, a.tar has 300000"):
        fetch_archive(archive, tmp_path)
    assert not (tmp_path / "a.tar.partial").exists()


def test_a_mirror_replaces_the_publisher(server: Server, tmp_path: Path) -> None:
    archive = replace(server.archive("a.tar", CONTENT), url="http://127.0.0.1:1/nothing/b")
    assert fetch_archive(archive, tmp_path, mirror=f"{server.url}/").read_bytes() == CONTENT
    for mirror in ("no address", "ftp-ish://x"):
        with pytest.raises(DatasetError, match=mirror):
            fetch_archive(archive, tmp_path / "other", mirror=mirror)


def test_a_missing_network_is_one_message(server: Server, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        mirror = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(DatasetError, match=r"cannot be downloaded, 5 attempts .*refused.*check the network"):
            fetch_archive(server.archive("a.tar", CONTENT), tmp_path, mirror=mirror)


def test_too_little_space_is_reported_before_the_first_byte(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(400_000))
    one, two = server.archive("a.tar", CONTENT), server.archive("b.tar", OTHER)
    with pytest.raises(DatasetError, match=r"a.tar, b.tar need .* GB more.*free space"):
        obtain([Need(tmp_path / "x", one), Need(tmp_path / "y", two)], tmp_path / "new", download=True)
    assert server.requests == 0
    assert not (tmp_path / "new").exists()
    (tmp_path / "b.tar.partial").write_bytes(OTHER[:250_000])
    obtain([Need(tmp_path / "x", one), Need(tmp_path / "y", two)], tmp_path, download=True)


def test_a_full_disk_keeps_the_downloaded_part(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = server.archive("a.tar", CONTENT)
    write = download._write

    def fills(response: Any, partial: Any, size: int, advance: Any) -> None:
        write(response, partial, 100_000, advance)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download, "_write", fills)
        with pytest.raises(DatasetError, match=r"a.tar.partial: cannot be written .*No space.*free space and repeat"):
            fetch_archive(archive, tmp_path)
    assert fetch_archive(archive, tmp_path).read_bytes() == CONTENT
    assert server.ranges_asked[-1] == "bytes=100000-"


def test_an_unwritable_folder_is_reported(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"cannot be written .*choose a folder with write access"):
        fetch_archive(server.archive("a.tar", CONTENT), tmp_path / "file" / "folder")


def test_without_permission_all_missing_archives_are_named(server: Server, tmp_path: Path) -> None:
    one, two = server.archive("a.tar", CONTENT), server.archive("b.tar", OTHER)
    with pytest.raises(DatasetError) as caught:
        obtain(
            [Need(tmp_path / "x", one), Need(tmp_path / "y", two, "y: 3 of 4 are missing")], tmp_path, download=False
        )
    for part in (f"{tmp_path / 'x'}: missing", one.url, "y: 3 of 4 are missing", two.url, "--download", str(tmp_path)):
        assert part in str(caught.value)
    assert server.requests == 0
