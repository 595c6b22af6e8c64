"""Weights that others publish, by short names of this library."""

from __future__ import annotations

from dataclasses import dataclass

from segmnv2.preparation.published_archives import Archive


@dataclass(frozen=True)
class Published:
    """Weights with a short name.

    Attributes:
        summary: what they are.
        license: of the weights, as SPDX calls it.
        archive: what is downloaded, or
        repository: ``owner/name`` on the Hugging Face Hub.
        inside: folder in the archive that holds the checkpoint; empty for the archive itself.
        checkpoint: prefix of the checkpoint's files there.
    """

    summary: str
    license: str = "Apache-2.0"
    archive: Archive | None = None
    repository: str | None = None
    inside: str = ""
    checkpoint: str = ""

    @property
    def origin(self) -> str:
        """Address of what is downloaded."""
        return self.archive.url if self.archive else f"https://huggingface.co/{self.repository}"


# Their publisher gives no checksums. Sizes and checksums are those of OpenVINO's Open Model Zoo, which downloads the
# same files: models/public/{deeplabv3,mobilenet-v2-1.0-224,mobilenet-v2-1.4-224}/model.yml.
PUBLISHED: dict[str, Published] = {
    "imagenet_mobilenet_v2": Published(
        "MobileNetV2 1.0 of TensorFlow-Slim, a backbone trained on ImageNet",
        archive=Archive(
            "mobilenet_v2_1.0_224.tgz",
            "https://storage.googleapis.com/mobilenet_v2/checkpoints/mobilenet_v2_1.0_224.tgz",
            78_306_834,
            "318084bc1b63d6d7b854553e09cdf77078b1c0168be27c59a0d44253b5ed49dc",
        ),
        checkpoint="mobilenet_v2_1.0_224.ckpt",
    ),
    "imagenet_mobilenet_v2_1.4": Published(
        "MobileNetV2 1.4 of TensorFlow-Slim, a backbone trained on ImageNet",
        archive=Archive(
            "mobilenet_v2_1.4_224.tgz",
            "https://storage.googleapis.com/mobilenet_v2/checkpoints/mobilenet_v2_1.4_224.tgz",
            135_977_516,
            "fd257f73e8ee5280328903afa6bbd646dcf4e8ae7c090e3424cf05d973c0940fe02ee220a3a5a20ea51cb9caacbf4961",
        ),
        checkpoint="mobilenet_v2_1.4_224.ckpt",
    ),
    "voc_mobilenet_v2": Published(
        "the paper's network (MNet V2*, no ASPP), trained on COCO and VOC train_aug, TensorFlow's own checkpoint",
        archive=Archive(
            "deeplabv3_mnv2_pascal_train_aug_2018_01_29.tar.gz",
            "http://download.tensorflow.org/models/deeplabv3_mnv2_pascal_train_aug_2018_01_29.tar.gz",
            23_882_985,
            "d3f2b27bb00c485ca45d68731f7198a23926cb865dd010fc444bcad9158e33413cd60da2588a9be3ff1e8c9b4557362b",
        ),
        inside="deeplabv3_mnv2_pascal_train_aug",
        checkpoint="model.ckpt-30000",
    ),
    "voc_mobilenet_v2_hf": Published(
        "Hugging Face's port of a network like it, for transformers",
        license="see the repository",
        repository="google/deeplabv3_mobilenet_v2_1.0_513",
    ),
}
