"""``count``: open, plan, run, collect."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial as bind
from typing import Any

from fastcounts.classes import Options, as_integer
from fastcounts.counts import Counts
from fastcounts.engine.collecting import Collector
from fastcounts.engine.events import Advanced, BlockFailed, Finished, Listener, Started
from fastcounts.engine.tallying import Partial, Policy, Tallier
from fastcounts.engine.threads import run_threads
from fastcounts.errors import CountsOverflow, OptionError, ReadError
from fastcounts.ledger import MOST_PIXELS
from fastcounts.plan import Plan, make_plan
from fastcounts.sources import Source, open_source
from fastcounts.version import __version__

__all__ = ["count", "count_source"]

MISSING = ("fill", "separate", "raise")
ON_ERROR = ("raise", "record")


def count(
    source: Any,
    *,
    ignore: Any = None,
    classes: Any = None,
    items: int | str = "auto",
    keep_items: bool = False,
    region: Any = None,
    missing: str = "fill",
    on_error: str = "raise",
    strict: bool = False,
    part: tuple[int, int] | None = None,
    source_id: str | None = None,
    workers: int | None = None,
    memory: int | str | None = None,
    progress: Listener | None = None,
) -> Counts:
    """Count the pixels of every class over masks, each exactly once.

    Parameters
    ----------
    source : an array or masked array of any rank; a path, folder or glob of .npy, .npz, PNG and
        TIFF files; a Zarr array or group as a path, store or open object; a list of these.
    ignore : a label or several that belong to no class; they stay in the ledger.
    classes : a number K (labels 0 to K - 1), names, or a mapping from label to name; labels of
        one name fold into the smallest.  Any other label is unexpected.  Without it every
        label is a class.
    items : what one image is: the number of an axis, ``"file"``, ``"array"``, or ``"auto"``
        (a file, else a whole array).
    keep_items : keep the pixels of every item and label.
    region : the part to count: a slice, ``(start, stop)`` pair or number an axis.
    missing : a Zarr chunk that does not exist: ``"fill"`` counts its fill value, ``"separate"``
        keeps its pixels apart, ``"raise"`` stops.
    on_error : a block that cannot be read: ``"raise"`` stops, ``"record"`` puts its pixels under
        ``failed`` and goes on.
    strict : whether an unexpected label stops.
    part : ``(i, N)``: count the i-th of N shares, the same whoever runs it.
    source_id : the name of the data wherever it lies, in place of its path.
    workers : threads; by default one for each processor that may be used.
    memory : the budget, in bytes or as text such as ``"512MB"``.
    progress : called with an event (:mod:`fastcounts.engine.events`) now and then, in this
        thread.

    Returns
    -------
    Counts
        Exact, in int64.

    Raises
    ------
    OptionError
        If an argument is wrong; nothing has been read.
    SourceError
        If the masks cannot be found, told apart or read.
    LabelError
        If pixels are no labels.
    MemoryBudgetError
        If the budget cannot hold one block.

    Examples
    --------
    >>> import numpy as np
    >>> import fastcounts as fc
    >>> counts = fc.count(np.array([[0, 0, 1], [0, 255, 1]], np.uint8), ignore=255)
    >>> dict(zip(counts.labels.tolist(), counts.pixels.tolist()))
    {0: 3, 1: 2}
    >>> counts.ledger.ignored[255].pixels
    1
    """
    options = Options.parse(ignore, classes, items)
    policy = Policy(
        _one_of("missing", missing, MISSING), _one_of("on_error", on_error, ON_ERROR), strict
    )
    crew = worker_count(workers)
    budget = memory_bytes(memory)
    opened = open_source(source, source_id=source_id)
    return count_source(
        opened,
        options,
        policy,
        keep_items=keep_items,
        region=region,
        part=part,
        workers=crew,
        memory=budget,
        progress=progress,
    )


def count_source(
    source: Source,
    options: Options,
    policy: Policy,
    *,
    keep_items: bool = False,
    region: Any = None,
    part: tuple[int, int] | None = None,
    workers: int = 1,
    memory: int | None = None,
    progress: Listener | None = None,
) -> Counts:
    """Count a source that is open; the arguments are those of :func:`count`, understood."""
    tell = progress or _nobody
    _check(source, policy, part)
    plan = make_plan(
        source.arrays,
        items=options.items,
        region=region,
        part=part,
        workers=workers,
        memory=memory,
    )
    if plan.pixels > MOST_PIXELS:
        raise CountsOverflow(f"{plan.pixels} pixels are more than int64 holds")
    failures = [BlockFailed(name, None, None, reason) for name, reason in source.unreadable]
    tell(Started(plan.pixels, plan.workers, plan.peak_bytes))
    for failure in failures:
        tell(failure)
    begun, clock = datetime.now(UTC), time.perf_counter()
    collector = Collector(plan, options, keep_items)
    _run(plan, source, options, policy, collector, failures, tell)
    seconds = time.perf_counter() - clock
    tell(Finished(plan.pixels, seconds))
    return collector.finish({"runs": [_provenance(plan, source, part, begun, seconds, failures)]})


def _run(
    plan: Plan,
    source: Source,
    options: Options,
    policy: Policy,
    collector: Collector,
    failures: list[BlockFailed],
    tell: Listener,
) -> None:
    def hire(send: Callable[[Partial], None]) -> Tallier:
        return Tallier(plan, source, options, policy, send)

    if not plan.pixels:
        return
    with closing(run_threads(plan.blocks(), plan.pixels, plan.workers, bind(hire))) as messages:
        for message in messages:
            if message.failure is not None:
                failures.append(message.failure)
                tell(message.failure)
            if pixels := collector.add(message):
                tell(Advanced(pixels))


def _provenance(
    plan: Plan,
    source: Source,
    part: tuple[int, int] | None,
    begun: datetime,
    seconds: float,
    failures: list[BlockFailed],
) -> dict[str, Any]:
    """How a run came about, in types that JSON has."""
    names = [info.name for info in plan.arrays]
    return {
        "version": __version__,
        "sources": names[:8],
        "arrays": len(names),
        "part": None if part is None else [int(number) for number in part],
        "pixels": plan.pixels,
        "begun": begun.isoformat(timespec="seconds"),
        "seconds": round(seconds, 6),
        "workers": plan.workers,
        "skipped": len(source.skipped),
        "failures": [
            {
                "name": failure.name,
                "box": failure.box and [list(bounds) for bounds in failure.box],
                "pixels": failure.pixels,
                "reason": failure.reason,
            }
            for failure in failures
        ],
    }


def _check(source: Source, policy: Policy, part: tuple[int, int] | None) -> None:
    """Refuse what this source cannot do, before anything is read."""
    if source.unreadable and policy.on_error == "raise":
        name, reason = source.unreadable[0]
        raise ReadError(f"{name}: {reason}")
    for place, info in enumerate(source.arrays):
        if part is not None and not info.source:
            raise OptionError(
                f"part: {info.name} has no name by which parts could know each other; "
                "give one with source_id="
            )
        if policy.missing != "fill" and not source.knows_missing(place):
            raise OptionError(
                f"missing: {info.name} does not tell missing chunks from others; only 'fill' works"
            )


def _nobody(event: object) -> None:
    """Listen to nothing."""
    del event


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise OptionError(f"{name}: expected {' or '.join(map(repr, allowed))}, got {value!r}")
    return value


def worker_count(workers: int | None) -> int:
    """How many threads: what was asked for, or one for each processor that may be used."""
    if workers is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    number = as_integer(workers, "workers")
    if number < 1:
        raise OptionError(f"workers: expected at least 1, got {number}")
    return number


def memory_bytes(memory: int | str | None) -> int | None:
    """The memory budget in bytes, or None."""
    if memory is None:
        return None
    if isinstance(memory, str):
        from dask.utils import parse_bytes

        try:
            memory = int(parse_bytes(memory))
        except ValueError:
            raise OptionError(
                f"memory: expected bytes, or text such as '512MB', got {memory!r}"
            ) from None
    number = as_integer(memory, "memory")
    if number < 1:
        raise OptionError(f"memory: expected at least 1 byte, got {number}")
    return number
