"""Where the time of a count goes: fetching, decoding, counting, in the threads it would use.

A sample of the blocks, spread over all, is fetched, decoded and counted in turns, several
times; every figure is a median of these rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
from itertools import groupby
from math import prod
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcounts.counts import Counts
from fastcounts.engine.collecting import Collector
from fastcounts.engine.counting import prepare
from fastcounts.engine.figures import Measured, Stage
from fastcounts.engine.request import Request, processors
from fastcounts.engine.tallying import Tallier
from fastcounts.engine.threads import Worker, run_threads
from fastcounts.errors import ReadError, UnsupportedSource
from fastcounts.grid import Interval, volume
from fastcounts.plan import Block, Hole, Plan
from fastcounts.sources import Fetched, Piece, Source, Way

__all__ = ["bench", "stretches"]

_STRETCHES = 16
"""Pieces without gaps that a sample is made of."""

_ROUNDS, _MOST_ROUNDS = 3, 21
_PATIENCE = 3
"""Times the seconds that were asked for, after which the rounds that are done have to do."""

_COUNTS = 12
"""The sample is such that the time is enough to count it so often."""

_GROWTH = 8
_COLD_SHARE = 4
"""A sample has been read before where more than such a part of it may have been."""

_LIMIT_BYTES = 64 << 20
"""Memory that is read to find the limit: more than most caches hold."""

_LIMIT_WORDS = 1 << 18
_LISTED_UNITS = 1 << 16
"""Stores with more chunks are not listed for the bytes of a sample."""


def bench(request: Request, seconds: float = 5.0) -> Measured:
    """Measure where the time of a count goes.

    Parameters
    ----------
    request : what would be counted.
    seconds : how long measuring may take, about.

    Raises
    ------
    OptionError, SourceError, LabelError
        As counting would.
    ReadError
        If two counts of the same blocks differ.
    """
    source = request.open()
    request = request.along_source(source)
    plan = prepare(request, source)
    name = plan.arrays[0].name if len(plan.arrays) == 1 else str(request.target)
    if not plan.pixels:
        raise UnsupportedSource(f"{name}: there are no pixels to measure with")
    sample, known = _fitting(request, source, plan, seconds / _COUNTS)
    stages = sample.stages()
    first = next(iter(stages.values()))()
    laps = {stage: lap() for stage, lap in stages.items()}
    counts: Counts = laps["count"].result
    taken = _rounds(stages, seconds, counts, name)
    medians = {
        stage: Stage(
            statistics.median(lap.seconds for lap in some),
            statistics.median(lap.idle for lap in some),
        )
        for stage, some in taken.items()
    }
    fetched: Fetched | None = laps["fetch"].result if "fetch" in laps else None
    return Measured(
        name=name,
        ways=sample.ways,
        dtype=max((plan.arrays[n].dtype for n in sample.arrays), key=lambda dtype: dtype.itemsize),
        workers=plan.workers,
        processors=processors(),
        rounds=len(taken["count"]),
        pixels=sample.pixels,
        decoded_bytes=sample.decoded_bytes,
        stored_bytes=sample.stored_bytes() if fetched is None else fetched.stored_bytes,
        chunks=len(sample.blocks) if fetched is None else fetched.chunks,
        chunk_bytes=sample.chunk_bytes,
        missing=sample.met.get("missing", 0) + sample.holes,
        repeated=sample.met.get("repeated", 0),
        labels=counts.labels.size,
        least=int(counts.labels[0]) if counts.labels.size else 0,
        most=int(counts.labels[-1]) if counts.labels.size else 0,
        first=first.seconds if known * _COLD_SHARE <= sample.units else None,
        fetch=medians.get("fetch"),
        decode=medians.get("decode"),
        count=medians["count"],
        limit=replace(
            medians["limit"],
            seconds=medians["limit"].seconds * sample.decoded_bytes / _LIMIT_BYTES,
        ),
    )


def _rounds(
    stages: dict[str, Callable[[], _Lap]], seconds: float, expected: Counts, name: str
) -> dict[str, list[_Lap]]:
    """Go through the stages to and fro, until the time is over.

    Raises
    ------
    ReadError
        If a count is not the one that is expected.
    """
    taken: dict[str, list[_Lap]] = {stage: [] for stage in stages}
    begun = time.perf_counter()
    for number in range(_MOST_ROUNDS):
        spent = time.perf_counter() - begun
        if number and spent >= seconds * (1 if number >= _ROUNDS else _PATIENCE):
            break
        for stage in reversed(stages) if number % 2 else stages:
            lap = stages[stage]()
            taken[stage].append(lap)
            if stage == "count" and lap.result != expected:
                raise ReadError(f"{name}: two counts of the same blocks differ; is it written to?")
    return taken


def _fitting(request: Request, source: Source, plan: Plan, seconds: float) -> tuple[_Sample, int]:
    """A sample that is counted in about so many seconds, and units that were read to find it."""
    first, last = plan.share
    units, every = 4 * plan.workers, last - first
    sample = _Sample(request, source, plan, min(units, every))
    sample.count()  # which compiles what is needed
    while True:
        took = max(sample.count().seconds, 1e-6)
        wanted = min(int(sample.units * seconds / took), every)
        if wanted <= sample.units:
            return sample, sample.units
        if took >= seconds / _GROWTH or wanted <= 2 * sample.units:
            return _Sample(request, source, plan, wanted), sample.units
        sample = _Sample(request, source, plan, min(sample.units * _GROWTH, wanted))


def stretches(share: Interval, units: int) -> list[Interval]:
    """Ranges of about so many units together, none twice, spread evenly over a share."""
    start, stop = share
    if units >= stop - start:
        return [share]
    number = min(_STRETCHES, units)
    lows = (start + (stop - start) * place // number for place in range(number))
    return [(low, low + units // number) for low in lows]


# ---- the sample ----


class _Lap(NamedTuple):
    """One pass over the sample: how long it took, how idle the threads were, what came of it."""

    seconds: float
    idle: float
    result: Any = None


class _Sample:
    """Blocks spread over all, and how to go through them.

    Parameters
    ----------
    request, source, plan : of the count.
    units : how many units to take.

    Attributes
    ----------
    blocks : those that may exist.
    holes : chunks that do not exist, by listing.
    arrays : of the blocks and holes.
    pixels, decoded_bytes : of all of them.
    met : chunks by what became of them in the last count.
    """

    def __init__(self, request: Request, source: Source, plan: Plan, units: int) -> None:
        self._request = request
        self._source = source
        self._plan = plan
        self._bare = replace(plan, share=(0, 0))  # which claims to have seen nothing
        self._parts = [replace(plan, share=range_) for range_ in stretches(plan.share, units)]
        self._work = [
            found for part in self._parts for found in part.blocks_and_holes(source.present)
        ]
        self.units = units
        self.blocks = [found for found in self._work if isinstance(found, Block)]
        self.holes = sum(
            found.stop - found.start - found.present.size
            for found in self._work
            if isinstance(found, Hole)
        )
        self.arrays = sorted({found.array for found in self._work})
        self.pixels = sum(part.pixels for part in self._parts)
        self.met: dict[str, int] = {}

    @cached_property
    def decoded_bytes(self) -> int:
        """Bytes of the pixels, those of missing chunks included."""
        return sum(
            volume(box) * part.arrays[array].dtype.itemsize
            for part in self._parts
            for array, start, stop in part.shares()
            for box in part.grids[array].boxes(start, stop)
        )

    @property
    def chunk_bytes(self) -> int:
        """Decoded bytes of a chunk, an inner chunk of a shard or a block; of the first array."""
        info = self._plan.arrays[self.arrays[0]]
        return prod(info.inner or info.chunks) * info.dtype.itemsize

    @cached_property
    def ways(self) -> tuple[Way, ...]:
        """How the arrays are read, each way once."""
        return tuple(dict.fromkeys(self._source.way(array) for array in self.arrays))

    def stages(self) -> dict[str, Callable[[], _Lap]]:
        """What can be told apart for the ways in which these arrays are read."""
        kinds = {way.kind for way in self.ways}
        stages: dict[str, Callable[[], _Lap]] = {}
        if kinds == {"chunks"}:
            stages["fetch"] = self.fetch
        if kinds != {"mapped"}:
            stages["decode"] = self.decode
        stages["count"] = self.count
        stages["limit"] = partial(self.read, np.ones(_LIMIT_BYTES // 8, np.uint64))
        return stages

    def stored_bytes(self) -> int | None:
        """What listing says; None where that is not known or takes long."""
        total = 0
        for part in self._parts:
            for array, start, stop in part.shares():
                grid = part.grids[array]
                if grid.size > _LISTED_UNITS:
                    return None
                stored = self._source.weigh(array, grid, start, stop).stored_bytes
                if stored is None:
                    return None
                total += stored
        return total

    def fetch(self) -> _Lap:
        """Fetch the stored bytes; the result says how many."""
        fetched: list[Fetched] = []
        lap = self._lap(
            self.blocks, self.pixels, lambda send: _Fetcher(self._source, send), fetched.append
        )
        chunks, stored = (sum(numbers) for numbers in zip((0, 0), *fetched, strict=True))
        return lap._replace(result=Fetched(chunks, stored))

    def decode(self) -> _Lap:
        """Fetch and decode."""
        return self._lap(self.blocks, self.pixels, lambda _: _Decoder(self._source))

    def count(self) -> _Lap:
        """Fetch, decode and count, as counting does; the result is the counts."""
        plan, request = self._plan, self._request
        collector = Collector(self._bare, request.options, keep_items=False)
        before = self._source.chunks_met()
        lap = self._lap(
            self._work,
            self.pixels,
            lambda send: Tallier(plan, self._source, request.options, request.policy, send),
            collector.add,
        )
        after = self._source.chunks_met()
        self.met = {kind: number - before.get(kind, 0) for kind, number in after.items()}
        return lap._replace(result=collector.finish({}))

    def read(self, words: NDArray[np.uint64]) -> _Lap:
        """Read memory."""
        steps = range(0, words.size, _LIMIT_WORDS)
        parts = [Block(0, ((start, start + _LIMIT_WORDS),)) for start in steps]
        return self._lap(parts, words.size, lambda _: _Reader(words))

    def _lap(
        self,
        work: Sequence[Block | Hole],
        pixels: int,
        hire: Callable[[Callable[[Any], None]], Worker],
        take: Callable[[Any], Any] | None = None,
    ) -> _Lap:
        """Let workers go through some work, in as many threads as count."""
        busy: list[float] = []
        workers = self._plan.workers
        begun = time.perf_counter()

        def hire_timed(send: Callable[[Any], None]) -> Worker:
            return _Timed(hire(send), busy)

        with closing(run_threads(iter(work), pixels, workers, hire_timed)) as messages:
            for message in messages:
                if take is not None:
                    take(message)
        seconds = time.perf_counter() - begun
        return _Lap(seconds, min(max(1 - sum(busy) / (seconds * workers), 0.0), 1.0))


# ---- workers ----


class _Timed:
    """A worker that notes for how long its thread was busy."""

    def __init__(self, worker: Worker, busy: list[float]) -> None:
        self._worker = worker
        self._busy = busy

    def count_many(self, blocks: Iterable[Block | Hole]) -> None:
        self._worker.count_many(blocks)

    def flush(self) -> None:
        self._worker.flush()
        self._busy.append(time.thread_time())


class _Fetcher:
    """Fetches blocks."""

    def __init__(self, source: Source, send: Callable[[Any], None]) -> None:
        self._source = source
        self._send = send

    def count_many(self, blocks: Iterable[Block | Hole]) -> None:
        for array, group in groupby(blocks, key=itemgetter(0)):
            self._send(self._source.fetch(array, map(itemgetter(1), group)))

    def flush(self) -> None:
        """Nothing is left."""


class _Decoder:
    """Fetches and decodes blocks, and throws them away."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def count_many(self, blocks: Iterable[Block | Hole]) -> None:
        for array, group in groupby(blocks, key=itemgetter(0)):
            for found in self._source.read_many(array, map(itemgetter(1), group), known=False):
                if isinstance(found, Piece) and found.error is not None:
                    raise found.error

    def flush(self) -> None:
        """Nothing is left."""


class _Reader:
    """Reads parts of one array in memory."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._words = words

    def count_many(self, blocks: Iterable[Block | Hole]) -> None:
        from fastcounts.kernels.reading import fold_words

        for block in blocks:
            assert isinstance(block, Block)
            ((start, stop),) = block.box
            fold_words(self._words[start:stop])

    def flush(self) -> None:
        """Nothing is left."""
