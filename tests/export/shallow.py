"""A network of 8 blocks rather than 17, since converters take time for each."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from segmnv2.backbones import mobilenet_v2
from segmnv2.models.segmenter import Segmenter
from tests.backends.conftest import lively_model


@cache
def shallow_model(name: str = "deeplabv3_mobilenet_v2", **options: object) -> Segmenter:
    # Whoever asks first, the network is one that can be exported.
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode(False), torch.enable_grad():
        few = [stage._replace(repeats=2 if index == 1 else 1) for index, stage in enumerate(mobilenet_v2.STAGES)]
        patch.setattr(mobilenet_v2, "STAGES", tuple(few))
        return lively_model(name, width=0.35, **options)
