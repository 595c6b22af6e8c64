"""NASNet-A as a feature extractor."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.backbones.backbone import ChainBackbone, FeatureInfo, check_options, stage_ends
from segmnv2.backbones.nasnet_cells import Cell, NormalCell, ReductionCell
from segmnv2.nn.conv import Layers, Padding, SameConv2d, draw_truncated_normal
from segmnv2.nn.stride import Strided

STAGES = 3
STEM_SCALINGS = (4, 2)
"""The stem's two reduction cells have a quarter and a half of the first stage's filters."""

REACH = 3
"""Number of latest outputs that a cell may read."""

TRUNCATION_FACTOR = 1.3
"""Factor of slim: a normal distribution truncated at two deviations has 1 / 1.3 of its variance."""


class NASNet(ChainBackbone):
    """NASNet-A without its classifier, by default the mobile network ("4 @ 1056").

    A 3x3 convolution and two reduction cells lead to stride 8. Three stages of ``cells`` normal cells follow, with
    ``filters``, 2 * ``filters`` and 4 * ``filters`` filters, and a reduction cell between two stages.

    The feature maps of the mobile network have 32, 44, 264, 528 and 1056 channels at strides 2, 4, 8, 16 and 32. The
    output stride replaces larger strides. Cells begin with a ReLU and do not end with one, so maps have negative
    values. Only the last map has none, because it includes the ReLU before the classifier.

    Two things differ from slim. Slim's first convolution has no padding, which gives 111 samples for 224 pixels. Here
    it pads to ``ceil(side / 2)`` like all other layers, so that sides of 32 k + 1 pixels keep their grids. And there is
    no auxiliary classifier and no path dropout, which the mobile network does not use.

    Source: NASNet (Zoph et al., 2018), Figure 4 and appendix A.7; ``build_nasnet_mobile``, initialization (truncated
    normal by fan out) and batch norm (epsilon 1e-3, decay 0.9997) of slim/nets/nasnet/nasnet.py.
    """

    def __init__(
        self,
        *,
        filters: int = 44,
        cells: int = 4,
        stem_channels: int = 32,
        skip_reduction_input: bool = False,
        output_stride: int = 32,
        padding: Padding = "tensorflow",
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.0003,
    ) -> None:
        """Build the backbone with fresh weights.

        Args:
            filters: filters of the first stage's cells, a multiple of 4: 44 in the mobile network, 168 in the large.
            cells: normal cells per stage: 4 in the mobile network, 6 in the large.
            stem_channels: channels of the first convolution: 32 in the mobile network, 96 in the large.
            skip_reduction_input: whether the cell after a reduction cell takes that cell's older input as its own older
                input, as in the large network. Otherwise it takes the newer one, as in the mobile network.
            output_stride: 8, 16 or 32.
            padding: ``"tensorflow"`` for weights from TensorFlow, ``"symmetric"`` for weights of models that pad both
                sides equally; they differ only for even sides.
            norm_eps: epsilon of the batch norms.
            norm_momentum: share of a new batch in the running statistics (TensorFlow's decay is 1 minus this).

        Raises:
            ConfigError: a value is not possible.
        """
        super().__init__()
        check_options(
            filters=filters,
            cells=cells,
            stem_channels=stem_channels,
            skip_reduction_input=skip_reduction_input,
            padding=padding,
            norm_eps=norm_eps,
            norm_momentum=norm_momentum,
        )
        self._layers = Layers(padding, norm_eps, norm_momentum)
        self.stem = self._layers.conv(3, stem_channels, 3, act=False)
        self.cells = nn.ModuleList()
        self._older: list[int] = []  # index in `_outputs` of each cell's older input, or -1 for none
        self._outputs = [FeatureInfo(stem_channels, 2)]
        self._build(filters, cells, skip_reduction_input)
        self._taps = stage_ends([stride for _, stride in self.strided_layers()])
        for module in self.modules():
            if isinstance(module, SameConv2d):
                fan_out = module.out_channels // module.groups * module.kernel_size[0] ** 2
                draw_truncated_normal(module, math.sqrt(2 * TRUNCATION_FACTOR / fan_out))
        self.set_output_stride(output_stride)

    def _build(self, filters: int, cells: int, skip_reduction_input: bool) -> None:
        for scaling in STEM_SCALINGS:
            self._append(ReductionCell, filters // scaling, older=len(self.cells) - 1)
        for stage in range(STAGES):
            width = filters * 2**stage
            for index in range(cells):
                older = len(self.cells) - 1
                if stage > 0 and index == 0:
                    self._append(ReductionCell, width, older=older)
                    older += 0 if skip_reduction_input else 1
                self._append(NormalCell, width, older=older)

    def _append(self, kind: type[Cell], filters: int, *, older: int) -> None:
        last = self._outputs[-1]
        previous = None if older < 0 else self._outputs[older]
        self.cells.append(
            kind(
                last.channels,
                None if previous is None else previous.channels,
                filters,
                previous_is_finer=previous is not None and previous.stride < last.stride,
                layers=self._layers,
            )
        )
        self._older.append(older)
        stride = last.stride * (2 if kind is ReductionCell else 1)
        self._outputs.append(FeatureInfo(kind.fan_out * filters, stride))

    @property
    def nominal_features(self) -> tuple[FeatureInfo, ...]:
        """Channels and strides of the feature maps without any dilation."""
        return tuple(self._outputs[index] for index in self._taps)

    def strided_layers(self) -> Sequence[tuple[Strided, int]]:
        """Return the first convolution and the cells with their nominal strides."""
        strides = [2, *(2 if isinstance(cell, ReductionCell) else 1 for cell in self.cells)]
        return list(zip((self.stem.conv, *self.cells), strides, strict=True))

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _c _h _w"], ...]:
        """Map normalized images (b, 3, h, w), -1..1 for TensorFlow's weights, to the feature maps, finest first."""
        out = self.stem(x)
        features, recent = [out], {0: out}  # the stem gives the only map at stride 2
        for index, (cell, older) in enumerate(zip(self.cells, self._older, strict=True), start=1):
            out = cell(out, None if older < 0 else recent[older])
            recent[index] = out
            recent.pop(index - REACH, None)
            if index in self._taps:
                features.append(out)
        features[-1] = features[-1].relu()
        return tuple(features)
