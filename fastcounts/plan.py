"""What will be read, in which order, within which memory: arithmetic that touches no array."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate, pairwise, product, repeat
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcounts.classes import Meaning, as_integer
from fastcounts.covers import Cover, Covers, Piece, Run
from fastcounts.errors import MemoryBudgetError, OptionError
from fastcounts.grid import Box, Grid, Interval, volume
from fastcounts.items import ItemKey
from fastcounts.messages import argument, shown
from fastcounts.notices import Notice

__all__ = ["ArrayInfo", "Block", "Hole", "Plan", "make_plan", "resolve_region", "virtual_chunks"]

BLOCK_BYTES = 64 << 20
"""Blocks that can be divided are divided until they are no larger, where no budget is given."""

VIEW_PIXELS = 1 << 22
"""Pixels of one block of an array in memory, where reading is free."""

TABLE_BYTES = 4 << 20
"""What a worker's counting table takes, at most, for labels of 8 and 16 bit."""

HOLE_UNITS = 1 << 16
"""Units of which it is asked at once which exist."""

BATCH_BYTES = 10 << 20
"""What a worker takes to read several small chunks at once, stored and decoded."""

AHEAD_BYTES = 64 << 20
"""Decoded bytes of the chunks that a worker has asked a store for and not got to yet."""

_COPIES = 3
"""Stored bytes, decoded bytes, and the array they are put into."""

_FETCHED_COPIES = 5
"""The same, and what a store answers, twice while it arrives."""


@dataclass(frozen=True)
class ArrayInfo:
    """What a source says of one of its arrays.

    Attributes
    ----------
    name : what messages call it.
    source : its canonical URI or ``source_id``; empty for an array in memory.
    file : the URI of the file it is in; empty if it is in none.
    shape, dtype : of the array.
    chunks : elements an axis of the unit of storage; parts are cut between units.
    inner : elements an axis of the smallest box that can be read without the rest of its
        unit, or None where a unit is read whole.
    digest : of the metadata; another digest means other data.
    is_view : whether a block is a view that costs no memory.
    is_fetched : whether blocks are asked for ahead of being counted, and held until then.
    stored_bytes : on disk, where that is known.
    meaning : what the array says of its labels.
    number : of an array in memory: its place among all that are counted, if that is not its place
        in the plan.
    fill : the value of elements that are not stored; None if the array has no such elements,
        or if its source knows more of them.
    notices : what the user should know about the array.
    group : the group that it was taken from together with other arrays; empty if it was named.
    """

    name: str
    source: str
    file: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    inner: tuple[int, ...] | None
    digest: str
    is_view: bool = False
    is_fetched: bool = False
    stored_bytes: int | None = None
    meaning: Meaning = field(default_factory=Meaning)
    number: int | None = None
    fill: int | float | None = None
    notices: tuple[Notice, ...] = ()
    group: str = ""


Present = Callable[[int, Grid, int, int], "NDArray[np.int64] | None"]


class Block(NamedTuple):
    """A box of one array, read and counted at once."""

    array: int
    box: Box


class Hole(NamedTuple):
    """Units of which some do not exist, which need not be read to be accounted for.

    Attributes
    ----------
    array : which array.
    start, stop : the half-open range of units.
    present : those of them that may exist; they are blocks as well.
    """

    array: int
    start: int
    stop: int
    present: NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Blocks that hold every element of the region once.

    Attributes
    ----------
    arrays : what the source says of its arrays.
    grids : the storage units of each array within the region, in counting order.
    items : an axis number, ``"file"``, ``"array"`` or ``"auto"``.
    share : the half-open range of units, over all arrays, that this part counts.
    is_part : whether the run was split into parts.
    workers : how many blocks are held at once.
    most_bytes : the largest block, decoded.
    reading_bytes : memory that one worker reads with: its block, stored and decoded, chunks that
        are read together, and what is fetched ahead.
    peak_bytes : memory that counting will take, at most, beside the interpreter: what all workers
        read with, and their tables.
    """

    arrays: tuple[ArrayInfo, ...]
    grids: tuple[Grid, ...]
    items: int | str
    share: tuple[int, int]
    is_part: bool
    workers: int
    most_bytes: int
    reading_bytes: int
    peak_bytes: int

    @cached_property
    def _ends(self) -> list[int]:
        """Where the units of each array end, in the order of all units."""
        return list(accumulate(grid.size for grid in self.grids))

    @cached_property
    def units(self) -> int:
        """Units of the whole run."""
        return self._ends[-1] if self._ends else 0

    def shares(self) -> Iterator[tuple[int, int, int]]:
        """The arrays of this part, each with its half-open range of units."""
        start, stop = self.share
        for array in range(bisect_right(self._ends, start), len(self.grids)):
            begin = self._ends[array] - self.grids[array].size
            if begin >= stop:
                return
            low, high = max(start, begin) - begin, min(stop, self._ends[array]) - begin
            if low < high:
                yield array, low, high

    def blocks(self) -> Iterator[Block]:
        """The blocks of this part, item by item."""
        for array, start, stop in self.shares():
            info, grid = self.arrays[array], self.grids[array]
            if info.is_view:
                yield from _joined(array, grid, start, stop)
                continue
            yield from self._stored(array, start, stop)

    def count_blocks(self, array: int, start: int, stop: int) -> int:
        """How many blocks hold a range of units."""
        if self.arrays[array].is_view:
            return sum(1 for _ in _joined(array, self.grids[array], start, stop))
        if self.arrays[array].inner is None:
            return stop - start
        return sum(1 for _ in self._stored(array, start, stop))

    def _stored(self, array: int, start: int, stop: int) -> Iterator[Block]:
        """The blocks of a range of units."""
        return self._divided(array, self.grids[array].each(start, stop))

    def _divided(self, array: int, units: Iterable[Box]) -> Iterator[Block]:
        """Units, or parts of them where they are large."""
        info, grid = self.arrays[array], self.grids[array]
        if info.inner is None:
            yield from map(Block, repeat(array), units)
            return
        limit = max(self.most_bytes // max(info.dtype.itemsize, 1), 1)
        for unit in units:
            for box in divide(unit, info.inner, limit, grid.order):
                yield Block(array, box)

    def blocks_and_holes(self, present: Present) -> Iterator[Block | Hole]:
        """The blocks that may exist, and what lies between them.

        Parameters
        ----------
        present : gives the units of an array, in a range, that may exist, or None where it
            is not known which do.
        """
        for array, start, stop in self.shares():
            grid = self.grids[array]
            if self.arrays[array].is_view:
                yield from _joined(array, grid, start, stop)
                continue
            for low in range(start, stop, HOLE_UNITS):
                high = min(low + HOLE_UNITS, stop)
                found = present(array, grid, low, high)
                if found is None or found.size == high - low:
                    yield from self._stored(array, low, high)
                    continue
                yield Hole(array, low, high, found)
                yield from self._divided(array, map(_as_box, grid.bounds_of(found).tolist()))

    @cached_property
    def pixels(self) -> int:
        """Pixels of this part."""
        return sum(
            volume(box)
            for array, start, stop in self.shares()
            for box in self.grids[array].boxes(start, stop)
        )

    def covers(self) -> Covers:
        """What counting this part will have seen."""
        sources = {
            info.source: Cover.of(info.digest, Piece(self.grids[array], ((start, stop),)))
            for array, start, stop in self.shares()
            if (info := self.arrays[array]).source
        }
        runs = {}
        if self.is_part:
            blocks = (self.share,) if self.share[0] < self.share[1] else ()
            runs[self.digest] = Run(self.units, blocks)
        return Covers(sources, runs)

    @cached_property
    def digest(self) -> str:
        """Of everything that the parts of one run have in common."""
        state = blake2b(digest_size=8)
        for info, grid in zip(self.arrays, self.grids, strict=True):
            state.update(repr((info.source, info.digest, grid)).encode())
        return state.hexdigest()

    # ---- items ----

    @cached_property
    def _file_pixels(self) -> dict[str, int]:
        """Pixels of each file in the region, over all its arrays."""
        pixels: dict[str, int] = {}
        for info, grid in zip(self.arrays, self.grids, strict=True):
            pixels[info.file] = pixels.get(info.file, 0) + grid.pixels
        return pixels

    def item_of(self, array: int, number: int = 0) -> tuple[ItemKey, int]:
        """The key of an item, and how many pixels it has.

        Parameters
        ----------
        array : which array.
        number : the coordinate along the axis of items; 0 where an item is a whole.
        """
        info, grid = self.arrays[array], self.grids[array]
        if isinstance(axis := self.items, int):
            start, stop = grid.bounds[axis]
            return ItemKey(info.source, number), grid.pixels // (stop - start)
        if self.items != "array" and info.file:
            return ItemKey(info.file, 0), self._file_pixels[info.file]
        place = array if info.number is None else info.number
        return ItemKey(info.source, 0 if info.source else place), grid.pixels


def _joined(array: int, grid: Grid, start: int, stop: int) -> Iterator[Block]:
    """Blocks of several units each: units of arrays in memory are small, to cut parts finely."""
    step = max(VIEW_PIXELS // max(prod(grid.chunks), 1), 1)
    for first in range(start, stop, step):
        for box in grid.boxes(first, min(first + step, stop)):
            yield Block(array, box)


def _as_box(bounds: list[list[int]]) -> Box:
    return tuple((start, stop) for start, stop in bounds)


def divide(box: Box, inner: tuple[int, ...] | None, limit: int, order: Sequence[int]) -> list[Box]:
    """Cut a box along the lines of ``inner`` until no piece has more than ``limit`` elements.

    The slowest axes of ``order`` are cut first.  Pieces smaller than ``inner`` are never made,
    so one may stay larger than ``limit``.
    """
    lengths = [stop - start for start, stop in box]
    if inner is None or prod(lengths) <= limit:
        return [box]
    for axis in order:
        rest = prod(lengths) // lengths[axis]
        steps = limit // rest // inner[axis]
        lengths[axis] = min(max(steps, 1) * inner[axis], lengths[axis])
        if prod(lengths) <= limit:
            break
    cuts = (_ranges(bounds, length) for bounds, length in zip(box, lengths, strict=True))
    return list(product(*cuts))


def _ranges(bounds: Interval, length: int) -> list[Interval]:
    """Cut a range at the multiples of ``length``."""
    start, stop = bounds
    if length >= stop - start:
        return [bounds]
    edges = [start, *range(start - start % length + length, stop, length), stop]
    return list(pairwise(edges))


def virtual_chunks(shape: tuple[int, ...], most: int, order: Sequence[int]) -> tuple[int, ...]:
    """Units for an array that is not stored in chunks: at most ``most`` elements each.

    A function of the shape and order alone, so that parts are the same wherever they run.
    """
    lengths = [max(length, 1) for length in shape]
    for axis in order:
        rest = prod(lengths) // lengths[axis]
        lengths[axis] = min(max(most // rest, 1), lengths[axis])
        if prod(lengths) <= most:
            break
    return tuple(lengths)


def make_plan(
    arrays: Sequence[ArrayInfo],
    *,
    items: int | str = "auto",
    region: Any = None,
    part: tuple[int, int] | None = None,
    workers: int = 1,
    memory: int | None = None,
) -> Plan:
    """Cover every pixel of the region once, within the memory budget.

    Parameters
    ----------
    arrays : what the source says of its arrays.
    items : what one item is.
    region : a slice or number an axis, see :func:`resolve_region`, applied to every array.
    part : ``(i, N)``: the i-th of N shares of the units, about equal in pixels.
    workers : how many blocks may be held at once; fewer are, if the budget asks for it.
    memory : the budget in bytes, or None.

    Raises
    ------
    OptionError
        If an option does not fit the arrays.
    MemoryBudgetError
        If the budget cannot hold one block, with the number of bytes that would do.
    """
    grids = tuple(_grid(info, items, region) for info in arrays)
    share = _share(grids, part)
    sizes = [_block_bytes(info, grid) for info, grid in zip(arrays, grids, strict=True)]
    smallest = max((least for least, _ in sizes), default=0)
    wanted = max((most for _, most in sizes), default=0)
    copies = _FETCHED_COPIES if any(info.is_fetched for info in arrays) else _COPIES
    beside = max(map(_beside_bytes, arrays, grids), default=0)
    tables = TABLE_BYTES + _open_bytes(arrays, grids, items)
    workers = min(workers, max(share[1] - share[0], 1))
    if memory is not None:
        needed = smallest * copies + tables
        if memory < needed:
            raise MemoryBudgetError(
                f"{argument('memory')}: {memory} bytes cannot hold one block; {needed} would do"
            )
        workers = min(workers, memory // needed)
        room = memory // workers - tables
        least = min(beside, (room - smallest * copies) // 2)
        wanted = min(wanted, max((room - least) // copies, smallest))
        beside = min(beside, room - wanted * copies)
    reading = wanted * copies + beside
    return Plan(
        arrays=tuple(arrays),
        grids=grids,
        items=items,
        share=share,
        is_part=part is not None,
        workers=workers,
        most_bytes=wanted,
        reading_bytes=reading,
        peak_bytes=workers * (reading + tables),
    )


def _grid(info: ArrayInfo, items: int | str, region: Any) -> Grid:
    first = None
    if isinstance(items, int):
        if not 0 <= items < len(info.shape):
            raise OptionError(
                f"{argument('items')}: {info.name} has no axis {shown(items)}; its shape is "
                f"{info.shape}, so an axis is a number from 0 to {len(info.shape) - 1}"
                if info.shape
                else f"{argument('items')}: {info.name} has no axes at all"
            )
        first = items
    elif items == "file" and not info.file:
        raise OptionError(
            f"{argument('items')}: {info.name} is not in a file; give the axis of the images, "
            "or 'array'"
        )
    box = None if region is None else resolve_region(region, info.shape, info.name)
    if box == tuple((0, length) for length in info.shape):
        box = None  # the whole array is one thing, however it is said
    return Grid(info.shape, info.chunks, first, box)


def _share(grids: Sequence[Grid], part: tuple[int, int] | None) -> Interval:
    """The units of one part: cut where the pixels before the cut are a share of all."""
    if part is None:
        return 0, sum(grid.size for grid in grids)
    if not isinstance(part, tuple | list) or len(part) != 2:
        raise OptionError(f"{argument('part')}: expected a pair (i, N), got {shown(part)}")
    number, parts = (as_integer(value, argument("part")) for value in part)
    if not 0 <= number < parts:
        raise OptionError(
            f"{argument('part')}: expected i of N with 0 <= i < N, got {shown(number)} of "
            f"{shown(parts)}"
        )
    total = sum(grid.pixels for grid in grids)
    return _cut(grids, total * number, parts), _cut(grids, total * (number + 1), parts)


def _cut(grids: Sequence[Grid], scaled: int, parts: int) -> int:
    """The unit at pixel number ``scaled / parts``, in whole numbers throughout."""
    units = 0
    for grid in grids:
        pixels = grid.pixels * parts
        if scaled < pixels:
            return units + scaled * grid.size // pixels
        scaled -= pixels
        units += grid.size
    return units


def _block_bytes(info: ArrayInfo, grid: Grid) -> tuple[int, int]:
    """Bytes of the smallest block that can be read, and of the one that is wanted."""
    if info.is_view or not grid.size:
        return 0, 0
    unit = prod(min(chunk, max(n, 1)) for chunk, n in zip(info.chunks, info.shape, strict=True))
    inner = unit if info.inner is None else prod(info.inner)
    size = info.dtype.itemsize
    return inner * size, max(min(unit * size, BLOCK_BYTES), inner * size)


def _beside_bytes(info: ArrayInfo, grid: Grid) -> int:
    """Bytes of the chunks that are read or fetched beside the one that is counted."""
    if info.is_view:
        return 0
    most = BATCH_BYTES + (AHEAD_BYTES if info.is_fetched else 0)
    return min(most, _COPIES * grid.pixels * info.dtype.itemsize)


def _open_bytes(arrays: Sequence[ArrayInfo], grids: Sequence[Grid], items: int | str) -> int:
    """Memory of the items that one worker can have open, where labels are 8 or 16 bit."""
    if isinstance(items, str):
        return 0
    most = 0
    for info, grid in zip(arrays, grids, strict=True):
        if grid.size:
            labels = min(256 ** min(info.dtype.itemsize, 2), prod(info.shape) // info.shape[items])
            most = max(most, min(info.chunks[items], info.shape[items]) * labels * 16)
    return most


def resolve_region(region: Any, shape: tuple[int, ...], name: str = "region") -> Box:
    """Turn slices into a box.

    Parameters
    ----------
    region : a slice, ``(start, stop)`` pair or number for each axis, from the first; axes that
        are not named are taken whole; ``...`` stands for as many as there are left over.
    shape : of the array.
    name : of the array, for messages.

    Raises
    ------
    OptionError
        For steps, for more axes than there are, and for bounds outside the array.

    Examples
    --------
    >>> resolve_region((slice(0, 10), slice(None), -1), (20, 30, 40))
    ((0, 10), (0, 30), (39, 40))
    """
    parts = list(region) if isinstance(region, tuple | list) else [region]
    if len(parts) == 2 and len(shape) == 1 and all(isinstance(p, int) for p in parts):
        parts = [tuple(parts)]
    dots = [place for place, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1 or len(parts) - len(dots) > len(shape):
        raise OptionError(
            f"{argument('region')}: {shown(region)} does not fit the {len(shape)} axes of {name}"
        )
    fill = [slice(None)] * (len(shape) - len(parts) + len(dots))
    place = dots[0] if dots else len(parts)
    parts = parts[:place] + fill + parts[place + len(dots) :]
    return tuple(
        _bounds(part, length, axis, name)
        for axis, (part, length) in enumerate(zip(parts, shape, strict=True))
    )


def _bounds(part: Any, length: int, axis: int, name: str) -> Interval:
    what = f"{argument('region')}: axis {axis}"
    if isinstance(part, slice):
        if part.step not in (None, 1):
            raise OptionError(f"{what}: steps are not supported, got {shown(part.step)}")
        start = 0 if part.start is None else as_integer(part.start, what)
        stop = length if part.stop is None else as_integer(part.stop, what)
    elif isinstance(part, tuple | list) and len(part) == 2:
        start, stop = (as_integer(value, what) for value in part)
    else:
        start = as_integer(part, what)
        start += length if start < 0 else 0
        stop = start + 1
    start += length if start < 0 else 0
    stop += length if stop < 0 else 0
    if not 0 <= start <= stop <= length:
        raise OptionError(
            f"{what}: {shown(start)}:{shown(stop)} is not within 0:{length} of {name}"
        )
    return start, stop
