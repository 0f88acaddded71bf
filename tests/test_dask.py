"""Dask arrays: the same counts as the array they stand for, whatever the chunks or scheduler."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import fastcounts as fc
from fastcounts.classes import Meaning, Options
from fastcounts.engine.stored import stored_array
from fastcounts.errors import (
    NonIntegralLabel,
    OptionError,
    UnexpectedLabel,
    UnsupportedSource,
)


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


def random_mask(shape, dtype="u1", high=6, seed=0):
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


def places(counts):
    return {label: entry.places for label, entry in counts.ledger.unexpected.items()}


@st.composite
def chunked(draw):
    """A small array and chunks for it."""
    shape = tuple(draw(st.lists(st.integers(0, 7), min_size=0, max_size=4)))
    dtype = draw(st.sampled_from(["u1", "?", "i2", ">u4", "i8", "u8", "f4"]))
    mask = random_mask(shape, dtype, draw(st.integers(1, 9)), draw(st.integers(0, 99)))
    chunks = tuple(draw(st.integers(1, max(length, 1))) for length in shape)
    return mask, chunks


@settings(max_examples=60)
@given(chunked(), st.data())
def test_chunking_never_changes_the_answer(case, data):
    mask, chunks = case
    items = data.draw(st.sampled_from(["auto", "array", *range(mask.ndim)]))
    classes = data.draw(st.sampled_from([None, 3, {0: "a", 1: "b", 2: "a"}]))
    options = {"ignore": 4, "classes": classes, "items": items, "keep_items": True}
    counts = fc.count(da.from_array(mask, chunks=chunks), **options)
    expected = fc.count(mask, **options)
    assert counts == expected
    assert places(counts) == places(expected)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_schedulers_agree(scheduler):
    mask = random_mask((12, 10, 9))
    array = da.from_array(mask, chunks=(5, 4, 9))
    assert fc.count(array, items=0, scheduler=scheduler) == fc.count(mask, items=0)


@pytest.mark.parametrize("items", ["auto", 0, 1])
@pytest.mark.parametrize("classes", [None, {0: "a", 1: "b"}])
def test_unknown_chunk_sizes(items, classes):
    mask = random_mask((30, 8, 7))
    keep = np.arange(30) % 3 != 0
    array = da.from_array(mask, chunks=(7, 3, 7))
    array = array[da.from_array(keep, chunks=(7,))]
    assert np.isnan(array.shape[0])
    counts = fc.count(array, items=items, classes=classes, keep_items=True)
    expected = fc.count(mask[keep], items=items, classes=classes, keep_items=True)
    assert counts == expected
    assert places(counts) == places(expected)


def test_regions():
    mask = random_mask((12, 10, 9))
    array = da.from_array(mask, chunks=(5, 4, 9))
    region = (slice(2, 11), slice(None), slice(1, 5))
    for classes in (None, 3):
        options = {"items": 0, "region": region, "classes": classes}
        assert fc.count(array, **options) == fc.count(mask, **options)
        assert places(fc.count(array, **options)) == places(fc.count(mask, **options))


def test_masked_elements_are_nodata():
    mask = np.ma.masked_equal(random_mask((8, 8)), 3)
    counts = fc.count(da.from_array(mask, chunks=3, asarray=False))
    assert counts == fc.count(mask)
    assert counts.ledger.nodata == np.count_nonzero(mask.mask)


def test_float_labels():
    mask = random_mask((8, 8)).astype(float)
    mask[5, 6] = np.nan
    array = da.from_array(mask, chunks=3)
    assert fc.count(array) == fc.count(mask)
    mask[7, 2] = 0.5
    with pytest.raises(NonIntegralLabel, match=r"0\.5") as error:
        fc.count(da.from_array(mask, chunks=3))
    assert error.value.index == (7, 2)


def test_a_delayed_count_composes():
    mask = random_mask((20, 20))
    counts = fc.count_delayed(da.from_array(mask, chunks=6), ignore=2)
    weights = dask.delayed(fc.solve)(counts, "inverse")
    assert weights.compute() == fc.solve(fc.count(mask, ignore=2), "inverse")


def test_a_graph_is_made_without_computing():
    def fail(block):
        if block.size:
            raise AssertionError("computed")
        return block

    array = da.ones((40, 40), dtype="u1", chunks=10).map_blocks(fail, dtype="u1")
    assert fc.count_delayed(array, items=0) is not None


def test_the_graph_is_small():
    array = da.ones((64, 64), dtype="u1", chunks=1)
    own = len(dict(dask.optimize(array)[0].__dask_graph__()))
    tasks = len(dict(fc.count_delayed(array).__dask_graph__()))
    assert tasks - own <= 1.1 * array.npartitions


def test_what_a_task_was_given_stays_as_it_is():
    """Dask may run the task that joins partial counts again, with the same partial counts."""
    mask = random_mask((40, 40))
    graph = fc.count_delayed(da.from_array(mask, chunks=3))
    first = dask.compute(graph, graph, scheduler="synchronous")
    assert first[0] == first[1] == fc.count(mask)
    from fastcounts.engine.lazy import _combine

    parts = list(_partial_counts(mask))
    assert _combine(parts, None, False)[()]._sums == _combine(parts, None, False)[()]._sums


def _partial_counts(mask):
    from fastcounts.engine.lazy import _context, _tally
    from fastcounts.engine.request import Request

    request = Request.parse(mask)
    array = da.from_array(mask, chunks=20)
    context, _ = _context(array, request.options, request.policy, False, None, Meaning())
    for row in range(2):
        yield _tally(mask[20 * row : 20 * row + 20, :20], context, block_id=(row, 0))


def test_strict():
    mask = random_mask((10, 10))
    with pytest.raises(UnexpectedLabel, match="belongs to no class"):
        fc.count(da.from_array(mask, chunks=4), classes=2, strict=True)


def test_what_is_refused():
    array = da.ones((4, 4), chunks=2, dtype="u1")
    with pytest.raises(OptionError, match="part"):
        fc.count(array, part=(0, 2))
    with pytest.raises(OptionError, match="missing"):
        fc.count(array, missing="separate")
    with pytest.raises(OptionError, match="on_error"):
        fc.count(array, on_error="record")
    with pytest.raises(OptionError, match="axis 5"):
        fc.count(array, items=5)
    with pytest.raises(UnsupportedSource, match="complex"):
        fc.count(array.astype(complex))
    with pytest.raises(UnsupportedSource, match="Dask array"):
        fc.count_delayed(np.ones(3))
    with pytest.raises(UnsupportedSource, match=r"block .* complex"):
        fc.count(array.map_blocks(lambda block: block.astype(complex), dtype="u1"))


def test_a_block_of_another_type_than_its_array_says():
    mask = random_mask((6, 6))
    array = da.from_array(mask, chunks=3).map_blocks(lambda block: block.astype("i4"), dtype="u1")
    assert fc.count(array) == fc.count(mask)


# ---- stored arrays ----


@pytest.fixture
def stored(tmp_path):
    mask = random_mask((40, 50, 60))
    array = zarr.create_array(
        tmp_path / "m.zarr", shape=mask.shape, chunks=(10, 25, 30), dtype="u1", fill_value=9
    )
    array[10:] = mask[10:]
    return array, np.concatenate([np.full((10, 50, 60), 9, "u1"), mask[10:]])


def test_a_stored_array_is_read_as_such(stored):
    array, mask = stored
    for lazy in (da.from_zarr(array), da.from_zarr(str(array.store.root)), da.from_array(array)):
        counts = fc.count(lazy, items=0, missing="fill")
        assert counts.covers == fc.count(array, items=0).covers
        assert counts.ledger.filled == 10 * 50 * 60
        assert counts.pixels.tolist() == fc.count(mask).pixels.tolist()
        assert fc.count(lazy, missing="separate").ledger.missing == 10 * 50 * 60


def test_slices_along_chunks_are_regions(stored):
    array, _ = stored
    for region in ((slice(10, 30),), (slice(20, 40), slice(0, 25)), (slice(0, 20), slice(25, 50))):
        counts = fc.count(da.from_zarr(array)[region], items=0)
        assert counts == fc.count(array, region=region, items=0)
    counts = fc.count(da.from_zarr(array)[10:30], region=(slice(5, 8), slice(3, 9)))
    assert counts == fc.count(array, region=(slice(15, 18), slice(3, 9)))


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array + 0,
        lambda array: array.astype("u2"),
        lambda array: array[::-1],
        lambda array: array[::2],
        lambda array: array.T,
        lambda array: array[3],
        lambda array: array[[3, 1, 2]],
        lambda array: da.concatenate([array, array]),
        lambda array: array.rechunk((40, 50, 60)),
        lambda array: array.persist(),
        lambda array: array.map_blocks(np.asarray),
    ],
    ids=[
        "computed",
        "typed",
        "reversed",
        "stepped",
        "turned",
        "row",
        "fancy",
        "doubled",
        "rechunked",
        "persisted",
        "mapped",
    ],
)
def test_anything_computed_is_counted_as_it_is(stored, change):
    array, _ = stored
    lazy = change(da.from_zarr(array))
    assert stored_array(lazy, None, None, Options()) is None
    assert fc.count(lazy) == fc.count(lazy.compute())


def test_xarray(stored, tmp_path):
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    _, mask = stored
    dataset = xarray.Dataset({"m": (("t", "y", "x"), mask)})
    dataset.to_zarr(tmp_path / "x.zarr", consolidated=False)
    direct = fc.count(tmp_path / "x.zarr" / "m", items=0)
    for chunks in ({}, None, {"t": 40}):
        opened = xarray.open_zarr(tmp_path / "x.zarr", chunks=chunks, consolidated=False)["m"]
        assert fc.count(opened, items=0) == direct
    assert fc.count(dataset["m"], items=0) == fc.count(mask, items=0)
    assert fc.count(dataset["m"].chunk(9) + 1).pixels.tolist() == fc.count(mask + 1).pixels.tolist()


def test_arrays_of_no_axes():
    array = da.from_array(random_mask((6, 7)), chunks=3)
    assert fc.count(array.max()) == fc.count(np.asarray(array.max().compute()))
    assert fc.count(array[2, 3]).ledger.total == 1


def test_two_counts_of_one_array_computed_together():
    keep = np.arange(20) % 3 > 0
    array = da.from_array(random_mask((20, 30)), chunks=(5, 30))
    array = array[da.from_array(keep, chunks=5)]
    graphs = [fc.count_delayed(array, items=0, keep_items=True) for _ in range(2)]
    graphs.append(fc.count_delayed(array, items=0, keep_items=True, ignore=77))
    first, second, third = dask.compute(*graphs)
    assert first == second == fc.count(array.compute(), items=0, keep_items=True)
    assert third.item_table.items.tolist() == list(range(int(keep.sum())))
