"""Counting one array in memory, on one thread or several."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts import errors
from fastcounts.kernels.layout import blocks, check, first_non_integral, relaxed
from fastcounts.kernels.tables import table
from fastcounts.kernels.tally import Tally, merge

__all__ = ["count"]

_SHARE_BYTES = 1 << 20
"""Less than this is not worth a thread."""


def count(array: NDArray[Any], *, threads: int = 1) -> Tally:
    """Count every pixel of an array in memory.

    Parameters
    ----------
    array : any shape and layout, either byte order; it is never written to.
    threads : how many threads may count, 1 or more.

    Raises
    ------
    OptionError
        if ``threads`` is below 1.
    UnsupportedSource
        if the type holds no labels.
    NonIntegralLabel
        if a floating point pixel is no label.

    Examples
    --------
    >>> import numpy as np
    >>> count(np.array([7, 7, 300])).labels.tolist()
    [7, 300]
    """
    if threads < 1:
        raise errors.OptionError(f"threads={threads}: it must be 1 or more")
    check(array.dtype)
    threads = min(threads, max(1, array.nbytes // _SHARE_BYTES))
    if threads == 1:
        return _count_share(array)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return _add_up(list(pool.map(_count_share, _shares(array, threads))))
    except errors.NonIntegralLabel:
        raise first_non_integral(array) from None  # type: ignore[misc]


def _count_share(array: NDArray[Any]) -> Tally:
    counts = table(array.dtype)
    counts.add(array)
    return counts.drain()


def _shares(array: NDArray[Any], threads: int) -> Iterator[NDArray[Any]]:
    """Cut an array into about as many parts as there are threads."""
    view = relaxed(array)
    for cut in blocks(view.shape, -(-view.size // threads)):
        yield view[cut]


def _add_up(tallies: list[Tally]) -> Tally:
    """Add the counts of the parts of one array."""
    kind = np.uint64 if any(part.labels.dtype == np.uint64 for part in tallies) else np.int64
    return merge(
        np.concatenate([part.labels.astype(kind) for part in tallies]),
        np.concatenate([part.pixels for part in tallies]),
        sum(part.nodata for part in tallies),
    )
