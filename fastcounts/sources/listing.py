"""Which chunks of an array exist, found by listing keys where that is cheaper than reading.

What is found is one bit a chunk, so that it stays small for any number of keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastcounts.grid import Grid

__all__ = ["Listing", "folder_corners", "key_corners", "names_in"]

Corner = tuple[int, ...]

_AT_ONCE = 1 << 16
_SAMPLE = 32
LEAST_CHUNKS = 1024
"""Fewer chunks are read without asking which exist."""


class Listing:
    """The chunks of a grid that exist.

    Parameters
    ----------
    grid : the chunks that are asked for.
    list_corners : gives the coordinates of chunks that exist, of those whose first coordinate
        lies in a range.
    exists : says of one chunk whether it does.
    by_first : whether asking for some first coordinates is cheaper than asking for all.
    """

    def __init__(
        self,
        grid: Grid,
        list_corners: Callable[[range], Iterable[Corner]],
        exists: Callable[[Sequence[int]], bool],
        *,
        by_first: bool,
    ) -> None:
        self._grid = grid
        self._list = list_corners
        self._exists = exists
        low, high = grid.span[0]
        self._left = set(range(low, high)) if by_first else {low}
        self._by_first = by_first
        self._bits = np.zeros(-(-grid.size // 8), np.uint8)

    def present(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """The numbers of the chunks that exist, among ``start`` to ``stop - 1``.

        None where a sample says that most do: then reading is cheaper than listing.
        """
        if self._left:
            if self._is_dense(start, stop):
                return None
            self._load(start, stop)
        low = start // 8
        bits = np.unpackbits(self._bits[low : -(-stop // 8)], bitorder="little")
        found = np.flatnonzero(bits) + 8 * low
        return found[(found >= start) & (found < stop)]

    def _is_dense(self, start: int, stop: int) -> bool:
        """Whether most of a random sample of chunks exist."""
        numbers = np.random.default_rng(start).integers(start, stop, _SAMPLE)
        corners = self._grid.bounds_of(numbers)[:, :, 0] // np.array(self._grid.chunks)
        found = sum(self._exists(corner) for corner in corners.tolist())
        return 4 * found >= 3 * _SAMPLE

    def _load(self, start: int, stop: int) -> None:
        """Ask for what is not known yet of a range of chunks."""
        if not self._by_first:
            self._note(self._list(range(*self._grid.span[0])))
            self._left.clear()
            return
        length = self._grid.chunks[0]
        for box in self._grid.boxes(start, stop):
            begin, end = box[0]
            for first in range(begin // length, -(-end // length)):
                if first in self._left:
                    self._note(self._list(range(first, first + 1)))
                    self._left.discard(first)

    def _note(self, corners: Iterable[Corner]) -> None:
        waiting = iter(corners)
        while batch := list(islice(waiting, _AT_ONCE)):
            numbers = self._grid.ordinals(np.array(batch, np.int64))
            np.bitwise_or.at(self._bits, numbers >> 3, (1 << (numbers & 7)).astype(np.uint8))


def folder_corners(root: Path, prefix: str, rank: int) -> Callable[[range], Iterator[Corner]]:
    """List the chunks of an array whose keys are folders in folders, one an axis."""

    def below(folder: str, corner: Corner) -> Iterator[Corner]:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.isdecimal()]
        if len(corner) == rank - 1:
            for name in names:
                yield (*corner, int(name))
        else:
            for name in names:
                yield from _if_there(below, f"{folder}/{name}", (*corner, int(name)))

    def corners(firsts: range) -> Iterator[Corner]:
        folder = str(root / prefix)
        if rank == 1:
            yield from _if_there(below, folder, ())
            return
        for first in firsts:
            yield from _if_there(below, f"{folder}/{first}", (first,))

    return corners


def _if_there(
    below: Callable[[str, Corner], Iterator[Corner]], folder: str, corner: Corner
) -> Iterator[Corner]:
    """What is below a folder; where it is none, the key itself stands for what must be read."""
    try:
        yield from below(folder, corner)
    except (FileNotFoundError, NotADirectoryError):
        return


def key_corners(keys: Iterable[str], prefix: str, mark: str, rank: int) -> Iterator[Corner]:
    """The chunks among some keys."""
    for key in keys:
        if not key.startswith(prefix):
            continue
        parts = key[len(prefix) :].split(mark)
        if len(parts) == rank and all(part.isdecimal() for part in parts):
            yield tuple(map(int, parts))


def names_in(folder: Path) -> Iterator[str]:
    """The names in a folder, one by one."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name
