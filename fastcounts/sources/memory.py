"""Arrays in memory: ndarray, masked array, memmap, and lists of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts.classes import check_label_dtype
from fastcounts.grid import Box
from fastcounts.plan import ArrayInfo, virtual_chunks
from fastcounts.sources.port import Piece, Source, box_slices, digest

__all__ = ["MemorySource"]

UNIT_PIXELS = 1 << 16
"""Pixels of one unit of an array that is not stored in chunks: how finely parts are cut."""


class MemorySource(Source):
    """Arrays in memory, which have no name and can be added any number of times.

    Parameters
    ----------
    arrays : the arrays; they are not copied and not written to.

    Raises
    ------
    UnsupportedSource
        If the elements of one cannot be labels.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]]) -> None:
        self._arrays = tuple(
            np.asarray(array) if isinstance(array, np.matrix) else array for array in arrays
        )
        several = len(self._arrays) > 1
        self.arrays = tuple(
            _info(array, f"array {place}" if several else "array")
            for place, array in enumerate(self._arrays)
        )

    def read(self, array: int, box: Box) -> Iterable[Piece]:
        """A view of the array."""
        pixels = self._arrays[array]
        return [Piece(box, pixels[box_slices(box)] if box else pixels)]


def memory_order(array: NDArray[Any]) -> list[int]:
    """The axes from the largest stride to the smallest, as units should be cut."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def _info(array: NDArray[Any], name: str) -> ArrayInfo:
    dtype = check_label_dtype(array.dtype, name)
    return ArrayInfo(
        name=name,
        source="",
        file="",
        shape=array.shape,
        dtype=dtype,
        chunks=virtual_chunks(array.shape, UNIT_PIXELS, memory_order(array)),
        inner=None,
        digest=digest(array.shape, dtype.str),
        is_view=True,
        stored_bytes=array.nbytes,
    )
