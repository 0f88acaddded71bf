"""Decoding chunks and counting each while it is in the cache, without Python in between."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcounts.kernels.dense import count8
from fastcounts.kernels.jit import compiled
from fastcounts.kernels.native import RAW, decode_many

__all__ = ["count_chunks8"]


@compiled
def count_chunks8(
    kind: int,
    function: int,
    context: int,
    sources: Any,
    lengths: Any,
    into: int,
    size: int,
    sizes: Any,
    good: Any,
    bins: int,
    pairs: int,
    scratch: int,
) -> None:
    """Decode chunks of labels of 8 bits, one after the other into the same room, and count them.

    Parameters
    ----------
    kind, function, context, sources, lengths, size, sizes : as for
        :func:`~fastcounts.kernels.native.decode_many`; a kind of ``RAW`` is counted where it is.
    into : address of room for one decoded chunk.
    good : (n,), set to 1 for a chunk that has been counted, else to 0.
    bins, pairs, scratch : as for :func:`~fastcounts.kernels.dense.count8`.
    """
    for i in range(lengths.size):
        good[i] = 0
        place = into
        if kind == RAW:
            good[i] = np.int64(lengths[i] == size)
            place = sources[i]
        else:
            one = slice(i, i + 1)
            decode_many(
                kind, function, context, sources[one], lengths[one], into, size, sizes, good[one]
            )
        if good[i] == 1:
            count8(place, size, bins, pairs, scratch)
