from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segmnv2.config.reading import find_config, list_configs, load_any_experiment, summary_of
from segmnv2.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["shapes", "shapes.yaml", "configs/shapes.yaml"])
def test_shipped_experiments_load_by_name_in_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_any_experiment(name).name == "shapes"


def test_a_local_file_has_priority_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    local = Path("shapes.yaml")
    local.write_text((REPOSITORY / "configs/shapes.yaml").read_text().replace("name: shapes", "name: mine"))
    assert load_any_experiment("shapes.yaml").name == "mine"


@pytest.mark.parametrize("name", ["shape", "other/shapes.yaml", "configs/shape.yml"])
def test_an_unknown_name_is_refused_with_the_remedy(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"{name}.*did you mean shapes.*segmnv2 configs"):
        find_config(name)


def test_every_shipped_experiment_has_a_summary_of_one_sentence() -> None:
    assert list_configs().keys() == {path.stem for path in (REPOSITORY / "configs").glob("*.yaml")}
    assert all(15 < len(summary_of(path)) < 250 for path in list_configs().values())
    assert all(summary.count("(") == summary.count(")") for summary in map(summary_of, list_configs().values()))


@pytest.mark.slow
def test_an_installed_wheel_lists_and_reads_its_experiments(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("segmnv2", "configs"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    built = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run([*pip, *built], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    shutil.rmtree(source)
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # -P and -S keep this repository and its editable install out; the dependencies are added by path.
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; sys.path += [sys.argv[2]]; import segmnv2\n"
        "from segmnv2.cli import main; from segmnv2.checks import page\n"
        "assert segmnv2.__file__.startswith(sys.argv[1]), segmnv2.__file__\n"
        "sys.exit(main(['configs']) or main(['configs', 'shapes']) or main(['train', 'shapes', '-o', 'steps=x']))"
    )
    packages = str(Path(pytest.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-S", "-c", code, str(tmp_path / "site"), packages],
        cwd=elsewhere, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "shapes: A small network from scratch" in run.stdout, run.stderr
    assert (elsewhere / "shapes.yaml").read_bytes() == (REPOSITORY / "configs/shapes.yaml").read_bytes()
    assert run.returncode == 2
    assert "steps" in run.stderr, "the experiment was read, and its override refused"
