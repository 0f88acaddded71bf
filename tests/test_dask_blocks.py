"""Dask arrays whose blocks are not what the array declares, or cannot be computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

import fastcounts as fc
from fastcounts.errors import OptionError, ReadError, UnsupportedSource

EMPTY = np.empty((0, 0), np.uint8)


@pytest.fixture(autouse=True, params=["synchronous", "threads"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[None]:
    with dask.config.set(scheduler=request.param):
        yield


def ones(change: Callable[[np.ndarray], Any], **options: Any) -> da.Array:
    """An array of ones in four blocks, each changed by a function that nobody is told of."""
    array = da.ones((4, 4), chunks=2, dtype="u1")
    return array.map_blocks(change, dtype="u1", meta=EMPTY, **options)


@pytest.mark.parametrize("value", [3, True, 3.0, np.uint8(3), np.array(3)])
def test_block__of_no_axes(value: Any) -> None:
    array = da.from_delayed(dask.delayed(lambda: value, pure=True)(), (), np.asarray(value).dtype)
    assert fc.count(array) == fc.count(np.asarray(value))
    assert fc.count_delayed(array).compute() == fc.count(np.asarray(value))


@pytest.mark.parametrize("value", [None, [3], "three", b"3", {"a": 1}])
def test_block__that_is_no_array(value: Any) -> None:
    array = da.from_delayed(dask.delayed(lambda: value, pure=True)(), (1,), "i8")
    with pytest.raises(UnsupportedSource, match=r"dask array: block \(0,\) is builtins"):
        fc.count(array)


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        (lambda block: block[:1], "(1, 2)"),
        (lambda block: np.ones((5, 5), "u1"), "(5, 5)"),
        (lambda block: block[:, :0], "(2, 0)"),
        (np.ravel, "(4,)"),
        (lambda block: block[None], "(1, 2, 2)"),
        (lambda block: block[0, 0], "()"),
    ],
    ids=["less", "more", "nothing", "flat", "axis", "scalar"],
)
def test_block__of_another_shape(change: Callable[[np.ndarray], Any], shape: str) -> None:
    with pytest.raises(UnsupportedSource) as caught:
        fc.count(ones(change))
    said = str(caught.value)
    assert f"has shape {shape}, and the array declares (2, 2)" in said
    assert "block (" in said


def test_block__of_another_shape_in_a_region() -> None:
    array = ones(lambda block: block)
    assert fc.count(array, region=(slice(1, 4), slice(0, 1))).pixels.tolist() == [3]
    part = array[1:4, 0:1].map_blocks(np.ravel, dtype="u1", meta=EMPTY)
    with pytest.raises(UnsupportedSource, match=r"declares \([12], 1\)"):
        fc.count(part)


def test_block__of_another_rank_where_sizes_are_unknown() -> None:
    rows = da.from_array(np.arange(36).reshape(6, 6) % 3, chunks=3)
    some = rows[(rows > 0).any(axis=1)]
    assert fc.count(some).ledger.total == 36
    with pytest.raises(UnsupportedSource, match=r"has shape \(9,\).*declares \(\?, \?\)"):
        fc.count(some.map_blocks(np.ravel, dtype="i8", meta=EMPTY))
    with pytest.raises(UnsupportedSource, match=r"block \(1, \d\) has"):
        fc.count(
            some.map_blocks(
                lambda block, block_id: block[:, : block_id[0] + 1],
                dtype="i8",
                meta=EMPTY,
            )
        )


def test_block__of_another_type() -> None:
    for kind in ("i8", "f4", "?"):
        assert fc.count(ones(lambda block, kind=kind: block.astype(kind))).pixels.tolist() == [16]
    masked = fc.count(ones(lambda block: np.ma.masked_equal(block, 1)))
    assert masked.ledger.nodata == 16
    for kind in (object, "U3", complex, "M8[s]"):
        with pytest.raises(UnsupportedSource, match=r"dask array: block \(\d, \d\): "):
            fc.count(ones(lambda block, kind=kind: block.astype(kind)))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("by\nzero"), "ZeroDivisionError: by zero"),
        (MemoryError(), "MemoryError"),
        (KeyError("x"), "KeyError"),
        (RuntimeError(), "RuntimeError"),
    ],
    ids=["lines", "memory", "key", "empty"],
)
def test_block__whose_function_fails(error: Exception, said: str) -> None:
    def fail(block: np.ndarray) -> np.ndarray:
        raise error

    with pytest.raises(ReadError) as caught:
        fc.count(ones(fail))
    text = str(caught.value)
    assert text.startswith(f"dask array: it cannot be computed: {said}")
    assert "\n" not in text
    assert type(caught.value.__cause__) is type(error)


def test_scheduler__that_is_none() -> None:
    pytest.importorskip("distributed", reason="distributed is not installed")
    for scheduler in (5, ["tcp://x"]):
        with pytest.raises(OptionError, match="scheduler"):
            fc.count(ones(lambda block: block), scheduler=scheduler)
