"""Changes of a model after an engine was made of it, which would go unnoticed."""

from __future__ import annotations

import os
from typing import Any

import torch

from segmnv2.engines.backend import refuse_fork
from segmnv2.errors import ConfigError
from segmnv2.inference.multi_scale import DenseModel
from segmnv2.models.segmenter import Segmenter


class ModelWatch:
    """Compares a model with what it was when this was made; of its values it reads the last layer's alone."""

    def __init__(self, model: Segmenter, backend: DenseModel) -> None:
        """Note the state of a model.

        Args:
            model: that may change.
            backend: what was made of it, or the model itself, which always is what it is.

        Raises:
            ConfigError: they differ already in their output strides.
        """
        self._model, self._backend, self._process = model, backend, os.getpid()
        groups = ((module._parameters, module._buffers, module._modules) for module in model.modules())
        self._groups: list[dict[str, Any]] = [group for three in groups for group in three if group]
        self._state = self._read()
        self.check()

    def __reduce__(self) -> tuple[type[ModelWatch], tuple[Any, ...]]:
        self.check()
        return ModelWatch, (self._model, self._backend)

    def check(self) -> None:
        """Make sure that the model is unchanged.

        Raises:
            ConfigError: it has other weights or another output stride than the engine, or it runs itself and this
                process was forked, where PyTorch would wait for its parent's threads.
        """
        self._model.check_classes()
        if self._backend is self._model:
            if torch.get_num_threads() > 1:
                refuse_fork("the model", self._process)
            return
        now, before = self._model.output_stride, self._backend.output_stride
        if now != before or self._read() != self._state:
            raise ConfigError(
                f"predictor: '{self._backend}' was made before its model was changed "
                f"({f'output stride {before} to {now}' if now != before else 'other weights'}) and runs the old one; "
                "make a new predictor: Predictor(model, backend=create_backend(model, ...)), or Predictor.load(..., "
                "output_stride=...)"
            )

    def _read(self) -> list[tuple[int, int]]:
        """Return two numbers a tensor or layer, of which one changes if a tensor's values or it itself are replaced.

        Changes through ``.data``, as moving averages make them, count no version. The sum of the last layer's bits
        shows them; as integers it is exact in any order.
        """
        last = self._model.get_parameter(f"{self._model.logits_name}.weight").detach().float()
        states = [
            (id(each), each._version if isinstance(each, torch.Tensor) and not each.is_inference() else 0)
            for group in self._groups
            for each in group.values()
            if each is not None
        ]
        return [(int(last.view(torch.int32).sum()), 0), *states]
