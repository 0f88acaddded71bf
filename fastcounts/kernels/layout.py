"""Any array as a sequence of tiles that are contiguous, native and small.

Counting does not care in which order it meets pixels. So axes are sorted by stride,
negative strides are flipped and neighbouring axes merged, which makes one contiguous run
of every array that occupies its memory without gaps, whatever its order. What is left is
copied tile by tile into a scratch buffer that stays in the cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from fastcounts import errors

__all__ = ["TILE_BYTES", "blocks", "check", "first_non_integral", "native", "relaxed", "tiles"]

TILE_BYTES = 128 * 1024
"""Size of a scratch tile: a part of the second-level cache, large beside a call."""

_LARGEST_WHOLE = 2.0**53


def check(dtype: np.dtype[Any]) -> None:
    """Refuse types that hold no labels.

    Raises
    ------
    UnsupportedSource
        for everything but bool, integers of 8 to 64 bits and floats of 16 to 64 bits.
    """
    if dtype.kind in "bui" or (dtype.kind == "f" and dtype.itemsize <= 8):
        return
    raise errors.UnsupportedSource(
        f"arrays of {dtype} hold no labels; "
        "labels are bool, integers of 8 to 64 bits, or whole numbers as floats of 16 to 64 bits"
    )


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in the byte order of this machine, without field or metadata."""
    return np.dtype(f"{dtype.kind}{dtype.itemsize}")


def relaxed(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view of the same pixels with as few axes as possible, in memory order."""
    axes: list[tuple[int, int]] = []
    for length, stride in zip(array.shape, array.strides, strict=True):
        if length == 1:
            continue
        axes.append((abs(stride), length))
    axes.sort(key=lambda axis: (axis[0] != 0, -axis[0]))
    merged: list[tuple[int, int]] = []
    for stride, length in axes:
        if merged and merged[-1][0] == stride * length:
            merged[-1] = (stride, merged[-1][1] * length)
        else:
            merged.append((stride, length))
    flips = tuple(slice(None, None, -1 if stride < 0 else 1) for stride in array.strides)
    shape = tuple(length for _, length in merged) or (1,)
    strides = tuple(stride for stride, _ in merged) or (array.itemsize,)
    return as_strided(array[flips], shape, strides, writeable=False)


def blocks(shape: tuple[int, ...], limit: int) -> Iterator[tuple[slice, ...]]:
    """Cut a shape into blocks of at most ``limit`` pixels, in C order.

    Examples
    --------
    >>> list(blocks((2, 5), 5))
    [(slice(0, 1, None), slice(0, 5, None)), (slice(1, 2, None), slice(0, 5, None))]
    """
    axis = len(shape)
    inner = 1
    while axis and inner * shape[axis - 1] <= limit:
        axis -= 1
        inner *= shape[axis]
    rest = tuple(slice(0, length) for length in shape[axis:])
    if not axis:
        yield rest
        return
    step = max(1, limit // inner)
    for outer in itertools.product(*(range(length) for length in shape[: axis - 1])):
        for low in range(0, shape[axis - 1], step):
            cut = slice(low, min(low + step, shape[axis - 1]))
            yield (*(slice(place, place + 1) for place in outer), cut, *rest)


def tiles(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield all pixels of an array, each once, as contiguous native arrays of one axis.

    Callers slice tiles and pass their addresses to kernels, so a tile never has more than one
    axis.  A tile is a view of the array if the array allows that; otherwise it is a scratch
    buffer that is filled again and again: use each tile before asking for the next.
    """
    if array.size == 0:
        return
    whole = array if array.flags.c_contiguous else array.T
    if whole.flags.c_contiguous and whole.dtype.isnative:
        yield whole.reshape(-1)
        return
    view = relaxed(array)
    if view.dtype.isnative and view.ndim == 1 and view.strides[0] == view.itemsize:
        yield view
        return
    limit = TILE_BYTES // view.itemsize
    scratch = np.empty(min(limit, view.size), native(view.dtype))
    for cut in blocks(view.shape, limit):
        block = view[cut]
        if block.dtype.isnative and block.flags.c_contiguous:
            yield block.reshape(-1)
            continue
        tile = scratch[: block.size]
        np.copyto(tile.reshape(block.shape), block)
        yield tile


def first_non_integral(array: NDArray[Any]) -> errors.NonIntegralLabel | None:
    """Find the first pixel, in C order, that is neither a whole number nor NaN."""
    for cut in blocks(array.shape, TILE_BYTES):
        block = array[cut].astype(np.float64)
        wrong = (np.abs(block) > _LARGEST_WHOLE) | (~np.isnan(block) & (np.trunc(block) != block))
        if wrong.any():
            place = np.unravel_index(int(np.argmax(wrong)), block.shape)
            index = tuple(int(at) + part.start for at, part in zip(place, cut, strict=True))
            return errors.NonIntegralLabel(float(block[place]), index)
    return None
