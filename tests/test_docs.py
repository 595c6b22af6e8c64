"""Examples in the documentation run as they are printed, block after block, as a reader would type them.

What a page takes for granted is there: weights (fresh ones), images, data of COCO's layout, and the names of the
reader's own variables. docs/own_data.md and docs/training.md have tests of their own.
"""

from __future__ import annotations

import importlib
import inspect
import pydoc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

import segmnv2
from segmnv2.detection import create_detector, save_detector
from segmnv2.export.export_metadata import describe_export
from segmnv2.export.formats import FORMATS
from segmnv2.hub.cache import Entry, cache_folder
from segmnv2.models.model_file import save_backbone
from segmnv2.models.pixels import TENSORFLOW_NORMALIZATION
from tests.coco_files import CATEGORIES, write_coco_boxes
from tests.export.shallow import shallow_balanced_model, shallow_model
from tests.marks import slow_where
from tests.media.clips import pictures, write_clip

REPOSITORY = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([\w.]+)`")
DOTTED = re.compile(r"\bsegmnv2(?:\.(?!git\b|json\b)\w+)+")
PRINTED = re.compile(r"^(?:print\(.*\)  )?# ([\[(\d].*)$", re.MULTILINE)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*in scripting:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*jit.* is deprecated"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def backbone_page() -> dict[str, Any]:
    return {}


def tour_page() -> dict[str, Any]:
    segmnv2.save_model("voc.safetensors", segmnv2.create_model("deeplabv3_mobilenet_v2"))
    Image.new("RGB", (90, 60), (90, 120, 30)).save("image.jpg")
    pixels = torch.randint(0, 256, (2, 3, 65, 65), dtype=torch.uint8)
    return {"segmnv2": segmnv2, "pixels": pixels, "normalized": torch.randn(1, 3, 64, 64)}


def classification_page() -> dict[str, Any]:
    path = Path("runs/imagenet_mobilenet_v2/last.safetensors")
    segmnv2.save_classifier(path, segmnv2.create_classifier("mobilenet_v2", num_classes=5))
    return {"pixels": torch.rand(1, 3, 64, 64)}


def planning_page() -> dict[str, Any]:
    return {"image": np.zeros((90, 120, 3), np.uint8)}


def detection_page() -> dict[str, Any]:
    write_backbone()
    write_coco_boxes(Path("data/coco"))
    Image.new("RGB", (90, 60), (90, 120, 30)).save("image.jpg")
    detector = create_detector("ssdlite", class_names=CATEGORIES)
    save_detector("runs/coco_ssdlite_mobilenet_v2/last.safetensors", detector)
    image = torch.rand(3, 96, 128)
    target = {"boxes": torch.tensor([[4.0, 8.0, 60.0, 70.0]]), "labels": torch.tensor([1])}
    return {"images": [image, image], "targets": [target, target], "image": image}


def video_page() -> dict[str, Any]:
    segmnv2.save_model("voc.safetensors", segmnv2.create_model("deeplabv3_mobilenet_v2"))
    for name in ("monday.jpg", "tuesday.jpg"):
        Image.new("RGB", (90, 60), (90, 120, 30)).save(name)
    write_clip(Path("clip.mp4"), pictures(9))
    return {}


def mobile_page() -> dict[str, Any]:
    for package in ("ai_edge_litert", "executorch"):
        pytest.importorskip(package)
    model = shallow_model()
    for form, name in (("litert", "voc.tflite"), ("executorch", "voc.pte")):
        FORMATS[form].write(model, Path(name), describe_export(model, form, size=(513, 513)), None)
    Image.new("RGB", (90, 60), (90, 120, 30)).save("image.jpg")
    return {}


def export_page() -> dict[str, Any]:
    segmnv2.save_model("voc.safetensors", segmnv2.create_model("deeplabv3_mobilenet_v2", width=0.35))
    Path("images").mkdir()
    for path in ("image.jpg", "images/a.jpg", "images/b.jpg"):
        Image.new("RGB", (90, 60), (90, 120, 30)).save(path)
    model = shallow_balanced_model()
    for form in ("onnx", "openvino", "torch"):
        FORMATS[form].write(model, Path(f"voc{FORMATS[form].suffix}"), describe_export(model, form), None)
    return {}


def hub_page() -> dict[str, Any]:
    model = segmnv2.create_model("deeplabv3_mobilenet_v2")
    keep("voc_mobilenet_v2", segmnv2.save_model("m.safetensors", model))
    keep("imagenet_mobilenet_v2", write_backbone())
    Path("path/to").mkdir(parents=True)
    Path("path/to/segmnv2").symlink_to(REPOSITORY)
    return {}


def keep(name: str, path: Path) -> None:
    """Put a file into the cache as published weights."""
    entry = Entry(cache_folder(), name)
    entry.path.parent.mkdir(parents=True, exist_ok=True)
    entry.keep(path, {})


def write_backbone() -> Path:
    path = Path("weights/mobilenet_v2_1.0_224.safetensors")
    options = {"last_conv": True}
    backbone = segmnv2.create_backbone("mobilenet_v2", **options)
    return save_backbone(path, backbone, "mobilenet_v2", options, TENSORFLOW_NORMALIZATION)


PAGES: dict[str, tuple[Callable[[], dict[str, Any]], int]] = {
    "README.md": (tour_page, 1),
    "docs/backbone.md": (backbone_page, 8),
    "docs/classification.md": (classification_page, 1),
    "docs/deeplab_v3_plus.md": (dict, 1),
    "docs/detection.md": (detection_page, 4),
    "docs/export.md": (export_page, 5),
    "docs/hub.md": (hub_page, 3),
    "docs/mobile.md": (mobile_page, 3),
    "docs/planning.md": (planning_page, 1),
    "docs/tour.md": (tour_page, 3),
    "docs/video.md": (video_page, 2),
}
"""What each page needs, and how many blocks it has at least."""


SLOW = ("docs/detection.md", "docs/mobile.md")
"""Pages that convert detectors, or a network for phones."""


@pytest.mark.parametrize("page", slow_where(SLOW.__contains__, PAGES))
def test_every_block_of_a_page_runs_and_prints_what_it_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGMNV2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in a reader's own program
    torch.manual_seed(0)
    prepare, fewest = PAGES[page]
    blocks = BLOCK.findall((REPOSITORY / page).read_text(encoding="utf-8"))
    assert len(blocks) >= fewest
    names: dict[str, Any] = {"__name__": "example", **prepare()}
    capsys.readouterr()
    for block in blocks:
        exec(compile(block, page, "exec"), names)
        told = PRINTED.findall(block)
        printed = capsys.readouterr().out.splitlines()
        assert printed == told or not told


def test_pages_without_a_test_of_their_own_have_no_example() -> None:
    tested = {*PAGES, "docs/own_data.md", "docs/training.md", "docs/timm.md"}  # timm's example fetches weights
    for path in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]:
        if path.relative_to(REPOSITORY).as_posix() not in tested:
            assert not BLOCK.findall(path.read_text(encoding="utf-8")), path


def test_no_page_has_a_placeholder() -> None:
    for path in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]:
        assert not re.findall(r"^[A-Z]{3,}$", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_every_name_of_the_package_in_a_page_is_there() -> None:
    for path in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]:
        names = set(DOTTED.findall(path.read_text(encoding="utf-8")))
        assert not [name for name in names if pydoc.locate(name) is None], path


def test_every_name_that_a_docstring_refers_to_is_there() -> None:
    for path in (REPOSITORY / "segmnv2").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if names := {*ROLE.findall(text), *DOTTED.findall(text)}:
            place = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
            classes = inspect.getmembers(importlib.import_module(place), inspect.isclass)
            scopes = ["", f"{place}.", *(f"{place}.{name}." for name, _ in classes)]
            missing = [name for name in names if all(pydoc.locate(scope + name) is None for scope in scopes)]
            assert not missing, f"{path}: {missing}"
