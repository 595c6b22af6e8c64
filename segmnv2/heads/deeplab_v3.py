"""DeepLabv3's head, with and without atrous spatial pyramid pooling (ASPP), for training and inference.

For inference, linear layers of backbone and head are joined or split if that saves work; only rounding changes. The
last block of MobileNetV2 ends with a linear projection (960 to 320 channels). Without ASPP, both branches of the head
begin with a 1x1 convolution (320 to 256). Each is joined with the projection to one matrix (960 to 256), which saves
6 % of the model's work at width 1.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.heads.head import Head, HeadKind
from segmnv2.nn.blocks import InvertedResidual
from segmnv2.nn.conv import ConvNormAct, Layers, PooledBatchNorm2d, SameConv2d, draw_truncated_normal
from segmnv2.nn.stride import check_output_stride, resize_bilinear

BASE_RATES = (6, 12, 18)
"""Dilations at output stride 16; at 8 they double and at 32 they halve, so that they span the same pixels."""

LAYERS = Layers(norm_eps=1e-5, norm_momentum=0.0003, activation=nn.ReLU)
"""Source: ``extract_features`` of tensorflow/models research/deeplab/model.py; its decay of 0.9997."""


class Aspp(nn.Module):
    """Parallel branches over one feature map, concatenated: image pooling, 1x1 and, with ``aspp``, three dilated 3x3.

    The image-level feature is the mean over the whole map, even if the map is larger than in training. TensorFlow's
    window has the size of the crop, which gives the same mean for images of that size.

    Source: DeepLabv3, Figure 5; order of concatenation and separate 3x3 convolutions (ordinary, not separable) of
    tensorflow/models research/deeplab/model.py.
    """

    def __init__(self, in_channels: int, channels: int = 256, *, aspp: bool = True) -> None:
        """Build the branches, of ``channels`` each, at output stride 16."""
        super().__init__()
        self.image_pooling = LAYERS.conv(in_channels, channels)
        self.image_pooling.norm = PooledBatchNorm2d(channels, eps=LAYERS.norm_eps, momentum=LAYERS.norm_momentum)
        self.pointwise = LAYERS.conv(in_channels, channels)
        self.atrous = nn.ModuleList(LAYERS.conv(in_channels, channels, 3) for _ in BASE_RATES if aspp)
        self.out_channels = channels * (2 + len(self.atrous))
        self.set_output_stride(16)

    def set_output_stride(self, output_stride: int) -> None:
        """Set the dilations for a feature map of that stride, keeping the weights."""
        for branch, rate in zip(self.atrous, BASE_RATES, strict=False):
            assert isinstance(branch, ConvNormAct)
            branch.set_stride_and_dilation(1, rate * 16 // output_stride)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Map features (b, c, h, w) to (b, out_channels, h, w)."""
        pooled = self.image_pooling(x.mean((2, 3), keepdim=True))
        branches = [resize_bilinear(pooled, (x.shape[2], x.shape[3])), self.pointwise(x)]
        return torch.cat(branches + [branch(x) for branch in self.atrous], dim=1)


def join_projection(backbone: nn.Module, aspp: Aspp) -> None:
    """Join a backbone's last linear layer with each layer that reads it, in place, if that saves multiplications.

    The norms of both are already folded. Only backbones that end in an inverted residual have such a layer. Nothing is
    joined with dilated 3x3 branches, because each would read three times as many channels.
    """
    block = _last_block(backbone)
    if block is None or len(aspp.atrous):
        return
    first, second = block.project.conv, aspp.pointwise.conv
    joined = first.in_channels * second.out_channels
    if joined >= (first.in_channels + second.out_channels) * first.out_channels:
        return
    for reader in (aspp.pointwise, aspp.image_pooling):
        reader.conv = compose(first, reader.conv)
    block.project = nn.Identity()  # type: ignore[assignment]


def compose(first: SameConv2d, second: SameConv2d) -> SameConv2d:
    """Return one frozen 1x1 convolution with a bias that equals two 1x1 convolutions in sequence."""
    joined = SameConv2d(first.in_channels, second.out_channels, bias=True)
    before, after = (conv.weight.detach().double()[:, :, 0, 0] for conv in (first, second))
    bias = _bias(second) + after @ _bias(first)
    joined.weight = nn.Parameter((after @ before).to(first.weight.dtype)[:, :, None, None], requires_grad=False)
    joined.bias = nn.Parameter(bias.to(first.weight.dtype), requires_grad=False)
    return joined


def _last_block(backbone: nn.Module) -> InvertedResidual | None:
    """Return the last block of a backbone if its output is a linear projection without a shortcut."""
    blocks = getattr(backbone, "blocks", None)
    if getattr(backbone, "last", None) is not None or not isinstance(blocks, nn.ModuleList):
        return None
    block = blocks[-1]
    if not isinstance(block, InvertedResidual) or block.shortcut or not isinstance(block.project, ConvNormAct):
        return None
    return block if isinstance(block.project.activation, nn.Identity) else None


def _bias(conv: SameConv2d) -> Float[Tensor, " c"]:
    return (conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias).detach().double()


class SplitAspp(nn.Module):
    """Branches of ASPP and the projection for inference, with norms folded.

    The image-level feature is the same at every pixel. So its part of the projection is computed once and added, while
    :class:`Aspp` copies the feature to every pixel.
    """

    def __init__(self, aspp: Aspp, projection: ConvNormAct) -> None:
        """Split the weights of the projection, which reads the concatenated branches of ``aspp``."""
        super().__init__()
        conv = projection.conv
        assert conv.bias is not None
        assert isinstance(projection.activation, nn.ReLU)
        self.image_pooling, self.pointwise, self.atrous = aspp.image_pooling, aspp.pointwise, aspp.atrous
        first = aspp.image_pooling.conv.out_channels  # the image-level feature's columns come first
        self.pooled = nn.Conv2d(first, conv.out_channels, 1, dtype=conv.weight.dtype)
        self.local = nn.Conv2d(conv.in_channels - first, conv.out_channels, 1, bias=False)
        self.pooled.weight = nn.Parameter(conv.weight[:, :first].clone())
        self.pooled.bias = nn.Parameter(conv.bias.clone())
        self.local.weight = nn.Parameter(conv.weight[:, first:].clone())

    @staticmethod
    def image_level(name: str) -> tuple[str, ...]:
        """Return the names of the layers of the image-level feature in a module called ``name``."""
        return (f"{name}.image_pooling", f"{name}.pooled")

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Map features (b, c, h, w) to the projection's output (b, d, h, w)."""
        pooled = self.pooled(self.image_pooling(x.mean((2, 3), keepdim=True)))
        branches = [self.pointwise(x), *(branch(x) for branch in self.atrous)]
        local = self.local(branches[0] if len(branches) == 1 else torch.cat(branches, dim=1))
        return torch.relu(local + pooled)


LOGITS_STD = 0.01


class DeepLabV3Head(Head):
    """Branches, 1x1 projection to 256 channels, dropout, 1x1 convolution to class logits.

    Without ASPP, as in the paper's mobile models, there are two branches: image pooling and 1x1.

    Source: MobileNetV2, section 6.3; tensorflow/models research/deeplab/model.py: keep probability 0.9, logits with a
    bias and truncated-normal weights of 0.01, the other layers Xavier-uniform.
    """

    float_layers: ClassVar[tuple[str, ...]] = SplitAspp.image_level("aspp")

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        aspp: bool,
        output_stride: int = 16,
        channels: int = 256,
        dropout: float = 0.1,
    ) -> None:
        """Build the head with fresh weights.

        Args:
            in_channels: channels of the backbone's last feature map.
            num_classes: number of logits.
            aspp: whether to use the three dilated 3x3 branches.
            output_stride: stride of the feature map, 8, 16 or 32.
            channels: width of the branches and of the projection.
            dropout: share of the projection's activations dropped in training.

        Raises:
            ConfigError: the output stride is not 8, 16 or 32.
        """
        super().__init__()
        self.in_channels = (in_channels,)
        self.aspp = Aspp(in_channels, channels, aspp=aspp)
        self.projection = LAYERS.conv(self.aspp.out_channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        self._initialize()
        self.set_output_stride(output_stride)

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        draw_truncated_normal(self.logits, LOGITS_STD)
        assert self.logits.bias is not None
        nn.init.zeros_(self.logits.bias)

    def set_output_stride(self, output_stride: int) -> None:
        """Set ASPP's dilations for a feature map of that stride: (3, 6, 9) at 32, (6, 12, 18) at 16, (12, 24, 36) at 8.

        Raises:
            ConfigError: any other stride.
        """
        check_output_stride(output_stride)
        self._output_stride = output_stride
        self.aspp.set_output_stride(output_stride)

    @classmethod
    def build(
        cls, channels: Sequence[int], strides: Sequence[int], num_classes: int, *, output_stride: int, **options: Any
    ) -> DeepLabV3Head:
        """Build the head for a backbone; it reads the last feature map."""
        return cls(channels[-1], num_classes, output_stride=output_stride, **options)

    @property
    def logits_stride(self) -> int:
        """Pixels between two logits: the output stride."""
        return self._output_stride

    def context(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Map the last feature map (b, c, h, w) to the projection of the branches (b, channels, h, w)."""
        out: Tensor = self.dropout(self.projection(self.aspp(features)))
        return out

    def forward(self, features: Sequence[Float[Tensor, "b _c _h _w"]]) -> Float[Tensor, "b k i j"]:
        """Map the last feature map, the only one in ``features``, to logits of its size."""
        out: Tensor = self.logits(self.context(features[0]))
        return out

    def for_inference(self, backbone: nn.Module) -> Head:
        """Join and split linear layers if that saves work; this head and the backbone are changed in place.

        Args:
            backbone: the backbone; its batch norms are folded, and so are this head's.
        """
        assert isinstance(self.aspp, Aspp)
        join_projection(backbone, self.aspp)
        self.aspp = SplitAspp(self.aspp, self.projection)  # type: ignore[assignment]
        self.projection = nn.Identity()  # type: ignore[assignment]
        self.dropout = nn.Identity()  # type: ignore[assignment]  # quantizers would leave its input in float
        return self


DEEPLAB_V3 = HeadKind(DeepLabV3Head, {"aspp": False})
DEEPLAB_V3_ASPP = HeadKind(DeepLabV3Head, {"aspp": True})
