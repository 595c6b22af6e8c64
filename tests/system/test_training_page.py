"""Tests that docs/training.md matches the commands, keys and files, without its long runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from torch.distributed.run import get_args_parser

from segmnv2.cli import make_app
from segmnv2.config.reading import load_any_experiment, load_experiment, parse_experiment
from segmnv2.config.segmentation_schema import Experiment
from segmnv2.labels import VOC_LABELS
from segmnv2.tasks.loss import SegmentationLoss

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
CONFIGS = {f"configs/{path.name}" for path in (REPOSITORY / "configs").glob("*.yaml")}
BASE = REPOSITORY / "configs/voc_coco_mobilenet_v2_stride16.yaml"
EXPERIMENT_COMMANDS = ("train", "check-data")


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
SPANS = re.findall(r"`([^`\n]+)`", PROSE)
LINES = [line for block in fenced("sh") for line in block.replace("\\\n", " ").splitlines()]
FRAGMENTS = fenced("yaml")
OVERRIDES = sorted({word for span in SPANS for word in re.findall(r"-o (\S+)", span)})


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(make_app())
    return dict(group.commands)


def parse(command: str, words: list[str]) -> dict[str, Any]:
    """Return the parameters that a command line gives to a command, without running it."""
    return dict(commands()[command].make_context(command, list(words)).params)


def check_training(words: list[str]) -> Experiment:
    """Return the experiment that ``segmnv2 train`` would run."""
    given = parse("train", words)
    assert str(given["config"]) in CONFIGS
    return load_experiment(REPOSITORY / given["config"], given["override"] or ())


def merged(values: dict[str, Any], fragment: dict[str, Any]) -> dict[str, Any]:
    return values | {
        key: merged(values[key], value) if isinstance(value, dict) and isinstance(values.get(key), dict) else value
        for key, value in fragment.items()
    }


def keys(values: dict[str, Any], prefix: str = "") -> set[str]:
    inner = [keys(value, f"{prefix}{key}.") for key, value in values.items() if isinstance(value, dict)]
    return {prefix + key for key in values}.union(*inner)


def test_the_page_has_commands_fragments_and_overrides() -> None:
    assert len(LINES) > 10
    assert len(FRAGMENTS) >= 4
    assert len(OVERRIDES) > 8


@pytest.mark.parametrize("line", LINES)
def test_command_lines_are_valid(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "segmnv2" and words[0] in EXPERIMENT_COMMANDS:
        check_training([word for word in words[1:] if words[0] == "train" or not word.startswith("--")])
    if program == "segmnv2":
        parse(words[0], words[1:])
    elif program == "torchrun":
        given = get_args_parser().parse_args(words)
        assert (given.module, given.training_script) == (True, "segmnv2")
        assert given.training_script_args[0] == "train"
        check_training(given.training_script_args[1:])
    elif program == "sbatch":
        script = words.index("tools/slurm_train.sh")
        assert all(word.startswith("--") for word in words[:script])
        assert (REPOSITORY / words[script]).is_file()
        check_training(words[script + 1 :])
    else:
        assert line == "tensorboard --logdir runs"


def test_commands_use_files_that_earlier_commands_write() -> None:
    written = {"weights/mobilenet_v2_1.0_224.safetensors"}
    for line in LINES:
        program, command, *words = shlex.split(line)
        if program != "segmnv2":
            continue
        if command == "import":
            written.add(str(parse(command, words)["out"]))
        elif command == "evaluate":
            assert str(parse(command, words)["weights"]) in written
        elif command == "train":
            experiment = check_training(words)
            start = experiment.model.weights or experiment.model.backbone_weights
            assert str(start) in written
            written.add(f"{experiment.output_folder}/last.safetensors")


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_a_fragment_fits_an_experiment(fragment: str) -> None:
    values = yaml.safe_load(BASE.read_text(encoding="utf-8"))
    experiment = parse_experiment(merged(values, yaml.safe_load(fragment)))
    SegmentationLoss(experiment.loss, VOC_LABELS)
    assert experiment != load_experiment(BASE), "it changes something"


@pytest.mark.parametrize("override", [word for word in OVERRIDES if word != "key=value"])
def test_an_override_in_the_text_is_accepted(override: str) -> None:
    changed = load_experiment(BASE, ["model.norm_momentum=null", override])
    assert changed != load_experiment(BASE)


def test_keys_and_files_in_the_text_exist() -> None:
    every = load_experiment(BASE, ["average={}", "data.photometric={}"]).to_dict()
    dotted = [span for span in SPANS if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", span)]
    named = {span for span in dotted if span.split(".")[0] in Experiment.model_fields}
    assert len(named) > 10
    assert named <= keys(every)
    assert {span for span in SPANS if span.startswith("configs/")} <= CONFIGS
    for span in SPANS:
        if span.startswith("segmnv2 "):
            assert span.split()[1] in commands()


def test_every_recipe_is_in_the_table_with_its_start() -> None:
    rows = dict(re.findall(r"^\| [^|]+ \| `(configs/[^`]+)` \| ([^|]+) \|$", PAGE, re.MULTILINE))
    named = {path for path in CONFIGS if Path(path).stem.startswith(("coco_", "voc_")) and "_cpu" not in path}
    recipes = {path for path in named if isinstance(load_any_experiment(REPOSITORY / path), Experiment)}
    assert rows.keys() == recipes
    for path, start in rows.items():
        model = load_experiment(REPOSITORY / path).model
        assert (start == "ImageNet's weights") == (model.backbone_weights is not None)
        if start == "COCO":
            assert str(model.weights).startswith("runs/coco_")
        if start == "stride 16":
            assert "_stride16/" in str(model.weights)


def test_photometric_defaults_match_the_page() -> None:
    (fragment,) = [yaml.safe_load(text) for text in FRAGMENTS if "photometric" in text]
    assert (
        load_experiment(BASE, ["data.photometric={}"]).to_dict()["data"]["photometric"]
        == (fragment["data"]["photometric"])
    )


def test_the_page_is_linked() -> None:
    assert "docs/training.md" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
