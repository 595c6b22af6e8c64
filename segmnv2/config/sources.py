"""Sources of images and masks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from segmnv2.config.section import FilePath, Natural, PositiveInt, Section, Seed


class VocSource(Section):
    """PASCAL VOC 2012, or your own data in its layout.

    Attributes:
        root: folder ``VOCdevkit``, or ``VOC2012`` itself.
        split: a list in ``ImageSets/Segmentation``.
        labels: YAML file with the names of the classes, background first; ``null`` for VOC's 21.
    """

    kind: Literal["voc"]
    root: FilePath
    split: str
    labels: FilePath | None = None


class CocoVocSource(Section):
    """COCO with masks of VOC's 21 classes, the paper's pre-training.

    Attributes:
        root: folder with ``annotations/`` and the images' folders.
        split: ``train2017`` or ``val2017``.
        min_pixels: pixels of VOC's classes that an image must exceed to be taken; 0 takes all.
    """

    kind: Literal["coco_voc"]
    root: FilePath
    split: str = "train2017"
    min_pixels: Natural = 1000


class ShapesSource(Section):
    """Generated images of shapes.

    Attributes:
        length: number of images.
        size: height and width in pixels.
        seed: which images; training and validation take different ones.
    """

    kind: Literal["shapes"]
    length: PositiveInt
    size: Annotated[int, Field(ge=16)] = 161
    seed: Seed = 0


class FolderSource(Section):
    """Your own data set: ``images/``, ``masks/`` and ``labels.yaml``.

    Attributes:
        root: the folder that holds them.
        split: a list ``splits/NAME.txt``; ``null`` for all images.
    """

    kind: Literal["folder"]
    root: FilePath
    split: str | None = None


DataSource = Annotated[VocSource | FolderSource | CocoVocSource | ShapesSource, Field(discriminator="kind")]
