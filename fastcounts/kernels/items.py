"""Counting every item of a stack apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts import errors
from fastcounts.kernels.layout import first_non_integral
from fastcounts.kernels.tables import table
from fastcounts.kernels.tally import ItemTally

__all__ = ["count_items"]


def count_items(array: NDArray[Any], axis: int) -> ItemTally:
    """Count every item of a stack apart.

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
    counts = table(array.dtype)
    offsets = np.zeros(items.shape[0] + 1, np.int64)
    nodata = np.zeros(items.shape[0], np.int64)
    labels, pixels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number, item in enumerate(items):
        try:
            counts.add(item[...])
        except errors.NonIntegralLabel:
            raise first_non_integral(array) from None  # type: ignore[misc]
        tally = counts.drain()
        labels.append(tally.labels)
        pixels.append(tally.pixels)
        nodata[number] = tally.nodata
        offsets[number + 1] = offsets[number] + tally.labels.size
    kind = np.uint64 if any(part.dtype == np.uint64 for part in labels) else np.int64
    return ItemTally(
        offsets,
        np.concatenate([part.astype(kind) for part in labels]),
        np.concatenate(pixels),
        nodata,
    )
