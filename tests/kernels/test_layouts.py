"""Every table counts every layout, at sizes around each of its internal limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcounts import errors
from fastcounts.kernels import count, count_items, layout, table, tables
from fastcounts.kernels.sparse import LEAST_CAPACITY

Array = np.ndarray[Any, Any]

DTYPES = ["?", "u1", "i1", "u2", ">i2", "f2", "u4", "i4", ">u4", "f4", "u8", "i8", ">u8", "f8"]
WIDE = ["u4", "i4", ">u4", "f4", "u8", "i8", ">i8", "f8", ">f8"]


def _with_gap(labels: Array, rows: int, axis: int) -> Array:
    """Return the labels as three axes, cut out of a larger array along one of them."""
    shape = [rows, 1, labels.size // rows]
    view = labels[: rows * shape[2]].reshape(shape)
    larger = list(view.shape)
    larger[axis] += 3
    memory = np.full(larger, 77, labels.dtype)
    inside = tuple(slice(1, 1 + n) if a == axis else slice(None) for a, n in enumerate(view.shape))
    memory[inside] = view
    return memory[inside]


def _field(labels: Array) -> Array:
    """Return the labels as a field of records: a step that is no multiple of their size."""
    records = np.zeros(labels.size, [("before", "u1"), ("label", labels.dtype)])
    records["label"] = labels
    return records["label"]


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "one axis": lambda labels: labels,
    "reversed": lambda labels: labels[::-1],
    "every second": lambda labels: np.repeat(labels, 2)[::2],
    "every second, reversed": lambda labels: np.repeat(labels, 2)[::-2],
    "last axis cut": lambda labels: _with_gap(labels, 5, 2),
    "last axis cut, two rows": lambda labels: _with_gap(labels, 2, 2),
    "first axis cut": lambda labels: _with_gap(labels, 5, 0),
    "middle axis cut": lambda labels: _with_gap(labels, 5, 1),
    "last axis cut, transposed": lambda labels: _with_gap(labels, 5, 2).T,
    "last axis cut, reversed": lambda labels: _with_gap(labels, 5, 2)[::-1, :, ::-1],
    "columns": lambda labels: np.asfortranarray(_with_gap(labels, 7, 2)),
    "broadcast": lambda labels: np.broadcast_to(labels, (3, labels.size)),
    "broadcast inside": lambda labels: np.broadcast_to(labels[:, None], (labels.size, 3)),
    "field of records": _field,
    "read-only": lambda labels: np.frombuffer(labels.tobytes(), labels.dtype),
}


def _limits(dtype: np.dtype[Any]) -> list[int]:
    """Return sizes around the limits of samples, tiles and tables."""
    tile = layout.TILE_BYTES // dtype.itemsize
    return [1, tables._SAMPLE + 1, tile - 1, tile, tile + 1, LEAST_CAPACITY + 5000]


def _contents(dtype: np.dtype[Any], size: int) -> Iterator[tuple[str, Array]]:
    """Yield labels of every run structure that a type can hold."""
    rng = np.random.default_rng(size)
    top = {"b": 1, "f": 2 ** (11 if dtype.itemsize == 2 else 24)}.get(dtype.kind)
    top = int(np.iinfo(dtype).max) if top is None else top
    ids = rng.integers(0, top, size, np.uint64, endpoint=True)
    if dtype.kind != "u":
        ids = ids.astype(np.int64) * (1 if dtype.kind == "b" else rng.choice([-1, 1], size))
    yield "ids", ids.astype(dtype)
    yield "runs of ids", np.repeat(ids, 20)[:size].astype(dtype)
    turns = np.arange(size) // 4096 % 2
    yield "few and ids by turns", np.where(turns, ids, ids % min(31, top + 1)).astype(dtype)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout(name, dtype, oracle, as_counts):
    for size in _limits(np.dtype(dtype)):
        for content, labels in _contents(np.dtype(dtype), size):
            if size < 8 and "cut" in name:
                continue
            array = LAYOUTS[name](labels)
            assert as_counts(count(array)) == oracle(array), (size, content)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("name", ["one axis", "last axis cut", "last axis cut, transposed"])
def test_a_table_that_grows(name, dtype, oracle, as_counts):
    """More ids than a small table holds, in tiles that were copied and in views."""
    rng = np.random.default_rng(4)
    top = 2**24 if "f" in dtype else 2**31 - 1
    array = LAYOUTS[name](rng.integers(0, top, 200_000).astype(dtype))
    assert as_counts(count(array)) == oracle(array)
    counts = table(array.dtype)
    for part in (array, array[:1], array):
        counts.add(part)
    assert as_counts(counts.drain()) == oracle(np.concatenate([array, array[:1], array]))


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "read-only"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8"])
def test_a_fraction_in_any_layout_is_named_and_nothing_is_added(name, dtype, oracle, as_counts):
    rng = np.random.default_rng(1)
    for size in (100, 4097, 40_000):
        for wrong in (0, size // 2, size - size // 7 - 1):
            labels = rng.integers(0, 2000, size).astype(dtype)
            labels[wrong] = 0.5
            array = LAYOUTS[name](labels)
            place = tuple(int(at[0]) for at in np.nonzero(array == 0.5))
            counts = table(array.dtype)
            before = np.repeat(rng.integers(0, 2000, 3000), 3).astype(dtype)
            counts.add(before)
            with pytest.raises(errors.NonIntegralLabel) as caught:
                counts.add(array)
            assert (caught.value.value, caught.value.index) == (0.5, place)
            assert as_counts(counts.drain()) == oracle(before)


@pytest.mark.parametrize("dtype", ["u2", "u4", "u8", "f8", "i8"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_items_of_arrays_that_are_cut(axis, dtype, oracle):
    rng = np.random.default_rng(2)
    top = 2**16 if dtype == "u2" else 2**31
    for shape in ((9, 70, 80), (3, 200, 150), (40, 9, 500)):
        memory = rng.integers(0, top, tuple(n + 3 for n in shape)).astype(dtype)
        for cut in ((slice(0, -3),) * 3, (slice(3, None, 1), slice(None), slice(None, None, -2))):
            array = memory[cut]
            tally = count_items(array, axis)
            for number, item in enumerate(np.moveaxis(array, axis, 0)):
                here = slice(*tally.offsets[number : number + 2])
                labels, pixels = tally.labels[here].tolist(), tally.pixels[here].tolist()
                assert dict(zip(labels, pixels, strict=True)) == oracle(item)[0]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", ["u1", ">u2", "f4", "u8"])
def test_tiles_have_one_axis_and_every_pixel_once(name, dtype):
    for size in (10, 20_000, 140_001):
        labels = (np.arange(size) % 2000).astype(dtype)
        array = LAYOUTS[name](labels)
        tiles = [tile.copy() for tile in layout.tiles(array)]
        assert all(tile.ndim == 1 and tile.flags.c_contiguous for tile in tiles)
        assert all(tile.dtype == layout.native(array.dtype) for tile in tiles)
        assert np.array_equal(np.sort(np.concatenate(tiles)), np.sort(array, axis=None))


@given(data=st.data())
def test_any_view_of_a_large_array(oracle, as_counts, data):
    """Slices, steps, transpositions and broadcasts of volumes of several tiles."""
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    rank = data.draw(st.integers(1, 4))
    sizes = {1: 150_000, 2: 380, 3: 52, 4: 19}
    shape = [data.draw(st.integers(sizes[rank] // 2, sizes[rank])) for _ in range(rank)]
    contents = dict(_contents(dtype, int(np.prod(shape))))
    array = contents[data.draw(st.sampled_from(sorted(contents)))].reshape(shape)
    array = array.transpose(data.draw(st.permutations(range(rank))))
    for axis in range(rank):
        start, step = data.draw(st.integers(0, 3)), data.draw(st.sampled_from([1, 1, 2, -1, -3]))
        cut = [slice(None)] * rank
        cut[axis] = slice(start, None)
        array = array[tuple(cut)]
        cut[axis] = slice(None, None, step)
        array = array[tuple(cut)]
    if data.draw(st.booleans()):
        array = np.broadcast_to(array, (2, *array.shape))
    assert as_counts(count(array)) == oracle(array)
