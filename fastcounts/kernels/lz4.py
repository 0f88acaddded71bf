"""Undoing LZ4, alone and inside blosc, at the speed that masks allow.

Masks compress to long matches that repeat the pixel before or the row above, with hardly a
literal between them. So a match is copied 64 bytes at a time without asking how long it
is, and the two kinds begin alike, without a branch that no processor could predict.

What is accepted here is accepted by LZ4's own decoder and decodes to the same bytes: the end
of a block is held to the same rules. What is refused may still be good for that decoder, and
whoever calls asks it then.

The formats are those of LZ4's and c-blosc's documents (``lz4_Block_format.md``,
``README_CHUNK_FORMAT.rst``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcounts.kernels.jit import shared
from fastcounts.kernels.vector import copy16, copy64, load8, load16, load32, start_match, store8

__all__ = ["BLOSC_LZ4", "LEAST_SPLIT", "SLACK", "undo_blosc_lz4", "undo_lz4"]

SLACK = 64
"""Bytes behind what is decoded that may be read, and behind what comes of it that are written."""

BLOSC_LZ4 = 1
"""The number of LZ4 among the formats of blosc."""

_LEAST_END = 12
"""The last match begins at least so many bytes before the end of what is decoded."""

_LAST_LITERALS = 5
_TOO_LONG = 1 << 62
_HEADER = 16
_VERSIONS = 0x0102
"""Of the container and of LZ4's format in it, as they stand at its beginning."""

_RESERVED = 8
"""A flag that no container of this version has."""

_MOST_SPLITS = 16
LEAST_SPLIT = 128
"""The fewest bytes that a part of a block has."""


_FAR = 64
"""From this distance on, 64 bytes can be copied at once."""

_PERIODS = [1, 2, 4, 8]
"""Patterns of so many bytes fill a word."""

_STEPS = np.zeros(_FAR + 1, np.int64)
_STEPS[[*_PERIODS, _FAR]] = 64
"""By how many bytes a match is copied, by its distance; 0 for a pattern that fills no word.

A table, because a compiler would make branches of comparisons, and unroll a loop whose step it
knows: both cost more than the copying."""

_KEPT = np.zeros(_FAR + 1, np.int64)
_KEPT[_PERIODS] = 0xFF, 0xFFFF, 0xFFFFFFFF, -1
_REPEATS = np.zeros(_FAR + 1, np.int64)
_REPEATS[_PERIODS] = 0x0101010101010101, 0x0001000100010001, 0x0000000100000001, 1


@shared
def copy_words(into: int, source: int, size: int) -> None:
    """Copy bytes, and up to 63 more."""
    done = 0
    while done < size:
        copy64(into + done, source + done)
        done += 64


@shared
def _copy_match(out: int, offset: int, size: int) -> None:
    """Repeat what lies ``offset`` bytes before, where patterns overlap themselves oddly."""
    done = 0
    if offset >= 16:
        while done < size:
            copy16(out + done, out + done - offset)
            done += 16
        return
    while done < size:
        store8(out + done, load8(out + done - offset))
        done += 1


@shared
def _longer(size: int, source: int, end: int) -> Any:
    """Add the bytes in which a length goes on; return more than any block has if they end."""
    more = np.int64(255)
    while more == 255:
        if source >= end:
            return np.int64(_TOO_LONG), source
        more = load8(source)
        source += 1
        size += more
    return size, source


@shared
def undo_lz4(source: int, length: int, into: int, size: int) -> bool:
    """Decode a block to exactly ``size`` bytes; say whether that could be done.

    Parameters
    ----------
    source, length : address and size of the block; `SLACK` bytes behind it can be read.
    into, size : address and size of what comes of it; `SLACK` bytes behind it are written.
    """
    end, stop = source + length, into + size
    out = into
    while source < end:
        token = load8(source)
        source += 1
        literals = token >> 4
        if literals == 15:
            literals, source = _longer(literals, source, end)
        if literals > end - source or literals > stop - out:
            return False
        last = literals + 8 > end - source or literals + _LEAST_END > stop - out
        if literals <= 16:
            copy16(out, source)
        else:
            copy_words(out, source, literals)
        source += literals
        out += literals
        if last:
            return source == end and out == stop and (size > 0 or token == 0)
        offset = load16(source)
        extra = load8(source + 2)
        size_of_match = token & 15
        is_long = (size_of_match + 1) >> 4
        extra &= -is_long
        size_of_match += 4 + extra
        source += 2 + is_long
        if extra == 255:
            size_of_match, source = _longer(size_of_match, source, end)
        if offset > out - into or size_of_match > stop - out - _LAST_LITERALS:
            return False
        near = min(offset, _FAR)
        step = _STEPS[near]
        if step != 0:
            start_match(out, offset, _KEPT[near], _REPEATS[near])
            back = max(offset, _FAR)
            done = step
            while done < size_of_match:
                copy64(out + done, out + done - back)
                done += step
        elif offset == 0:
            return False
        else:
            _copy_match(out, offset, size_of_match)
        out += size_of_match
    return False


@shared
def _is_zero(source: int, length: int, size: int) -> bool:
    """Say whether a block decodes to ``size`` bytes that are all zero, without decoding it.

    A match repeats what is there already, so only literals can be anything else.
    """
    end, left = source + length, size
    while source < end:
        token = load8(source)
        source += 1
        literals = token >> 4
        if literals == 15:
            literals, source = _longer(literals, source, end)
        if literals > end - source or literals > left:
            return False
        last = literals + 8 > end - source or literals + _LEAST_END > left
        for place in range(literals):
            if load8(source + place) != 0:
                return False
        source += literals
        left -= literals
        if last:
            return source == end and left == 0 and (size > 0 or token == 0)
        offset, size_of_match = load16(source), (token & 15) + 4
        source += 2
        if size_of_match == 19:
            size_of_match, source = _longer(size_of_match, source, end)
        if offset == 0 or offset > size - left or size_of_match > left - _LAST_LITERALS:
            return False
        left -= size_of_match
    return False


@shared
def undo_blosc_lz4(
    source: int, length: int, into: int, size: int, flags: int, only_low: bool
) -> bool:
    """Decode the blocks of blosc's container, none of them shuffled; say whether all could be.

    Parameters
    ----------
    source, length : address and size of the container; `SLACK` bytes behind it can be read.
    into, size : as for `undo_lz4`.
    flags : of the header.
    only_low : of blocks that are split, decode the first part, and see that the others are zero.
    """
    width, block = load8(source + 3), load32(source + 8)
    if load16(source) != _VERSIONS or flags & _RESERVED != 0:
        return False
    if width == 0 or block < width or block > size:
        return False
    blocks = (size + block - 1) // block
    if _HEADER + 4 * blocks > length:
        return False
    for number in range(blocks):
        start = number * block
        here = min(block, size - start)
        splits = 1
        if flags & 16 == 0 and width <= _MOST_SPLITS and block // width >= LEAST_SPLIT:
            splits = width if here == block else 1
        place = load32(source + _HEADER + 4 * number)
        if not _undo_block(source, length, place, into + start, here, splits, only_low):
            return False
    return True


@shared
def _undo_block(
    source: int, length: int, place: int, out: int, size: int, splits: int, only_low: bool
) -> bool:
    """Decode one block of blosc's container."""
    part = size // splits
    if part * splits != size:
        return False
    for split in range(splits):
        if place < _HEADER or place + 4 > length:
            return False
        stored = load32(source + place)
        place += 4
        if stored > length - place:
            return False
        if only_low and split > 0:
            if stored == part or not _is_zero(source + place, stored, part):
                return False  # what takes as much room as it makes is stored as it is
        elif stored == part:
            copy_words(out, source + place, part)
        elif not undo_lz4(source + place, stored, out, part):
            return False
        place += stored
        out += part
    return True
