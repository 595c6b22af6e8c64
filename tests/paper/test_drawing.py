from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure
from PIL import Image

from segmnv2.errors import ConfigError
from segmnv2.paper.drawing import DPI, MARKERS, PALETTE, check_figure_path, new_figure, save_figure, style_axes


def sample(values: tuple[int, ...] = (3, 1, 2)) -> Figure:
    figure = new_figure("Title", "Source line", width=4, height=3)
    axes = figure.subplots()
    style_axes(axes, x_label="across", y_label="up")
    axes.plot(values, color=PALETTE[0], marker=MARKERS[0], label="series")
    axes.legend()
    return figure


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_equal_figures_give_equal_bytes(tmp_path: Path, suffix: str) -> None:
    first = save_figure(tmp_path / f"a{suffix}", sample()).read_bytes()
    assert save_figure(tmp_path / f"b{suffix}", sample()).read_bytes() == first
    assert save_figure(tmp_path / f"c{suffix}", sample((1, 1, 2))).read_bytes() != first
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_png_has_the_stated_resolution_and_svg_has_no_date(tmp_path: Path) -> None:
    with Image.open(save_figure(tmp_path / "new" / "a.PNG", sample())) as image:
        assert image.format == "PNG"
        assert image.size == (4 * DPI, 3 * DPI)
    text = save_figure(tmp_path / "a.svg", sample()).read_text(encoding="utf-8")
    assert "<svg" in text
    assert "<dc:date>" not in text


@pytest.mark.parametrize(("name", "found"), [("a.pdf", "'.pdf'"), ("a", "no suffix"), ("a.png.jpg", "'.jpg'")])
def test_another_suffix_is_refused_with_the_allowed_ones(tmp_path: Path, name: str, found: str) -> None:
    for attempt in (lambda path: save_figure(path, sample()), check_figure_path):
        with pytest.raises(ConfigError, match=r"\.png or \.svg") as refusal:
            attempt(tmp_path / name)
        assert str(tmp_path / name) in str(refusal.value)
        assert found in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "a.png", tmp_path / "folder.png"):
        with pytest.raises(ConfigError, match=path.name):
            save_figure(path, sample())


def test_a_figure_that_cannot_be_drawn_is_not_written(tmp_path: Path) -> None:
    old = save_figure(tmp_path / "a.png", sample()).read_bytes()
    broken = sample()
    broken.axes[0].set_xlabel(r"$\nonsense{$")
    with pytest.raises(ValueError, match="nonsense"):
        save_figure(tmp_path / "a.png", broken)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == old


def test_saving_keeps_matplotlibs_settings(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    save_figure(tmp_path / "a.svg", sample())
    assert dict(matplotlib.rcParams) == before


def test_series_differ_by_color_and_by_marker() -> None:
    assert len(set(PALETTE)) == len(PALETTE) == len(set(MARKERS)) == len(MARKERS)
