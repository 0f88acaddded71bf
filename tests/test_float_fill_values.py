"""Fill values of floating point arrays that could not be labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts.errors import NonIntegralLabel

xr = pytest.importorskip("xarray")

NETCDF = 9.969209968386869e36
"""The default fill value of netCDF for floating point data."""

FILLS = [NETCDF, -9999.5, 1e20, -9999.9, np.inf, float(np.finfo(np.float32).min)]


def labels_with(fill: float, dtype: str) -> np.ndarray[Any, Any]:
    labels = (np.arange(16 * 16) % 3).reshape(16, 16).astype(dtype)
    labels[2:5, 3:9] = fill
    labels[15, 15] = np.nan
    return labels


def stored(
    path: Path, labels: np.ndarray[Any, Any], fill: float, zarr_format: int = 3, **options: Any
) -> zarr.Array:
    options = {"chunks": (8, 8), **options}
    array = zarr.create_array(
        path, shape=labels.shape, dtype=labels.dtype, zarr_format=zarr_format, **options
    )
    array.attrs["_FillValue"] = fill
    array[...] = labels
    return array


def assert_counted(counts: fc.Counts) -> None:
    assert counts.labels.tolist() == [0, 1, 2]
    assert counts.ledger.nodata == 19
    assert counts.ledger.counted == 256 - 19
    assert not any(run.get("notices") for run in counts.provenance["runs"])


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_fill_value_that_is_no_label_is_nodata(
    tmp_path: Path, fill: float, dtype: str, zarr_format: int
) -> None:
    stored(tmp_path / "a", labels_with(fill, dtype), fill, zarr_format)
    assert_counted(fc.count(tmp_path / "a"))


@pytest.mark.parametrize("nodata", ["auto", "metadata", "none"])
@pytest.mark.parametrize("items", [None, 0, 1])
def test_with_every_policy_and_axis_of_items(
    tmp_path: Path, nodata: str, items: int | None
) -> None:
    stored(tmp_path / "a", labels_with(NETCDF, "f4"), NETCDF)
    options: dict[str, Any] = {} if items is None else {"items": items, "keep_items": True}
    assert_counted(fc.count(tmp_path / "a", nodata=nodata, classes=3, ignore=7, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"shards": (16, 16)},
        {"compressors": None},
        {"chunks": (7, 5)},
        {"filters": zarr.codecs.TransposeCodec(order=(1, 0))},
    ],
)
def test_with_every_way_of_storing(tmp_path: Path, options: dict[str, Any]) -> None:
    stored(tmp_path / "a", labels_with(-9999.5, "f4"), -9999.5, **options)
    assert_counted(fc.count(tmp_path / "a"))


def test_executors_and_parts_agree(tmp_path: Path) -> None:
    array = stored(tmp_path / "a", labels_with(NETCDF, "f4"), NETCDF)
    whole = fc.count(array)
    assert_counted(whole)
    assert sum(fc.count(array, part=(n, 3)) for n in range(3)) == whole
    assert fc.count(array, scheduler="synchronous") == whole
    assert fc.count(array, workers=1) == whole


def test_a_missing_chunk_of_such_a_fill_value_is_nodata(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a", shape=(16, 16), chunks=(8, 8), dtype="f4", fill_value=NETCDF
    )
    array.attrs["_FillValue"] = NETCDF
    array[:8] = 1
    counts = fc.count(array)
    assert (counts.ledger.counted, counts.ledger.nodata) == (128, 128)


@pytest.mark.parametrize("mask_and_scale", [True, False])
@pytest.mark.parametrize("how", ["lazy", "chunked", "computed", "loaded"])
def test_data_arrays(tmp_path: Path, how: str, *, mask_and_scale: bool) -> None:
    labels = xr.DataArray(labels_with(NETCDF, "f4"), dims=("y", "x"), name="labels")
    labels.attrs["_FillValue"] = np.float32(NETCDF)
    dataset = labels.to_dataset()
    dataset["labels"].encoding["chunks"] = (8, 8)
    dataset.to_zarr(tmp_path / "s.zarr", consolidated=False)
    assert_counted(fc.count(tmp_path / "s.zarr" / "labels"))
    chunks = {} if how in ("chunked", "computed") else None
    opened = xr.open_zarr(
        tmp_path / "s.zarr", chunks=chunks, mask_and_scale=mask_and_scale, consolidated=False
    ).labels
    if how == "computed":
        opened = opened.copy(data=opened.data.map_blocks(np.copy))
    if how == "loaded":
        opened.load()
    assert_counted(fc.count(opened))
    if how in ("chunked", "computed"):
        assert_counted(fc.count_delayed(opened).compute(scheduler="synchronous"))


def test_a_dask_array_of_a_stored_array(tmp_path: Path) -> None:
    stored(tmp_path / "a", labels_with(NETCDF, "f4"), NETCDF)
    assert_counted(fc.count(da.from_zarr(tmp_path / "a"), scheduler="synchronous"))


def test_other_fractions_are_refused_where_they_are(tmp_path: Path) -> None:
    labels = labels_with(-9999.5, "f8")
    labels[9, 12] = -9999.25
    stored(tmp_path / "a", labels, -9999.5)
    with pytest.raises(NonIntegralLabel, match=r"pixel \(9, 12\): -9999.25"):
        fc.count(tmp_path / "a")


def test_a_fill_value_beyond_the_type_is_nothing(tmp_path: Path) -> None:
    labels = labels_with(np.inf, "f2")
    stored(tmp_path / "a", labels, 1e36)
    with pytest.raises(NonIntegralLabel, match="inf"):
        fc.count(tmp_path / "a")


def test_a_whole_fill_value_is_what_the_type_holds(tmp_path: Path) -> None:
    labels = labels_with(2**31 - 1, "f4")
    stored(tmp_path / "a", labels, 2**31 - 1)
    counts = fc.count(tmp_path / "a")
    assert (counts.labels.tolist(), counts.ledger.nodata) == ([0, 1, 2], 19)


@pytest.mark.parametrize("fill", [10**20, 10**400])
def test_whole_numbers_beyond_all_labels(tmp_path: Path, fill: int) -> None:
    labels = labels_with(1 if fill > 10**300 else float(fill), "f4")
    stored(tmp_path / "a", labels, fill)
    assert fc.count(tmp_path / "a").ledger.nodata == (1 if fill > 10**300 else 19)
