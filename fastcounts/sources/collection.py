"""Several sources as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from os.path import commonprefix
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts.errors import OptionError
from fastcounts.grid import Box, Grid
from fastcounts.plan import ArrayInfo
from fastcounts.sources.port import Fetched, Found, Piece, Source, Way, Weight

__all__ = ["Collection", "rename"]


class Collection(Source):
    """Several sources, one after the other.

    Raises
    ------
    OptionError
        If one array is in it twice.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.arrays = tuple(chain.from_iterable(source.arrays for source in sources))
        self.unreadable = tuple(chain.from_iterable(source.unreadable for source in sources))
        self.skipped = tuple(chain.from_iterable(source.skipped for source in sources))
        self.notices = tuple(chain.from_iterable(source.notices for source in sources))
        self._sources = tuple(sources)
        self._places = [
            (source, array) for source in sources for array in range(len(source.arrays))
        ]
        seen: set[str] = set()
        for info in self.arrays:
            if info.source and info.source in seen:
                raise OptionError(f"{info.name}: is given twice; it would be counted twice")
            seen.add(info.source)

    def read(self, array: int, box: Box) -> Iterable[Piece]:
        """Read one block from the source that has it."""
        source, place = self._places[array]
        return source.read(place, box)

    def read_many(
        self, array: int, boxes: Iterable[Box], axis: int | None = None, *, known: bool = True
    ) -> Iterator[Found]:
        """Read blocks from the source that has the array."""
        source, place = self._places[array]
        return source.read_many(place, boxes, axis, known=known)

    def way(self, array: int) -> Way:
        """What the source that has the array says."""
        source, place = self._places[array]
        return source.way(place)

    def fetch(self, array: int, boxes: Iterable[Box]) -> Fetched | None:
        """Fetch from the source that has the array."""
        source, place = self._places[array]
        return source.fetch(place, boxes)

    def weigh(self, array: int, grid: Grid, start: int, stop: int) -> Weight:
        """What the source that has the array says."""
        source, place = self._places[array]
        return source.weigh(place, grid, start, stop)

    def present(self, array: int, grid: Grid, start: int, stop: int) -> NDArray[np.int64] | None:
        """What the source that has the array says."""
        source, place = self._places[array]
        return source.present(place, grid, start, stop)

    def chunks_met(self) -> dict[str, int]:
        """What the sources have met together."""
        met: Counter[str] = Counter()
        for source in dict.fromkeys(source for source, _ in self._places):
            met.update(source.chunks_met())
        return dict(met)

    def confirm(self) -> None:
        """Ask every source."""
        for source in self._sources:
            source.confirm()

    def keep_within(self, reading_bytes: int) -> None:
        """Tell every source."""
        for source in self._sources:
            source.keep_within(reading_bytes)

    def axis_names(self, array: int) -> tuple[str, ...]:
        """Return those of the source that has the array."""
        source, place = self._places[array]
        return source.axis_names(place)

    def fill_value(self, array: int) -> Any:
        """What the source that has the array says."""
        source, place = self._places[array]
        return source.fill_value(place)

    def knows_missing(self, array: int) -> bool:
        """What the source that has the array says."""
        source, place = self._places[array]
        return source.knows_missing(place)


def rename(arrays: Sequence[ArrayInfo], source_id: str) -> tuple[ArrayInfo, ...]:
    """Put ``source_id`` in the place of the arrays' own names, and of those of their files."""
    if len(arrays) == 1:
        (info,) = arrays
        return (replace(info, source=source_id, file=source_id if info.file else ""),)
    shared = commonprefix([info.source for info in arrays])  # noqa: RUF071  they are URIs, text
    common = len(shared.rpartition("/")[0])
    return tuple(
        replace(
            info,
            source=f"{source_id}/{info.source[common:].lstrip('/') or place}",
            file=f"{source_id}/{info.file[common:].lstrip('/')}" if info.file else "",
        )
        for place, info in enumerate(arrays)
    )
