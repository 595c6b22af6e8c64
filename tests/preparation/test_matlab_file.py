from __future__ import annotations

import io
from pathlib import Path
from random import Random

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given

from segmnv2.preparation.sbd import HEADER, read_field, read_sbd_mask
from tests.damage import check_lawful, damage, many, randoms

MASK = np.arange(12, dtype=np.uint8).reshape(3, 4)


def matlab_bytes(value: object, *, compressed: bool) -> bytes:
    """Return a file with the fields of SBD, after another variable."""
    boundaries = np.empty((2, 1), object)
    boundaries.fill(scipy.sparse.csc_matrix((3, 4), dtype=np.float64))
    file = io.BytesIO()
    content = {"odd": "abc", "GTcls": {"Boundaries": boundaries, "Segmentation": value, "x": 1}}
    scipy.io.savemat(file, content, do_compression=compressed)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_arrays_equal_those_of_scipy(dtype: str, compressed: bool) -> None:
    for shape in ((3, 4), (1, 1), (2, 3, 2), (0, 0)):
        value = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
        content = matlab_bytes(value, compressed=compressed)
        expected = scipy.io.loadmat(io.BytesIO(content))["GTcls"]["Segmentation"][0, 0]
        found = read_field(content, "GTcls", "Segmentation")
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert (found == expected).all()


def test_a_missing_variable_is_not_damage() -> None:
    content = matlab_bytes("text", compressed=False)
    for variable, field in (("GTinst", "Segmentation"), ("GTcls", "other"), ("GTcls", "Segmentation"), ("odd", "x")):
        with pytest.raises(KeyError):
            read_field(content, variable, field)


@many
@given(randoms)
def test_any_sbd_file_gives_a_mask_or_one_error(tmp_path: Path, random: Random) -> None:
    content = matlab_bytes(MASK, compressed=random.random() < 0.2)
    # Mostly after the header, and not compressed: scipy crashes on such bytes.
    path = tmp_path / "a.mat"
    path.write_bytes(content[:HEADER] + damage(content[HEADER:], random))
    check_lawful(lambda: read_sbd_mask(path))
