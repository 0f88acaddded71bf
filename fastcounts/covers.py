"""Which parts of which sources a count has seen: what makes doubling and gaps visible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import dirname
from typing import Any

from fastcounts.errors import FormatError, IncompatibleCounts
from fastcounts.files import text, whole_number, whole_numbers
from fastcounts.grid import Box, Grid, Interval, intersect
from fastcounts.messages import argument

__all__ = ["Cover", "Covers", "Piece", "Run"]

Blocks = tuple[Interval, ...]
"""Sorted, disjoint, non-adjacent ranges of chunk numbers."""


def _union(left: Blocks, right: Blocks) -> Blocks:
    merged: list[Interval] = []
    for start, stop in sorted(left + right):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def _length(blocks: Blocks) -> int:
    return sum(stop - start for start, stop in blocks)


def _difference(left: Blocks, right: Blocks) -> Blocks:
    kept: list[Interval] = []
    for begin, end in left:
        start = begin
        for a, b in right:
            if b <= start or a >= end:
                continue
            if a > start:
                kept.append((start, a))
            start = b
        if start < end:
            kept.append((start, end))
    return tuple(kept)


def _overlap(left: Blocks, right: Blocks) -> bool:
    return _length(_union(left, right)) < _length(left) + _length(right)


def _contains(left: Blocks, right: Blocks) -> bool:
    return _length(_union(left, right)) == _length(left)


@dataclass(frozen=True)
class Piece:
    """Some chunks of a grid.

    Attributes
    ----------
    grid : the grid, with its order and region.
    blocks : half-open ranges of chunk numbers, sorted and disjoint.
    """

    grid: Grid
    blocks: Blocks

    def boxes(self) -> Iterator[Box]:
        """The elements seen, as boxes."""
        for start, stop in self.blocks:
            yield from self.grid.boxes(start, stop)

    def overlaps(self, other: Piece) -> bool:
        """Whether two pieces of one array share an element."""
        if self.grid == other.grid:
            return _overlap(self.blocks, other.blocks)
        mine = list(self.boxes())
        return any(intersect(a, b) is not None for b in other.boxes() for a in mine)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the array is left out."""
        return _length(self.blocks) == self.grid.size and all(
            bounds == (0, n) for bounds, n in zip(self.grid.bounds, self.grid.shape, strict=True)
        )


@dataclass(frozen=True)
class Cover:
    """What was seen of one source.

    Attributes
    ----------
    digest : of the metadata (shape, type, chunks); the same source with another digest has
        changed and is not the same data.
    pieces : the chunks seen; empty means all of it.
    """

    digest: str
    pieces: tuple[Piece, ...] = ()

    @classmethod
    def of(cls, digest: str, piece: Piece) -> Cover:
        """The cover of one piece, in its normal form."""
        return cls(digest, () if piece.is_whole else (piece,))

    def overlaps(self, other: Cover) -> bool:
        """Whether two covers of one source share an element."""
        if not self.pieces or not other.pieces:
            return True
        return any(a.overlaps(b) for a in self.pieces for b in other.pieces)

    def union(self, other: Cover) -> Cover:
        """Both covers, which must not overlap."""
        blocks: dict[Grid, Blocks] = {}
        for piece in self.pieces + other.pieces:
            blocks[piece.grid] = _union(blocks.get(piece.grid, ()), piece.blocks)
        pieces = tuple(Piece(grid, blocks[grid]) for grid in sorted(blocks, key=repr))
        return Cover(self.digest, () if any(piece.is_whole for piece in pieces) else pieces)

    def difference(self, other: Cover) -> Cover | None:
        """What is left without ``other``, or None if nothing is.

        Raises
        ------
        IncompatibleCounts
            If ``other`` is not a part of this.
        """
        if not other.pieces:
            if self.pieces:
                raise IncompatibleCounts("more would be taken away than was counted")
            return None
        mine = {piece.grid: piece.blocks for piece in self.pieces}
        if not mine:
            grid = other.pieces[0].grid
            if len(other.pieces) > 1 or grid.region is not None:
                raise IncompatibleCounts("a region cannot be taken from a count of the whole")
            mine = {grid: ((0, grid.size),)}
        for piece in other.pieces:
            if not _contains(mine.get(piece.grid, ()), piece.blocks):
                raise IncompatibleCounts("more would be taken away than was counted")
            mine[piece.grid] = _difference(mine[piece.grid], piece.blocks)
        left = tuple(Piece(grid, blocks) for grid, blocks in mine.items() if blocks)
        return Cover(self.digest, left) if left else None


@dataclass(frozen=True)
class Run:
    """How much of a run that was split into parts is here.

    Attributes
    ----------
    units : chunks of the whole run, over all its sources.
    blocks : half-open ranges of them.
    """

    units: int
    blocks: Blocks

    @property
    def left(self) -> int:
        """Chunks that are not here yet."""
        return self.units - _length(self.blocks)


@dataclass(frozen=True, eq=False)
class Covers:
    """What a count has seen.

    Attributes
    ----------
    sources : what was seen of each source, by its URI or ``source_id``.
    runs : runs that were split into parts, by the digest of their plan.
    """

    sources: Mapping[str, Cover] = field(default_factory=dict)
    runs: Mapping[str, Run] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.sources or self.runs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Covers):
            return NotImplemented
        return self.sources == other.sources and self._halfway() == other._halfway()

    __hash__ = None  # type: ignore[assignment]  # holds mappings

    def _halfway(self) -> dict[str, Run]:
        """Runs that are here in part; of others it says nothing new that they were split."""
        return {digest: run for digest, run in self.runs.items() if run.blocks and run.left}

    def union(self, other: Covers) -> Covers:
        """Both; raises IncompatibleCounts where they overlap or a source has changed."""
        small, large = sorted((self, other), key=lambda covers: len(covers.sources))
        sources = dict(large.sources)
        for source, cover in small.sources.items():
            if (mine := sources.get(source)) is None:
                sources[source] = cover
                continue
            _check_digest(source, mine, cover)
            if mine.overlaps(cover):
                raise IncompatibleCounts(
                    f"{source}: both counts have seen the same part of it; "
                    "adding them would count its pixels twice"
                )
            sources[source] = mine.union(cover)
        return Covers(sources, _join_runs(self.runs, other.runs))

    def meets(self, other: Covers, item_source: str) -> bool:
        """Whether an item that is open on both sides can be one item: cut from one region."""
        for name, cover in self.sources.items():
            is_its = name == item_source or name.startswith(f"{item_source}#")
            if is_its and name in other.sources:
                theirs = {piece.grid.region for piece in other.sources[name].pieces}
                if not theirs & {piece.grid.region for piece in cover.pieces}:
                    return False
        return True

    def difference(self, other: Covers) -> Covers:
        """What is left without ``other``; raises IncompatibleCounts unless it is a part."""
        sources = dict(self.sources)
        for source, cover in other.sources.items():
            if (mine := sources.pop(source, None)) is None:
                raise IncompatibleCounts(
                    f"{source}: it was not counted, so it cannot be taken away"
                )
            _check_digest(source, mine, cover)
            try:
                left = mine.difference(cover)
            except IncompatibleCounts as error:
                raise IncompatibleCounts(f"{source}: {error}") from None
            if left is not None:
                sources[source] = left
        runs = dict(self.runs)
        for digest, run in other.runs.items():
            mine_run = runs.pop(digest, Run(run.units, ((0, run.units),)))
            if blocks := _difference(mine_run.blocks, run.blocks):
                runs[digest] = Run(run.units, blocks)
        return Covers(sources, runs)

    def incomplete(self) -> str | None:
        """Say what is missing to make every run whole, or None."""
        left = sum(run.left for run in self.runs.values())
        if not left:
            return None
        units = sum(run.units for run in self.runs.values())
        return f"{left} of {units} blocks have not been counted; add the parts that hold them"

    def to_list(self) -> list[dict[str, Any]]:
        """The covers as they stand in ``counts.json``; whole files of one folder share an entry."""
        folders: dict[str, dict[str, str]] = {}
        entries: list[dict[str, Any]] = []
        for source, cover in sorted(self.sources.items()):
            if cover.pieces:
                pieces = [_piece_to_dict(piece) for piece in cover.pieces]
                entries.append({"source": source, "digest": cover.digest, "pieces": pieces})
            else:
                folder = dirname(source)
                folders.setdefault(folder, {})[source[len(folder) :]] = cover.digest
        for folder, files in folders.items():
            if len(files) == 1:
                ((name, digest),) = files.items()
                entries.append({"source": folder + name, "digest": digest})
            else:
                entries.append({"folder": folder, "files": files})
        for digest, run in sorted(self.runs.items()):
            entries.append(
                {"run": digest, "units": run.units, "blocks": [list(block) for block in run.blocks]}
            )
        return entries

    @classmethod
    def from_list(cls, entries: Any) -> Covers:
        """Read what :meth:`to_list` wrote; raises FormatError that names the field."""
        sources: dict[str, Cover] = {}
        runs: dict[str, Run] = {}
        for place, entry in enumerate(entries if isinstance(entries, list) else [None]):
            try:
                if "run" in entry:
                    units = whole_number(entry["units"], "units")
                    run = Run(units, _blocks(entry["blocks"], units))
                    _put(runs, entry["run"], run)
                elif "folder" in entry:
                    for name, digest in entry["files"].items():
                        _put(sources, entry["folder"] + name, Cover(text(digest, "digest")))
                else:
                    pieces = tuple(_piece_from_dict(piece) for piece in entry.get("pieces", []))
                    cover = Cover(text(entry["digest"], "digest"), pieces)
                    _put(sources, entry["source"], cover)
            except FormatError as error:
                raise FormatError(f"covers[{place}]: {error}") from None
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise FormatError(f"covers[{place}]: {error!r}") from None
        return cls(sources, runs)


def _check_digest(source: str, mine: Cover, other: Cover) -> None:
    if mine.digest != other.digest:
        raise IncompatibleCounts(
            f"{source}: it was changed between the two counts (its shape, type, chunks or size "
            f"differ), or only one was counted with {argument('nodata', 'none')}; count it again"
        )


def _join_runs(left: Mapping[str, Run], right: Mapping[str, Run]) -> dict[str, Run]:
    runs = dict(left)
    for digest, run in right.items():
        if (mine := runs.get(digest)) is not None:
            if _overlap(mine.blocks, run.blocks):
                raise IncompatibleCounts("both counts hold the same part of one run")
            runs[digest] = Run(run.units, _union(mine.blocks, run.blocks))
        else:
            runs[digest] = run
    return runs  # complete ones too: a share without blocks may still arrive


def _piece_to_dict(piece: Piece) -> dict[str, Any]:
    grid = piece.grid
    return {
        "shape": list(grid.shape),
        "chunks": list(grid.chunks),
        "first": grid.first,
        "region": grid.region and [list(bounds) for bounds in grid.region],
        "blocks": [list(block) for block in piece.blocks],
    }


def _put(entries: dict[str, Any], name: Any, entry: Any) -> None:
    if text(name, "name") in entries:
        raise FormatError(f"{name}: it stands twice")
    entries[name] = entry


def _piece_from_dict(data: Mapping[str, Any]) -> Piece:
    shape, chunks = (tuple(whole_numbers(data[n], n).tolist()) for n in ("shape", "chunks"))
    first = None if data["first"] is None else whole_number(data["first"], "first")
    region = None if data["region"] is None else _intervals(data["region"])
    if len(chunks) != len(shape) or min(shape, default=0) < 0 or min(chunks, default=1) < 1:
        raise FormatError(f"chunks: {chunks} do not fit the shape {shape}")
    if first is not None and not 0 <= first < len(shape):
        raise FormatError(f"first: there is no axis {first}")
    if region is not None and (
        len(region) != len(shape)
        or not all(0 <= a <= b <= n for (a, b), n in zip(region, shape, strict=True))
    ):
        raise FormatError(f"region: it does not lie within the shape {shape}")
    grid = Grid(shape, chunks, first, region)
    return Piece(grid, _blocks(data["blocks"], grid.size))


def _intervals(data: Iterable[Any]) -> tuple[Interval, ...]:
    pairs = [whole_numbers(pair, "range").tolist() for pair in data]
    return tuple((start, stop) for start, stop in pairs)


def _blocks(data: Iterable[Any], size: int) -> Blocks:
    blocks = _intervals(data)
    if _union(blocks, ()) != blocks or any(not 0 <= a < b <= size for a, b in blocks):
        raise ValueError(f"blocks: expected sorted, disjoint ranges [start, stop) up to {size}")
    return blocks
