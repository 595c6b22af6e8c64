"""The paper's weights by their short names, from archives with TensorFlow's layout."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import segmnv2
from segmnv2.hub.cache import PUBLISHED
from segmnv2.hub.resolve import resolve_weights
from segmnv2.models.model_file import read_model_file
from tests.preparation.loopback import Server, serve


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SEGMNV2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("SEGMNV2_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with serve() as running:
        yield running


def offer(server: Server, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve a checkpoint as the published archive, with its own checksum, because its bytes differ."""
    published = PUBLISHED[name]
    assert published.archive is not None
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, f"{published.inside or '.'}/{path.name}")
    content = server.archive(published.archive.name, buffer.getvalue())
    monkeypatch.setitem(PUBLISHED, name, replace(published, archive=content))


def test_the_papers_network_by_its_short_name_gives_the_labels_of_the_imported_one(
    shared: Path, voc_weights: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(server, "voc_mobilenet_v2", shared / "weights" / "deeplabv3_mnv2_pascal_train_aug", monkeypatch)
    image = next((shared / "data" / "VOCdevkit" / "VOC2012" / "JPEGImages").glob("*.jpg"))
    found = segmnv2.Predictor.load("voc_mobilenet_v2")(image).mask
    assert np.array_equal(found, segmnv2.Predictor.load(voc_weights)(image).mask)
    assert found.any()
    monkeypatch.setenv("SEGMNV2_OFFLINE", "1")
    assert np.array_equal(segmnv2.Predictor.load("voc_mobilenet_v2")(image).mask, found)
    assert server.requests == 1


def test_the_imagenet_backbone_by_its_short_name_is_the_imported_one(
    shared: Path, imagenet_weights: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(server, "imagenet_mobilenet_v2", shared / "weights" / "mobilenet_v2_1.0_224", monkeypatch)
    found, metadata = read_model_file(resolve_weights("imagenet_mobilenet_v2"))
    expected, theirs = read_model_file(imagenet_weights)
    assert found.keys() == expected.keys()
    assert all(bool((found[name] == expected[name]).all()) for name in found)
    assert metadata["normalization"] == theirs["normalization"]
