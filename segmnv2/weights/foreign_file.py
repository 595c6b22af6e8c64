"""Files that are taken for weights of this library and are something else, known by their suffix."""

from __future__ import annotations

from pathlib import Path

EXPORTS = {
    ".onnx": "ONNX",
    ".xml": "OpenVINO",
    ".pt2": "torch.export",
    ".pte": "ExecuTorch",
    ".tflite": "LiteRT or TensorFlow Lite",
    ".mlpackage": "Core ML",
    ".pb": "TensorFlow's frozen graph",
}
CHECKPOINTS = (".ckpt", ".pth", ".pt", ".index", ".meta", ".data-00000-of-00001")


def describe_foreign(path: str | Path) -> str | None:
    """Return what a file of another program is and what to do with it, or ``None`` for other suffixes."""
    suffix = Path(path).suffix.lower()
    if suffix in EXPORTS:
        return (
            f"is an exported file ({EXPORTS[suffix]}), from which no network can be rebuilt; give the weights that it "
            "was made of, or run it in its own runtime (docs/export.md); `segmnv2 verify` compares the two"
        )
    if suffix in CHECKPOINTS:
        return f"is a checkpoint of another program; convert it first: segmnv2 import {path} --out weights.safetensors"
    return None
