from __future__ import annotations

import pytest
import torch

from segmnv2.engines.pytorch import convolutions


def settings() -> tuple[bool, str, str]:
    cudnn = torch.backends.cudnn
    return cudnn.benchmark, cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision  # type: ignore[attr-defined]


def test_settings_apply_in_the_block_and_are_restored_after_an_error() -> None:
    before = settings()
    seen = []

    def stop() -> None:
        with convolutions("ieee", tuned=True):
            seen.append(settings())
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stop()
    assert seen == [(True, "ieee", "ieee")]
    assert settings() == before
    with convolutions(tuned=True):
        assert settings() == (True, *before[1:])
    assert torch.backends.cudnn.allow_tf32 in (True, False)  # PyTorch's older names can still be read


def test_cudnn_does_not_try_algorithms_if_pytorch_is_deterministic() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        with convolutions(tuned=True):
            assert not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
