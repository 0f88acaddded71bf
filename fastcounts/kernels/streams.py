"""Decoding chunks and counting each while it is in the cache, without Python in between."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcounts.kernels.dense import PAIRED, collect, count8, settle_pairs
from fastcounts.kernels.jit import compiled
from fastcounts.kernels.native import RAW, decode_many
from fastcounts.kernels.vector import load64

__all__ = ["LISTED", "count_chunks8", "count_chunks8_apart"]

LISTED = 256 + 8
"""Places that the labels of one chunk take in a list, at most."""


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


@compiled
def count_chunks8_apart(
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
    offsets: Any,
    patterns: Any,
    pixels: Any,
) -> None:
    """Decode chunks of labels of 8 bits, and count each by itself.

    Parameters
    ----------
    kind to scratch : as for `count_chunks8`; all bins are empty before and after.
    offsets : (n + 1,), set to where the labels of each chunk begin; a broken chunk has none.
    patterns, pixels : (`LISTED` * n,), set to the labels of all chunks and their pixels.
    """
    found = np.int64(0)
    offsets[0] = 0
    for i in range(lengths.size):
        one = slice(i, i + 1)
        count_chunks8(
            kind,
            function,
            context,
            sources[one],
            lengths[one],
            into,
            size,
            sizes,
            good[one],
            bins,
            pairs,
            scratch,
        )
        if load64(scratch + PAIRED) != 0:
            settle_pairs(bins, pairs, scratch)
        here = 8 * found
        found += collect(bins, 4, 256, patterns.ctypes.data + here, pixels.ctypes.data + here)
        offsets[i + 1] = found
