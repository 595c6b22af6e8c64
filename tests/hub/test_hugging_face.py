"""Downloads from the Hub: whole, checked, resumed, and from the cache where there is no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

import segmnv2
from segmnv2.errors import WeightsError
from segmnv2.hub.by_name import from_pretrained
from segmnv2.hub.publish import save_pretrained
from segmnv2.hub.resolve import resolve_weights
from segmnv2.models.segmenter import Segmenter
from tests.hub.hub_server import Hub

NAME = "someone/net"


@pytest.fixture
def published(hub: Hub, model: Segmenter, tmp_path: Path) -> Hub:
    """The hub with a repository of this library."""
    folder = save_pretrained(model, tmp_path / "repo", name=NAME, license="mit")
    hub.add(NAME, {path.name: path.read_bytes() for path in folder.iterdir()})
    return hub


def same(one: Any, other: Any) -> bool:
    pixels = torch.randint(0, 256, (1, 3, 49, 65), dtype=torch.uint8)
    with torch.no_grad():
        return torch.equal(one(pixels), other(pixels))


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_without_a_network_the_cache_serves(published: Hub, model: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    from_pretrained(NAME)
    asked = len(published.requests)
    go_offline(monkeypatch)
    assert same(from_pretrained(NAME), model)
    assert len(published.requests) == asked


def test_a_server_that_is_gone_is_as_no_network(
    published: Hub, model: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_pretrained(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert same(from_pretrained(NAME), model)


def test_without_a_network_and_with_nothing_kept_it_is_told(published: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    go_offline(monkeypatch)
    with pytest.raises(
        WeightsError, match=r"someone/net: config\.json is neither in the cache nor available on the Hugging Face Hub"
    ):
        from_pretrained(NAME)
    assert published.requests == []


def test_an_interrupted_download_goes_on_where_it_was(
    published: Hub, model: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)  # what is kept are whole pieces, of 10 MB usually
    published.cuts = [100_000]
    assert same(from_pretrained(NAME), model)
    assert [asked for asked in published.ranges if asked] == ["bytes=100000-"]


def test_a_line_that_keeps_breaking_is_told_and_the_next_run_goes_on(
    published: Hub, model: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    published.cuts = [1000] * 100
    with pytest.raises(WeightsError, match=r"model\.safetensors is neither in the cache .*check the name"):
        from_pretrained(NAME)
    published.cuts = []
    assert same(from_pretrained(NAME), model)


def test_a_wrong_checksum_is_fetched_again_once_and_then_refused(published: Hub, model: Segmenter) -> None:
    published.tamper = True
    with pytest.raises(WeightsError, match=r"model\.safetensors: is damaged: its SHA-256 is .*, not "):
        from_pretrained(NAME)
    weights = [each for each in published.requests if each.startswith("GET") and each.endswith("model.safetensors")]
    assert len(weights) == 2
    published.tamper = False
    assert same(from_pretrained(NAME), model), "what was damaged is fetched again"


def test_a_file_that_broke_in_the_cache_is_fetched_again_or_refused_without_a_network(
    published: Hub, model: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = resolve_weights(NAME).resolve()
    for broken in (path.read_bytes()[:-5], b""):
        path.write_bytes(broken)
        with monkeypatch.context() as offline:
            go_offline(offline)
            with pytest.raises(WeightsError, match="is damaged"):
                from_pretrained(NAME)
        assert same(from_pretrained(NAME), model)


@pytest.mark.parametrize("name", ["someone/nothing", "nobody/net", "someone/net@nowhere"])
def test_what_does_not_exist_is_named(published: Hub, name: str) -> None:
    with pytest.raises(WeightsError, match=f"{name}: config.json is neither in the cache .*check the name"):
        resolve_weights(name)


def test_transformers_networks_are_converted_once_for_each_commit(hub: Hub, cache: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(
        depth_multiplier=0.35, output_stride=16, num_labels=3, finegrained_output=True, first_layer_is_expansion=True
    )
    theirs = transformers.MobileNetV2ForSemanticSegmentation(config).eval()
    folder = cache.parent / "theirs"
    theirs.save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    sha = hub.add("google/port", files)
    path = resolve_weights("google/port")
    assert path == cache / "weights" / f"google--port--{sha}.safetensors"
    assert json.loads(path.with_suffix(".json").read_text())["revision"] == sha
    written = path.stat().st_mtime_ns
    assert resolve_weights("hf:google/port").stat().st_mtime_ns == written
    model = segmnv2.load_model(path)
    pixels = torch.rand(1, 3, 65, 65) * 255
    with torch.no_grad():
        expected = theirs(pixel_values=pixels / 127.5 - 1).logits
        found = model.raw_logits(pixels)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    hub.tamper = True
    hub.add("google/port", {"model.safetensors": files["model.safetensors"] + b" "})
    with pytest.raises(WeightsError, match="is damaged"):
        resolve_weights("google/port")
