"""Kernels for labels of 32 and 64 bits: a hash table of the patterns that occur.

The table is one int64 array of ``capacity + 1`` places, capacity a power of two; a place
is a pattern and its pixels, side by side. A place that holds `EMPTY` is free; the pattern
that looks like it has the last place. Runs are found first (`runs`), so that a run
costs one search, and mostly none: patterns that occurred lately are in a small table of
their own, where a pattern has one place and gives way to another that belongs there.

Labels of 32 and 64 bits are mostly small numbers. So a tile whose labels all lie in a
window of 256 is written as bytes, and counted as such (`dense`).

``state`` is int64: how many patterns there are, why the kernel stopped, where the window
begins, how many tiles in a row did not fit into it, the address of the table and the
logarithm of its capacity, and the addresses of scratch memory, bins and bins of pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcounts.kernels import dense
from fastcounts.kernels.jit import compiled, inlined, named, shared
from fastcounts.kernels.runs import PLACES, enlist, mark32, mark64
from fastcounts.kernels.vector import (
    add64,
    increment64,
    load32,
    load64,
    narrow32,
    narrow64,
    place16,
    prefetch,
    store64,
    subtract,
)

__all__ = [
    "BASE",
    "BINS",
    "DONE",
    "EMPTY",
    "FULL",
    "LEAST_CAPACITY",
    "MEMORY",
    "MISSES",
    "PAIRS",
    "RECENT",
    "RECENT_PLACES",
    "SCRATCH",
    "STATE",
    "TABLE",
    "TABLE_BITS",
    "USED",
    "WHY",
    "WRONG",
    "collect",
    "count32",
    "count64",
    "rehash",
]

EMPTY = 0
"""What a free place holds, so that new memory is an empty table."""

DONE, FULL, WRONG = 0, 1, 2
USED, WHY, BASE, MISSES, TABLE, TABLE_BITS, MEMORY, BINS, PAIRS = range(0, 72, 8)
STATE = 9

_TILE = 32
"""Words of a tile: as 64-bit labels they fill a third of a first-level cache."""

LEAST_CAPACITY = 32768
_SHORT = 24
_BATCH = 64
_ROOMY, _CLOSE = 18, 22
_CACHED = 15
"""A table of so many bits is in the second-level cache."""

_PATIENT = 8
"""So many tiles in a row may miss the window before most are not tried."""

BYTES = (dense.SCRATCH8 + 63) // 64 * 64
_RECENT_BITS = 10
RECENT = BYTES + 64 * _TILE + 64
RECENT_PLACES = 1 << _RECENT_BITS
SCRATCH = RECENT + 16 * RECENT_PLACES
"""Bytes of scratch memory: that of 8-bit labels, a tile of them, and recent patterns."""


@shared
def _most(bits: int) -> Any:
    """Return how many patterns a table holds before a larger one is better.

    A search that does not end where it begins costs a wrongly predicted branch. So small
    tables stay almost empty, and only large ones are filled: with the patterns that a tile
    may add, to eleven sixteenths.
    """
    if bits < _ROOMY:
        return np.int64(1) << bits >> 3
    if bits < _CLOSE:
        return np.int64(1) << bits >> 2
    return (np.int64(11) << bits >> 4) - 64 * _TILE


@shared
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


@shared
def _insert(pattern: int, at: int, state: int, floating: int) -> Any:
    """Search on for a pattern and add it if it is new; 0 if it is no label."""
    table = load64(state + TABLE)
    end = table + (np.int64(16) << load64(state + TABLE_BITS))
    if pattern == EMPTY:
        return end
    while True:
        here = load64(at)
        if here == pattern:
            return at
        if here == EMPTY:
            if floating == 32 and not _is_label(pattern, 23, 8):
                return np.int64(0)
            if floating == 64 and not _is_label(pattern, 52, 11):
                return np.int64(0)
            store64(at, pattern)
            add64(state + USED, 1)
            return at
        at += 16
        if at == end:
            at = table


@inlined
def _find(pattern: int, table: int, shift: int, state: int, floating: int) -> Any:
    """Return the address of a pattern in the table, new or known; 0 if it is no label."""
    at = table + place16(pattern, shift)
    if load64(at) == pattern and pattern != EMPTY:
        return at
    return _insert(pattern, at, state, floating)


@shared
def _replace(at: int, pattern: int, state: int, floating: int) -> Any:
    """Move a recent pattern to the table, and another into its place; False if no label."""
    if floating == 32 and not _is_label(pattern, 23, 8):
        return False
    if floating == 64 and not _is_label(pattern, 52, 11):
        return False
    pixels = load64(at + 8)
    if pixels != 0:
        table, shift = load64(state + TABLE), 60 - load64(state + TABLE_BITS)
        add64(_find(load64(at), table, shift, state, 0) + 8, pixels)
    store64(at, pattern)
    store64(at + 8, 0)
    return True


def _adder_of_runs(bits: int, load: Any) -> Any:
    """Make the function that adds the listed runs of a tile of labels of so many bits.

    It returns the pixel at which a run begins that is no label, or -1.
    """
    width = bits // 8

    def add_runs(tile: int, number: int, state: int, weight: int, floating: int) -> Any:
        scratch = load64(state + MEMORY)
        before = np.int64(-1)
        for run in range(number):
            place = load32(scratch + PLACES + 4 * run)
            pattern = load(tile + width * place)
            at = scratch + RECENT + place16(pattern, 60 - _RECENT_BITS)
            if load64(at) != pattern and not _replace(at, pattern, state, floating):
                return before + 1
            add64(at + 8, weight * (place - before))
            before = place
        return np.int64(-1)

    return shared(named(add_runs, f"add_runs{bits}"))


def _adder_of_pixels(bits: int, load: Any) -> Any:
    """Make the function that adds pixels of so many bits one by one.

    It returns the first pixel that is no label, or -1.
    """
    width = bits // 8

    def add_pixels(tile: int, size: int, state: int, weight: int, floating: int) -> Any:
        table, shift = load64(state + TABLE), 60 - load64(state + TABLE_BITS)
        for begin in range(0, size, _BATCH):
            end = min(begin + _BATCH, size)
            if shift < 60 - _CACHED:
                for i in range(begin, end):
                    prefetch(table + place16(load(tile + width * i), shift))
            for i in range(begin, end):
                at = _find(load(tile + width * i), table, shift, state, floating)
                if at == 0:
                    return np.int64(i)
                add64(at + 8, weight)
        return np.int64(-1)

    return shared(named(add_pixels, f"add_pixels{bits}"))


def _narrower(bits: int, narrow: Any) -> Any:
    """Make the function that writes a tile as bytes and says whether all are in the window."""
    width = bits // 8

    def write_bytes(tile: int, words: int, state: int) -> Any:
        misses = load64(state + MISSES)
        store64(state + MISSES, misses + 1)
        if words == 0 or (misses > _PATIENT and misses & 15 != 0):
            return False
        base, out = load64(state + BASE), load64(state + MEMORY) + BYTES
        outside = np.int64(0)
        for word in range(words):
            here = tile + 64 * width * word
            for part in range(width):
                prefetch(here + 64 * (part + width * _TILE))
            outside |= narrow(here, base, out + 64 * word)
        if outside != 0:
            return False
        store64(state + MISSES, 0)
        return True

    return shared(named(write_bytes, f"write_bytes{bits}"))


def _adder_of_few(bits: int, load: Any) -> Any:
    """Make the function that adds less than a word of pixels, if all are in the window."""
    width, mask = bits // 8, -1 if bits == 64 else (1 << bits) - 1

    def add_few(tile: int, size: int, state: int) -> Any:
        base, bins = load64(state + BASE), load64(state + BINS)
        outside = np.int64(0)
        for i in range(size):
            outside |= subtract(load(tile + width * i), base) & mask & ~255
        if outside == 0:
            for i in range(size):
                increment64(bins + 8 * (subtract(load(tile + width * i), base) & 255))
        return outside == 0

    return shared(named(add_few, f"add_few{bits}"))


def _counter(bits: int, load: Any, mark: Any, write_bytes: Any) -> Any:
    """Make ``count(address, size, state, weight, floating)`` for patterns of so many bits.

    It adds ``weight`` for every pixel and returns how many were counted; ``state`` says why
    they are not all. ``floating`` is the width of floating point labels and 0 for others.
    """
    width = bits // 8
    add_runs, add_pixels = _adder_of_runs(bits, load), _adder_of_pixels(bits, load)
    add_few = _adder_of_few(bits, load)

    def count(address: int, size: int, state: int, weight: int, floating: int) -> Any:
        scratch = load64(state + MEMORY)
        most = _most(load64(state + TABLE_BITS))
        store64(state + WHY, DONE)
        done = 0
        while done < size:
            tile = address + width * done
            words = min(_TILE, (size - done - 1) >> 6)
            pixels = 64 * words if words else size - done
            if floating == 0 and weight > 0 and write_bytes(tile, words, state):
                bins, pairs = load64(state + BINS), load64(state + PAIRS)
                dense.count_tile8(scratch + BYTES, words, scratch, bins, pairs)
                done += pixels
                continue
            if words == 0 and floating == 0 and weight > 0 and add_few(tile, pixels, state):
                return size
            if weight > 0 and load64(state + USED) >= most:
                store64(state + WHY, FULL)
                return done
            number = mark(tile, words, scratch) if words else size
            if number <= _SHORT * words:
                enlist(words, number, scratch)
                wrong = add_runs(tile, number, state, weight, floating)
            else:
                wrong = add_pixels(tile, pixels, state, weight, floating)
            if wrong >= 0:
                store64(state + WHY, WRONG)
                return done + wrong
            done += pixels
        return done

    return compiled(named(count, f"count{bits}"))


count32 = _counter(32, load32, mark32, _narrower(32, narrow32))
count64 = _counter(64, load64, mark64, _narrower(64, narrow64))


@compiled
def rehash(old: int, old_bits: int, table: int, bits: int) -> None:
    """Move every pattern of a table to a larger, empty one.

    A place is the upper bits of a product: both tables are passed through in order.
    """
    end = table + (np.int64(16) << bits)
    for i in range(1 << old_bits):
        pattern = load64(old + 16 * i)
        if pattern != EMPTY:
            at = table + place16(pattern, 60 - bits)
            while load64(at) != EMPTY:
                at += 16
                if at == end:
                    at = table
            store64(at, pattern)
            store64(at + 8, load64(old + 16 * i + 8))
    store64(end + 8, load64(old + 16 * (1 << old_bits) + 8))


@compiled
def collect(table: int, places: int, patterns: int, pixels: int) -> Any:
    """Move patterns with pixels to lists, empty their places, and return how many there are."""
    found: Any = 0
    for place in range(places):
        at = table + 16 * place
        if load64(at) != EMPTY or load64(at + 8) != 0:
            store64(patterns + 8 * found, load64(at))
            store64(pixels + 8 * found, load64(at + 8))
            found += np.int64(load64(at + 8) != 0)
            store64(at, EMPTY)
            store64(at + 8, 0)
    return found
