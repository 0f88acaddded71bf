"""A ten-line oracle, and arrays of every kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Counts = tuple[dict[int, int], int]

DTYPES = [
    *("?", "u1", "i1", "<u2", ">u2", "<i2", ">i2", "<u4", ">u4", "<i4", ">i4"),
    *("<u8", ">u8", "<i8", ">i8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8"),
]


def _oracle(array: np.ndarray[Any, Any]) -> Counts:
    values, pixels = np.unique(array, return_counts=True, equal_nan=True)
    counts: dict[int, int] = {}
    nodata = 0
    for value, number in zip(values.tolist(), pixels.tolist(), strict=True):
        if math.isnan(value):
            nodata += number
        else:
            counts[int(value)] = counts.get(int(value), 0) + number
    return counts, nodata


@pytest.fixture(scope="session")
def oracle() -> Callable[[np.ndarray[Any, Any]], Counts]:
    """Pixels of every label, and of NaN, slowly."""
    return _oracle


@pytest.fixture(scope="session")
def as_counts() -> Callable[[Any], Counts]:
    """Check that a tally is what it promises, and return it as the oracle does."""

    def convert(tally: Any) -> Counts:
        labels, pixels = tally.labels, tally.pixels
        assert labels.shape == pixels.shape
        assert pixels.dtype == np.int64
        assert labels.dtype in (np.int64, np.uint64)
        assert labels.dtype == np.int64 or labels.max() >= 2**63
        assert (labels[1:] > labels[:-1]).all()
        assert (pixels > 0).all()
        assert isinstance(tally.nodata, int)
        return dict(zip(labels.tolist(), pixels.tolist(), strict=True)), tally.nodata

    return convert


def _elements(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    if dtype.kind == "f":
        top = {2: 2048, 4: 2**24, 8: 2**53}[dtype.itemsize]
        few = st.sampled_from([0.0, -0.0, 1.0, 255.0, float(top), -float(top), float("nan")])
        return few | st.integers(-top, top).map(float)
    if dtype.kind == "b":
        return st.booleans()
    limits = np.iinfo(dtype)
    few = st.sampled_from([0, 1, 2, 255 & limits.max, int(limits.min), int(limits.max)])
    return few | st.integers(int(limits.min), int(limits.max))


@st.composite
def _any_array(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Draw an array of any type, shape, layout and byte order, possibly read-only."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    array = draw(hnp.arrays(dtype, shape, elements=_elements(dtype)))
    for axis in range(array.ndim):
        repeats = draw(st.sampled_from([1, 1, 1, 40]))
        if array.size * repeats < 50_000:
            array = np.repeat(array, repeats, axis=axis)
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    steps = st.sampled_from([1, 1, 2, -1, -3])
    array = array[(..., *(slice(None, None, draw(steps)) for _ in range(array.ndim)))]
    if array.ndim and draw(st.booleans()):
        array = np.broadcast_to(array, (draw(st.integers(0, 3)), *array.shape))
    if draw(st.booleans()):
        array = array.view()
        array.flags.writeable = False
    return np.asarray(array)


@pytest.fixture(scope="session")
def any_array() -> Callable[[], st.SearchStrategy[np.ndarray[Any, Any]]]:
    """Arrays of every type, shape, layout and byte order."""
    return _any_array
