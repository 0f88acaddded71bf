"""Stored arrays that are not there, not there any more, or not the same any more."""

from __future__ import annotations

import shutil

import dask.array as da
import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts.errors import FastcountsError, ReadError, SourceError
from fastcounts.sources import zarr_arrays


def mask(shape=(8, 64, 64), dtype="u1"):
    return np.random.default_rng(0).integers(1, 4, shape).astype(dtype)


@pytest.fixture(params=[None, (2, 64, 64)], ids=["chunks", "shards"])
def stored(request, tmp_path):
    array = zarr.create_array(
        tmp_path / "m.zarr",
        shape=(8, 64, 64),
        chunks=(1, 32, 32),
        shards=request.param,
        dtype="u1",
    )
    array[...] = mask()
    return zarr.open_array(tmp_path / "m.zarr", mode="r"), tmp_path / "m.zarr"


def test_an_array_deleted_after_it_was_opened_is_no_fill(stored):
    array, path = stored
    shutil.rmtree(path)
    with pytest.raises(ReadError, match=r"m\.zarr"):
        fc.count(array)


def test_an_array_deleted_while_it_is_counted_is_no_fill(stored, monkeypatch):
    array, path = stored
    read_many = zarr_arrays.ZarrSource.read_many

    def vanish(self, *given):
        shutil.rmtree(path, ignore_errors=True)
        return read_many(self, *given)

    monkeypatch.setattr(zarr_arrays.ZarrSource, "read_many", vanish)
    with pytest.raises(ReadError, match=r"m\.zarr"):
        fc.count(array)


@pytest.mark.parametrize("scheduler", ["processes", "synchronous"])
def test_a_store_of_this_process_is_no_fill_in_another(scheduler):
    store = zarr.storage.FsspecStore.from_url(f"memory://{scheduler}.zarr")
    array = zarr.create_array(store, shape=(8, 64, 64), chunks=(1, 32, 32), dtype="u1")
    array[...] = mask()
    expected = fc.count(array)
    assert expected.ledger.filled == 0
    if scheduler == "synchronous":
        assert fc.count(array, scheduler=scheduler).pixels.tolist() == expected.pixels.tolist()
    else:
        with pytest.raises(FastcountsError, match="there is no array"):
            fc.count(array, scheduler=scheduler)


def test_an_array_that_is_written_anew_is_read_anew(tmp_path):
    labels = mask(dtype="u2")
    for endian in ("little", "big"):
        array = zarr.create_array(
            tmp_path / "e.zarr",
            shape=labels.shape,
            chunks=(4, 64, 64),
            dtype="u2",
            overwrite=True,
            compressors=None,
            serializer=zarr.codecs.BytesCodec(endian=endian),
        )
        array[...] = labels
        expected = np.unique(labels, return_counts=True)
        counts = fc.count(tmp_path / "e.zarr", scheduler="synchronous")
        assert counts.labels.tolist() == expected[0].tolist()
        assert counts.pixels.tolist() == expected[1].tolist()


def test_a_stored_dask_array_that_is_gone(stored):
    _, path = stored
    lazy = da.from_zarr(str(path))
    shutil.rmtree(path)
    with pytest.raises(SourceError):
        fc.count(lazy)
