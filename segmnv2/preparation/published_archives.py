"""Published archives of data sets, with address, size and checksum."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A file that a publisher offers.

    Attributes:
        name: name of the file, on disk and on a mirror.
        url: the publisher's address.
        size: bytes.
        checksum: SHA-256 or SHA-384, hexadecimal; the length shows which.
    """

    name: str
    url: str
    size: int
    checksum: str

    @property
    def algorithm(self) -> str:
        """Name of the checksum's algorithm in hashlib."""
        return {64: "sha256", 96: "sha384"}[len(self.checksum)]

    def __str__(self) -> str:
        return f"{self.name} ({gigabytes(self.size)}, {self.url})"


def gigabytes(size: int) -> str:
    """Return a number of bytes in gigabytes, such as ``2.00 GB``."""
    return f"{size / 1e9:.2f} GB"


# The publishers of VOC and SBD state no SHA-256, and COCO's states no checksum. These are from torchvision's prototype
# data sets (its released ones have MD5 of the same VOC and SBD files), and users of the archives report the same. Sizes
# are those that the servers state.
VOC_2012 = Archive(
    "VOCtrainval_11-May-2012.tar",
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    1_999_639_040,
    "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
)

SBD = Archive(
    "benchmark.tgz",
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    1_419_539_633,
    "6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
)

# COCO uses plain http: the host's certificate is that of its storage provider. The checksum protects the download.
COCO_ANNOTATIONS = Archive(
    "annotations_trainval2017.zip",
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    252_907_541,
    "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
)

COCO_IMAGES = {
    "train2017": Archive(
        "train2017.zip",
        "http://images.cocodataset.org/zips/train2017.zip",
        19_336_861_798,
        "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    ),
    "val2017": Archive(
        "val2017.zip",
        "http://images.cocodataset.org/zips/val2017.zip",
        815_585_330,
        "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    ),
}

VOC_COUNTS = {"train": 1464, "val": 1449, "trainval": 2913, "train_aug": 10582}
"""Images in VOC 2012's official lists, and in the usual ``train_aug``."""

COCO_COUNTS = {"train2017": 118_287, "val2017": 5_000}
"""Images in COCO's official splits."""
