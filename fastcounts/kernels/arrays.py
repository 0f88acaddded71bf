"""Counting one array in memory, on one thread or several.

Several are a pool of Python threads, each with a table of its own. A ``prange`` over the
same kernels is 0.9x to 1.4x as fast for 16 MiB on two threads, where this module counts on
one, and 1.04x to 1.2x for 256 MiB (``python benchmarks/bench_kernels.py --prange``). It is
not used because numba's threading layers belong to the whole process: two threads that
enter the workqueue layer abort it, and once GNU OpenMP was entered, a forked child that
runs any ``prange``, the host's own as well, is terminated.
"""

from __future__ import annotations

from collections import deque
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

_LEAST_BYTES = 16 << 20
"""Less than this for each is not worth more threads, whose start takes 0.3 ms."""

_SHARE_BYTES = 1 << 20
_PARTS = 8


def count(array: NDArray[Any], *, threads: int = 1) -> Tally:
    """Count every pixel of an array in memory.

    Parameters
    ----------
    array : any shape and layout, either byte order; it is never written to.
    threads : how many threads may count, 1 or more; fewer do where an array is small.

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
    threads = min(threads, max(1, array.nbytes // _LEAST_BYTES))
    shares = deque(_shares(array, threads))
    try:
        if threads == 1:
            return _count_shares(array.dtype, shares)
        with ThreadPoolExecutor(threads - 1) as pool:
            others = [pool.submit(_count_shares, array.dtype, shares) for _ in range(threads - 1)]
            own = _count_shares(array.dtype, shares)
            return _add_up([own, *(other.result() for other in others)])
    except errors.NonIntegralLabel:
        raise first_non_integral(array) from None  # type: ignore[misc]


def _count_shares(dtype: np.dtype[Any], shares: deque[NDArray[Any]]) -> Tally:
    """Count shares until none is left, in a table of this thread."""
    counts = table(dtype)
    while True:
        try:
            share = shares.popleft()
        except IndexError:
            return counts.drain()
        counts.add(share)


def _shares(array: NDArray[Any], threads: int) -> Iterator[NDArray[Any]]:
    """Cut an array into parts: several for each thread, so that a slow one takes fewer."""
    if threads == 1:
        yield array
        return
    view = relaxed(array)
    most = max(_SHARE_BYTES // view.itemsize, -(-view.size // (_PARTS * threads)))
    for cut in blocks(view.shape, most):
        yield view[cut]


def _add_up(tallies: list[Tally]) -> Tally:
    """Add the counts of the parts of one array."""
    kind = np.uint64 if any(part.labels.dtype == np.uint64 for part in tallies) else np.int64
    return merge(
        np.concatenate([part.labels.astype(kind) for part in tallies]),
        np.concatenate([part.pixels for part in tallies]),
        sum(part.nodata for part in tallies),
    )
