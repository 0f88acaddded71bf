"""Counting every item of a stack apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts import errors
from fastcounts.kernels.layout import TILE_BYTES, blocks, check, first_non_integral, native
from fastcounts.kernels.tables import Bytes, Table, Words, address, table
from fastcounts.kernels.tally import ItemTally, Tally, interpret

__all__ = ["count_items"]

_TOGETHER = 64
"""Items that are counted together where they are interleaved: a line of the cache."""

_ROOM = 1 << 17
_TINY = 1 << 10
"""Items of wide labels with no more pixels are sorted, many at once."""
_SORTED_PIXELS = 1 << 20
_NARROW = 2
_MOST = 2**30
"""Larger items are counted in parts, so that no bin of pairs overflows."""


def count_items(array: NDArray[Any], axis: int) -> ItemTally:
    """Count every item of a stack apart, in one pass.

    Parameters
    ----------
    array : a stack of items of one shape, any layout and byte order.
    axis : the axis along which the items lie, from either end.

    Raises
    ------
    UnsupportedSource
        if the type holds no labels.
    NonIntegralLabel
        if a floating point pixel is no label, with its index in the stack.
    numpy.exceptions.AxisError
        if the array has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> tally = count_items(np.array([[2, 2], [0, 2]], np.uint8), 0)
    >>> tally.offsets.tolist(), tally.labels.tolist(), tally.pixels.tolist()
    ([0, 1, 3], [2, 0, 2], [2, 1, 1])
    """
    items = np.moveaxis(array, axis, 0)
    check(items.dtype)
    in_order = items.flags.c_contiguous and items.dtype.isnative
    size = math.prod(items.shape[1:])
    if in_order and items.dtype.kind in "iu" and items.itemsize <= _NARROW and size <= _MOST:
        return _count_rows(items)
    if items.dtype.kind in "iu" and items.itemsize > _NARROW and 0 < size <= _TINY:
        return _sort_rows(items, size)
    try:
        return _gather(list(_tallies(items)))
    except errors.NonIntegralLabel:
        raise first_non_integral(array) from None  # type: ignore[misc]


def _tallies(items: NDArray[Any]) -> Iterator[Tally]:
    """Count items one after the other, or together where that saves reading them again."""
    inner = [stride for stride, n in zip(items.strides[1:], items.shape[1:], strict=True) if n > 1]
    if len(items) > 1 and inner and abs(items.strides[0]) < min(map(abs, inner)):
        for start in range(0, len(items), _TOGETHER):
            yield from _interleaved(items[start : start + _TOGETHER])
        return
    counts = table(items.dtype)
    for item in items:
        counts.add(np.asarray(item))
        yield counts.drain()


def _interleaved(items: NDArray[Any]) -> Iterator[Tally]:
    """Count items whose pixels lie between each other: all of them, tile by tile."""
    counts: list[Table] = [table(items.dtype) for _ in items]
    limit = max(1, TILE_BYTES // items.itemsize // len(items) * 8)
    for cut in blocks(items.shape[1:], limit):
        tile = items[(slice(None), *cut)].astype(native(items.dtype), order="C")
        for part, pixels in zip(counts, tile, strict=True):
            part.add(pixels)
    for part in counts:
        yield part.drain()


def _count_rows(items: NDArray[Any]) -> ItemTally:
    """Count items of 8 or 16-bit labels that lie one after the other."""
    from fastcounts.kernels import dense

    narrow = items.itemsize == 1
    kernel: Any = dense.count_items8 if narrow else dense.count_items16
    held = Bytes(dense.SCRATCH8) if narrow else Words()
    memory = np.array(held.addresses, np.int64) if isinstance(held, Bytes) else held.memory
    lists = np.empty((2, _ROOM), np.int64)
    size = math.prod(items.shape[1:])
    offsets = np.zeros(len(items) + 1, np.int64)
    parts = []
    done = 0
    while done < len(items):
        ends = offsets[done + 1 :]
        place = address(items) + done * size * items.itemsize
        places = address(memory), address(ends), address(lists), _ROOM
        counted = kernel(place, len(ends), size, *places)
        found = int(ends[counted - 1])
        parts.append(lists[:, :found].copy())
        ends[:counted] += offsets[done]
        done += counted
    patterns, pixels = np.concatenate([np.empty((2, 0), np.int64), *parts], axis=1)
    labels, pixels, _nodata = interpret(patterns, pixels, native(items.dtype))
    if items.dtype.kind == "i":
        order = np.lexsort((labels, np.repeat(np.arange(len(items)), np.diff(offsets))))
        labels, pixels = labels[order], pixels[order]
    return ItemTally(offsets, labels, pixels, np.zeros(len(items), np.int64))


def _sort_rows(items: NDArray[Any], size: int) -> ItemTally:
    """Count small items of wide labels: sort each, and see where a label ends."""
    step = max(_SORTED_PIXELS // size, 1)
    found, pixels, counts = [], [], []
    for start in range(0, len(items), step):
        rows = np.sort(items[start : start + step].reshape(-1, size).astype(native(items.dtype)))
        first = np.ones(rows.shape, np.bool_)
        np.not_equal(rows[:, 1:], rows[:, :-1], out=first[:, 1:])
        places = np.flatnonzero(first)
        found.append(rows.ravel()[places])
        pixels.append(np.diff(places, append=rows.size))
        counts.append(first.sum(axis=1))
    offsets = np.zeros(len(items) + 1, np.int64)
    if not found:
        return _gather([])
    np.cumsum(np.concatenate(counts), out=offsets[1:])
    labels = np.concatenate(found)
    if labels.dtype == np.uint64 and int(labels.max()) >= 2**63:
        return ItemTally(offsets, labels, np.concatenate(pixels), np.zeros(len(items), np.int64))
    nothing = np.zeros(len(items), np.int64)
    return ItemTally(offsets, labels.astype(np.int64), np.concatenate(pixels), nothing)


def _gather(tallies: list[Tally]) -> ItemTally:
    """Put the counts of all items one after the other."""
    kind = np.uint64 if any(part.labels.dtype == np.uint64 for part in tallies) else np.int64
    offsets = np.zeros(len(tallies) + 1, np.int64)
    np.cumsum([part.labels.size for part in tallies], out=offsets[1:])
    nothing = np.zeros(0, np.int64)
    return ItemTally(
        offsets,
        np.concatenate([nothing.astype(kind), *(part.labels.astype(kind) for part in tallies)]),
        np.concatenate([nothing, *(part.pixels for part in tallies)]),
        np.array([part.nodata for part in tallies], np.int64),
    )
