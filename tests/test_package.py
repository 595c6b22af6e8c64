from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import PIL.Image
import pytest

import segmnv2
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model

HEAVY = ("albumentations", "cv2", "gradio", "lightning", "numpy", "torch", "torchvision", "transformers")

PACKAGE = Path(segmnv2.__file__).parent


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after a statement."""
    program = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


# `segmnv2 --help` answers as fast as these imports go.
@pytest.mark.parametrize("module", ["segmnv2", "segmnv2.cli"])
def test_import_stays_light(module: str) -> None:
    assert modules_after(f"import {module}").isdisjoint(HEAVY)


ROOMS = ("benchmark", "checks", "config", "conversion", "datasets", "detection", "evaluation", "export", "integrations")
MORE_ROOMS = ("losses", "metrics", "paper", "preparation", "training")
PARTS = {
    "backbones": ("mobilenet_v1", "nasnet", "nasnet_cells", "resnet", "shufflenet", "smp", "timm"),
    "cli": ("benchmark", "evaluate", "export", "report", "train", "weights"),
    "engines": ("int8", "onnx_runtime", "openvino"),
    "heads": ("deeplab_v3_plus",),
    "hub": ("by_name", "cache", "hugging_face", "named_weights", "publish"),
    "inference": ("video_files",),
    "media": ("video_headers", "video_reader", "video_writer"),
    "models": ("classifier", "compatibility", "zoo"),
}
UNUSED = {*ROOMS, *MORE_ROOMS, *(f"{room}.{module}" for room, modules in PARTS.items() for module in modules)}
"""Of this library: what labeling an image by MobileNetV2 needs nothing of."""

SLOW = {"lightning", "segmentation_models_pytorch", "sympy", "timm", "torch._dynamo", "torchvision", "yaml"}


def test_infer_imports_what_it_uses(tmp_path: Path) -> None:
    weights = save_model(tmp_path / "model.safetensors", create_model("deeplabv3_mobilenet_v2", width=0.35))
    PIL.Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    words = ["infer", str(tmp_path / "a.png"), "--weights", str(weights), "--out", str(tmp_path / "out")]
    run = f"from segmnv2.cli import main; assert main({[*words, '--device', 'cpu', '--size', '65']}) == 0"
    found = modules_after(run)
    assert "segmnv2.inference.predictor" in found
    assert found.isdisjoint(SLOW)
    assert found.isdisjoint(f"segmnv2.{name}" for name in UNUSED)


TRAIN = ["steps=1", "data.batch_size=2", "data.num_workers=0", "data.crop_size=33", "validation.limit=1", "device=cpu"]

OTHER_TASKS = {
    "config.classification_schema",
    "config.detection_schema",
    "detection",
    "coco.boxes",
    "datasets.image_folder",
    "metrics.coco_ap",
    "models.classifier",
    "tasks.classification",
    "tasks.detection",
}


@pytest.mark.slow
def test_training_imports_nothing_of_other_tasks(tmp_path: Path) -> None:
    words = ["train", "shapes", "--out", str(tmp_path / "run"), *(word for each in TRAIN for word in ("-o", each))]
    found = modules_after(f"from segmnv2.cli import main; assert main({words}) == 0")
    assert "segmnv2.tasks.segmentation" in found
    assert found.isdisjoint(f"segmnv2.{name}" for name in OTHER_TASKS)


@pytest.mark.parametrize("name", [*segmnv2.__all__, "detection"])
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(segmnv2, name) is not None
    assert name in dir(segmnv2)


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        segmnv2.no_such_name  # noqa: B018 - asking for it is the test


def test_rooms_are_small_and_a_file_name_is_used_once() -> None:
    files = list(PACKAGE.rglob("*.py"))
    assert max(Counter(file.parent for file in files).values()) <= 12
    names = Counter(file.name for file in files if file.name != "__init__.py")
    assert {name for name, count in names.items() if count > 1} <= {"smp.py"}  # a library's name


def test_docstrings_begin_with_a_noun_or_an_imperative() -> None:
    riddles = {"From", "How", "That", "What", "When", "Where", "Which", "Who"}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                first = (ast.get_docstring(node) or "-").split()[0]
                assert first not in riddles, f"{file}: {ast.get_docstring(node)}"
