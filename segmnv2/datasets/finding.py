"""Findings: one fault of one file, with its reason and its remedy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]

ERROR_KINDS: dict[str, str] = {
    "empty": "nothing to train on",
    "missing-list": "a list of a split is not there or cannot be used",
    "unknown-name": "a list names what is not there",
    "repeated-name": "a list names an image twice",
    "missing-mask": "an image without a mask",
    "missing-image": "a mask without an image",
    "wrong-ending": "a file that does not belong in its folder",
    "twin-name": "two files of one name",
    "unreadable-image": "an image that cannot be read",
    "unreadable-mask": "a mask that cannot be read",
    "size-mismatch": "image and mask differ in size",
    "exif-rotation": "the image or the mask is turned by its EXIF entry, the other is not",
    "jpeg-mask": "a mask that went through lossy compression",
    "mask-format": "a mask in a file format that is not read",
    "deep-mask": "a mask of more or fewer than 8 bits",
    "transparent-mask": "a mask with transparent pixels",
    "rgb-mask": "colors where ids are needed",
    "unknown-colors": "colors of no class",
    "interpolated-mask": "a mask smoothed along its borders",
    "palette-order": "values and colors of different classes",
    "ids-out-of-range": "ids of no class",
    "binary-masks": "black and white masks, whose white is ignored",
    "shifted-ids": "ids counted from 1",
    "nothing-to-learn": "every pixel of every mask is ignored",
    "leak": "an image in two splits",
    "leak-copy": "a changed copy of an image in another split",
}
"""Kinds of faults that stop training or spoil it, and what each is."""

WARNING_KINDS: dict[str, str] = {
    "smoothed-ids": "ids between those of their neighbors along borders",
    "palette-differs": "a palette in other colors than the classes'",
    "exif-ambiguous": "an EXIF entry that turns the image, and sizes that do not show whether the mask is turned too",
    "low-values": "a 16-bit image whose values use fewer bits",
    "animated": "several frames or pages, of which the first is taken",
    "all-ignored": "a mask of ignored pixels only",
    "absent-class": "a class that never occurs in a split",
    "untrained-class": "a class to validate on that is never trained",
    "duplicate": "an image twice in a split",
    "duplicate-masks": "an image twice in a split, with different masks",
    "shared-names": "names that two splits share, of different images",
}
"""Kinds of faults that may be meant so, and what each is."""

KINDS = ERROR_KINDS | WARNING_KINDS


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        kind: one of :data:`KINDS`; it decides the severity.
        file: the file at fault; a folder, a list or a class where it is no single file.
        reason: what was found.
        remedy: what to do.
        split: where it was found; ``None`` for what concerns the whole folder.
        repair: names of the repairs by which ``--fix`` repairs it, joined by ``+``; ``None`` where it cannot.
    """

    kind: str
    file: str
    reason: str
    remedy: str
    split: str | None = None
    repair: str | None = None

    @property
    def severity(self) -> Severity:
        """Whether it spoils training (``error``) or may be meant so (``warning``)."""
        return "error" if self.kind in ERROR_KINDS else "warning"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"severity": self.severity, **asdict(self)}
