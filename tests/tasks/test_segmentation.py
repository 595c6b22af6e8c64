from __future__ import annotations

from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
import yaml

from segmnv2.config.reading import parse_experiment
from segmnv2.config.segmentation_schema import ModelSection
from segmnv2.datasets.dataset_kinds import open_dataset
from segmnv2.datasets.folder import FolderSource
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes, ShapesSource
from segmnv2.datasets.voc import VocSource
from segmnv2.errors import ConfigError, DatasetError, WeightsError
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model
from segmnv2.tasks.job import build_job
from segmnv2.tasks.processes import Processes
from segmnv2.tasks.segmentation import build_datasets, build_model, build_transform
from tests.voc_layout import write_voc_layout

SMALL: dict[str, Any] = {"width": 0.35}


def test_the_model_has_the_classes_of_the_data_set() -> None:
    model = build_model(ModelSection(width=0.35, output_stride=8), SHAPES_LABELS)
    assert model.labels == SHAPES_LABELS
    assert model.output_stride == 8


def test_norm_momentum_reaches_every_batch_norm_and_null_keeps_the_papers() -> None:
    def momenta(section: ModelSection) -> set[float]:
        modules = build_model(section, SHAPES_LABELS).modules()
        return {m.momentum for m in modules if isinstance(m, torch.nn.BatchNorm2d) and m.momentum is not None}

    assert momenta(ModelSection(width=0.35, norm_momentum=0.07)) == {0.07}
    assert momenta(ModelSection(width=0.35)) == {0.003, 0.0003}


@pytest.mark.parametrize("key", ["weights", "backbone_weights"])
def test_named_weights_are_never_replaced_by_random_weights(tmp_path: Path, key: str) -> None:
    path = tmp_path / "model.safetensors"
    for trouble in ("missing", "text", "another width"):
        if trouble == "text":
            path.write_text("no weights")
        if trouble == "another width":
            save_model(path, create_model("deeplabv3_mobilenet_v2", labels=SHAPES_LABELS, width=0.5))
        with pytest.raises(WeightsError, match=f"-o model.{key}=PATH") as caught:
            build_model(ModelSection(**{**SMALL, key: path}), SHAPES_LABELS)
        assert str(path) in str(caught.value)


def test_named_weights_are_loaded_unless_left_out(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    given = create_model("deeplabv3_mobilenet_v2", labels=SHAPES_LABELS, width=0.35)
    save_model(path, given)

    def same(model: torch.nn.Module) -> bool:
        return all(torch.equal(a, b) for a, b in zip(given.parameters(), model.parameters(), strict=True))

    section = ModelSection(**SMALL, weights=path)
    assert same(build_model(section, SHAPES_LABELS))
    assert not same(build_model(section, SHAPES_LABELS, initial_weights=False))


def test_a_missing_data_root_names_folder_key_and_remedy(tmp_path: Path) -> None:
    source = VocSource(kind="voc", root=tmp_path / "none", split="train")
    with pytest.raises(DatasetError, match=r"-o data\.train\.root=PATH") as caught:
        open_dataset(source, "data.train")
    assert str(tmp_path / "none") in str(caught.value)


def test_shapes_are_those_of_the_source() -> None:
    built = open_dataset(ShapesSource(kind="shapes", length=3, size=64, seed=5))
    assert len(built) == 3
    assert (built[1].image == Shapes(3, (64, 64), 5)[1].image).all()


def test_a_custom_folder_is_opened_and_a_missing_one_is_reported_with_its_key(tmp_path: Path) -> None:
    for name in ("images", "masks", "splits"):
        (tmp_path / name).mkdir()
    for stem in ("a", "b"):
        PIL.Image.new("RGB", (20, 10)).save(tmp_path / "images" / f"{stem}.jpg")
        PIL.Image.new("L", (20, 10)).save(tmp_path / "masks" / f"{stem}.png")
    (tmp_path / "labels.yaml").write_text("names: [ground, crop]\n")
    (tmp_path / "splits" / "val.txt").write_text("b\n")
    assert len(open_dataset(FolderSource(kind="folder", root=tmp_path))) == 2
    val = open_dataset(FolderSource(kind="folder", root=tmp_path, split="val"))
    assert [val[i].name for i in range(len(val))] == ["b"]
    assert val.labels.names == ("ground", "crop")
    with pytest.raises(DatasetError, match=r"none.*\n.*-o data\.val\.root=PATH"):
        open_dataset(FolderSource(kind="folder", root=tmp_path / "none"), "data.val")


def test_training_and_validation_need_the_same_classes(voc_root: Path) -> None:
    data = {
        "train": {"kind": "shapes", "length": 2},
        "val": {"kind": "voc", "root": str(voc_root), "split": "train"},
    }
    experiment = parse_experiment({"name": "x", "steps": 1, "data": data})
    with pytest.raises(ConfigError, match=r"data\.train and data\.val differ: .* 21 in data\.val, 5 in data\.train"):
        build_datasets(experiment)


def test_a_validation_set_needs_a_pixel_with_a_class(tmp_path: Path) -> None:
    for folder, value in (("images", 0), ("masks", 255)):
        (tmp_path / folder).mkdir()
        PIL.Image.new("L", (20, 10), value).save(tmp_path / folder / "a.png")
    (tmp_path / "labels.yaml").write_text("names: [ground, crop]\nignore_index: 255\n")
    source = {"kind": "folder", "root": str(tmp_path)}
    experiment = parse_experiment({"name": "x", "steps": 1, "data": {"train": source, "val": source}})
    with pytest.raises(DatasetError, match=r"all pixels of 1 image of data\.val are ignored \(255\)"):
        build_job(experiment, Processes(), initial_weights=True)


def test_the_augmentation_crops_to_the_requested_size() -> None:
    data = {"train": {"kind": "shapes", "length": 2}, "val": {"kind": "shapes", "length": 2}, "crop_size": 33}
    experiment = parse_experiment({"name": "x", "steps": 1, "data": data})
    sample = build_transform(experiment, SHAPES_LABELS)(Shapes(1, (48, 48))[0], 0)
    assert sample.image.shape == (33, 33, 3)


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    """Folder with a tiny data set in VOC's layout."""
    from tests.voc_layout import write_voc_layout

    write_voc_layout(Shapes(2, (48, 48)), tmp_path / "VOCdevkit", "train")
    return tmp_path / "VOCdevkit"


def test_custom_data_in_vocs_layout_has_custom_classes(tmp_path: Path) -> None:
    write_voc_layout(Shapes(2, (20, 20)), tmp_path / "data", "train")
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(SHAPES_LABELS.to_dict()))
    source = VocSource(kind="voc", root=tmp_path / "data", split="train", labels=tmp_path / "labels.yaml")
    dataset = open_dataset(source)
    assert dataset.labels == SHAPES_LABELS
    assert len(dataset) == 2
    assert dataset[1].mask.shape == (20, 20)
    absent = source.model_copy(update={"labels": tmp_path / "absent.yaml"})
    with pytest.raises(DatasetError, match=r"absent\.yaml"):
        open_dataset(absent)
    (tmp_path / "labels.yaml").write_text("names: [road]")
    with pytest.raises(DatasetError, match="names one class, 'road'"):
        open_dataset(source)
