"""Dask arrays: each block is counted in the task that makes it, partial counts meet in a tree.

The graph gets one small task more a block and a reduction of bounded fan-in.  Nothing is
ravelled, rechunked or gathered; what travels is partial counts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastcounts.classes import Meaning, Options, check_label_dtype
from fastcounts.counts import Counts
from fastcounts.engine.collecting import Collector
from fastcounts.engine.noticing import find_notices, report
from fastcounts.engine.tallying import Partial, Policy, Tallier
from fastcounts.engine.worker import inside_worker
from fastcounts.errors import FastcountsError, OptionError, ReadError, UnsupportedSource
from fastcounts.grid import Box
from fastcounts.messages import argument
from fastcounts.plan import ArrayInfo, Block, Plan, make_plan, resolve_region
from fastcounts.sources import Piece, Source
from fastcounts.sources.port import one_line
from fastcounts.version import __version__

if TYPE_CHECKING:
    import dask.array as da
    from dask.delayed import Delayed

__all__ = ["count_graph", "is_dask_array", "run_graph"]

FAN_IN = 16
_NAME = "dask array"


def is_dask_array(value: Any) -> bool:
    """Whether a value is a Dask array, without importing Dask for the question."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(value, module.Array)


@dataclass(frozen=True)
class _Context:
    """What every task knows.

    Attributes
    ----------
    starts : where the blocks begin along each axis; None where Dask does not know.
    offset : what was cut off before the array along each axis.
    meaning : what is known of the labels.
    """

    options: Options
    policy: Policy
    keep_items: bool
    plan: Plan | None
    starts: tuple[tuple[int, ...], ...] | None
    offset: tuple[int, ...]
    meaning: Meaning


@dataclass(frozen=True)
class _Loose:
    """Partial counts of a block whose place is not known yet."""

    block: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    partials: list[Partial]


class _BlockSource(Source):
    """One block that is in memory, at its place in the whole array."""

    def __init__(self, pixels: NDArray[Any]) -> None:
        self._pixels = pixels

    def read(self, array: int, box: Box) -> Iterable[Piece]:
        del array
        return [Piece(box, self._pixels)]


def count_graph(
    array: da.Array,
    options: Options,
    policy: Policy,
    *,
    keep_items: bool,
    region: Any,
    meaning: Meaning | None = None,
) -> Delayed:
    """The graph that counts a Dask array; computing it gives Counts.

    ``meaning`` is what is known of its labels.

    Raises
    ------
    UnsupportedSource
        If the blocks are no NumPy arrays or their elements cannot be labels.
    OptionError
        For options that Dask's own graph leaves no room for.
    """
    import dask
    import dask.array as da

    _check(array, policy)
    context, array = _context(array, options, policy, keep_items, region, meaning or Meaning())
    tallied = da.map_blocks(
        _tally,
        array,
        context=context,
        dtype=object,
        meta=np.empty((0,) * array.ndim, object),
        chunks=tuple((1,) * blocks for blocks in array.numblocks),
        name="fastcounts-tally-" + dask.base.tokenize(array.name, context),
    )
    joined = da.reduction(
        tallied,
        chunk=_keep,
        combine=_combine,
        aggregate=_combine,
        split_every=FAN_IN,
        concatenate=False,
        dtype=object,
        meta=np.empty((), object),
    )
    return dask.delayed(_finish, pure=True)(joined.to_delayed().item(), context)


def run_graph(graph: Delayed, scheduler: Any = None, workers: int | None = None) -> Counts:
    """Compute a graph where the user's Dask computes, or where ``scheduler`` says.

    Raises
    ------
    ReadError
        If the array cannot be computed; the cause is the error of the task.
    """
    try:
        return _compute(graph, scheduler, workers)
    except FastcountsError:
        raise
    except Exception as error:
        kind, reason = type(error).__name__, one_line(error)
        what = kind if reason == kind else f"{kind}: {reason}"
        raise ReadError(
            f"{_NAME}: it cannot be computed: {what}; compute the array itself to see where"
        ) from error


def _compute(graph: Delayed, scheduler: Any, workers: int | None) -> Counts:
    counts: Counts
    if scheduler is not None and hasattr(scheduler, "compute"):
        counts = scheduler.compute(graph).result()
    elif scheduler is None and inside_worker():
        from distributed import worker_client

        with worker_client() as client:
            counts = client.compute(graph).result()
    else:
        given = {"num_workers": workers, "scheduler": scheduler}
        counts = graph.compute(**{key: value for key, value in given.items() if value is not None})
    return counts


def _check(array: da.Array, policy: Policy) -> None:
    check_label_dtype(array.dtype, _NAME)
    meta = array._meta
    if not isinstance(meta, np.ndarray):
        kind = f"{type(meta).__module__}.{type(meta).__qualname__}"
        raise UnsupportedSource(
            f"{_NAME}: its blocks are {kind}; map them to NumPy arrays with map_blocks first"
        )
    if not policy.is_filled:
        raise OptionError(
            f"{argument('missing')}: a {_NAME} does not tell missing chunks from others"
        )
    if policy.forbidden != "raise":
        raise OptionError(
            f"{argument('forbidden')}: the blocks of a {_NAME} are made by Dask; an error stops it"
        )
    if policy.on_error != "raise":
        raise OptionError(
            f"{argument('on_error')}: the blocks of a {_NAME} are made by Dask; an error stops it"
        )


def _context(
    array: da.Array,
    options: Options,
    policy: Policy,
    keep_items: bool,
    region: Any,
    meaning: Meaning,
) -> tuple[_Context, da.Array]:
    known = not any(isnan(length) for lengths in array.chunks for length in lengths)
    if not known:
        if region is not None:
            raise OptionError(f"{argument('region')}: the chunk sizes of the {_NAME} are not known")
        context = _Context(options, policy, keep_items, None, None, (0,) * array.ndim, meaning)
        return context, array
    plan = _plan(array.shape, array.dtype, options, region, meaning)
    offset = (0,) * array.ndim
    if region is not None:
        box = resolve_region(region, array.shape, _NAME)
        array = array[tuple(slice(start, stop) for start, stop in box)]
        offset = tuple(start for start, _ in box)
    starts = tuple(tuple(accumulate(lengths, initial=0)) for lengths in array.chunks)
    return _Context(options, policy, keep_items, plan, starts, offset, meaning), array


def _plan(
    shape: tuple[int, ...], dtype: np.dtype[Any], options: Options, region: Any, meaning: Meaning
) -> Plan:
    info = ArrayInfo(
        name=_NAME,
        source="",
        file="",
        shape=shape,
        dtype=dtype,
        chunks=tuple(max(length, 1) for length in shape),
        inner=None,
        digest="",
        is_view=True,
        meaning=meaning,
    )
    return make_plan([info], items=options.items, region=region)


# ---- what the tasks do ----


def _tally(
    block: Any, context: _Context, block_id: tuple[int, ...] | None = None
) -> NDArray[np.object_]:
    """Count one block; the answer is one object, in an array of the block's rank."""
    place = block_id or ()
    if isinstance(block, np.generic | bool | int | float):
        block = np.asarray(block)  # Dask lets blocks of no axes become scalars
    if not isinstance(block, np.ndarray):
        kind = f"{type(block).__module__}.{type(block).__qualname__}"
        raise UnsupportedSource(f"{_NAME}: block {place} is {kind}, and no NumPy array")
    dtype = check_label_dtype(block.dtype, f"{_NAME}: block {place}")
    _check_shape(block.shape, place, context)
    answer = np.empty((1,) * block.ndim, object)
    if context.plan is None or context.starts is None:
        plan = _plan(block.shape, dtype, context.options, None, context.meaning)
        partials = list(_partials(block, plan, context, (0,) * block.ndim))
        answer[(0,) * block.ndim] = _Loose(place, block.shape, dtype, partials)
        return answer
    at = tuple(
        starts[number] + offset
        for starts, number, offset in zip(context.starts, place, context.offset, strict=True)
    )
    plan = replace(context.plan, arrays=(replace(context.plan.arrays[0], dtype=dtype),))
    collector = Collector(plan, context.options, context.keep_items)
    for partial in _partials(block, plan, context, at):
        collector.add(partial)
    answer[(0,) * block.ndim] = collector
    return answer


def _check_shape(shape: tuple[int, ...], place: tuple[int, ...], context: _Context) -> None:
    """Refuse a block of another shape than the array declares: pixels would go uncounted.

    Raises
    ------
    UnsupportedSource
        Naming the block and both shapes.
    """
    declared: tuple[int | None, ...] = (None,) * len(context.offset)
    if context.starts is not None:
        declared = tuple(
            starts[number + 1] - starts[number]
            for starts, number in zip(context.starts, place, strict=True)
        )
    if len(shape) != len(declared) or any(
        length not in (None, n) for n, length in zip(shape, declared, strict=True)
    ):
        wanted = f"({', '.join('?' if n is None else str(n) for n in declared)})"
        raise UnsupportedSource(
            f"{_NAME}: block {place} has shape {shape}, and the array declares {wanted}; state the "
            "chunks that map_blocks makes (chunks=, drop_axis=, new_axis=)"
        )


def _partials(
    block: NDArray[Any], plan: Plan, context: _Context, at: tuple[int, ...]
) -> Iterator[Partial]:
    """Count a block that begins at ``at``."""
    found: list[Partial] = []
    if block.size:
        tallier = Tallier(plan, _BlockSource(block), context.options, context.policy, found.append)
        box = tuple((start, start + n) for start, n in zip(at, block.shape, strict=True))
        tallier.count(Block(0, box))
        tallier.flush()
    yield from found


def _keep(block: Any, axis: Any, keepdims: bool) -> Any:
    """Pass on what a block's task gave."""
    del axis, keepdims
    return block


def _combine(parts: Any, axis: Any, keepdims: bool) -> NDArray[np.object_]:
    """Join partial counts, a few at a time."""
    del axis
    found = list(_flat(parts))
    rank = _rank(parts)
    answer = np.empty((1,) * rank if keepdims else (), object)
    joined: Any
    if isinstance(found[0], Collector):
        joined = found[0].blank()  # Dask may run a task again: what it was given stays as it is
        for other in found:
            joined.join(other)
    else:
        joined = [loose for one in found for loose in (one if isinstance(one, list) else [one])]
    answer[(0,) * answer.ndim] = joined
    return answer


def _flat(parts: Any) -> Iterator[Any]:
    """What the tasks gave, out of nested lists of arrays of one object."""
    if isinstance(parts, list):
        for part in parts:
            yield from _flat(part)
    else:
        yield parts[(0,) * parts.ndim]


def _rank(parts: Any) -> int:
    while isinstance(parts, list):
        parts = parts[0]
    return int(parts.ndim)


def _finish(joined: Any, context: _Context) -> Counts:
    """The counts of the whole array."""
    found: Any = joined[()] if isinstance(joined, np.ndarray) else joined
    plan = context.plan
    if isinstance(found, Collector) and plan is not None:
        collector = Collector(plan, context.options, context.keep_items)
        collector.join(found)
    else:
        loose = found if isinstance(found, list) else [found]
        plan, collector = _place(loose, context)
    run = _provenance(plan)
    if declared := collector.declared_nodata(confirmed=context.policy.nodata == "metadata"):
        run["nodata"] = declared
    counts = collector.finish({"runs": [run]})
    notices = find_notices(counts, plan)
    report(notices, _nobody, strict=context.policy.strict)
    if notices:
        run["notices"] = [notice.to_dict() for notice in notices]
    return counts


def _nobody(event: object) -> None:
    """Take an event and do nothing: a task has no listener."""
    del event


def _provenance(plan: Plan) -> dict[str, Any]:
    return {
        "version": __version__,
        "sources": [_NAME],
        "arrays": 1,
        "part": None,
        "pixels": plan.pixels,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "failures": [],
    }


def _place(found: list[_Loose], context: _Context) -> tuple[Plan, Collector]:
    """Find out where blocks of unknown sizes lie, and collect what was counted in them."""
    rank = len(context.offset)
    lengths: list[dict[int, int]] = [{} for _ in range(rank)]
    for loose in found:
        for axis, (number, length) in enumerate(zip(loose.block, loose.shape, strict=True)):
            if lengths[axis].setdefault(number, length) != length:
                raise UnsupportedSource(
                    f"{_NAME}: block {loose.block} has {length} elements along axis {axis}, and "
                    f"its neighbours {lengths[axis][number]}"
                )
    starts = [
        list(accumulate((lengths[axis][n] for n in sorted(lengths[axis])), initial=0))
        for axis in range(rank)
    ]
    shape = tuple(ends[-1] for ends in starts)
    plan = _plan(shape, found[0].dtype, context.options, None, context.meaning)
    collector = Collector(plan, context.options, context.keep_items)
    for loose in found:
        at = tuple(starts[axis][number] for axis, number in enumerate(loose.block))
        for partial in loose.partials:
            collector.add(_shifted(partial, at, context.options.item_axis))
    return plan, collector


def _shifted(partial: Partial, at: tuple[int, ...], axis: int | None) -> Partial:
    """The same partial counts at their place; what was given stays as it is."""
    numbers = partial.numbers if axis is None else partial.numbers + at[axis]
    places = None if partial.places is None else partial.places.shifted(at)
    return replace(partial, numbers=numbers, places=places)
