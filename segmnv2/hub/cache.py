"""Published weights by short name, and the cache of weights on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from segmnv2.errors import WeightsError
from segmnv2.files.atomic import atomic_path
from segmnv2.files.checksum import file_sha256
from segmnv2.files.documents import dump_json, read_json
from segmnv2.files.ownership import claim
from segmnv2.preparation.published_archives import Archive

FOLDER, XDG = "SEGMNV2_CACHE", "XDG_CACHE_HOME"


def cache_folder() -> Path:
    """Return ``$SEGMNV2_CACHE`` if it is set, otherwise ``segmnv2`` in ``$XDG_CACHE_HOME`` or in ``~/.cache``."""
    own, general = os.environ.get(FOLDER), os.environ.get(XDG)
    if own:
        return Path(own).expanduser()
    return (Path(general).expanduser() if general else Path.home() / ".cache") / "segmnv2"


IMPORTER = 3
"""Version of the import. It changes when an import gives another model, so that older files are not used."""


@dataclass(frozen=True)
class Entry:
    """A file of weights in the cache, with a JSON file of its checksum.

    Attributes:
        folder: folder of the cache.
        name: name of the weights.
    """

    folder: Path
    name: str

    @property
    def path(self) -> Path:
        """Path of the file, which need not exist."""
        return self.folder / "weights" / f"{self.name}.safetensors"

    @property
    def note(self) -> Path:
        """Path of the JSON file with the checksum."""
        return self.path.with_suffix(".json")

    @property
    def downloads(self) -> Path:
        """Folder of archives and partial downloads."""
        return self.folder / "downloads"

    def fault(self) -> str | None:
        """Return the fault of the file: ``None`` if there is none, or an empty text if it is missing or outdated."""
        if not self.path.is_file():
            return ""
        try:
            note = read_json(self.note, "fetch it again")
            stated, importer = note["sha256"], note.get("importer")
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"its checksum file, {self.note.name}, is missing or damaged"
        if importer != IMPORTER:
            return ""
        actual = file_sha256(self.path)
        return None if actual == stated else f"is damaged: its SHA-256 is {actual}, not {stated}"

    def keep(self, made: Path, origin: dict[str, str]) -> None:
        """Move a complete file into the cache, and write its checksum.

        Raises:
            WeightsError: the folder cannot be written.
        """
        claim(self.folder)
        note = {**origin, "importer": IMPORTER, "sha256": file_sha256(made)}
        try:
            with atomic_path(self.note) as partial:
                partial.write_text(dump_json(note, indent=1), encoding="utf-8")
            made.replace(self.path)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the entry against other processes while the block runs.

        Raises:
            WeightsError: the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path.with_suffix(".lock"))
            lock.acquire()
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        try:
            yield
        finally:
            lock.release()


def _unwritable(folder: Path, error: OSError) -> WeightsError:
    return WeightsError(f"{folder}: cannot be written ({error}); set {FOLDER} to another folder")


@dataclass(frozen=True)
class Published:
    """Weights with a short name.

    Attributes:
        summary: short description.
        license: SPDX identifier of the weights' license.
        archive: archive of the checkpoint; ``None`` if there is a repository.
        repository: ``owner/name`` on the Hugging Face Hub; ``None`` if there is an archive.
        inside: folder of the checkpoint in the archive; empty for its top.
        checkpoint: prefix of the checkpoint's files.
    """

    summary: str
    license: str = "Apache-2.0"
    archive: Archive | None = None
    repository: str | None = None
    inside: str = ""
    checkpoint: str = ""

    @property
    def origin(self) -> str:
        """URL of the archive or repository."""
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
        "the paper's model (MNet V2*, no ASPP), trained on COCO and VOC train_aug, published for TensorFlow",
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
        "a similar model, ported to transformers by Hugging Face",
        license="see the repository",
        repository="google/deeplabv3_mobilenet_v2_1.0_513",
    ),
}
