"""Permitted and refused changes of a resumed run."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file

from segmnv2.coco.boxes import CocoBoxes
from segmnv2.config.reading import AnyExperiment
from segmnv2.datasets.dataset_kinds import count_shared, identify
from segmnv2.datasets.image_folder import ImageFolder
from segmnv2.datasets.layouts import CityscapesSource
from segmnv2.errors import ConfigError, SegmnError, WeightsError
from segmnv2.models.classifier import create_classifier, save_classifier
from segmnv2.models.pixels import IMAGENET_NORMALIZATION
from segmnv2.models.zoo import create_model
from segmnv2.tasks.job import build_job
from segmnv2.tasks.processes import Processes
from segmnv2.training.logs import CsvLog, read_rows
from segmnv2.training.record import run_record
from segmnv2.training.run import train
from segmnv2.training.run_folder import RECORDED, RunFolder, open_state
from segmnv2.training.summary import describe_job
from tests.coco_files import write_coco_boxes
from tests.image_folders import write_image_folder
from tests.tasks.test_detection import tiny as tiny_detection
from tests.training.tiny import ignore, tiny

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


def interrupt_at(start: str) -> Callable[[str], None]:
    def report(line: str) -> None:
        if line.startswith(start):
            raise KeyboardInterrupt

    return report


def rates(folder: Path) -> dict[str, str]:
    return {row["step"]: row["train/lr"] for row in read_rows(folder / "metrics.csv") if row["train/lr"]}


def write_pairs(folder: Path, count: int) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 255, (48, 48, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"images/{index}.png")
        PIL.Image.fromarray(pixels[..., 0] // 128).save(folder / f"masks/{index}.png")
    (folder / "labels.yaml").write_text("names: [background, thing]\n")
    return folder


def test_a_run_can_be_made_longer_and_follows_the_schedule_of_its_new_length(tmp_path: Path) -> None:
    train(tiny("steps=5", "validation.every=3"), out=tmp_path / "whole", report=ignore)
    lines: list[str] = []
    train(tiny("steps=3", "validation.every=3"), out=tmp_path / "run", report=ignore)
    assert train(tiny("steps=5"), out=tmp_path / "run", resume="last", report=lines.append).steps == 5
    assert any(line.startswith("note: steps raised from 3 to 5") for line in lines)
    ours, theirs = rates(tmp_path / "run"), rates(tmp_path / "whole")
    assert (ours["4"], ours["5"]) == (theirs["4"], theirs["5"])
    assert ours["3"] != theirs["3"]
    # The folder has the new number of steps.
    with pytest.raises(ConfigError, match="steps: 5 before, 3 now"):
        train(tiny("steps=3"), out=tmp_path / "run", resume="last", report=ignore)


def test_at_a_constant_rate_an_extended_run_equals_the_long_run_to_the_bit(tmp_path: Path) -> None:
    constant = ("optimizer.power=0", "validation.every=3")
    train(tiny("steps=4", *constant), out=tmp_path / "whole", report=ignore)
    train(tiny("steps=3", *constant), out=tmp_path / "run", report=ignore)
    train(tiny("steps=4", *constant), out=tmp_path / "run", resume="auto", report=ignore)
    ours, theirs = (load_file(tmp_path / name / "last.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_other_images_or_classes_are_refused_but_a_moved_data_set_is_not(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data", 4)

    def experiment(root: Path) -> Any:
        source = f"{{kind: folder, root: {root}}}"
        return tiny("steps=1", f"data.train={source}", f"data.val={source}")

    train(experiment(data), out=tmp_path / "run", report=ignore)
    moved = shutil.copytree(data, tmp_path / "moved")
    train(experiment(moved), out=tmp_path / "run", resume="last", report=ignore)
    write_pairs(moved, 5)
    with pytest.raises(ConfigError, match=r"images\.train: '4 \(sha256 .*\)' before, '5 \(sha256 "):
        train(experiment(moved), out=tmp_path / "run", resume="last", report=ignore)
    (data / "labels.yaml").write_text("names: [thing, background]\n")
    with pytest.raises(ConfigError, match=r"classes\.0: 'background' before, 'thing' now"):
        train(experiment(data), out=tmp_path / "run", resume="auto", report=ignore)


def test_classes_and_boxes_identify_an_image_too(tmp_path: Path) -> None:
    folder = write_image_folder(tmp_path / "a", images=2)
    moved = Path(shutil.copytree(folder, tmp_path / "b"))
    assert list(identify(ImageFolder(folder))) == list(identify(ImageFolder(moved)))
    (moved / "red" / "0.png").rename(moved / "blue" / "9.png")
    assert list(identify(ImageFolder(folder))) != list(identify(ImageFolder(moved)))
    boxes = write_coco_boxes(tmp_path / "coco")
    before = list(identify(CocoBoxes.of_split(boxes, "val2017")))
    path = boxes / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace('"category_id": 3', '"category_id": 1', 1))
    assert len(before) == 4
    assert list(identify(CocoBoxes.of_split(boxes, "val2017"))) != before


def test_repaired_masks_are_reported_and_another_palette_is_refused(tmp_path: Path) -> None:
    own = write_pairs(tmp_path / "own", 4)
    source = f"{{kind: folder, root: {own}}}"
    words = (f"data.train={source}", f"data.val={source}", "steps=1")
    train(tiny(*words), out=tmp_path / "run", report=ignore)
    lines: list[str] = []
    PIL.Image.fromarray(np.eye(48, dtype=np.uint8)).save(own / "masks" / "2.png")
    train(tiny(*words[:2], "steps=2"), out=tmp_path / "run", resume="last", report=lines.append)
    assert any(line.startswith("note: images or masks of data.train and data.val have other") for line in lines)
    (own / "labels.yaml").write_text("names: [background, thing]\npalette: [[1, 0, 0], [0, 0, 0]]\n")
    with pytest.raises(
        ConfigError, match=r"classes\.palette: '000000 800000 e0e0c0' before, '010000 000000 e0e0c0' now"
    ):
        train(tiny(*words[:2], "steps=2"), out=tmp_path / "run", resume="last", report=ignore)


@pytest.mark.parametrize("change", [{"normalization": 3}, {"normalization": {"mean": ["x"], "std": []}}, {"sizes": []}])
def test_a_damaged_record_is_reported_in_one_message(tmp_path: Path, change: dict[str, object]) -> None:
    record = {key: {} for key in RECORDED} | {"processes": 1, "normalization": {"mean": [1, 2, 3], "std": [1, 1, 1]}}
    state = {"global_step": 1, "callbacks": {"Checkpoints": {"record": record}}}
    torch.save(state, tmp_path / "last.ckpt")
    assert open_state(tmp_path / "last.ckpt").record == record
    record |= change
    torch.save(state, tmp_path / "last.ckpt")
    with pytest.raises(WeightsError, match="is damaged or not a state of a run"):
        open_state(tmp_path / "last.ckpt")


def test_a_run_without_its_config_is_compared_with_its_state(tmp_path: Path) -> None:
    train(tiny("steps=1"), out=tmp_path, report=ignore)
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"optimizer\.lr: 0\.01 before, 0\.02 now"):
        train(tiny("steps=1", "optimizer.lr=0.02"), out=tmp_path, resume="last", report=ignore)
    train(tiny("steps=1"), out=tmp_path, resume="last", report=ignore)
    assert (tmp_path / "config.yaml").exists()


def test_resumed_runs_keep_the_normalization_of_the_initial_weights(tmp_path: Path) -> None:
    backbone = create_classifier("mobilenet_v2", num_classes=3, width=0.35, normalization=IMAGENET_NORMALIZATION)
    weights = save_classifier(tmp_path / "w.safetensors", backbone)
    coco = write_coco_boxes(tmp_path / "coco", "train2017", images=4)
    write_coco_boxes(coco, "val2017", images=2)
    experiment = tiny_detection(coco, f"model.backbone_weights={weights}", "average={decay: 0.9}", "checkpoint.every=1")
    with pytest.raises(KeyboardInterrupt):
        train(experiment, out=tmp_path / "run", report=interrupt_at("step 2/"))
    weights.unlink()
    from segmnv2.detection.detector import load_detector

    result = train(experiment, out=tmp_path / "run", resume="last", report=ignore)
    assert load_detector(result.folder.last).normalization == IMAGENET_NORMALIZATION


def test_frozen_norms_stay_frozen(tmp_path: Path) -> None:
    from segmnv2.datasets.shapes import SHAPES_LABELS
    from segmnv2.models.model_file import save_model

    model = create_model("deeplabv3_mobilenet_v2", width=0.35, labels=SHAPES_LABELS)
    weights = save_model(tmp_path / "w.safetensors", model)
    frozen = ("steps=1", "model.norms=frozen", "model.norm_momentum=null")
    train(tiny(*frozen, f"model.weights={weights}"), out=tmp_path / "run", report=ignore)
    with pytest.raises(ConfigError, match=r"frozen_norms: \d+ before, \d+ now"):
        train(tiny(*frozen, f"model.backbone_weights={weights}"), out=tmp_path / "run", resume="last", report=ignore)


def test_the_record_has_all_keys_of_the_experiment_and_a_new_number_of_processes_is_reported() -> None:
    from segmnv2.training.record import describe_changes

    experiment = tiny()
    job = build_job(experiment, Processes(), initial_weights=True)
    one, two = (run_record(experiment, Processes(count), job.task.model, job.classes, job.datasets) for count in (1, 2))
    assert experiment.to_dict().items() <= one.items()
    assert "2 processes in place of 1" in describe_changes(one, two)[0]
    assert describe_changes(one, one) == []


def test_a_run_without_an_entry_does_not_block_its_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny("steps=3"), out=tmp_path, report=interrupt_at("model"))
    assert (tmp_path / "config.yaml").exists()
    assert train(tiny("steps=1"), out=tmp_path, report=ignore).steps == 1
    with pytest.raises(ConfigError, match="holds a run already"):
        train(tiny("steps=1"), out=tmp_path, report=ignore)


@pytest.mark.parametrize("moment", ["step 1/", "step 2/4: validation"])
def test_a_folder_that_is_removed_during_a_run_is_reported(tmp_path: Path, moment: str) -> None:
    def report(line: str) -> None:
        if line.startswith(moment):
            shutil.rmtree(tmp_path / "run")

    with pytest.raises(SegmnError, match="run: was removed or replaced while the run was writing to it"):
        train(tiny("steps=4", "checkpoint.every=1"), out=tmp_path / "run", report=report)


def test_a_table_is_replaced_only_when_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text("step,train/loss\n1,0.5\n2,0.25\n3")  # a row cut off by a power failure

    def fail(*_: Any) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(csv.DictWriter, "writerows", fail)
        with pytest.raises(OSError):  # noqa: PT011
            CsvLog(table, ["train/loss"], 2)
    assert len(read_rows(table)) == 3
    CsvLog(table, ["train/loss"], 1).log_metrics({"train/loss": 0.125}, 2)
    assert [(row["step"], row["train/loss"]) for row in read_rows(table)] == [("1", "0.5"), ("2", "0.125")]
    assert list(tmp_path.iterdir()) == [table]


def test_a_schedule_that_ends_after_the_run_is_reported(tmp_path: Path) -> None:
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        interrupt_at("results")(line)

    with pytest.raises(KeyboardInterrupt):
        train(tiny("optimizer.warmup_steps=1000"), out=tmp_path, report=report)
    assert "warning: optimizer.warmup_steps is 1000, and the run has 5 steps: the learning rate never" in "".join(lines)
    coco = write_coco_boxes(tmp_path / "coco", "train2017", images=4)
    write_coco_boxes(coco, "val2017", images=2)
    experiment = tiny_detection(coco, "optimizer.schedule=steps", "optimizer.milestones=[0.5, 7]")
    described = describe_job(build_job(experiment, Processes(), initial_weights=True), experiment, Processes(), "CPU")
    assert [line for line in described if line.startswith("warning")] == [
        "warning: optimizer.milestones: 7.0 are not before the end of the run (1.0 epochs), so they do not lower the "
        "learning rate"
    ]


def test_a_stated_default_is_no_difference(tmp_path: Path) -> None:
    plus = ("model.name=deeplabv3plus_mobilenet_v2", "model.head={separable: true}")
    train(tiny("steps=1", *plus), out=tmp_path, report=ignore)
    written = "model.head={separable: true, refinements: 2}"
    same = tiny("steps=2", plus[0], written, "model.backbone={norm_eps: 0.001}", "model.channel_divisor=8")
    assert train(same, out=tmp_path, resume="last", report=ignore).steps == 2
    other = tiny("steps=2", plus[0], "model.head={separable: true, refinements: 1}")
    with pytest.raises(ConfigError, match=r"model\.head\.refinements: 2 before, 1 now"):
        train(other, out=tmp_path, resume="last", report=ignore)


def test_images_of_the_same_name_in_two_folders_are_different(tmp_path: Path) -> None:
    """Cityscapes has such names, because its splits are folders."""
    for split in ("train", "val"):
        for folder, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
            file = tmp_path / folder / split / "aachen" / f"aachen_000000_000019_{ending}.png"
            file.parent.mkdir(parents=True)
            PIL.Image.new("RGB" if folder == "leftImg8bit" else "L", (8, 8)).save(file)
    train_set, val_set = (
        CityscapesSource(kind="cityscapes", root=tmp_path, split=each).open() for each in ("train", "val")
    )
    assert count_shared(train_set, val_set) == 0
    assert count_shared(val_set, val_set) == 1


def test_images_of_both_data_sets_are_reported(tmp_path: Path) -> None:
    def warnings(experiment: AnyExperiment) -> list[str]:
        job = build_job(experiment, Processes(), initial_weights=True)
        return [line for line in describe_job(job, experiment, Processes(), "CPU") if line.startswith("warning")]

    assert warnings(tiny()) == []
    assert warnings(tiny("data.val.seed=1")) == [
        "warning: 3 of the 3 images of data.val are also in data.train, so the mIOU will be higher than on new images; "
        "validate on other images"
    ]
    coco = write_coco_boxes(write_coco_boxes(tmp_path / "coco", "train2017", images=4), "val2017", images=2)
    assert warnings(tiny_detection(coco)) == []
    assert "2 of the 2 images" in warnings(tiny_detection(coco, "data.train.split=val2017"))[0]
    photos = write_image_folder(tmp_path / "photos")
    assert count_shared(ImageFolder(photos), ImageFolder(tmp_path / "coco" / ".." / "photos")) == 12


def test_a_state_without_a_complete_record_is_refused(tmp_path: Path) -> None:
    folder = train(tiny("steps=1"), out=tmp_path, report=ignore).folder
    state = open_state(folder.state)
    assert state == RunFolder(tmp_path).resume()
    assert state.record["optimizer"]["lr"] == 0.01
    assert state.record["classes"]["0"] == "background"
    saved = torch.load(folder.state, weights_only=True)
    del saved["callbacks"]["Checkpoints"]["record"]["sizes"]
    torch.save(saved, folder.state)
    with pytest.raises(WeightsError, match=r"last\.ckpt: was written by an earlier version .* sizes; resume"):
        train(tiny("steps=1"), out=tmp_path, resume="last", report=ignore)
    del saved["callbacks"]["Checkpoints"]["record"]
    torch.save(saved, folder.state)
    with pytest.raises(WeightsError, match=r"the run's processes, .*or start a new run from last\.safetensors"):
        train(tiny("steps=1"), out=tmp_path, resume="auto", report=ignore)
