"""Published archives by their short names: fetched, checked, converted, kept; and each way that this can fail."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import segmnv2
from segmnv2.cli import main
from segmnv2.config.segmentation_schema import ModelSection
from segmnv2.errors import WeightsError
from segmnv2.hub.cache import PUBLISHED, Entry, Published, cache_folder
from segmnv2.hub.resolve import resolve_weights
from segmnv2.labels import LabelSet
from segmnv2.models.segmenter import Segmenter
from segmnv2.preparation import download
from segmnv2.preparation.archive import unpack
from segmnv2.tasks.segmentation import build_model
from tests.conversion.test_convert import as_tensorflow
from tests.preparation.loopback import Server
from tests.weights.tensor_bundle_writer import write_checkpoint

NAME = "voc_mobilenet_v2"
FOLDER, CHECKPOINT, ARCHIVE = "net", "model.ckpt-7", "net.tar.gz"


def pack(model: Segmenter, folder: Path, inside: str = FOLDER) -> bytes:
    """Return an archive laid out as TensorFlow's, with a graph beside the checkpoint that is not wanted."""
    write_checkpoint(folder / CHECKPOINT, {**as_tensorflow(model), "global_step": torch.tensor(7)})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, f"{inside}/{path.name}" if inside else f"./{path.name}")
        graph = tarfile.TarInfo(f"{inside or '.'}/frozen_inference_graph.pb")
        graph.size = 10
        archive.addfile(graph, io.BytesIO(bytes(10)))
    return buffer.getvalue()


@pytest.fixture
def publish(
    server: Server, model: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Published]:
    """Offers the network under a short name; ``inside`` says where in the archive."""

    def offer(inside: str = FOLDER, **changes: Any) -> Published:
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        archive = replace(server.archive(ARCHIVE, pack(model, folder, inside)), **changes)
        found = Published("a network", archive=archive, inside=inside, checkpoint=CHECKPOINT)
        monkeypatch.setitem(PUBLISHED, NAME, found)
        return found

    return offer


def same(path: Path, model: Segmenter) -> bool:
    pixels = torch.randint(0, 256, (1, 3, 49, 65), dtype=torch.uint8)
    with torch.no_grad():
        return torch.equal(segmnv2.load_model(path)(pixels), model(pixels))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


KEPT = [f"weights/{NAME}.json", f"weights/{NAME}.safetensors"]


@pytest.mark.parametrize("inside", [FOLDER, ""])
def test_a_name_is_fetched_once_and_leaves_the_network_alone(
    publish: Callable[..., Published], server: Server, model: Segmenter, cache: Path, inside: str
) -> None:
    publish(inside)
    path = resolve_weights(NAME)
    assert same(path, model)
    assert server.requests == 1
    assert resolve_weights(Path(NAME)) == path == cache / "weights" / f"{NAME}.safetensors"
    assert server.requests == 1
    assert [name for name in files(cache) if not name.endswith(".lock")] == KEPT


def test_without_a_network_the_cache_serves_and_nothing_is_asked(
    publish: Callable[..., Published], server: Server, model: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish()
    with monkeypatch.context() as offline:
        offline.setenv("SEGMNV2_OFFLINE", "1")
        with pytest.raises(WeightsError, match=r"is not in the cache, and SEGMNV2_OFFLINE.*put it into .*downloads"):
            resolve_weights(NAME)
        assert server.requests == 0
    path = resolve_weights(NAME)
    monkeypatch.setenv("SEGMNV2_OFFLINE", "1")
    monkeypatch.setattr(download, "fetch_archive", None)
    assert same(resolve_weights(NAME), model)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"voc_mobilenet_v2\.safetensors: is damaged: its SHA-256 is .*; and SEGMN"):
        resolve_weights(NAME)


def test_an_archive_that_was_carried_here_is_used_without_a_network(
    publish: Callable[..., Published], server: Server, model: Segmenter, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / ARCHIVE).write_bytes(server.files[ARCHIVE])
    assert same(resolve_weights(NAME), model)
    assert server.requests == 0


def test_a_dead_server_is_told_with_what_can_be_done(publish: Callable[..., Published], server: Server) -> None:
    publish()
    server.script = [503] * 5
    with pytest.raises(WeightsError, match=rf"{ARCHIVE}: cannot be downloaded.*put it into .*downloads"):
        resolve_weights(NAME)


def test_an_interrupted_download_goes_on_where_it_was(
    publish: Callable[..., Published], server: Server, model: Segmenter
) -> None:
    publish()
    server.script = [-1000]
    assert same(resolve_weights(NAME), model)
    assert server.ranges_asked == [None, "bytes=1000-"]


def test_a_download_that_was_killed_goes_on_in_the_next_run(
    publish: Callable[..., Published], server: Server, model: Segmenter, cache: Path
) -> None:
    publish()
    server.script = [-1000, *[503] * 5]
    with pytest.raises(WeightsError, match="downloaded bytes are kept"):
        resolve_weights(NAME)
    assert (cache / "downloads" / f"{ARCHIVE}.partial").stat().st_size == 1000
    assert same(resolve_weights(NAME), model)
    assert server.ranges_asked[-1] == "bytes=1000-"


@pytest.mark.parametrize("checksum", ["0" * 64, "0" * 96])
def test_a_wrong_checksum_is_refused_and_nothing_is_converted(
    publish: Callable[..., Published], cache: Path, checksum: str
) -> None:
    publish(checksum=checksum)
    with pytest.raises(WeightsError, match=rf"its SHA-(256|384) is .*, that of {ARCHIVE} is {checksum}"):
        resolve_weights(NAME)
    assert not (cache / "weights" / f"{NAME}.safetensors").exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "no note", "broken note", "other importer"])
def test_what_broke_in_the_cache_is_fetched_again(
    publish: Callable[..., Published], server: Server, model: Segmenter, damage: str
) -> None:
    publish()
    path = resolve_weights(NAME)
    note = path.with_suffix(".json")
    if damage == "no note":
        note.unlink()
    elif damage == "broken note":
        note.write_text("{")
    elif damage == "other importer":
        note.write_text(note.read_text().replace('"importer": ', '"importer": 1'))
    else:
        path.write_bytes(path.read_bytes()[:1000] if damage == "truncated" else b"")
    assert same(resolve_weights(NAME), model)
    assert server.requests == 2


def test_two_at_once_fetch_once(publish: Callable[..., Published], server: Server, model: Segmenter) -> None:
    publish()
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(resolve_weights, [NAME, NAME]))
    assert paths[0] == paths[1]
    assert same(paths[0], model)
    assert server.requests == 1


def test_an_archive_without_the_checkpoint_leaves_nothing(
    publish: Callable[..., Published], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = publish()
    monkeypatch.setitem(PUBLISHED, NAME, replace(found, checkpoint="other.ckpt"))
    with pytest.raises(WeightsError, match="has no net with the files needed"):
        resolve_weights(NAME)
    assert not (cache / "weights" / f"{NAME}.safetensors").exists()
    assert files(cache / "downloads") == [ARCHIVE]


def test_a_cache_that_cannot_be_written_is_named(
    publish: Callable[..., Published], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEGMNV2_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"file: cannot be written .*SEGMNV2_CACHE"):
        resolve_weights(NAME)


def test_paths_stay_as_they_are_and_names_that_are_none_are_told(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("")
    assert resolve_weights(file) == file
    assert resolve_weights("nowhere.safetensors") == Path("nowhere.safetensors")
    assert resolve_weights(tmp_path / "nothing") == tmp_path / "nothing"
    with pytest.raises(WeightsError, match=r"voc_mobilenet: .* did you mean voc_mobilenet_v2\? published are imagenet"):
        resolve_weights("voc_mobilenet")


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("SEGMNV2_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "segmnv2"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "segmnv2"
    assert Entry(tmp_path, "a").fault() == ""


def test_every_published_name_says_where_it_comes_from_and_how_it_is_checked() -> None:
    for published in PUBLISHED.values():
        assert (published.archive is None) != (published.repository is None)
        if published.archive is not None:
            assert published.archive.algorithm in ("sha256", "sha384")
            assert published.archive.url.endswith(published.archive.name)
            assert published.checkpoint


def test_experiments_take_short_names(publish: Callable[..., Published], model: Segmenter) -> None:
    publish()
    section = ModelSection(width=0.35, weights=Path(NAME))
    built = build_model(section, LabelSet.numbered(3)).eval()
    pixels = torch.randint(0, 256, (1, 3, 33, 33), dtype=torch.uint8)
    assert torch.equal(built(pixels), model(pixels))
    with pytest.raises(
        WeightsError, match=r"voc_mobilenet: no file and no published weights have this name(?s:.*)key model\.weights"
    ):
        build_model(ModelSection(width=0.35, weights=Path("voc_mobilenet")), LabelSet.numbered(3))


def test_commands_and_the_predictor_take_short_names(
    publish: Callable[..., Published], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish()
    Image.new("RGB", (40, 30), (200, 10, 10)).save(tmp_path / "a.png")
    words = ["infer", str(tmp_path / "a.png"), "--weights", NAME, "--out", str(tmp_path / "out"), "--size", "65"]
    assert main(words) == 0
    assert (tmp_path / "out" / "masks" / "a.png").is_file()
    assert segmnv2.Predictor.load(NAME, size=65)(tmp_path / "a.png").mask.shape == (30, 40)
    assert segmnv2.from_pretrained(NAME).num_classes == 3
    assert main(["weights", "list"]) == 0
    assert f"{NAME}: a network (Apache-2.0); in the cache" in capsys.readouterr().out
    assert main(["weights", "fetch", NAME]) == 0
    assert capsys.readouterr().out.strip().endswith(f"{NAME}.safetensors")
    assert main(["weights", "fetch", "voc"]) == 2
    Entry(cache_folder(), NAME).path.write_bytes(b"")
    assert main(["weights", "list"]) == 0
    assert f"{NAME}: a network (Apache-2.0); damaged in the cache, " in capsys.readouterr().out


def test_the_root_of_an_archive_can_be_unpacked(tmp_path: Path, model: Segmenter) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (tmp_path / "a.tgz").write_bytes(pack(model, folder, ""))
    assert unpack(tmp_path / "a.tgz", tmp_path / "out", inside="") == 3


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 3000, "x\0y"])
def test_names_that_no_file_can_have_are_refused(name: str) -> None:
    with pytest.raises(
        WeightsError, match=r"is not a possible file name|no file and no published weights have this name"
    ):
        resolve_weights(name)
