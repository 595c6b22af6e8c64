"""Published archives: where they are, how large, and the checksum that they must have; those of the data sets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A file that a publisher offers.

    Attributes:
        name: name of the file, by which it is looked for on disk and on a mirror.
        url: the publisher's address.
        size: bytes.
        checksum: SHA-256 or SHA-384, hexadecimal; the length says which.
    """

    name: str
    url: str
    size: int
    checksum: str

    @property
    def algorithm(self) -> str:
        """Name of the checksum's algorithm, as hashlib has it."""
        return {64: "sha256", 96: "sha384"}[len(self.checksum)]

    def __str__(self) -> str:
        return f"{self.name} ({gigabytes(self.size)}, {self.url})"


def gigabytes(size: int) -> str:
    """Say a number of bytes as people compare them with a disk: ``2.00 GB``."""
    return f"{size / 1e9:.2f} GB"


# Publishers give no SHA-256, and COCO's no checksum at all. These are torchvision's (its prototype data sets; the
# released ones have MD5 of the same VOC and SBD files), which users of the archives have noted alike. Sizes are those
# that the servers state.
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

# Plain http is COCO's own way: the host's certificate is that of its storage, not of its name. The checksum guards.
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
