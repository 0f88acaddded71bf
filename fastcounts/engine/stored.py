"""Arrays that are nothing but a stored Zarr array: recognised, to be read as such.

Dask and xarray wrap arrays in layers.  Those that only read, slice along the axes, or turn the
labels that stand for no data into NaN are seen through; of others the result is counted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise, product
from operator import getitem
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastcounts.classes import Meaning, Options
from fastcounts.errors import UnsupportedSource
from fastcounts.grid import Box, Interval
from fastcounts.plan import resolve_region

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["Stored", "stored_array", "stored_zarr"]

_MOST_BLOCKS = 1 << 20
"""Graphs of more blocks are not looked through; they are counted as they are."""


class Stored(NamedTuple):
    """A stored Zarr array under layers that leave its labels as they are.

    Attributes
    ----------
    array : the Zarr array.
    dtype : what the layers make of its type.
    masked : labels that they turn into NaN, sorted.
    numbers : other values that they turn into NaN, sorted.
    """

    array: Any
    dtype: np.dtype[Any]
    masked: tuple[int, ...] = ()
    numbers: tuple[float, ...] = ()

    def meaning(self, said: Meaning | None, options: Options) -> Meaning | None:
        """What the labels mean, or None where the stored array says another thing.

        Parameters
        ----------
        said : what is known of the labels on top of the layers, or None.
        options : what the user says of labels, which does not bring back those that are masked.
        """
        from fastcounts.sources.zarr_arrays import meaning_of

        if options.unclaimed(self.masked).size < len(self.masked):
            return None
        try:
            below = meaning_of(self.array)
        except UnsupportedSource:
            return None
        numbers = below.numbers if said is None else said.numbers
        if {*self.numbers, *numbers} != {*below.numbers}:
            return None
        if said is None:
            if self.masked in ((), below.nodata):
                return replace(below, is_masked=bool(self.masked))
            return None
        if tuple(sorted({*self.masked, *said.nodata})) != below.nodata:
            return None
        return replace(below, names=said.names or below.names, is_masked=bool(self.masked))


def stored_array(
    array: da.Array, region: Any, said: Meaning | None, options: Options
) -> tuple[Any, Any, Meaning] | None:
    """The Zarr array, and the region of it, that a Dask array stands for.

    Every block has to be read from one Zarr array and nothing else done to it, and the blocks
    have to lie beside each other as they do in the array: ``da.from_zarr``, or
    ``xarray.open_zarr`` with no more decoding than that of fill values, with or without slices.

    Parameters
    ----------
    array : the Dask array.
    region : of it, as the user gave it.
    said, options : what is known of its labels, and what the user says of them.

    Returns
    -------
    The Zarr array, the region of it, and what its labels mean; or None where anything is computed,
    persisted or held in futures, or where the stored array says another thing of its labels.
    """
    if array.npartitions > _MOST_BLOCKS or "zarr" not in sys.modules or not array.size:
        return None
    graph: Mapping[Any, Any] = dict(array.__dask_graph__())
    found = None
    bounds: list[dict[int, Interval]] = [{} for _ in range(array.ndim)]
    for place in product(*(range(count) for count in array.numblocks)):
        read = _read_of(graph, (array.name, *place))
        if read is None or (found is not None and read[0].array is not found.array):
            return None
        found, box = read
        for axis, number in enumerate(place):
            if bounds[axis].setdefault(number, box[axis]) != box[axis]:
                return None
    whole = _joined(bounds, array.chunks)
    if found is None or whole is None or found.dtype != array.dtype:
        return None
    if (meaning := found.meaning(said, options)) is None:
        return None
    if region is not None:
        inner = resolve_region(region, array.shape)
        whole = tuple(
            (start + low, start + high)
            for (start, _), (low, high) in zip(whole, inner, strict=True)
        )
    everything = all(bound == (0, n) for bound, n in zip(whole, found.array.shape, strict=True))
    part = None if everything else tuple(slice(*bound) for bound in whole)
    return found.array, part, meaning


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


def _read_of(graph: Mapping[Any, Any], key: Any) -> tuple[Stored, Box] | None:
    """The Zarr array and the box that one block is read from, if it is only read and sliced."""
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
    source = stored_zarr(_value(graph, node.args[0]))
    index = _slices(_value(graph, node.args[1]))
    if source is None or index is None or len(index) != source.array.ndim:
        return None
    box: Box | None = tuple((0, length) for length in source.array.shape)
    for part in [index, *reversed(slices)]:
        box = None if box is None else _within(box, part)
    return None if box is None else (source, box)


_READERS = ("getter", "getter_nofancy", "getter_inline")
"""What Dask reads an array-like with."""


def stored_zarr(value: Any) -> Stored | None:
    """The Zarr array inside what xarray wraps around it, if it is only masked in between."""
    zarr = sys.modules.get("zarr")
    fills: Any = None
    masked_dtype = None
    while type(value).__module__.startswith("xarray."):
        kind = type(value).__name__
        if kind == "ZarrArrayWrapper":
            value = value._array
            break
        if kind == "_ElementwiseFunctionArray" and fills is None:
            fills, masked_dtype = _masked_by(value.func), np.dtype(value.dtype)
            if fills is None:
                return None
        elif kind not in _XARRAY_LAYERS or (
            kind == "LazilyIndexedArray" and any(one != slice(None) for one in value.key.tuple)
        ):
            return None
        value = value.array
    if zarr is None or not isinstance(value, zarr.Array):
        return None
    if fills is None:
        return Stored(value, np.dtype(value.dtype))
    from fastcounts.sources.cf import nodata_labels, nodata_numbers

    fills, dtype = list(fills), value.dtype
    labels, numbers = nodata_labels(fills, dtype), nodata_numbers(fills, dtype)
    return Stored(value, masked_dtype or dtype, labels, numbers)


def _masked_by(function: Any) -> Any:
    """The values that a layer of xarray turns into NaN, if that is all it does."""
    if getattr(getattr(function, "func", None), "__name__", "") != "_apply_mask":
        return None
    given = function.keywords
    decoded = given.get("decoded_fill_value")
    is_nan = isinstance(decoded, float | np.floating) and np.isnan(decoded)
    return given.get("encoded_fill_values") if is_nan else None


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
