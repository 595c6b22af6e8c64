"""Entry points for ``torch.hub.load``: each takes ``weights`` as this library does, a file or a published name."""

from __future__ import annotations

from typing import Any

dependencies = ["torch", "torchvision", "safetensors", "huggingface_hub", "filelock"]


def deeplabv3_mobilenet_v2(
    weights: str | None = "voc_mobilenet_v2", output_stride: int | None = None, **options: Any
) -> Any:
    """DeepLabv3 on MobileNetV2 without ASPP, the paper's mobile choice; by default TensorFlow's own weights.

    Args:
        weights: a file, a name of ``segmnv2 weights list``, ``owner/name`` on the Hub, or None for fresh ones.
        output_stride: 8, 16 or 32; by default that of the weights, else 16.
        options: of ``segmnv2.create_model``, for fresh weights.
    """
    return _model("deeplabv3_mobilenet_v2", weights, output_stride, options)


def deeplabv3_mobilenet_v2_aspp(weights: str | None = None, output_stride: int | None = None, **options: Any) -> Any:
    """DeepLabv3 on MobileNetV2 with ASPP; nobody publishes weights of it.

    Args:
        weights: as of the network without ASPP.
        output_stride: 8, 16 or 32; by default that of the weights, else 16.
        options: of ``segmnv2.create_model``, for fresh weights.
    """
    return _model("deeplabv3_mobilenet_v2_aspp", weights, output_stride, options)


def mobilenet_v2(weights: str | None = "imagenet_mobilenet_v2", output_stride: int = 32, **options: Any) -> Any:
    """MobileNetV2 as a backbone: normalized images to feature maps; by default TensorFlow-Slim's weights.

    Args:
        weights: a file, a published name, or None for fresh ones; images are then -1..1 for TensorFlow's.
        output_stride: 8, 16 or 32.
        options: of ``segmnv2.create_backbone``, as ``width=1.4``.
    """
    import segmnv2
    from segmnv2.models.model_file import load_backbone_weights

    backbone = segmnv2.create_backbone("mobilenet_v2", output_stride=output_stride, **options)
    if weights is not None:
        load_backbone_weights(backbone, "mobilenet_v2", options, segmnv2.resolve_weights(weights))
    return backbone.eval()


def _model(name: str, weights: str | None, output_stride: int | None, options: dict[str, Any]) -> Any:
    import segmnv2

    return segmnv2.create_model(name, output_stride=output_stride, weights=weights, **options).eval()
