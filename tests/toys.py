"""A toy of each kind that the library can be extended with, and the line in a registry that adds it.

As a plugin of pytest (``-p tests.toys``) this module adds them before contract suites are collected.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from segmnv2.backbones.backbone import BACKBONES, ChainBackbone, FeatureInfo
from segmnv2.data.sample import Sample
from segmnv2.datasets.dataset_kinds import DATASETS, DataSource
from segmnv2.datasets.listing import Listing, Pair
from segmnv2.export.export_metadata import ExportMetadata
from segmnv2.export.formats import FORMATS, Format, OpenedExport
from segmnv2.heads.head import HEADS, Head, HeadKind, model_name
from segmnv2.inference.scores import predict_labels
from segmnv2.labels import LabelSet
from segmnv2.losses import LOSSES
from segmnv2.models.model_file import load_model, save_model
from segmnv2.models.segmenter import MODELS, ModelSpec, Segmenter
from segmnv2.nn.conv import ConvNormAct, SameConv2d
from segmnv2.nn.stride import Strided
from tests.dataset_files import WRITERS

LABELS = LabelSet(("left", "right"), ((200, 0, 0), (0, 0, 200)))


class ToyBackbone(ChainBackbone):
    """Five convolutions, each of stride 2."""

    def __init__(self, output_stride: int = 32, width: float = 1.0) -> None:
        super().__init__()
        self.channels = [max(4, int(16 * width))] * 5
        pairs = zip([3, *self.channels], self.channels, strict=False)
        self.layers = nn.ModuleList(
            ConvNormAct(SameConv2d(before, after, 3, stride=2), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in pairs
        )
        self.set_output_stride(output_stride)

    @property
    def nominal_features(self) -> tuple[FeatureInfo, ...]:
        return tuple(FeatureInfo(count, 2 ** (level + 1)) for level, count in enumerate(self.channels))

    def strided_layers(self) -> Sequence[tuple[Strided, int]]:
        layers: Any = self.layers
        return [(layer.conv, 2) for layer in layers]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return tuple(features)


class ToyHead(Head):
    """One convolution."""

    def __init__(self, channels: int, num_classes: int, output_stride: int) -> None:
        super().__init__()
        self.in_channels, self._stride = (channels,), output_stride
        self.logits = nn.Conv2d(channels, num_classes, 1)

    @classmethod
    def build(
        cls, channels: Sequence[int], strides: Sequence[int], num_classes: int, *, output_stride: int, **options: Any
    ) -> ToyHead:
        return cls(channels[-1], num_classes, output_stride)

    @property
    def logits_stride(self) -> int:
        return self._stride

    def set_output_stride(self, output_stride: int) -> None:
        self._stride = output_stride

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.logits(features[0])


class ToyDataset:
    """Noise, whose left half is class 0 and whose right half is class 1."""

    labels = LABELS

    def __init__(self, first: int) -> None:
        self.first = first

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int, /) -> Sample:
        image = np.random.default_rng(self.first + index).integers(0, 256, (49, 65, 3), np.uint8)
        mask = np.zeros((49, 65), np.uint8)
        mask[:, 32:] = 1
        return Sample(image, mask, f"toy_{self.first + index}")


class ToySource(DataSource):
    """The toy data set."""

    evaluation: ClassVar = {}

    kind: Literal["toy"] = "toy"
    first: int = 0

    def open(self, labels: LabelSet | None = None) -> ToyDataset:
        return ToyDataset(self.first)

    def listing(self, split: str) -> Listing:
        dataset = self.open()
        pairs = tuple(
            Pair(dataset[index].name, Path("toy", dataset[index].name), None) for index in range(len(dataset))
        )
        return Listing(split, Path("toy"), LABELS, pairs, dataset=dataset)


class ToyLoss(nn.Module):
    """Mean of one minus the probability of the right class."""

    def __init__(self, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        counted = mask != self.ignore_index
        right = logits.softmax(1).gather(1, (mask * counted)[:, None])[:, 0]
        return (1 - right)[counted].mean()


def write_toy(model: Segmenter, path: Path, metadata: ExportMetadata, *_: Any) -> None:
    """Write the weights, and the metadata beside them."""
    save_model(path, model)
    path.with_suffix(".entries").write_text(json.dumps(metadata.to_dict()))


def open_toy(path: Path, threads: int) -> OpenedExport:
    """Run the network itself."""
    metadata = ExportMetadata.from_json(path.with_suffix(".entries").read_text(), str(path))
    model = load_model(path, output_stride=metadata.output_stride).eval()
    return OpenedExport(path, metadata, lambda batch: predict_labels(model, batch[0], size="native")[None])


BACKBONES["toy"] = ToyBackbone
HEADS["toy"] = HeadKind(ToyHead, {})
DATASETS["toy"] = ToySource
LOSSES["toy"] = lambda ignore_index, gamma: ToyLoss(ignore_index)
FORMATS["toy"] = Format("Toy", ".toy", write_toy, open_toy, precisions=("float32",), companions=(".entries",))

# The catalog joined both registries when it was imported, which was before these lines.
MODELS.update({model_name(head, name): ModelSpec(name, head) for name in BACKBONES for head in HEADS})

WRITERS["toy"] = lambda root: LABELS
