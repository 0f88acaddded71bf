"""Kernels for labels of 32 and 64 bits: a hash table of the patterns that occur.

The table is two int64 arrays of ``capacity + 1`` places, capacity a power of two: the
patterns and their pixels. A place that holds `EMPTY` is free; the pattern that looks like
it lives in the last place. ``state`` is int64: how many patterns there are, and why the
kernel stopped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcounts.kernels.jit import compiled, inlined
from fastcounts.kernels.vector import load32, load64

__all__ = ["DONE", "EMPTY", "FULL", "WRONG", "count32", "count64", "rehash"]

EMPTY = -0x5DEECE66D1234567
DONE, FULL, WRONG = 0, 1, 2
_MIX = -7046029254386353131


@inlined
def _place(pattern: int, mask: int) -> Any:
    """Where the search for a pattern begins."""
    mixed = (pattern ^ ((pattern >> 32) & 0xFFFFFFFF)) * np.int64(_MIX)
    return (mixed >> 32) & mask


@inlined
def _is_label(pattern: int, mantissa: int, exponent: int) -> Any:
    """Say whether floating point bits are a whole number up to 2**53, or NaN."""
    bias = (1 << (exponent - 1)) - 1
    fraction = pattern & ((np.int64(1) << mantissa) - 1)
    power = ((pattern >> mantissa) & ((1 << exponent) - 1)) - bias
    if power == bias + 1:
        return fraction != 0
    if power < 0:
        return power == -bias and fraction == 0
    if power >= 53:
        return power == 53 and fraction == 0
    if power >= mantissa:
        return True
    return fraction & ((np.int64(1) << (mantissa - power)) - 1) == 0


@inlined
def _find(pattern: int, keys: Any, state: Any, mantissa: int, exponent: int) -> Any:
    """Return the place of a pattern, new or known; negative where there is none."""
    mask = keys.size - 2
    if pattern == EMPTY:
        return mask + 1
    place = _place(pattern, mask)
    while keys[place] != pattern:
        if keys[place] == EMPTY:
            if mantissa and not _is_label(pattern, mantissa, exponent):
                return -WRONG
            if 2 * state[0] >= mask:
                return -FULL
            keys[place] = pattern
            state[0] += 1
            return place
        place = (place + 1) & mask
    return place


@compiled
def count32(
    address: int, size: int, keys: Any, pixels: Any, state: Any, weight: int, floating: int
) -> int:
    """Add ``weight`` for every pattern of 4 bytes; return how many pixels were counted."""
    mantissa = 23 if floating else 0
    state[1] = DONE
    for i in range(size):
        place = _find(load32(address + 4 * i), keys, state, mantissa, 8)
        if place < 0:
            state[1] = -place
            return i
        pixels[place] += weight
    return size


@compiled
def count64(
    address: int, size: int, keys: Any, pixels: Any, state: Any, weight: int, floating: int
) -> int:
    """Add ``weight`` for every pattern of 8 bytes; return how many pixels were counted."""
    mantissa = 52 if floating else 0
    state[1] = DONE
    for i in range(size):
        place = _find(load64(address + 8 * i), keys, state, mantissa, 11)
        if place < 0:
            state[1] = -place
            return i
        pixels[place] += weight
    return size


@compiled
def rehash(old_keys: Any, old_pixels: Any, keys: Any, pixels: Any) -> None:
    """Move every pattern of a table to a larger, empty one."""
    mask = keys.size - 2
    for i in range(old_keys.size - 1):
        if old_keys[i] != EMPTY:
            place = _place(old_keys[i], mask)
            while keys[place] != EMPTY:
                place = (place + 1) & mask
            keys[place] = old_keys[i]
            pixels[place] = old_pixels[i]
    pixels[keys.size - 1] = old_pixels[old_keys.size - 1]
