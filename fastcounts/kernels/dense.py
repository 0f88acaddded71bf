"""Kernels for labels of 8 and 16 bits: a bin for every pattern.

A tile of masks is a few runs, which are counted one by one (`runs`). Where runs are short,
8-bit labels are counted in one of two ways: few labels by comparing the whole tile with
each of them, many by counting pairs of neighbouring pixels, one addition for two pixels.
Comparing has to find out which labels there are; what it may waste on that is limited to a
part of what it gained, or of the time that counting pairs takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcounts.kernels.jit import compiled, inlined, named, shared
from fastcounts.kernels.runs import AHEAD, PLACES, SCRATCH, WORDS, enlist, mark8, mark16
from fastcounts.kernels.vector import (
    add64,
    cover,
    increment32,
    increment64,
    load8,
    load16,
    load32,
    load64,
    narrow16,
    nonzero_bytes,
    prefetch,
    store32,
    store64,
)

__all__ = [
    "BINS8",
    "BINS16",
    "BYTES16",
    "PAIRED",
    "PAIRS",
    "SCRATCH8",
    "collect",
    "count1",
    "count8",
    "count16",
    "count_items8",
    "count_items16",
    "count_tile8",
    "settle_pairs",
]

BINS8 = 4 * 256
"""Four rows of bins: additions to one label in a row do not wait for each other."""

BINS16 = 65536
PAIRS = 2 * 65536
"""Two rows of bins of pairs of pixels, int32 that are read as unsigned."""

_MOST = 32
_CANDIDATES = SCRATCH
_COUNTED = _CANDIDATES + 8 * 40
_SEEN = _COUNTED + 8 * 40
_STATE = _SEEN + 8 * 4
SCRATCH8 = _STATE + 8 * 5
"""Bytes of scratch memory; it begins as zeros and keeps what was learned between calls."""

BYTES16 = 64 * WORDS + 64
"""Bytes of a tile of 16-bit labels that are written as bytes, and a word more that is read."""

_PATIENT = 8
"""So many tiles in a row may not fit into bytes before most are not tried."""

_LABELS, _PURSE, _PATIENCE, _NOISY, PAIRED = (_STATE + 8 * i for i in range(5))

_SHORT = 9
"""More ends of runs a word than this are not worth listing."""

_COMPARE = 1
_PAIR = 52
"""What a word costs, in cycles, about: to compare with one label, and to count pairs."""


@compiled
def count1(address: int, size: int) -> Any:
    """Return how many of ``size`` bytes at an address are not zero."""
    number: Any = 0
    vectors = size >> 6
    for vector in range(vectors):
        here = address + 64 * vector
        number += nonzero_bytes(here)
    for i in range(64 * vectors, size):
        number += np.int64(load8(address + i) != 0)
    return number


@inlined
def _add_runs8(tile: int, number: int, scratch: int, bins: int) -> Any:
    """Add the listed runs of a tile to four rows of bins."""
    places = scratch + PLACES
    before = np.int64(-1)
    run = 0
    while run + 4 <= number:
        a = load32(places + 4 * run)
        b = load32(places + 4 * run + 4)
        c = load32(places + 4 * run + 8)
        d = load32(places + 4 * run + 12)
        add64(bins + 8 * load8(tile + a), a - before)
        add64(bins + 2048 + 8 * load8(tile + b), b - a)
        add64(bins + 4096 + 8 * load8(tile + c), c - b)
        add64(bins + 6144 + 8 * load8(tile + d), d - c)
        before = d
        run += 4
    while run < number:
        a = load32(places + 4 * run)
        add64(bins + 8 * load8(tile + a), a - before)
        before = a
        run += 1


@inlined
def _count_pairs(tile: int, words: int, scratch: int, pairs: int) -> Any:
    """Count the pairs of pixels of a tile."""
    for i in range(8 * words):
        eight = load64(tile + 8 * i)
        increment32(pairs + ((eight << 2) & 0x3FFFC))
        increment32(pairs + 4 * 65536 + ((eight >> 14) & 0x3FFFC))
        increment32(pairs + ((eight >> 30) & 0x3FFFC))
        increment32(pairs + 4 * 65536 + ((eight >> 46) & 0x3FFFC))
    add64(scratch + PAIRED, 32 * words)


@inlined
def _learn(label: int, scratch: int) -> Any:
    """Remember a label of noise, up to one more than can be compared with."""
    word = scratch + _SEEN + 8 * (label >> 6)
    seen = load64(word)
    bit = np.int64(1) << (label & 63)
    labels = load64(scratch + _LABELS)
    if seen & bit == 0 and labels <= _MOST:
        store64(word, seen | bit)
        store64(scratch + _CANDIDATES + 8 * labels, label)
        store64(scratch + _LABELS, labels + 1)


@inlined
def _forget(scratch: int) -> Any:
    """Forget the labels of noise."""
    store64(scratch + _LABELS, 0)
    for word in range(4):
        store64(scratch + _SEEN + 8 * word, 0)


@shared
def _compare(tile: int, words: int, labels: int, scratch: int) -> Any:
    """Count the remembered labels in a tile; return the sum of their pixels."""
    total = np.int64(0)
    group = 0
    while group < labels:
        names = scratch + _CANDIDATES + 8 * group
        pixels = scratch + _COUNTED + 8 * group
        left = labels - group
        if left >= 8:
            total += _cover8(tile, words, names, pixels)
        elif left == 7:
            total += _cover7(tile, words, names, pixels)
        elif left == 6:
            total += _cover6(tile, words, names, pixels)
        elif left == 5:
            total += _cover5(tile, words, names, pixels)
        elif left == 4:
            total += _cover4(tile, words, names, pixels)
        elif left == 3:
            total += _cover3(tile, words, names, pixels)
        elif left == 2:
            total += _cover2(tile, words, names, pixels)
        else:
            total += _cover1(tile, words, names, pixels)
        group += 8
    return total


_cover1, _cover2, _cover3, _cover4, _cover5, _cover6, _cover7, _cover8 = cover


@inlined
def _try_comparing(tile: int, words: int, scratch: int, bins: int) -> Any:
    """Count a tile by comparing; return 0, or the cycles that were wasted if it failed."""
    wasted = np.int64(0)
    if load64(scratch + _LABELS) == 0:
        wasted += 32 * words
        for i in range(4 * words):
            _learn(load8(tile + 16 * i + (i & 15)), scratch)
    labels = load64(scratch + _LABELS)
    if labels <= _MOST:
        covered = _compare(tile, words, labels, scratch)
        if covered == 64 * words:
            for i in range(labels):
                label = load64(scratch + _CANDIDATES + 8 * i)
                add64(bins + 8 * label, load64(scratch + _COUNTED + 8 * i))
            return np.int64(0)
        wasted += words * labels * _COMPARE
        if covered >= 56 * words:
            for i in range(64 * words):
                _learn(load8(tile + i), scratch)
            return wasted + 384 * words
    _forget(scratch)
    return wasted + 1


@shared
def _count_noise(tile: int, words: int, scratch: int, bins: int, pairs: int) -> Any:
    """Count a tile of short runs."""
    for word in range(words):
        prefetch(tile + 64 * word + AHEAD)
    purse = load64(scratch + _PURSE)
    if purse >= 0:
        wasted = _try_comparing(tile, words, scratch, bins)
        if wasted == 0:
            gain = words * (_PAIR - load64(scratch + _LABELS) * _COMPARE)
            store64(scratch + _PURSE, min(purse + gain, 16 * _PAIR * WORDS))
            store64(scratch + _PATIENCE, 0)
            return
        purse -= wasted
        if purse < 0:
            patience = min(load64(scratch + _PATIENCE) + 1, 6)
            purse = -((_PAIR * WORDS) << patience)
            store64(scratch + _PATIENCE, patience)
    else:
        purse += (words * _PAIR) >> 3
        if purse >= 0:
            purse = _PAIR * WORDS
    store64(scratch + _PURSE, purse)
    _count_pairs(tile, words, scratch, pairs)


@shared
def count_tile8(tile: int, words: int, scratch: int, bins: int, pairs: int) -> Any:
    """Count a tile of 8-bit labels; the byte after it is read as well."""
    if load64(scratch + _NOISY) != 0 and words > 8 and mark8(tile, 2, scratch) > 2 * _SHORT:
        _count_noise(tile, words, scratch, bins, pairs)
        return
    number = mark8(tile, words, scratch)
    if number > _SHORT * words:
        store64(scratch + _NOISY, 1)
        _count_noise(tile, words, scratch, bins, pairs)
        return
    store64(scratch + _NOISY, 0)
    enlist(words, number, scratch)
    _add_runs8(tile, number, scratch, bins)


@compiled
def count8(address: int, size: int, bins: int, pairs: int, scratch: int) -> Any:
    """Add the patterns of ``size`` bytes at an address to bins and bins of pairs.

    Return how many pairs of pixels have been counted since `settle_pairs`.
    """
    done = 0
    while size - done > 64:
        words = min(WORDS, (size - done - 1) >> 6)
        count_tile8(address + done, words, scratch, bins, pairs)
        done += 64 * words
    for i in range(done, size):
        increment64(bins + 2048 * (i & 3) + 8 * load8(address + i))
    return load64(scratch + PAIRED)


@compiled
def collect(bins: int, rows: int, columns: int, patterns: int, pixels: int) -> Any:
    """Move the bins that are not empty, of all rows, to lists; return how many there are.

    There must be room for 8 more than are found.
    """
    found: Any = 0
    for begin in range(0, columns, 8):
        some = np.int64(0)
        for row in range(rows):
            for column in range(begin, begin + 8):
                some |= load64(bins + 8 * (row * columns + column))
        if some == 0:
            continue
        for column in range(begin, begin + 8):
            number = np.int64(0)
            for row in range(rows):
                number += load64(bins + 8 * (row * columns + column))
                store64(bins + 8 * (row * columns + column), 0)
            store64(patterns + 8 * found, column)
            store64(pixels + 8 * found, number)
            found += np.int64(number != 0)
    return found


@compiled
def settle_pairs(bins: int, pairs: int, scratch: int) -> None:
    """Turn pairs of pixels into pixels, and empty their bins."""
    for first in range(256):
        total = np.int64(0)
        for second in range(256):
            at = pairs + 4 * (256 * first + second)
            number = load32(at) + load32(at + 4 * 65536)
            if number != 0:
                store32(at, 0)
                store32(at + 4 * 65536, 0)
                total += number
                add64(bins + 8 * second, number)
        add64(bins + 8 * first, total)
    store64(scratch + PAIRED, 0)


@inlined
def _add_runs16(tile: int, number: int, scratch: int, bins: int) -> Any:
    """Add the listed runs of a tile to bins."""
    places = scratch + PLACES
    before = np.int64(-1)
    for run in range(number):
        place = load32(places + 4 * run)
        add64(bins + 8 * load16(tile + 2 * place), place - before)
        before = place


@inlined
def _write_bytes(tile: int, words: int, out: int) -> Any:
    """Write a tile of 16-bit labels as bytes; say whether all of them are below 256."""
    outside = np.int64(0)
    for word in range(words):
        here = tile + 128 * word
        prefetch(here + AHEAD)
        prefetch(here + 64 + AHEAD)
        outside |= narrow16(here, 0, out + 64 * word)
    return outside == 0


@shared
def _count_wide(tile: int, words: int, scratch: int, bins: int) -> Any:
    """Count a tile of 16-bit labels."""
    number = mark16(tile, words, scratch)
    if number <= _SHORT * words:
        enlist(words, number, scratch)
        _add_runs16(tile, number, scratch, bins)
        return
    for i in range(16 * words):
        four = load64(tile + 8 * i)
        increment64(bins + ((four << 3) & 0x7FFF8))
        increment64(bins + ((four >> 13) & 0x7FFF8))
        increment64(bins + ((four >> 29) & 0x7FFF8))
        increment64(bins + ((four >> 45) & 0x7FFF8))


@compiled
def count16(address: int, size: int, memory: int) -> None:
    """Add the patterns of ``size`` pixels of 2 bytes at an address to bins.

    ``memory`` holds the addresses of bins, of bins, bins of pairs and scratch memory for 8-bit
    labels, and of `BYTES16` bytes, or 0; then how many tiles in a row did not fit into bytes.
    Tiles of labels below 256 are counted as bytes, where there is room for them.
    """
    bins, narrow_bins, pairs = load64(memory), load64(memory + 8), load64(memory + 16)
    scratch, room = load64(memory + 24), load64(memory + 32)
    misses = load64(memory + 40)
    done = 0
    while size - done > 64:
        words = min(WORDS, (size - done - 1) >> 6)
        tile = address + 2 * done
        done += 64 * words
        is_tried = room != 0 and (misses < _PATIENT or misses & 15 == 0)
        if is_tried and _write_bytes(tile, words, room):
            misses = 0
            count_tile8(room, words, scratch, narrow_bins, pairs)
        else:
            misses += 1
            _count_wide(tile, words, scratch, bins)
    store64(memory + 40, misses)
    for i in range(done, size):
        increment64(bins + 8 * load16(address + 2 * i))


@shared
def _widen(memory: int) -> None:
    """Add what was counted as bytes to the bins of 16-bit labels."""
    bins, narrow_bins, pairs = load64(memory), load64(memory + 8), load64(memory + 16)
    scratch = load64(memory + 24)
    if load64(scratch + PAIRED) != 0:
        settle_pairs(narrow_bins, pairs, scratch)
    for place in range(BINS8):
        number = load64(narrow_bins + 8 * place)
        if number != 0:
            add64(bins + 8 * (place & 255), number)
            store64(narrow_bins + 8 * place, 0)


def _counter_of_items(bits: int, count: Any) -> Any:
    """Make the function that counts items of ``size`` pixels, one after the other, apart.

    ``memory`` holds the addresses of bins, bins of pairs and scratch memory, or for 16 bits what
    `count16` asks for. Patterns are listed at one address, their pixels ``room`` places later,
    and after each item how many there are. It returns how many items there was room for.
    """
    width, bins_of_row, rows = bits // 8, 1 << bits, 4 if bits == 8 else 1

    def count_items(
        address: int, items: int, size: int, memory: int, offsets: int, patterns: int, room: int
    ) -> Any:
        bins = load64(memory)
        found: Any = 0
        for item in range(items):
            if found + bins_of_row + 8 > room:
                return item
            count(address + item * size * width, size, memory)
            here = patterns + 8 * found
            found += collect(bins, rows, bins_of_row, here, here + 8 * room)
            store64(offsets + 8 * item, found)
        return items

    return compiled(named(count_items, f"count_items{bits}"))


@shared
def _count_item8(address: int, size: int, memory: int) -> Any:
    bins, pairs, scratch = load64(memory), load64(memory + 8), load64(memory + 16)
    if count8(address, size, bins, pairs, scratch) != 0:
        settle_pairs(bins, pairs, scratch)


@shared
def _count_item16(address: int, size: int, memory: int) -> Any:
    count16(address, size, memory)
    _widen(memory)


count_items8 = _counter_of_items(8, _count_item8)
count_items16 = _counter_of_items(16, _count_item16)
