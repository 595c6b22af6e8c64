"""DeepLabv3's head, with and without atrous spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from segmnv2.heads.aspp import Aspp, SplitAspp, conv_norm_relu, join_projection
from segmnv2.heads.head import Head, HeadKind
from segmnv2.nn.stride import check_output_stride

LOGITS_STD = 0.01


class DeepLabV3Head(Head):
    """Branches, 1x1 projection to 256 channels, dropout, 1x1 convolution to class logits.

    Without ASPP (the paper's mobile choice) there remain two branches: image pooling and 1x1.

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
            aspp: whether the three dilated 3x3 branches exist.
            output_stride: stride of the feature map, 8, 16 or 32.
            channels: width of the branches and of the projection.
            dropout: share of the projection's activations dropped in training.

        Raises:
            ConfigError: an output stride that is not 8, 16 or 32.
        """
        super().__init__()
        self.in_channels = (in_channels,)
        self.aspp = Aspp(in_channels, channels, aspp=aspp)
        self.projection = conv_norm_relu(self.aspp.out_channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        self._initialize()
        self.set_output_stride(output_stride)

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        nn.init.trunc_normal_(self.logits.weight, std=LOGITS_STD, a=-2 * LOGITS_STD, b=2 * LOGITS_STD)
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
        """Build the head for all feature maps of a backbone, of which it reads the last."""
        return cls(channels[-1], num_classes, output_stride=output_stride, **options)

    @property
    def logits_stride(self) -> int:
        """Pixels between two logits: the output stride."""
        return self._output_stride

    def context(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Map the last feature map (b, c, h, w) to (b, channels, h, w), what the branches found."""
        out: Tensor = self.dropout(self.projection(self.aspp(features)))
        return out

    def forward(self, features: Sequence[Float[Tensor, "b _c _h _w"]]) -> Float[Tensor, "b k i j"]:
        """Map the last feature map, the only one in ``features``, to logits of its size."""
        out: Tensor = self.logits(self.context(features[0]))
        return out

    def for_inference(self, backbone: nn.Module) -> Head:
        """Join and split linear layers where that is less work; this head and the backbone are changed in place.

        Args:
            backbone: with norms folded, as this head.
        """
        assert isinstance(self.aspp, Aspp)
        join_projection(backbone, self.aspp)
        self.aspp = SplitAspp(self.aspp, self.projection)  # type: ignore[assignment]
        self.projection = nn.Identity()  # type: ignore[assignment]
        self.dropout = nn.Identity()  # type: ignore[assignment]  # quantizers would leave its input in float
        return self


DEEPLAB_V3 = HeadKind(DeepLabV3Head, {"aspp": False})
DEEPLAB_V3_ASPP = HeadKind(DeepLabV3Head, {"aspp": True})
