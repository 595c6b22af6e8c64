"""Laws of all kinds of data sets, in training, evaluation and ``check-data``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from segmnv2.checks.examination import examine, listings_of
from segmnv2.cli import main
from segmnv2.config.reading import load_experiment, parse_experiment
from segmnv2.datasets.dataset_kinds import DATASETS, DataSource, FileSource, evaluation_source, file_sizes
from segmnv2.datasets.layouts import LayoutSource
from segmnv2.errors import ConfigError, DatasetError
from segmnv2.labels import LabelSet
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model
from segmnv2.training.run import train
from tests.dataset_files import COUNT, SAMPLES, WRITERS, iterate

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


@pytest.fixture(params=sorted(DATASETS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(kind: str, tmp_path: Path) -> Path:
    return tmp_path / kind


@pytest.fixture
def labels(kind: str, root: Path) -> LabelSet:
    return WRITERS[kind](root)


@pytest.fixture
def source(kind: str, root: Path, labels: LabelSet) -> DataSource:
    return evaluation_source(kind, root if DATASETS[kind].root_is else None, None)


def test_a_change_of_any_image_changes_the_sizes_that_a_state_records(root: Path, source: DataSource) -> None:
    dataset = source.open()
    before, noted = list(file_sizes(dataset)), 0
    for path in [file for file in root.rglob("*") if file.suffix in (".jpg", ".png")]:
        content = path.read_bytes()
        path.write_bytes(content + b"x")
        noted += list(file_sizes(dataset)) != before
        path.write_bytes(content)
    assert noted >= (COUNT if source.root_is else 0)


def test_written_samples_are_read(kind: str, source: DataSource, labels: LabelSet) -> None:
    dataset = source.open()
    assert dataset.labels == labels
    if source.root_is is None:  # drawn, not written
        return
    assert len(dataset) == COUNT
    for written, sample in zip(iterate(SAMPLES), iterate(dataset), strict=True):
        assert np.abs(sample.image.astype(int) - written.image).mean() < 8  # JPEG
        if kind == "coco_voc":  # it has no ignored pixels around objects
            assert (sample.mask[written.mask != 255] == written.mask[written.mask != 255]).all()
        else:
            assert (sample.mask == written.mask).all()


def test_an_experiment_can_name_a_data_set(kind: str, source: DataSource) -> None:
    part = source.model_dump(mode="json")
    experiment = parse_experiment({"name": "x", "steps": 1, "data": {"train": part, "val": part}})
    assert experiment.data.train == source
    again = parse_experiment(experiment.to_dict())
    assert again == experiment


def test_the_listing_has_the_pairs_of_the_data_set_and_no_findings(source: DataSource) -> None:
    listing = source.listing("val")
    dataset = source.open()
    assert [pair.name for pair in listing.pairs] == [dataset[index].name for index in range(len(dataset))]
    assert listing.findings == ()
    assert listing.labels == dataset.labels


def test_check_data_counts_the_pixels_that_training_reads(kind: str, source: DataSource) -> None:
    if kind == "shapes":
        source = source.model_copy(update={"length": 3})
    examination = examine([source.listing("val")], workers=1)
    assert examination.errors == 0
    dataset, table = source.open(), examination.to_dict()["splits"][0]["classes"]
    masks = np.concatenate([dataset[index].mask.ravel() for index in range(len(dataset))])
    counts = np.bincount(masks, minlength=256)
    assert [row["pixels"] for row in table.values()] == counts[: dataset.labels.num_classes].tolist()


def test_check_data_recognizes_the_folder(kind: str, source: DataSource, root: Path) -> None:
    if not isinstance(source, FileSource):
        pytest.skip("its folder has no pairs of files")
    (listing,) = listings_of(root, splits=[source.split] if source.split else ())
    assert [pair.name for pair in listing.pairs] == [pair.name for pair in source.listing("val").pairs]
    assert listing.labels == source.open().labels


def test_a_model_trains_on_a_data_set(kind: str, source: DataSource, tmp_path: Path) -> None:
    part = json.dumps(source.model_dump(mode="json"))
    short = ["steps=2", "data.batch_size=2", "data.crop_size=49", "data.num_workers=0", "model.output_stride=16"]
    short += ["validation.size=65", "validation.limit=1", "device=cpu", f"data.train={part}", f"data.val={part}"]
    result = train(load_experiment("shapes", short), out=tmp_path / "run", report=lambda line: None)
    assert result.steps == 2


def test_a_model_is_evaluated_on_a_data_set(
    kind: str, source: DataSource, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    dataset = source.open()
    model = create_model("deeplabv3_mobilenet_v2", labels=dataset.labels, width=0.35)
    save_model(tmp_path / "model.safetensors", model.eval())
    given = ["--root", str(root)] if source.root_is else []
    command = ["evaluate", str(tmp_path / "model.safetensors"), "--dataset", kind.replace("_", "-"), *given]
    assert main([*command, "--limit", "2", "--size", "65", "--json", str(tmp_path / "x.json")]) == 0
    values = json.loads((tmp_path / "x.json").read_text())
    assert values["images"] == 2
    assert values["protocol"]["dataset"] == kind.replace("_", "-")


@pytest.mark.parametrize("kind", [name for name, kind in sorted(DATASETS.items()) if issubclass(kind, LayoutSource)])
def test_missing_files_of_a_published_data_set_are_named(kind: str, source: DataSource, root: Path) -> None:
    pair = source.listing("val").pairs[0]
    assert pair.mask is not None
    pair.mask.unlink()
    with pytest.raises(DatasetError, match=rf"{pair.image.name}: there is no .*{pair.mask.name}; unpack it"):
        source.open()
    for file in root.rglob("*"):
        if file.suffix in (".png", ".jpg"):
            file.unlink()
    with pytest.raises(DatasetError, match=r"holds no file NAME.*unpack the data set there"):
        source.open()
    with pytest.raises(ConfigError, match=r"--split best: .*splits train"):
        listings_of(root, splits=["best"])


def test_unknown_kinds_options_and_splits_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--dataset pascal: is not known; give one of voc, .*image-folder"):
        evaluation_source("pascal", None, None)
    with pytest.raises(ConfigError, match="--split: shapes has no such option"):
        evaluation_source("shapes", None, "val")
    with pytest.raises(ConfigError, match="--root is missing; --dataset voc needs the VOCdevkit folder"):
        evaluation_source("voc", None, None)
    with pytest.raises(ConfigError, match=r"--split test: input should be 'train' or 'val'"):
        evaluation_source("cityscapes", Path(), "test")
