"""Dask arrays that are nothing but a stored Zarr array: recognised, to be read without Dask."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import pairwise, product
from operator import getitem
from typing import TYPE_CHECKING, Any

from fastcounts.grid import Box, Interval
from fastcounts.plan import resolve_region

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["bare_zarr", "stored_array"]

_MOST_BLOCKS = 1 << 20
"""Graphs of more blocks are not looked through; they are counted as they are."""


def stored_array(array: da.Array, region: Any) -> tuple[Any, Any] | None:
    """The Zarr array, and the region of it, that a Dask array stands for.

    Every block has to be read from one Zarr array and nothing else done to it, and the blocks
    have to lie beside each other as they do in the array: ``da.from_zarr``, or
    ``xarray.open_zarr`` without decoding, with or without slices.

    Parameters
    ----------
    array : the Dask array.
    region : of it, as the user gave it.

    Returns
    -------
    The Zarr array and the region of it, or None where anything is computed, persisted or held in
    futures.
    """
    if array.npartitions > _MOST_BLOCKS or "zarr" not in sys.modules or not array.size:
        return None
    graph: Mapping[Any, Any] = dict(array.__dask_graph__())
    found = None
    bounds: list[dict[int, Interval]] = [{} for _ in range(array.ndim)]
    for place in product(*(range(count) for count in array.numblocks)):
        read = _read_of(graph, (array.name, *place))
        if read is None or (found is not None and read[0] is not found):
            return None
        found, box = read
        for axis, number in enumerate(place):
            if bounds[axis].setdefault(number, box[axis]) != box[axis]:
                return None
    whole = _joined(bounds, array.chunks)
    if found is None or whole is None or found.dtype != array.dtype:
        return None
    if region is not None:
        inner = resolve_region(region, array.shape)
        whole = tuple(
            (start + low, start + high)
            for (start, _), (low, high) in zip(whole, inner, strict=True)
        )
    everything = all(bound == (0, n) for bound, n in zip(whole, found.shape, strict=True))
    return found, None if everything else tuple(slice(*bound) for bound in whole)


def _joined(bounds: list[dict[int, Interval]], chunks: tuple[tuple[int, ...], ...]) -> Box | None:
    """The box that the blocks make together, if they lie end to end in their order."""
    whole: list[Interval] = []
    for places, lengths in zip(bounds, chunks, strict=True):
        ranges = [places[number] for number in sorted(places)]
        if [stop - start for start, stop in ranges] != list(lengths):
            return None
        if any(a[1] != b[0] for a, b in pairwise(ranges)):
            return None
        whole.append((ranges[0][0], ranges[-1][1]))
    return tuple(whole)


def _read_of(graph: Mapping[Any, Any], key: Any) -> tuple[Any, Box] | None:
    """The Zarr array and the box that one block is read from, if it is only read and sliced."""
    import zarr
    from dask._task_spec import Alias, Task

    node = graph.get(key)
    slices: list[tuple[slice, ...]] = []
    while True:
        if isinstance(node, Alias):
            node = graph.get(node.target)
        elif isinstance(node, Task) and node.func is getitem:
            index = _slices(_value(graph, node.args[1]))
            if index is None:
                return None
            slices.append(index)
            node = graph.get(getattr(node.args[0], "key", None))
        else:
            break
    if not isinstance(node, Task) or getattr(node.func, "__name__", "") not in _READERS:
        return None
    source = bare_zarr(_value(graph, node.args[0]))
    index = _slices(_value(graph, node.args[1]))
    if not isinstance(source, zarr.Array) or index is None or len(index) != source.ndim:
        return None
    box: Box | None = tuple((0, length) for length in source.shape)
    for part in [index, *reversed(slices)]:
        box = None if box is None else _within(box, part)
    return None if box is None else (source, box)


_READERS = ("getter", "getter_nofancy", "getter_inline")
"""What Dask reads an array-like with."""


def bare_zarr(value: Any) -> Any:
    """The Zarr array inside what xarray wraps around it, if nothing is decoded in between.

    Anything else comes back as it is.
    """
    inner = value
    while type(inner).__module__.startswith("xarray."):
        kind = type(inner).__name__
        if kind == "ZarrArrayWrapper":
            return inner._array
        if kind not in _XARRAY_LAYERS or (
            kind == "LazilyIndexedArray" and any(one != slice(None) for one in inner.key.tuple)
        ):
            return value
        inner = inner.array
    return value


_XARRAY_LAYERS = (
    "CopyOnWriteArray",
    "ImplicitToExplicitIndexingAdapter",
    "LazilyIndexedArray",
    "MemoryCachedArray",
)


def _value(graph: Mapping[Any, Any], node: Any) -> Any:
    """What a reference or a literal of the graph stands for."""
    node = graph.get(getattr(node, "key", None), node)
    if not hasattr(node, "func") and hasattr(node, "value"):
        return node.value
    if getattr(node, "klass", None) in (tuple, list):
        return tuple(_value(graph, part) for part in node.args)
    return node


def _slices(index: Any) -> tuple[slice, ...] | None:
    if isinstance(index, tuple) and all(isinstance(one, slice) for one in index):
        return index
    return None


def _within(box: Box, index: tuple[slice, ...]) -> Box | None:
    """The part of a box that slices leave, if they leave it whole."""
    if len(index) != len(box):
        return None
    inner = []
    for (start, stop), one in zip(box, index, strict=True):
        first, last, step = one.indices(stop - start)
        if step != 1 or last < first:
            return None
        inner.append((start + first, start + last))
    return tuple(inner)
