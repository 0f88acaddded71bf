"""Which chunks of an array exist, found by listing keys where that is cheaper than reading.

What is found is one bit a chunk, so that it stays small for any number of keys.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastcounts.grid import Grid

__all__ = ["PAGE_KEYS", "Listing", "cheapest", "folder_corners", "key_corners", "names_in"]

Corner = tuple[int, ...]

_AT_ONCE = 1 << 16
_MOST_DIGITS = 18
"""Of a coordinate; names that are longer numbers are of no chunk, and of no int64."""

_SAMPLE = 32
LEAST_CHUNKS = 1024
"""Fewer chunks are read without asking which exist."""

PAGE_KEYS = 1000
"""Keys that an object store gives for one request."""


class Listing:
    """The chunks of a grid that exist.

    Safe to use from several threads.

    Parameters
    ----------
    grid : the chunks that are asked for.
    list_corners : gives the coordinates of chunks that exist, of those that begin with one of
        some prefixes.
    count_existing : says how many of some chunks exist.
    depth : how many coordinates a prefix has; 0 where all are listed at once.
    dense : the share of a sample of chunks that must exist for reading to be cheaper than
        listing; None where listing is always cheaper.
    """

    def __init__(
        self,
        grid: Grid,
        list_corners: Callable[[Iterable[Corner]], Iterable[Corner]],
        count_existing: Callable[[Sequence[Corner]], int],
        *,
        depth: int,
        dense: float | None = 0.75,
    ) -> None:
        self._grid = grid
        self._list = list_corners
        self._count = count_existing
        self._depth = depth
        self._dense = dense
        counts = [high - low for low, high in grid.span[:depth]]
        self._unasked = np.ones(counts, bool)
        self._left = prod(counts)
        self._bits = np.zeros(-(-grid.size // 8), np.uint8)
        self._lock = threading.Lock()

    def present(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """The numbers of the chunks that exist, among ``start`` to ``stop - 1``.

        None where a sample says that most do: then reading is cheaper than listing.
        """
        with self._lock:
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
        if self._dense is None:
            return False
        numbers = np.random.default_rng(start).integers(start, stop, _SAMPLE)
        corners = self._grid.bounds_of(numbers)[:, :, 0] // np.array(self._grid.chunks)
        return self._count([tuple(corner) for corner in corners.tolist()]) >= self._dense * _SAMPLE

    def _load(self, start: int, stop: int) -> None:
        """Ask for what is not known yet of a range of chunks."""
        lows = np.array([low for low, _ in self._grid.span[: self._depth]], np.int64)
        for box in self._grid.boxes(start, stop):
            near = tuple(
                slice(begin // length - low, -(-end // length) - low)
                for (begin, end), length, low in zip(
                    box, self._grid.chunks, lows.tolist(), strict=False
                )
            )
            places = np.argwhere(self._unasked[near])
            if not len(places):
                continue
            firsts = places + lows + np.array([one.start for one in near], np.int64)
            self._note(self._list(map(tuple, firsts.tolist())))
            self._unasked[near] = False
            self._left -= len(places)

    def _note(self, corners: Iterable[Corner]) -> None:
        waiting = iter(corners)
        while batch := list(islice(waiting, _AT_ONCE)):
            numbers = self._grid.ordinals(np.array(batch, np.int64))
            np.bitwise_or.at(self._bits, numbers >> 3, (1 << (numbers & 7)).astype(np.uint8))


def cheapest(grid: Grid) -> tuple[int, int]:
    """How an object store is best asked for the chunks of a grid: prefix by prefix.

    Returns
    -------
    How many coordinates a prefix should have, and the requests that take all of them, at most.
    Long prefixes are preferred where they cost little more, so that only what is needed next
    is listed.
    """
    every = [-(-n // m) for n, m in zip(grid.shape, grid.chunks, strict=True)]
    asked = [high - low for low, high in grid.span]
    costs = [
        prod(asked[:depth]) * -(-prod(every[depth:]) // PAGE_KEYS) for depth in range(len(every))
    ]
    depth = max(depth for depth, cost in enumerate(costs) if cost <= 2 * min(costs))
    return depth, costs[depth]


def folder_corners(
    root: Path, prefix: str, rank: int
) -> Callable[[Iterable[Corner]], Iterator[Corner]]:
    """List the chunks of an array whose keys are folders in folders, one an axis."""

    def below(folder: str, corner: Corner) -> Iterator[Corner]:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _is_place(entry.name)]
        if len(corner) == rank - 1:
            for name in names:
                yield (*corner, int(name))
        else:
            for name in names:
                yield from _if_there(below, f"{folder}/{name}", (*corner, int(name)))

    def corners(prefixes: Iterable[Corner]) -> Iterator[Corner]:
        for start in prefixes:
            yield from _if_there(below, "/".join(map(str, (root / prefix, *start))), start)

    return corners


def _is_place(name: str) -> bool:
    """Whether a name can be the coordinate of a chunk."""
    return name.isdecimal() and len(name) <= _MOST_DIGITS


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
        if len(parts) == rank and all(map(_is_place, parts)):
            yield tuple(map(int, parts))


def names_in(folder: Path) -> Iterator[str]:
    """The names in a folder, one by one."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name
