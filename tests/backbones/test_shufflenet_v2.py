from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torchvision

from segmnv2.backbones.shufflenet import ShuffleNetV2
from segmnv2.errors import ConfigError
from segmnv2.weights.loading import load_strict
from tests.backbones.reference import randomize_norms


@pytest.mark.parametrize("size", [(96, 64), (97, 65)])
def test_parity_with_torchvision_under_its_own_names(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.shufflenet_v2_x1_0(weights=None).eval()
    randomize_norms(theirs)
    ours = ShuffleNetV2(last_conv=True).eval()
    tensors = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    load_strict(ours, tensors, "torchvision")
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        features = ours(x)
        torch.testing.assert_close(theirs.fc(features[-1].mean((2, 3))), theirs(x))
        for name, feature in zip(("conv1", "maxpool", "stage2", "stage3", "stage4"), features, strict=False):
            x = getattr(theirs, name)(x)
            torch.testing.assert_close(feature, x)


@pytest.mark.parametrize("fine", [8, 16])
def test_atrous_consistency_stage_by_stage(fine: int) -> None:
    torch.manual_seed(0)
    backbone = ShuffleNetV2(width=0.5, last_conv=True).double().eval()
    randomize_norms(backbone)
    x = torch.randn(1, 3, 129, 97, dtype=torch.float64)
    with torch.no_grad():
        coarse = backbone(x)
        backbone.set_output_stride(fine)
        dense = backbone(x)
    steps = []
    for few, many in zip(coarse, dense, strict=True):
        steps.append((many.shape[-1] - 1) // (few.shape[-1] - 1))
        torch.testing.assert_close(many[..., :: steps[-1], :: steps[-1]], few, rtol=1e-9, atol=1e-9)
    assert steps == ([1, 1, 1, 2, 4, 4] if fine == 8 else [1, 1, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("width", "channels"),
    [
        (0.5, [48, 96, 192, 1024]),
        (1.0, [116, 232, 464, 1024]),
        (1.5, [176, 352, 704, 1024]),
        (2.0, [244, 488, 976, 2048]),
    ],
)
def test_channels_of_the_papers_table_5(width: float, channels: list[int]) -> None:
    with torch.device("meta"):
        backbone = ShuffleNetV2(width=width, output_stride=16, last_conv=True).eval()
        features = backbone(torch.empty(1, 3, 65, 33))
    assert [f.shape[1] for f in features] == [24, 24, *channels]
    assert [(i.channels, i.stride) for i in backbone.feature_info] == list(
        zip([24, 24, *channels], (2, 4, 8, 16, 16, 16), strict=True)
    )
    assert [f.shape[2:] for f in features] == [(-(-65 // i.stride), -(-33 // i.stride)) for i in backbone.feature_info]


def test_importing_the_module_leaves_torchvision_alone() -> None:
    code = "import sys, segmnv2.backbones.shufflenet; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("options", [{"width": 0.35}, {"output_stride": 12}])
def test_impossible_arguments_name_the_allowed_ones(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        ShuffleNetV2(**options)  # type: ignore[arg-type]
