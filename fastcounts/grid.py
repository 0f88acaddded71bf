"""A regular grid of chunks over an array: arithmetic on shapes, no array in sight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "Grid", "Interval", "intersect", "volume"]

Interval = tuple[int, int]
"""A half-open range of integers, (start, stop)."""

Box = tuple[Interval, ...]
"""A half-open range of coordinates an axis."""


def volume(box: Box) -> int:
    """How many elements a box has; a box of no axes has one."""
    return prod(stop - start for start, stop in box)


def intersect(left: Box, right: Box) -> Box | None:
    """The elements that two boxes share, or None."""
    shared = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(left, right, strict=True))
    return shared if all(start < stop for start, stop in shared) else None


@dataclass(frozen=True)
class Grid:
    """The chunks of an array that touch a region, in a fixed order.

    The order is C order with axis ``first`` outermost, so that all chunks of one item come
    together.  Chunks are numbered 0 to ``size - 1`` in that order.

    Parameters
    ----------
    shape : elements an axis of the array.
    chunks : elements an axis of one chunk, at least 1 each.
    first : the axis along which items lie, or None.
    region : the part of the array that is meant, or None for all of it.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    first: int | None = None
    region: Box | None = None

    @cached_property
    def bounds(self) -> Box:
        """The region, spelled out."""
        return self.region if self.region is not None else tuple((0, n) for n in self.shape)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The axes from slowest to fastest."""
        axes = list(range(len(self.shape)))
        if self.first is not None:
            axes.insert(0, axes.pop(self.first))
        return tuple(axes)

    @cached_property
    def span(self) -> Box:
        """The chunk coordinates that touch the region, by axis."""
        return tuple(
            (start // chunk, -(-stop // chunk) if stop > start else start // chunk)
            for (start, stop), chunk in zip(self.bounds, self.chunks, strict=True)
        )

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        """How many chunks there are along each axis, in ``order``."""
        return tuple(self.span[axis][1] - self.span[axis][0] for axis in self.order)

    @cached_property
    def size(self) -> int:
        """How many chunks touch the region."""
        return prod(self._counts)

    @property
    def pixels(self) -> int:
        """How many elements the region has."""
        return volume(self.bounds)

    def box(self, ordinal: int) -> Box:
        """The elements of chunk number ``ordinal`` that lie in the region."""
        return self._box(self._coordinates(ordinal), self._coordinates(ordinal))

    def _coordinates(self, ordinal: int) -> list[int]:
        """Chunk coordinates relative to the region, in ``order``."""
        coordinates = []
        for count in reversed(self._counts):
            ordinal, coordinate = divmod(ordinal, count)
            coordinates.append(coordinate)
        return coordinates[::-1]

    def _box(self, low: list[int], high: list[int]) -> Box:
        """The elements from chunk ``low`` to chunk ``high``, inclusive, in the region."""
        box: list[Interval] = [(0, 0)] * len(self.shape)
        for axis, start, stop in zip(self.order, low, high, strict=True):
            base, chunk = self.span[axis][0], self.chunks[axis]
            begin, end = self.bounds[axis]
            box[axis] = (max(begin, (base + start) * chunk), min(end, (base + stop + 1) * chunk))
        return tuple(box)

    def each(self, start: int, stop: int) -> Iterator[Box]:
        """The boxes of the chunks ``start`` to ``stop - 1``, one by one."""
        if not self._counts:
            yield from [()] * (stop - start)
            return
        several = [place for place, count in enumerate(self._counts) if count > 1]
        place = several[-1] if several else -1
        fastest = self.order[place]
        chunk, (begin, end) = self.chunks[fastest], self.bounds[fastest]
        while start < stop:
            low = self._coordinates(start)
            length = min(self._counts[place] - low[place], stop - start)
            box = self._box(low, low)
            before, after = box[:fastest], box[fastest + 1 :]
            edge = (self.span[fastest][0] + low[place]) * chunk
            for left in range(edge, edge + length * chunk, chunk):
                right = left + chunk
                inside = (max(left, begin), min(right, end))
                yield (*before, inside, *after)
            start += length

    def bounds_of(self, ordinals: NDArray[np.int64]) -> NDArray[np.int64]:
        """The boxes of many chunks at once, as (chunks, axes, 2)."""
        found = np.empty((ordinals.size, len(self.shape), 2), np.int64)
        rest = ordinals
        for axis, count in zip(self.order[::-1], self._counts[::-1], strict=True):
            rest, place = np.divmod(rest, count)
            (begin, end), chunk = self.bounds[axis], self.chunks[axis]
            low = (place + self.span[axis][0]) * chunk
            found[:, axis, 0] = np.maximum(low, begin)
            found[:, axis, 1] = np.minimum(low + chunk, end)
        return found

    def ordinals(self, corners: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of chunks given by their coordinates (n, axes); of those in the region."""
        span = np.array(self.span, np.int64).reshape(-1, 2)
        inside = ((corners >= span[:, 0]) & (corners < span[:, 1])).all(axis=1)
        relative = corners[inside] - span[:, 0]
        numbers = np.zeros(relative.shape[0], np.int64)
        for axis, count in zip(self.order, self._counts, strict=True):
            numbers = numbers * count + relative[:, axis]
        return numbers

    def boxes(self, start: int, stop: int) -> Iterator[Box]:
        """Boxes that together hold the chunks ``start`` to ``stop - 1``, each element once.

        There are at most ``2 * ndim - 1`` of them, however many chunks.
        """
        while start < stop:
            low, length = self._coordinates(start), 1
            high = list(low)
            for place in reversed(range(len(self._counts))):
                if low[place] or start + length * self._counts[place] > stop:
                    room = min((stop - start) // length, self._counts[place] - low[place])
                    high[place] = low[place] + room - 1
                    length *= room
                    break
                high[place] = self._counts[place] - 1
                length *= self._counts[place]
            yield self._box(low, high)
            start += length
