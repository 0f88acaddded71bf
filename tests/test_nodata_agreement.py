"""``nodata="none"`` gives one answer in every executor, and no mixed answer in a merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts.errors import IncompatibleCounts

xr = pytest.importorskip("xarray")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Return an array of format 2 in which label 0 is nodata as xarray reads it."""
    labels = np.zeros((32, 32), np.int16)
    labels[4:8] = 3
    labels[20:] = 2
    array = zarr.create_array(
        tmp_path / "s.zarr" / "labels",
        shape=(32, 32),
        chunks=(8, 8),
        dtype="i2",
        zarr_format=2,
        fill_value=0,
    )
    array.attrs["_ARRAY_DIMENSIONS"] = ["y", "x"]
    array[...] = labels
    zarr.open_group(tmp_path / "s.zarr", zarr_format=2)
    return tmp_path / "s.zarr"


@pytest.mark.parametrize("chunks", [None, {}])
@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_masked_labels_of_a_data_array_stay_nodata(
    stored: Path, scheduler: str, chunks: Any
) -> None:
    labels = xr.open_zarr(stored, chunks=chunks, consolidated=False).labels
    counts = fc.count(labels, scheduler=scheduler, nodata="none")
    assert counts.labels.tolist() == [2, 3]
    assert counts.ledger.nodata == 512
    assert counts == fc.count(labels, nodata="none")


@pytest.mark.parametrize("scheduler", [None, "synchronous"])
def test_parts_that_differ_in_nodata_are_not_added(stored: Path, scheduler: Any) -> None:
    options = {"scheduler": scheduler}
    first = fc.count(stored / "labels", part=(0, 2), nodata="metadata", **options)
    second = fc.count(stored / "labels", part=(1, 2), nodata="none", **options)
    with pytest.raises(IncompatibleCounts, match="nodata"):
        first + second
    kept = fc.count(stored / "labels", part=(0, 2), nodata="none", **options) + second
    assert kept == fc.count(stored / "labels", nodata="none")
    assert kept.labels.tolist() == [0, 2, 3]


def test_parts_may_differ_if_nothing_does(stored: Path) -> None:
    parts = [
        fc.count(stored / "labels", part=(n, 2), ignore=0, nodata=nodata)
        for n, nodata in enumerate(("metadata", "none"))
    ]
    assert sum(parts) == fc.count(stored / "labels", ignore=0)
