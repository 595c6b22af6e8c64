from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segmnv2.cli import main
from segmnv2.data.sample import Sample
from segmnv2.datasets.shapes import SHAPES_LABELS, Shapes
from segmnv2.evaluation.close_look import CloseLook
from segmnv2.evaluation.html_report import html_report
from segmnv2.evaluation.segmenters import Evaluation, evaluate
from segmnv2.labels import LabelSet
from segmnv2.metrics.confusion import confusion_matrix, mean_iou
from segmnv2.models.model_file import save_model
from segmnv2.models.zoo import create_model

DATA = Shapes(15, (40, 33), seed=5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = create_model("deeplabv3_mobilenet_v2", labels=SHAPES_LABELS, width=0.35)
    return save_model(tmp_path_factory.mktemp("weights") / "m.safetensors", model)


@pytest.fixture(scope="module")
def looked(weights) -> tuple[Evaluation, CloseLook, dict[str, float]]:
    from segmnv2.models.model_file import load_model

    look, own = CloseLook(SHAPES_LABELS), {}

    def observe(sample: Sample, prediction, counts) -> None:
        look(sample, prediction, counts)
        own[sample.name] = mean_iou(confusion_matrix(sample.mask, prediction.mask, 5))

    return evaluate(load_model(weights), DATA, size=65, observe=observe), look, own


def test_best_and_worst_images_are_those_of_a_sorted_list(looked):
    _, look, own = looked
    ranked = sorted(own.values())
    assert [example.miou for example in look.worst] == ranked[:6]
    assert [example.miou for example in look.best] == ranked[:-7:-1]
    assert all(own[example.name] == example.miou for example in (*look.best, *look.worst))


def test_the_images_of_an_example_show_its_errors(looked):
    _, look, _ = looked
    example = look.worst[0]
    assert list(example.images) == ["image", "truth", "prediction", "errors"]
    decoded = {
        title: np.asarray(Image.open(BytesIO(b64decode(address.partition(",")[2]))))
        for title, address in example.images.items()
    }
    assert {picture.shape for picture in decoded.values()} == {(40, 33, 3)}
    assert (decoded["errors"][..., 0].astype(int) - decoded["errors"][..., 1] > 80).any()


class Page(HTMLParser):
    """Addresses and open elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.without_text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [value for key in ("src", "href") if (value := values.get(key))]
        if (tag == "img" and not values.get("alt")) or (tag == "svg" and not values.get("aria-label")):
            self.without_text.append(tag)


def test_the_page_has_the_figures_and_needs_no_other_file(looked):
    evaluation, look, _ = looked
    text = html_report(evaluation, look)
    assert f"mIOU {evaluation.miou:.2f} %" in text
    for name, iou in evaluation.iou.items():
        assert name in text
        assert iou is None or f"{iou:.2f} %" in text
    page = Page()
    page.feed(text)
    assert len(page.addresses) == 12 * 4
    assert all(address.startswith("data:") for address in page.addresses)
    assert page.without_text == []
    assert not re.findall(r"https?://|@import|url\(", text)


def test_the_swatches_have_the_colors_of_the_images(looked):
    evaluation, look, _ = looked
    labels = LabelSet(SHAPES_LABELS.names, tuple((9, 9, 9 + index) for index in range(5)))
    page = html_report(replace(evaluation, labels=labels), look)
    colors = re.findall(r"rgb\((\d+), (\d+), (\d+)\)", page)
    assert [tuple(map(int, color)) for color in colors] == list(look.labels.palette)


def test_the_command_writes_the_page_and_refuses_it_for_others(weights, tmp_path, capsys):
    page = tmp_path / "report.html"
    command = ["evaluate", str(weights), "--dataset", "shapes", "--limit", "3", "--size", "65", "--html", str(page)]
    assert main(command) == 0
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert main(["evaluate", str(weights), "--dataset", "coco", "--root", str(tmp_path), "--html", str(page)]) == 2
    assert "--html: detectors have no such option" in capsys.readouterr().err
