"""What a count would do: which blocks it would read, from where, and in how much memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fastcounts.engine.counting import prepare
from fastcounts.engine.request import Request
from fastcounts.grid import volume
from fastcounts.notices import Notice
from fastcounts.plan import ArrayInfo, Plan
from fastcounts.sources import Way, Weight

__all__ = ["ArrayPreview", "Preview", "preview"]


@dataclass(frozen=True)
class ArrayPreview:
    """What would be read of one array.

    Attributes
    ----------
    info : what the source says of it.
    way : how its blocks are read.
    units : chunks, shards, or pieces of an array in memory.
    blocks : what is read and counted at once.
    pixels : elements in the region, and in the part.
    weight : what is known of the units without reading them.
    """

    info: ArrayInfo
    way: Way
    units: int
    blocks: int
    pixels: int
    weight: Weight

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the pixels."""
        return self.pixels * self.info.dtype.itemsize

    def to_dict(self) -> dict[str, Any]:
        """The same in types that JSON has."""
        info = self.info
        return {
            "name": info.name,
            "shape": list(info.shape),
            "dtype": info.dtype.str,
            "chunks": list(info.chunks),
            "inner": None if info.inner is None else list(info.inner),
            "units": self.units,
            "missing": self.weight.missing,
            "blocks": self.blocks,
            "pixels": self.pixels,
            "decoded_bytes": self.decoded_bytes,
            "stored_bytes": self.weight.stored_bytes,
            "way": self.way._asdict() | {"codecs": list(self.way.codecs)},
        }


@dataclass(frozen=True)
class Preview:
    """What a count would do.

    Attributes
    ----------
    arrays : those of which this part has something.
    plan : of the count.
    part : ``(i, N)``, or None for the whole run.
    skipped : how many files and folders are passed over.
    notices : what the user should know about what was found.
    """

    arrays: tuple[ArrayPreview, ...]
    plan: Plan
    part: tuple[int, int] | None
    skipped: int
    notices: tuple[Notice, ...] = ()

    def _sum(self, what: Callable[[ArrayPreview], int | None]) -> int | None:
        """A sum over the arrays; None where one of them does not know."""
        numbers = [number for array in self.arrays if (number := what(array)) is not None]
        return sum(numbers) if len(numbers) == len(self.arrays) else None

    @cached_property
    def missing(self) -> int | None:
        """Chunks or shards that do not exist, or None."""
        return self._sum(lambda array: array.weight.missing)

    @cached_property
    def stored_bytes(self) -> int | None:
        """Bytes on disk, or None."""
        return self._sum(lambda array: array.weight.stored_bytes)

    @cached_property
    def decoded_bytes(self) -> int:
        """Bytes of all pixels."""
        return sum(array.decoded_bytes for array in self.arrays)

    @cached_property
    def units(self) -> int:
        """Chunks, shards, and pieces of arrays in memory."""
        start, stop = self.plan.share
        return stop - start

    @cached_property
    def run_pixels(self) -> int:
        """Pixels of all parts."""
        return sum(grid.pixels for grid in self.plan.grids)

    def to_dict(self) -> dict[str, Any]:
        """The same in types that JSON has."""
        return {
            "arrays": [array.to_dict() for array in self.arrays],
            "part": None if self.part is None else list(self.part),
            "units": self.units,
            "missing": self.missing,
            "blocks": sum(array.blocks for array in self.arrays),
            "pixels": self.plan.pixels,
            "decoded_bytes": self.decoded_bytes,
            "stored_bytes": self.stored_bytes,
            "run": {"units": self.plan.units, "pixels": self.run_pixels},
            "workers": self.plan.workers,
            "block_bytes": self.plan.most_bytes,
            "peak_bytes": self.plan.peak_bytes,
            "skipped": self.skipped,
            "notices": [notice.to_dict() for notice in self.notices],
        }


def preview(request: Request) -> Preview:
    """Plan what was asked for, and read no pixel.

    Raises
    ------
    OptionError, SourceError, MemoryBudgetError
        As counting would, before it reads.
    """
    source = request.open()
    request = request.along_source(source)
    plan = prepare(request, source)
    arrays = tuple(
        ArrayPreview(
            info=plan.arrays[array],
            way=source.way(array),
            units=stop - start,
            blocks=plan.count_blocks(array, start, stop),
            pixels=sum(map(volume, plan.grids[array].boxes(start, stop))),
            weight=source.weigh(array, plan.grids[array], start, stop),
        )
        for array, start, stop in plan.shares()
    )
    return Preview(arrays, plan, request.part, len(source.skipped), tuple(source.notices))
