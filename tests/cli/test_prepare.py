"""Tests of ``prepare-voc`` and ``prepare-coco``, with archives of the true layout on a local server."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from segmnv2.cli import main
from segmnv2.data.mask_file import write_mask
from segmnv2.datasets.coco_voc import CocoAsVoc
from segmnv2.datasets.voc import VocSegmentation
from segmnv2.labels import VOC_LABELS
from segmnv2.preparation import download
from segmnv2.preparation import published_archives as sources
from tests.dataset_files import iterate
from tests.datasets.test_coco_voc import CAT, Coco, box, instance
from tests.preparation.loopback import Server, serve
from tests.preparation.test_sbd import OTHERS, SIZE, TRAIN, VAL, draw, write_list, write_mat

VOC, SBD, ANNOTATIONS = sources.VOC_2012.name, sources.SBD.name, sources.COCO_ANNOTATIONS.name

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


def voc_archive(folder: Path) -> bytes:
    """Return an archive of ``VOCdevkit/VOC2012`` with the files for SBD, and one that segmentation does not need."""
    root = folder / "VOCdevkit/VOC2012"
    (root / "JPEGImages").mkdir(parents=True)
    for name in (*TRAIN, *VAL, *OTHERS):
        PIL.Image.new("RGB", SIZE[::-1], (int(name[-1]) * 20, 90, 9)).save(root / f"JPEGImages/{name}.jpg")
    for name in (*TRAIN, *VAL):
        write_mask(root / f"SegmentationClass/{name}.png", draw(name), VOC_LABELS)
    for split, names in {"train": TRAIN, "val": VAL, "trainval": TRAIN + VAL}.items():
        write_list(root / f"ImageSets/Segmentation/{split}.txt", names)
    write_list(root / "Annotations/2007_000001.xml", ["<annotation/>"])
    return pack_tar(folder / "VOCdevkit", "w")


def sbd_archive(folder: Path) -> bytes:
    root = folder / "benchmark_RELEASE/dataset"
    for split, names in {"train": [OTHERS[2], VAL[0], OTHERS[0]], "val": [TRAIN[0], OTHERS[1]]}.items():
        write_list(root / f"{split}.txt", names)
        for name in names:
            write_mat(root / f"cls/{name}.mat", draw(name))
            write_mat(root / f"inst/{name}.mat", draw(name))
    write_list(root.parent / "benchmark_code_RELEASE/README", ["code"])
    return pack_tar(folder / "benchmark_RELEASE", "w:gz")


def coco_archives(folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    big, small = [instance(CAT, box(0, 0, 50, 40), 2000.0)], [instance(CAT, box(0, 0, 9, 9), 81.0)]
    coco = Coco(folder, big, small, [])
    coco.path.write_text(json.dumps(coco.content))
    shutil.copytree(folder / "val2017", folder / "train2017")
    shutil.copy(coco.path, folder / "annotations/instances_train2017.json")
    (folder / "annotations/captions_val2017.json").write_text("{}")
    return {
        ANNOTATIONS: pack_zip(folder / "annotations"),
        "train2017.zip": pack_zip(folder / "train2017"),
        "val2017.zip": pack_zip(folder / "val2017"),
    }


def pack_tar(folder: Path, mode: str) -> bytes:
    path = folder.with_suffix(".packed")
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        tar.add(folder, folder.name)
    return path.read_bytes()


def pack_zip(folder: Path) -> bytes:
    path = folder.with_suffix(".packed")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder.name}/", "")
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    return path.read_bytes()


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return official name -> bytes of each archive."""
    folder = tmp_path_factory.mktemp("archives")
    voc, sbd = voc_archive(folder / "voc"), sbd_archive(folder / "sbd")
    return {VOC: voc, SBD: sbd, **coco_archives(folder / "coco")}


@pytest.fixture
def server(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Run a server of the publishers, and register its files as theirs."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    with serve() as running:
        entries = {name: running.archive(name, content) for name, content in contents.items()}
        monkeypatch.setattr(sources, "VOC_2012", entries[VOC])
        monkeypatch.setattr(sources, "SBD", entries[SBD])
        monkeypatch.setattr(sources, "COCO_ANNOTATIONS", entries[ANNOTATIONS])
        images = {split: entries[f"{split}.zip"] for split in ("train2017", "val2017")}
        monkeypatch.setattr(sources, "COCO_IMAGES", images)
        yield running


def state(folder: Path, *, times: bool = False) -> dict[str, object]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns if times else 0)
        for name, path in files.items()
        if not name.endswith(".index.safetensors") or times  # has the time at which the annotations were unpacked
    }


def check_voc(root: Path) -> None:
    dataset = VocSegmentation(root, "train_aug")
    assert dataset.names == TRAIN + OTHERS
    for sample in iterate(dataset):
        assert (sample.mask == draw(sample.name)).all()
    assert len(VocSegmentation(root, "val")) == 1


def check_coco(root: Path) -> None:
    for split in ("train2017", "val2017"):
        dataset = CocoAsVoc(root, split)
        assert dataset.names == ["000000000001"]
        assert np.unique(dataset[0].mask).tolist() == [0, VOC_LABELS.names.index("cat")]
        assert len(CocoAsVoc(root, split, min_pixels=0)) == 3


CHECKS = {"prepare-voc": check_voc, "prepare-coco": check_coco}
ARCHIVES = {"prepare-voc": [VOC, SBD], "prepare-coco": [ANNOTATIONS, "train2017.zip", "val2017.zip"]}

commands = pytest.mark.parametrize("command", CHECKS)


@commands
def test_an_empty_folder_becomes_a_data_set_and_then_stays_unchanged(
    command: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data" / "set"
    assert main([command, str(root), "--download"]) == 0
    out = capsys.readouterr().out
    for name in ARCHIVES[command]:
        assert f"unpacked {name}" in out
    CHECKS[command](root)
    assert server.requests == len(ARCHIVES[command])
    assert not [name for name in state(root) if "/." in name or "partial" in name]
    shutil.rmtree(root / "archives")
    before = state(root, times=True)
    assert main([command, str(root), "--download"]) == 0
    assert main([command, str(root)]) == 0
    assert "unpacked" not in capsys.readouterr().out
    assert state(root, times=True) == before
    assert server.requests == len(ARCHIVES[command])


@commands
@pytest.mark.parametrize("flag", [[], ["--download"]])
def test_existing_archives_need_no_download(
    command: str, flag: list[str], server: Server, contents: dict[str, bytes], tmp_path: Path
) -> None:
    for name in ARCHIVES[command]:
        (tmp_path / name).write_bytes(contents[name])
    assert main([command, str(tmp_path / "root"), "--archives", str(tmp_path), *flag]) == 0
    CHECKS[command](tmp_path / "root")
    assert server.requests == 0


@commands
def test_without_permission_nothing_is_downloaded_and_missing_files_are_listed(
    command: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path / "root")]) == 2
    message = capsys.readouterr().err
    for name in ARCHIVES[command]:
        assert f"{server.url}/{name}" in message
    assert "--download" in message
    assert str(tmp_path / "root" / "archives") in message
    assert server.requests == 0
    assert not (tmp_path / "root").exists()


@commands
def test_a_file_instead_of_a_folder_is_reported(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    for arguments in ([str(file)], [str(tmp_path / "root"), "--archives", str(file)]):
        assert main([command, *arguments]) == 2
        assert f"{file} is a file" in capsys.readouterr().err.replace(": is", " is")


@commands
def test_a_repeated_run_after_an_interruption_gives_the_same_bytes(
    command: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([command, str(whole), "--download"]) == 0
    server.script = [-500, *[500] * download.ATTEMPTS]  # the connection breaks
    assert main([command, str(broken), "--download"]) == 2
    assert "are kept" in capsys.readouterr().err
    interrupt_unpacking(monkeypatch, [command, str(broken), "--download"])
    assert main([command, str(broken), "--download"]) == 0
    assert "bytes=500-" in server.ranges_asked
    assert state(broken) == state(whole)
    CHECKS[command](broken)


def interrupt_unpacking(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """Run a command with a Ctrl-C while the third file is written."""
    copy, calls = shutil.copyfileobj, []

    def pressed(source: object, target: object, *rest: int) -> None:
        calls.append(source)
        if len(calls) == 3:
            raise KeyboardInterrupt
        copy(source, target, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("segmnv2.preparation.archive.shutil.copyfileobj", pressed)
        assert main(arguments) == 130


def test_a_mirror_replaces_the_publisher(server: Server, tmp_path: Path) -> None:
    for name in (VOC, SBD):
        server.files[f"mirror/{name}"] = server.files.pop(name)
    assert main(["prepare-voc", str(tmp_path), "--download"]) == 2
    assert main(["prepare-voc", str(tmp_path), "--download", "--mirror", f"{server.url}/mirror"]) == 0
    check_voc(tmp_path)


def test_sbd_in_another_folder_is_used(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare-voc", str(tmp_path / "first"), "--download"]) == 0
    before = server.requests
    sbd = tmp_path / "first/benchmark_RELEASE"
    assert main(["prepare-voc", str(tmp_path / "second"), "--sbd", str(sbd), "--download"]) == 0
    check_voc(tmp_path / "second")
    assert server.requests == before + 1
    assert main(["prepare-voc", str(tmp_path / "second"), "--sbd", str(sbd)]) == 0
    assert "0 masks written, 3 unchanged" in capsys.readouterr().out


@commands
def test_missing_files_are_restored_from_the_archive(
    command: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(tmp_path), "--download"]) == 0
    gone = {"prepare-voc": f"VOC2012/JPEGImages/{VAL[0]}.jpg", "prepare-coco": "val2017/000000000002.jpg"}[command]
    before = state(tmp_path)
    (tmp_path / gone).unlink()
    (tmp_path / "archives").rename(tmp_path / "kept")
    assert main([command, str(tmp_path)]) == 2
    assert Path(gone).parent.name in capsys.readouterr().err
    (tmp_path / "kept").rename(tmp_path / "archives")
    assert main([command, str(tmp_path)]) == 0
    assert state(tmp_path) == before


def test_counts_that_differ_from_the_published_ones_are_reported(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["prepare-voc", str(tmp_path), "--download"]) == 0
    assert "train_aug: 5 images with masks (10582 are published" in capsys.readouterr().out
    monkeypatch.setattr(sources, "VOC_COUNTS", {"train": 2, "val": 1, "trainval": 3, "train_aug": 5})
    assert main(["prepare-voc", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("as published") == 4


def test_only_requested_splits_are_downloaded(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare-coco", str(tmp_path), "--split", "val2017", "--download"]) == 0
    assert server.requests == 2
    assert not (tmp_path / "train2017").exists()
    assert main(["prepare-coco", str(tmp_path), "--split", "test2017"]) == 2
    assert "test2017: not known; give train2017 or val2017" in capsys.readouterr().err


@commands
def test_the_tool_runs_the_command(command: str) -> None:
    path = Path(__file__).resolve().parents[2] / "tools" / f"{command.replace('-', '_')}.py"
    done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert f"segmnv2 {command}" in done.stdout
