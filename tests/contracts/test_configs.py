from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest
import yaml

from segmnv2.backbones.mobilenet_v2 import MobileNetV2
from segmnv2.cli.evaluate import SHAPES
from segmnv2.config import FolderSource, VocSource, load_experiment
from segmnv2.data.mask_file import write_mask
from segmnv2.data.shapes import SHAPES_LABELS, Shapes
from segmnv2.data.voc_layout import write_voc_layout
from segmnv2.engine.run import train
from segmnv2.labels import VOC_LABELS
from segmnv2.models.file import save_backbone, save_model
from segmnv2.models.normalization import TENSORFLOW_NORMALIZATION
from segmnv2.models.zoo import create_model

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))

SHORT = (
    "steps=2",
    "data.batch_size=2",
    "data.crop_size=49",
    "data.num_workers=0",
    "validation.size=65",
    "validation.limit=1",
    "device=cpu",
)


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a tiny devkit, a tiny folder of pairs, and an untrained backbone and network."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "train_aug", "val"):
        write_voc_layout(Shapes(2, (64, 48)), folder / "VOCdevkit", split)
    write_pairs(folder / "own")
    save_backbone(
        folder / "backbone.safetensors", MobileNetV2(last_conv=True), "mobilenet_v2", {}, TENSORFLOW_NORMALIZATION
    )
    save_model(folder / "network.safetensors", create_model("deeplabv3_mobilenet_v2", labels=VOC_LABELS))
    return folder


def write_pairs(root: Path) -> None:
    for name in ("images", "masks", "splits"):
        (root / name).mkdir(parents=True)
    (root / "labels.yaml").write_text(yaml.safe_dump(SHAPES_LABELS.to_dict()))
    shapes = Shapes(2, (64, 48))
    for index, split in enumerate(("train", "val")):
        PIL.Image.fromarray(shapes[index].image).save(root / "images" / f"{split}.png")
        write_mask(root / "masks" / f"{split}.png", shapes[index].mask, SHAPES_LABELS)
        (root / "splits" / f"{split}.txt").write_text(split)


def test_there_are_configs() -> None:
    assert {path.stem for path in CONFIGS} >= {"shapes", "voc_mobilenet_v2_stride16"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_loads_builds_and_runs_two_steps(path: Path, stand_ins: Path, tmp_path: Path) -> None:
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    overrides = list(SHORT)
    for key, source in (("train", experiment.data.train), ("val", experiment.data.val)):
        if isinstance(source, VocSource):
            overrides.append(f"data.{key}.root={stand_ins / 'VOCdevkit'}")
        if isinstance(source, FolderSource):
            overrides.append(f"data.{key}.root={stand_ins / 'own'}")
    if experiment.model.weights:
        overrides.append(f"model.weights={stand_ins / 'network.safetensors'}")
    if experiment.model.backbone_weights:
        overrides.append(f"model.backbone_weights={stand_ins / 'backbone.safetensors'}")
    result = train(load_experiment(path, overrides), out=tmp_path, report=lambda line: None)
    assert result.steps == 2
    assert result.folder.best.is_file()


def test_shapes_have_fewer_classes_than_voc() -> None:
    """The devkit above holds shapes, whose ids must be VOC's too."""
    assert SHAPES_LABELS.num_classes <= 21


def test_evaluate_counts_the_shapes_that_the_config_validates_on() -> None:
    (path,) = [path for path in CONFIGS if path.stem == "shapes"]
    val = load_experiment(path).data.val
    assert val.kind == "shapes"
    assert {"length": val.length, "size": (val.size, val.size), "seed": val.seed} == SHAPES
