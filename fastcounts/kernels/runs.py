"""Where runs of one label end: the first step of counting at any width.

A tile is a number of words, a word 64 pixels. `mark` writes, for each word, which pixels
differ from the one after them; `enlist` turns the bits into a list of places. Both work
without a branch per pixel: what they cost depends on the runs, not on the pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcounts.kernels.jit import inlined, named, shared
from fastcounts.kernels.vector import (
    clear_lowest,
    load64,
    lowest,
    popcount,
    prefetch,
    run_ends8,
    run_ends16,
    run_ends32,
    run_ends64,
    store32,
    store64,
)

__all__ = [
    "AHEAD",
    "ENDS",
    "PLACES",
    "SCRATCH",
    "WORDS",
    "enlist",
    "mark8",
    "mark16",
    "mark32",
    "mark64",
]

WORDS = 64
"""The most words that a tile may have."""

ENDS = 0
PLACES = 8 * WORDS
SCRATCH = PLACES + 4 * (64 * WORDS + 16)
"""Bytes of scratch memory: the words, then the places as int32, with some to spare."""

AHEAD = 8192
"""How far ahead memory is fetched, in bytes."""

_LAST = np.int64(-(2**63))


@inlined
def _close(words: int, scratch: int) -> Any:
    """End the last run of a tile with the tile; return 1 if it went on."""
    last = scratch + 8 * (words - 1)
    ends = load64(last)
    store64(last, ends | _LAST)
    return np.int64(ends >= 0)


def _marker(bits: int, run_ends: Any) -> Any:
    """Make ``mark(tile, words, scratch)``, which marks the ends of runs and counts them."""
    parts, lanes = bits // 8, 512 // bits

    def mark(tile: int, words: int, scratch: int) -> Any:
        number = 0
        for word in range(words):
            here = tile + 64 * parts * word
            ends = np.int64(0)
            for part in range(parts):
                prefetch(here + 64 * part + AHEAD)
                ends |= run_ends(here + 64 * part) << (lanes * part)
            number += popcount(ends)
            store64(scratch + 8 * word, ends)
        return number + _close(words, scratch)

    return shared(named(mark, f"mark{bits}"))


mark8 = _marker(8, run_ends8)
mark16 = _marker(16, run_ends16)
mark32 = _marker(32, run_ends32)
mark64 = _marker(64, run_ends64)


@inlined
def _rest(ends: int, base: int, place: int) -> Any:
    """List the ends of one word that did not fit into those listed without a branch."""
    while ends != 0:
        store32(place, base + lowest(ends))
        ends = clear_lowest(ends)
        place += 4


@shared
def enlist(words: int, number: int, scratch: int) -> Any:
    """List the places of the ends of runs as int32, given how many there are."""
    place = scratch + PLACES
    if 2 * number <= words:
        for word in range(words):
            ends = load64(scratch + 8 * word)
            store32(place, 64 * word + lowest(ends))
            more = clear_lowest(ends)
            if more != 0:
                _rest(more, 64 * word, place + 4)
            place += 4 * popcount(ends)
    elif 4 * number <= 5 * words:
        for word in range(words):
            ends = load64(scratch + 8 * word)
            store32(place, 64 * word + lowest(ends))
            more = clear_lowest(ends)
            store32(place + 4, 64 * word + lowest(more))
            more = clear_lowest(more)
            if more != 0:
                _rest(more, 64 * word, place + 8)
            place += 4 * popcount(ends)
    else:
        for word in range(words):
            ends = load64(scratch + 8 * word)
            more = ends
            for part in range(4):
                store32(place + 4 * part, 64 * word + lowest(more))
                more = clear_lowest(more)
            if more != 0:
                for part in range(4, 8):
                    store32(place + 4 * part, 64 * word + lowest(more))
                    more = clear_lowest(more)
                if more != 0:
                    _rest(more, 64 * word, place + 32)
            place += 4 * popcount(ends)
