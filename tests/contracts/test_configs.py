from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import yaml

from segmnv2.backbones.backbone import create_backbone
from segmnv2.config.classification_schema import ClassificationExperiment
from segmnv2.config.detection_schema import DetectionExperiment
from segmnv2.config.reading import load_any_experiment, load_experiment
from segmnv2.config.segmentation_schema import Experiment, ModelSection
from segmnv2.data.mask_file import write_mask
from segmnv2.datasets.coco_voc import COCO_CATEGORIES, CocoVocSource
from segmnv2.datasets.folder import FolderSource
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes, ShapesSource
from segmnv2.datasets.voc import VocSource
from segmnv2.labels import VOC_LABELS
from segmnv2.models.classifier import create_classifier, has_last_conv
from segmnv2.models.cost import count_parameters
from segmnv2.models.model_file import read_model_file, save_backbone, save_model
from segmnv2.models.pixels import TENSORFLOW_NORMALIZATION
from segmnv2.models.segmenter import MODELS
from segmnv2.models.zoo import create_model
from segmnv2.paper.table7 import TABLE7
from segmnv2.tasks.classification import build_classifier
from segmnv2.tasks.segmentation import build_model
from segmnv2.training.run import train
from tests.image_folders import write_image_folder
from tests.voc_layout import write_voc_layout

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")

EVERY = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
CLASSIFIERS = [path for path in EVERY if isinstance(load_any_experiment(path), ClassificationExperiment)]
DETECTORS = [path for path in EVERY if isinstance(load_any_experiment(path), DetectionExperiment)]
CONFIGS = [path for path in EVERY if path not in (*CLASSIFIERS, *DETECTORS)]
NAMES = {path.stem: path for path in CONFIGS}
RECIPES = [path for path in CONFIGS if path.stem.startswith(("coco_", "voc_")) and not path.stem.endswith("_cpu")]
WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)

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
    """Return a folder with a tiny VOCdevkit, COCO and folder of pairs."""
    folder = tmp_path_factory.mktemp("data")
    assert SHAPES_LABELS.num_classes <= 21  # ids of shapes must also be ids of VOC
    for split in ("train", "train_aug", "trainval", "val"):
        write_voc_layout(Shapes(2, (64, 48)), folder / "VOCdevkit", split)
    for split in ("train2017", "val2017"):
        write_coco(folder / "coco", split)
    write_pairs(folder / "own")
    return folder


def write_weights(folder: Path, section: ModelSection) -> None:
    """Write files in place of a config's weights, once."""
    whole, backbone = stand_in(folder, section.weights), stand_in(folder, section.backbone_weights)
    if whole and not whole.exists():
        save_model(whole, create_model(section.name, labels=VOC_LABELS))
    if backbone and not backbone.exists():
        write_backbone(backbone, MODELS[section.name].backbone)


def stand_in(folder: Path, weights: Path | None) -> Path | None:
    """Return the path of the file that replaces a config's weights."""
    return folder / "-".join(weights.parts) if weights else None


def write_backbone(path: Path, name: str = "mobilenet_v2", **options: Any) -> None:
    if has_last_conv(name):
        options = {**options, "last_conv": True}
    save_backbone(path, create_backbone(name, **options), name, options, TENSORFLOW_NORMALIZATION)


def write_coco(root: Path, split: str, images: int = 2, size: tuple[int, int] = (64, 48)) -> None:
    """Write images with one instance of 1600 pixels each."""
    height, width = size
    (root / split).mkdir(parents=True)
    content: dict[str, Any] = {
        "images": [
            {"id": number, "file_name": f"{number:012}.jpg", "height": height, "width": width}
            for number in range(images)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": number,
                "category_id": COCO_CATEGORIES[number][0],
                "segmentation": [[4, 4, 44, 4, 44, 44, 4, 44]],
                "bbox": [4, 4, 40, 40],
                "area": 1600.0,
                "iscrowd": 0,
            }
            for number in range(images)
        ],
        "categories": [{"id": number, "name": name} for number, name in COCO_CATEGORIES],
    }
    for image in content["images"]:
        noise = np.random.default_rng(image["id"]).integers(0, 256, (height, width, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).save(root / split / image["file_name"])
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def write_pairs(root: Path) -> None:
    for name in ("images", "masks", "splits"):
        (root / name).mkdir(parents=True)
    (root / "labels.yaml").write_text(yaml.safe_dump(SHAPES_LABELS.to_dict()))
    shapes = Shapes(2, (64, 48))
    for index, split in enumerate(("train", "val")):
        PIL.Image.fromarray(shapes[index].image).save(root / "images" / f"{split}.png")
        write_mask(root / "masks" / f"{split}.png", shapes[index].mask, SHAPES_LABELS)
        (root / "splits" / f"{split}.txt").write_text(split)


def short(experiment: Experiment, stand_ins: Path) -> list[str]:
    """Return overrides that shorten an experiment to about a second, on small data sets."""
    overrides = list(SHORT)
    for key, source in (("train", experiment.data.train), ("val", experiment.data.val)):
        for kind, folder in ((VocSource, "VOCdevkit"), (CocoVocSource, "coco"), (FolderSource, "own")):
            if isinstance(source, kind):
                overrides.append(f"data.{key}.root={stand_ins / folder}")
    return overrides


def test_configs_are_found() -> None:
    assert NAMES.keys() >= {"shapes", "voc_mobilenet_v2_stride16"}


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.slow if "resnet" in p.stem else ()) for p in CONFIGS],
    ids=lambda p: p.stem,
)
def test_a_config_loads_builds_and_runs_two_steps(path: Path, stand_ins: Path, tmp_path: Path) -> None:
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    write_weights(stand_ins, experiment.model)
    overrides = short(experiment, stand_ins)
    for key, weights in (
        ("weights", experiment.model.weights),
        ("backbone_weights", experiment.model.backbone_weights),
    ):
        if weights:
            overrides.append(f"model.{key}={stand_in(stand_ins, weights)}")
    result = train(load_experiment(path, overrides), out=tmp_path, report=lambda line: None)
    assert result.steps == 2
    assert result.folder.best.is_file()


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.stem)
def test_a_classifiers_config_loads_builds_and_runs_two_steps(path: Path, tmp_path: Path) -> None:
    experiment = load_any_experiment(path)
    assert experiment.name == path.stem
    places = [f"data.{part}.root={write_image_folder(tmp_path / part, images=2)}" for part in ("train", "val")]
    overrides = ["epochs=0.7", "data.batch_size=2", "data.crop_size=64", "data.num_workers=0", "device=cpu", *places]
    result = train(load_any_experiment(path, overrides), out=tmp_path / "run", report=lambda line: None)
    assert result.steps == 2
    assert result.folder.best.is_file()


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.slow if "rcnn" in p.stem else ()) for p in DETECTORS],
    ids=lambda p: p.stem,
)
def test_a_detectors_config_loads_builds_and_runs_two_steps(path: Path, stand_ins: Path, tmp_path: Path) -> None:
    experiment = load_any_experiment(path)
    assert experiment.name == path.stem
    weights = tmp_path / "backbone.safetensors"
    write_backbone(weights, experiment.model.backbone_name)
    overrides = [f"data.{part}.root={stand_ins / 'coco'}" for part in ("train", "val")]
    overrides += [f"model.backbone_weights={weights}", "model.size=64", "data.batch_size=2", "data.num_workers=0"]
    result = train(
        load_any_experiment(path, [*overrides, "epochs=2", "device=cpu"]),
        out=tmp_path / "run",
        report=lambda line: None,
    )
    assert (result.steps, result.score_name) == (2, "AP")
    assert result.folder.best.is_file()


def test_classifiers_have_the_training_settings_of_the_paper() -> None:
    (path,) = CLASSIFIERS
    experiment = load_any_experiment(path)
    assert isinstance(experiment, ClassificationExperiment)
    optimizer = experiment.optimizer
    assert (optimizer.lr, optimizer.rate_factor, optimizer.rate_epochs) == (0.045, 0.98, 1.0)
    assert (optimizer.alpha, optimizer.momentum, optimizer.weight_decay) == (0.9, 0.9, 4e-5)
    assert (experiment.data.batch_size, experiment.data.crop_size) == (96, 224)
    assert experiment.average is not None
    assert (experiment.average.decay, experiment.loss.label_smoothing) == (0.9999, 0.1)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda path: path.stem)
def test_a_classifier_builds_at_every_width_of_the_paper(path: Path, width: float) -> None:
    experiment = load_any_experiment(path, [f"model.width={width}"])
    assert isinstance(experiment, ClassificationExperiment)
    with torch.device("meta"):
        model = build_classifier(experiment.model, [str(number) for number in range(1000)])
    assert count_parameters(model) == count_parameters(create_classifier("mobilenet_v2", width=width))


def test_every_training_stage_of_the_paper_has_a_config() -> None:
    experiments = [load_experiment(path) for path in RECIPES]
    found = {
        (each.data.train.kind, each.model.output_stride, each.model.name.endswith("_aspp")) for each in experiments
    }
    assert found >= {("coco_voc", 16, False), ("coco_voc", 16, True)}
    assert found >= {("voc", stride, aspp) for stride in (8, 16) for aspp in (False, True)}
    networks = {row.model for row in TABLE7}
    coarse = {(each.data.train.kind, each.model.name) for each in experiments if each.model.output_stride == 16}
    assert {(kind, name) for kind, name in coarse if not name.startswith("deeplabv3plus")} == {
        (kind, name) for kind in ("coco_voc", "voc") for name in networks
    }
    for each in experiments:
        decay = 1e-4 if "resnet" in each.model.name else 4e-5
        assert each.optimizer.lr == (1e-4 if each.model.norms == "frozen" else 0.007)
        assert each.data.batch_size >= 12 or each.model.norms == "frozen"
        assert (each.data.crop_size, each.optimizer.power, each.optimizer.weight_decay) == (513, 0.9, decay)
        assert each.loss.cross_entropy == 1
        assert each.loss.terms == {}
        assert each.data.photometric is None
        assert each.average is None


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_stage_starts_from_the_weights_of_the_stage_before(path: Path) -> None:
    experiment = load_experiment(path)
    if experiment.data.train.kind == "coco_voc":
        assert experiment.model.backbone_weights is not None
    if experiment.model.weights is None:
        return
    before = load_experiment(NAMES[experiment.model.weights.parts[1]])
    assert experiment.model.weights == before.output_folder / "last.safetensors"
    assert experiment.model.keep_logits
    assert experiment.model.name == before.model.name
    usual = {"width": 1.0, "channel_divisor": 8}
    assert {**usual, **experiment.model.backbone_options} == {**usual, **before.model.backbone_options}
    assert f"configs/{before.name}.yaml" in path.read_text(encoding="utf-8"), "the comment names its config"


@pytest.mark.parametrize(
    "stages",
    [
        ("coco_mobilenet_v2", "voc_coco_mobilenet_v2_stride16", "voc_coco_mobilenet_v2_trainval"),
        ("coco_mobilenet_v2_aspp", "voc_coco_mobilenet_v2_aspp_stride16", "voc_coco_mobilenet_v2_aspp_stride8"),
    ],
)
def test_stages_can_be_run_in_order_at_another_width(
    stages: tuple[str, ...], stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use the overrides from the comments in the configs."""
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()
    write_backbone(Path("weights/mobilenet_v2_0.35_224.safetensors"), width=0.35)
    for number, stage in enumerate(stages):
        overrides = short(load_experiment(NAMES[stage]), stand_ins)
        start = "model.backbone_weights=weights/mobilenet_v2_0.35_224.safetensors"
        if number:
            start = f"model.weights=runs/{stages[number - 1]}_0.35/last.safetensors"
        overrides += [f"name={stage}_0.35", "model.width=0.35", start]
        train(load_experiment(NAMES[stage], overrides), report=lambda line: None)
    provenance = read_model_file(f"runs/{stages[-1]}_0.35/last.safetensors")[1]["provenance"]
    assert provenance["experiment"]["model"]["weights"] == f"runs/{stages[-2]}_0.35/last.safetensors"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", [path for path in RECIPES if "mobilenet" in path.stem], ids=lambda path: path.stem)
def test_a_recipe_builds_at_every_width_of_the_paper(path: Path, width: float) -> None:
    section = load_experiment(path, [f"model.width={width}"]).model
    with torch.device("meta"):
        model = build_model(section, VOC_LABELS, initial_weights=False)
        expected = create_model(section.name, width=width)
    assert model.output_stride == section.output_stride
    assert count_parameters(model) == count_parameters(expected)


def test_evaluate_uses_the_shapes_of_the_configs_validation() -> None:
    val = load_experiment(NAMES["shapes"]).data.val
    assert val.kind == "shapes"
    assert val.model_dump(exclude={"kind"}) == ShapesSource.evaluation
