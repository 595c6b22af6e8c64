"""Published accuracies and costs of the classifiers of Figure 5."""

from __future__ import annotations

from dataclasses import dataclass

SLIM = "slim README"
PAPER = "Table 4"


@dataclass(frozen=True)
class Published:
    """A network at an image size as printed.

    Attributes:
        network: the family's name.
        backbone: this library's name of it.
        options: the backbone's arguments, name and value.
        width: multiplier of the channels.
        size: side of the image in pixels.
        top1: on ImageNet, in percent.
        params: in millions; slim's are without batch norm.
        madds: in millions.
        source: where the three were read.
    """

    network: str
    backbone: str
    options: tuple[tuple[str, float], ...]
    width: float
    size: int
    top1: float
    params: float
    madds: float
    source: str


# Width -> (params, size -> (madds, top1)).
_Slim = dict[float, tuple[float, dict[int, tuple[float, float]]]]

_V2: _Slim = {
    1.4: (6.06, {224: (582, 75.0)}),
    1.3: (5.34, {224: (509, 74.4)}),
    1.0: (3.47, {224: (300, 71.8), 192: (221, 70.7), 160: (154, 68.8), 128: (99, 65.3), 96: (56, 60.3)}),
    0.75: (2.61, {224: (209, 69.8), 192: (153, 68.7), 160: (107, 66.4), 128: (69, 63.2), 96: (39, 58.8)}),
    0.5: (1.95, {224: (97, 65.4), 192: (71, 63.9), 160: (50, 61.0), 128: (32, 57.7), 96: (18, 51.2)}),
    0.35: (1.66, {224: (59, 60.3), 192: (43, 58.2), 160: (30, 55.7), 128: (20, 50.8), 96: (11, 45.5)}),
}
"""Source: slim/nets/mobilenet/README.md, MobileNetV2."""

_V1: _Slim = {
    1.0: (4.24, {224: (569, 70.9), 192: (418, 70.0), 160: (291, 68.0), 128: (186, 65.2)}),
    0.75: (2.59, {224: (317, 68.4), 192: (233, 67.2), 160: (162, 65.3), 128: (104, 62.1)}),
    0.5: (1.34, {224: (150, 63.3), 192: (110, 61.7), 160: (77, 59.1), 128: (49, 56.3)}),
    0.25: (0.47, {224: (41, 49.8), 192: (34, 47.7), 160: (21, 45.5), 128: (14, 41.5)}),
}
"""Source: slim/nets/mobilenet_v1.md."""


def _slim(network: str, backbone: str, table: _Slim) -> tuple[Published, ...]:
    return tuple(
        Published(network, backbone, (("width", width),), width, size, top1, params, madds, SLIM)
        for width, (params, sizes) in table.items()
        for size, (madds, top1) in sizes.items()
    )


PUBLISHED = (
    *_slim("MobileNetV2", "mobilenet_v2", _V2),
    *_slim("MobileNetV1", "mobilenet_v1", _V1),
    Published("ShuffleNet", "shufflenet_v1", (("width", 2.0),), 2.0, 224, 73.7, 5.4, 524, PAPER),
    Published("ShuffleNet", "shufflenet_v1", (("width", 1.5),), 1.5, 224, 71.5, 3.4, 292, PAPER),
    Published("NASNet-A", "nasnet_a_mobile", (), 1.0, 224, 74.0, 5.3, 564, PAPER),
)
"""The points of Figure 5: families in its order, widths and sizes falling."""
