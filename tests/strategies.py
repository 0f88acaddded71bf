"""Arrays, options and ways of storing them, as Hypothesis strategies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastcounts import plan
from fastcounts.sources import memory, numpy_files

INTEGERS = ("u1", "i1", "<u2", ">u2", "<i2", ">i2", "<u4", ">u4", "<i4", ">i4", "<u8", ">i8")
FLOATS = ("<f2", ">f4", "<f8", ">f8")
DTYPES = ("?", *INTEGERS, *FLOATS)

FEW = (0, 1, 2, 3, 5, 7, 100)
"""Labels that tests use over and over, so that classes, ignored labels and pixels meet."""


@contextmanager
def units(pixels: int) -> Iterator[None]:
    """Cut arrays in memory into units as small as that, so that small arrays have many."""
    with (
        mock.patch.object(memory, "UNIT_PIXELS", pixels),
        mock.patch.object(numpy_files, "UNIT_PIXELS", pixels),
        mock.patch.object(plan, "VIEW_PIXELS", 2 * pixels),
    ):
        yield


def elements(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    """Labels of a type: mostly the few, sometimes its extremes, NaN among floats."""
    if dtype.kind == "b":
        return st.booleans()
    few = st.sampled_from(FEW)
    if dtype.kind == "f":
        top = {2: 2048, 4: 2**24, 8: 2**53}[dtype.itemsize]
        return few.map(float) | st.sampled_from([-0.0, float(top), float(-top), float("nan")])
    limits = np.iinfo(dtype)
    return few | st.sampled_from([int(limits.min), int(limits.max), 255 & int(limits.max)])


@st.composite
def arrays(
    draw: st.DrawFn, dtypes: tuple[str, ...] = DTYPES, min_dims: int = 0, masks: bool = True
) -> np.ndarray:
    """Arrays of any type, rank and layout; read-only, strided, masked."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(hnp.array_shapes(min_dims=min_dims, max_dims=4, min_side=0, max_side=6))
    array = draw(hnp.arrays(dtype, shape, elements=elements(dtype)))
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    steps = st.sampled_from([1, 1, 2, -1, -2])
    array = array[(..., *(slice(None, None, draw(steps)) for _ in range(array.ndim)))]
    if draw(st.booleans()):
        array.flags.writeable = False
    if masks and draw(st.integers(0, 3)) == 0:
        mask = draw(hnp.arrays(np.bool_, array.shape))
        return np.ma.masked_array(array, mask)
    return array


@st.composite
def meanings(draw: st.DrawFn) -> dict[str, Any]:
    """``ignore`` and ``classes``, in all their forms."""
    ignore = draw(st.lists(st.sampled_from([*FEW, 255, -1]), max_size=3, unique=True))
    classes = draw(
        st.none()
        | st.integers(9, 12)
        | st.just(["road", "car", "sky", "car", "tree", "road", "sign", "wall"])
        | st.dictionaries(
            st.sampled_from([*FEW, 255, -1]),
            st.sampled_from(["road", "car", None]),
            min_size=4,
        )
    )
    return {"ignore": tuple(ignore), "classes": classes}


@st.composite
def cuts(draw: st.DrawFn, most: int = 4) -> list[tuple[int, int]]:
    """All parts of a run, in any order, some of them cut again."""
    number = draw(st.integers(1, most))
    parts: list[tuple[int, int]] = []
    for part in range(number):
        again = draw(st.sampled_from([1, 1, 2, 3]))
        parts += [(part * again + n, number * again) for n in range(again)]
    return draw(st.permutations(parts))
