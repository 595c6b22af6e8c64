"""Sizes of the models at the widths of the paper, counted independently of this library."""

from __future__ import annotations

import pytest
import torch

from segmnv2.backbones.mobilenet_v2 import stage_channels
from segmnv2.models.cost import count_parameters, trace_madds
from segmnv2.models.segmenter import Segmenter
from segmnv2.models.zoo import create_model

PARAMETERS = {
    0.35: ("0.446", "1.418"),
    0.5: ("0.700", "2.004"),
    0.75: ("1.307", "3.164"),
    1.0: ("2.114", "4.524"),
    1.3: ("3.377", "6.451"),
    1.4: ("3.877", "7.171"),
}
"""Parameters in millions by width, without and with ASPP."""

MADDS = {
    (16, False): ("0.581|0.582", "0.910|0.911", "1.817|1.818", "2.741|2.742", "4.495|4.497", "5.131|5.134"),
    (16, True): ("1.638|1.799", "2.329|2.559", "3.837|4.182", "5.364|5.823", "7.840|8.438", "8.718|9.361"),
    (8, False): ("1.803|1.808", "2.862|2.869", "5.509|5.519", "8.826|8.840", "14.33|14.34", "16.42|16.44"),
    (8, True): ("5.905|6.652", "8.365|9.432", "13.35|14.95", "19.00|21.14", "27.30|30.08", "30.33|33.32"),
}
"""Billions for 513 x 513 pixels by output stride and ASPP: for each width, plain|in the paper's convention."""

GRID = [(width, stride, aspp) for width in PARAMETERS for stride in (16, 8) for aspp in (False, True)]


def build(width: float, output_stride: int, aspp: bool) -> Segmenter:
    with torch.device("meta"):
        return create_model("deeplabv3_mobilenet_v2" + "_aspp" * aspp, width=width, output_stride=output_stride)


def printed(count: int, unit: float, like: str) -> str:
    return f"{count / unit:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize(("width", "output_stride", "aspp"), GRID)
def test_parameters_and_madds_to_the_printed_digits(width: float, output_stride: int, aspp: bool) -> None:
    model = build(width, output_stride, aspp)
    parameters = PARAMETERS[width][aspp]
    assert printed(count_parameters(model), 1e6, parameters) == parameters
    plain, paper = MADDS[output_stride, aspp][list(PARAMETERS).index(width)].split("|")
    assert printed(trace_madds(model).plain, 1e9, plain) == plain
    assert printed(trace_madds(model).paper, 1e9, paper) == paper


@pytest.mark.parametrize("width", [width for width in PARAMETERS if width != 1.0])
def test_models_of_deeplabs_divisor_have_other_channels_than_imagenets(width: float) -> None:
    """So ImageNet weights fit only the default of 8, and both divisors only at width 1.0."""
    assert stage_channels(width, 8) != stage_channels(width, 1)
    assert stage_channels(1.0, 8) == stage_channels(1.0, 1)
