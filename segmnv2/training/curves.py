"""The curves of a run as an image: the loss, and the scores of the validations."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

import PIL.Image

from segmnv2.files.atomic import atomic_path
from segmnv2.training.logs import read_rows

SOFTWARE = "segmnv2"
"""Mark of the picture, so that a file of the user is not replaced: a run may replace any other file of its folder."""

FEWEST = 2
"""Fewest entries of a curve; one point shows nothing."""


def draw_curves(table: Path, score: str, name: str, picture: Path) -> bool:
    """Draw the curves of a run and return whether there is anything to draw.

    Args:
        table: the run's ``metrics.csv``.
        score: column of the score that chooses the best model.
        name: name of the score.
        picture: PNG file to write.

    Raises:
        OSError: the picture cannot be written, or exists and is not from this function.
    """
    rows = read_rows(table)
    losses, scores = (_column(rows, name) for name in ("train/loss", score))
    if max(len(losses), len(scores)) < FEWEST:
        return False
    from matplotlib.figure import Figure  # takes half a second, which most runs do not need before their end

    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*losses, strict=True), color="#0072B2") if losses else None
    left.set(xlabel="step", title="loss of training")
    right.plot(*zip(*scores, strict=True), color="#D55E00", marker="o") if scores else None
    right.set(xlabel="step", title=f"{name} of the validations, percent")
    for axes in (left, right):
        axes.grid(visible=True, color="#DDDDDD")
    if scores:
        step, value = max(scores, key=lambda entry: entry[1])
        right.set_title(f"{name} of the validations: best {value:.2f} % at step {step:.0f}")
    if picture.exists() and _software(picture) != SOFTWARE:
        raise FileExistsError(errno.EEXIST, "segmnv2 did not write this file")
    with atomic_path(picture) as partial:
        figure.savefig(partial, format="png", metadata={"Software": SOFTWARE})
    return True


def _software(picture: Path) -> object:
    with suppress(OSError, ValueError, SyntaxError), PIL.Image.open(picture) as image:
        return image.info.get("Software")
    return None


def _column(rows: list[dict[str, str]], name: str) -> list[tuple[float, float]]:
    """Return (step, value) of the rows that have a value."""
    entries = []
    for row in rows:
        with suppress(KeyError, TypeError, ValueError):  # no value, or an edited one
            entries.append((float(row["step"]), float(row[name])))
    return entries
