"""The last strip of a TIFF is shorter than the others, and may shrink to a few bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastcounts as fc

tifffile = pytest.importorskip("tifffile", reason="an extra: fastcounts[images]")


WAYS = [(how, dtype) for how in ("deflate", "lzw", "zstd", "lzma") for dtype in ("u1", "u2", "i8")]


@pytest.mark.parametrize(("compression", "dtype"), [*WAYS, ("packbits", "u1")])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_last_strip_of_few_rows(tmp_path: Path, compression: str, dtype: str, rows: int) -> None:
    array = np.full((1000 + rows, 1000), 3, dtype)
    array[0] = 1
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, array, compression=compression, rowsperstrip=500)
    counts = fc.count(path)
    assert dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True)) == {
        1: 1000,
        3: array.size - 1000,
    }
