"""``count``: understand, open, plan, run, collect."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from fastcounts.classes import Meaning, Options
from fastcounts.counts import Counts
from fastcounts.engine.cluster import (
    Job,
    ShareAnswer,
    client_of,
    run_cluster,
    run_scheduler,
    share_graph,
)
from fastcounts.engine.collecting import Collector
from fastcounts.engine.events import Advanced, BlockFailed, Finished, Listener, Notice, Started
from fastcounts.engine.lazy import count_graph, is_dask_array, run_graph
from fastcounts.engine.noticing import find_notices, report
from fastcounts.engine.request import Request
from fastcounts.engine.stored import stored_array, stored_zarr
from fastcounts.engine.streaming import (
    batches,
    is_in_memory,
    join_plans,
    join_runs,
    number_arrays,
)
from fastcounts.engine.tallying import Partial, Policy, Tallier, as_counted
from fastcounts.engine.threads import run_threads
from fastcounts.engine.worker import inside_worker
from fastcounts.errors import (
    CountsOverflow,
    FastcountsWarning,
    IncompatibleCounts,
    OptionError,
    UnsupportedSource,
)
from fastcounts.ledger import MOST_PIXELS
from fastcounts.messages import argument
from fastcounts.plan import Plan, make_plan
from fastcounts.sources import Source
from fastcounts.sources.cf import read_attributes
from fastcounts.sources.opening import is_iterator, is_path
from fastcounts.sources.port import refuse
from fastcounts.version import __version__

if TYPE_CHECKING:
    from dask.delayed import Delayed

__all__ = ["count", "count_delayed", "prepare", "run"]

_DASK_NAMES = ("synchronous", "sync", "single-threaded", "processes", "multiprocessing")


def count(
    source: Any,
    *,
    ignore: Any = None,
    classes: Any = None,
    items: int | str = "auto",
    keep_items: bool = False,
    region: Any = None,
    missing: str = "fill",
    forbidden: str = "raise",
    on_error: str = "raise",
    nodata: str = "auto",
    strict: bool = False,
    part: tuple[int, int] | None = None,
    source_id: str | None = None,
    all_arrays: bool = False,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    workers: int | None = None,
    memory: int | str | None = None,
    scheduler: Any = None,
    progress: Listener | None = None,
) -> Counts:
    """Count the pixels of every class over masks, each exactly once.

    Parameters
    ----------
    source : an array or masked array of any rank; a path, folder or glob of .npy, .npz, PNG and
        TIFF files; a Zarr array or group as a path, store or open object; a list or an iterator of
        these; a Dask array; an xarray DataArray of either kind.  One array of an .npz archive or
        of a zipped Zarr group is named as ``"masks.npz#label"`` or ``"masks.npz/label"``.  The
        arrays of an iterator are counted as they come, and never in memory all at once.
    ignore : a label or several that belong to no class; they stay in the ledger.
    classes : a number K (labels 0 to K - 1), names, a mapping from label to name, or the path of
        a file in one of the shapes of ``docs/classes.md``; labels of one name fold into the
        smallest.  Any other label is unexpected.  Without it every label is a class, of the name
        that the data gives it, if any.
    items : what one image is: the number or the name of an axis (a dimension of a DataArray or of
        a Zarr array, an axis of an OME-Zarr image), ``"file"``, ``"array"``, or ``"auto"`` (a
        file, else a whole array).
    keep_items : keep the pixels of every item and label.
    region : the part to count: a slice, ``(start, stop)`` pair or number an axis.
    missing : a Zarr chunk that does not exist, or a strip or tile that a sparse TIFF does not
        store: ``"fill"`` counts its fill value (of a TIFF, its nodata value or 0), ``"zero"`` does
        the same and counts label 0 if the fill value is null, ``"separate"`` keeps its pixels
        apart, ``"raise"`` stops.
    forbidden : a Zarr chunk that its store forbids to read (403): ``"raise"`` takes it for a block
        that cannot be read, ``"missing"`` for one that does not exist, which is what buckets that
        may not be listed answer for those; the provenance says how many there were.
    on_error : a block that cannot be read: ``"raise"`` stops, ``"record"`` puts its pixels under
        ``failed`` and goes on.
    nodata : labels that the metadata declares nodata: ``"auto"`` counts their pixels as nodata,
        with a warning if only the fill value of a Zarr array of format 2 says so; ``"metadata"``
        does the same without the warning; ``"none"`` counts them as labels.  A label that
        ``classes`` or ``ignore`` names is never nodata.
    strict : whether an unexpected label, or anything else that is warned of, is an error.
    part : ``(i, N)``: count the i-th of N shares, the same whoever runs it.
    source_id : the name of the data wherever it lies, in place of its path.
    all_arrays : count all label arrays of a Zarr group or .npz archive that contains several; by
        default one has to be named.
    include, exclude : patterns such as ``"*_labelIds.png"``, one or a list, for the files of
        folders and globs: a file is counted if it matches one of ``include`` (or there are none)
        and none of ``exclude``.  A pattern without a slash is compared with the names of the file
        and of the folders above it, one with a slash with their paths, relative to the folder;
        ``**`` stands for any number of folders.
    workers : threads; by default one for each processor that may be used.
    memory : the budget of this process, in bytes or as text such as ``"512MB"``, for what is read,
        fetched ahead and counted; the interpreter and its libraries come on top.  On a Dask
        cluster it is the budget of each worker process, whatever the number of its threads.
    scheduler : where to count: None (a Dask array where Dask computes, everything else in threads),
        ``"threads"``, ``"dask"`` (the active client), a ``distributed.Client``, the address of a
        scheduler, ``"local"`` (a cluster on this machine, for this count), or the name of one of
        Dask's own schedulers.
    progress : called with an event (:mod:`fastcounts.engine.events`) now and then, in this
        thread.  Every batch of an iterator of arrays has a ``Started`` and a ``Finished``.

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
    request = Request.parse(
        source,
        ignore=ignore,
        classes=classes,
        items=items,
        keep_items=keep_items,
        region=region,
        missing=missing,
        forbidden=forbidden,
        on_error=on_error,
        nodata=nodata,
        strict=strict,
        part=part,
        source_id=source_id,
        every=all_arrays,
        include=include,
        exclude=exclude,
        workers=workers,
        memory=memory,
        scheduler=scheduler,
    )
    counts = run(request, progress)
    for one in counts.provenance["runs"][0].get("notices", []):
        if one["severity"] == "warning":
            warnings.warn(one["message"], FastcountsWarning, stacklevel=2)
    return counts


def count_delayed(
    array: Any,
    *,
    ignore: Any = None,
    classes: Any = None,
    items: int | str = "auto",
    keep_items: bool = False,
    region: Any = None,
    missing: str = "fill",
    forbidden: str = "raise",
    on_error: str = "raise",
    nodata: str = "auto",
    strict: bool = False,
    memory: int | str | None = None,
) -> Delayed:
    """The count of a Dask array as a ``Delayed``, to be part of a larger graph.

    Parameters
    ----------
    array : a Dask array, or an xarray DataArray of one, whose attributes say what its labels are;
        of a stored Zarr array those of that array do.
    ignore, classes, items, keep_items, region, nodata, strict : as for :func:`count`; what
        :func:`count` would warn of is in the provenance of the counts.
    missing, forbidden, on_error : as for :func:`count`, if the array is a stored Zarr array that
        other processes can open.  Its chunks are then read without Dask's graph.  The blocks of
        other Dask arrays are made by Dask: none is missing, and an error stops the graph.
    memory : for a stored array, the budget of each process that counts; see :func:`count`.

    Returns
    -------
    dask.delayed.Delayed
        Of :class:`fastcounts.Counts`; nothing is computed yet.

    Raises
    ------
    UnsupportedSource
        If it is no Dask array, or its elements cannot be labels.
    OptionError
        If an argument is wrong, or is only possible for stored arrays.

    Examples
    --------
    >>> import dask.array as da
    >>> import fastcounts as fc
    >>> counts = fc.count_delayed(da.ones((4, 6), dtype="u1", chunks=2))
    >>> counts.compute().pixels.tolist()
    [24]
    """
    request = Request.parse(
        array,
        ignore=ignore,
        classes=classes,
        items=items,
        keep_items=keep_items,
        missing=missing,
        forbidden=forbidden,
        on_error=on_error,
        nodata=nodata,
        strict=strict,
        memory=memory,
    )
    request = _along_dimensions(request)
    array, meaning = _bare(array, request.options)
    if not is_dask_array(array):
        raise UnsupportedSource(f"{type(array).__qualname__}: count_delayed takes a Dask array")
    if stored := stored_array(array, region, meaning, request.options):
        target, part, meaning = stored
        if not _is_in_this_process(target):
            return _stored_graph(request.about(target, region=part, meaning=meaning))
    request = request.along((), "a Dask array", array.ndim)
    _refuse_memory(request)
    return count_graph(
        array,
        request.options,
        request.policy,
        keep_items=keep_items,
        region=region,
        meaning=meaning,
    )


def _stored_graph(request: Request) -> Delayed:
    """Return the graph that counts a stored array, share by share, without Dask's own graph."""
    import dask

    source = request.open()
    request = request.along_source(source)
    plan = prepare(request, source)
    if not plan.pixels:
        return dask.delayed(_count_nothing, pure=True)(request)
    counted = share_graph(_job(request, plan), plan)
    about = request.about(None)
    return dask.delayed(_finish_shares, pure=True)(counted, plan, about, list(source.notices))


def _count_nothing(request: Request) -> Counts:
    """Count an array or region without pixels, which needs no shares."""
    return _run_source(request, request.open(), _nobody)


def _finish_shares(
    counted: tuple[Collector, ShareAnswer], plan: Plan, request: Request, notices: list[Notice]
) -> Counts:
    """Make counts of what all shares of a graph gave."""
    partial, answer = counted
    if answer.error is not None:
        raise answer.error
    collector = Collector(plan, request.options, request.keep_items)
    collector.join(partial)
    run = _provenance(plan, None, None, datetime.now(UTC), 0.0, answer.failures)
    del run["seconds"], run["workers"]
    counts = _with_run(collector, run, request)
    return _finish(counts, plan, run, notices, request, _nobody)


def _with_run(collector: Collector, run: dict[str, Any], request: Request) -> Counts:
    """Return the counts of a collector, and add to its provenance what only that knows."""
    if collector.forbidden:
        run["forbidden"] = collector.forbidden
    if declared := collector.declared_nodata(confirmed=request.policy.nodata == "metadata"):
        run["nodata"] = declared
    return collector.finish({"runs": [run]})


def _refuse_memory(request: Request) -> None:
    """Refuse a budget for blocks that Dask makes and holds."""
    if request.memory is not None:
        raise OptionError(
            f"{argument('memory')}: the blocks of a Dask array are made and held by Dask; rechunk "
            "the array to smaller blocks, and limit the workers of distributed (memory_limit)"
        )


def run(request: Request, progress: Listener | None = None) -> Counts:
    """Count what was asked for."""
    if progress is not None and not callable(progress):
        raise OptionError(f"progress: expected a function that takes events, got {progress!r}")
    request = _along_dimensions(request)
    target, meaning = _bare(request.target, request.options)
    request = request.about(target, meaning=meaning)
    if is_dask_array(target):
        if (stored := stored_array(target, request.region, meaning, request.options)) is None:
            return _run_lazy(request, progress or _nobody)
        target, region, meaning = stored
        request = request.about(
            target, region=region, scheduler=_where_dask_computes(request), meaning=meaning
        )
    if is_iterator(request.target):
        return _run_iterator(request, progress or _nobody)
    return _run_source(request, request.open(), progress or _nobody)


def _run_iterator(request: Request, emit: Listener) -> Counts:
    """Count an iterator in batches; there is one if it yields no arrays in memory, or few."""
    total, arrays = Counts(), 0
    plans: list[Plan] = []
    runs: list[dict[str, Any]] = []
    notices: dict[Notice, None] = {}
    for batch in batches(_checked(request), request.memory):
        source = request.open_as(batch)
        number_arrays(source, arrays)
        arrays += len(source.arrays)
        source.notices = [notice for notice in source.notices if notice not in notices]
        notices.update(dict.fromkeys(source.notices))
        counts, plan, run = _count(request.about(batch), source, emit)
        if len(runs) < 64:
            plans.append(plan)
        runs.append(run)
        try:
            total += counts
        except IncompatibleCounts as error:
            raise OptionError(f"source: the iterator yields one mask twice: {error}") from None
        del batch, source  # else they stay while the next batch is made
    if not runs:
        raise OptionError("source: the iterator is empty")
    return _finish(total, join_plans(plans), join_runs(runs), list(notices), request, emit)


def _checked(request: Request) -> Iterator[Any]:
    """Yield the masks of an iterator; refuse what arrays that pass by cannot have."""
    for target in request.target:
        for name in ("part", "source_id"):
            if getattr(request, name) is not None and is_in_memory(target):
                raise OptionError(
                    f"{name}: the arrays of an iterator are counted as they come, without names; "
                    "give a list of them, or an iterator of paths"
                )
        yield target
        del target


def _bare(target: Any, options: Options) -> tuple[Any, Meaning | None]:
    """The array in an xarray DataArray, and what is known of its labels.

    That is a stored Zarr array where it is one and not loaded.  What is no DataArray comes back
    as it is.
    """
    xarray = sys.modules.get("xarray")
    if xarray is None:
        return target, None
    if isinstance(target, xarray.Dataset | xarray.DataTree):
        raise UnsupportedSource(_name_variables(target))
    if not isinstance(target, xarray.DataArray):
        return target, None
    if not isinstance(target.dtype, np.dtype):
        return target.data, None
    said = read_attributes(target.attrs, target.dtype, _data_array_name(target))
    stored = stored_zarr(target.variable._data)
    if stored is not None and (meaning := stored.meaning(said, options)) is not None:
        return stored.array, meaning
    return target.data, said


def _along_dimensions(request: Request) -> Request:
    """Return the request with the number of the dimension that ``items`` names in a DataArray."""
    xarray, target = sys.modules.get("xarray"), request.target
    if xarray is None or not isinstance(target, xarray.DataArray):
        return request
    return request.along(list(map(str, target.dims)), _data_array_name(target), target.ndim)


def _data_array_name(array: Any) -> str:
    return f"DataArray {array.name or ''}".rstrip()


def _name_variables(data: Any) -> str:
    """Return why a Dataset or DataTree of xarray is refused, and what to pass instead."""
    kind = type(data).__name__
    nodes = {"": data} if kind == "Dataset" else {node.path: node for node in data.subtree}
    variables = {
        f"{path.rstrip('/')}/{name}" if path else str(name): array
        for path, node in nodes.items()
        for name, array in node.data_vars.items()
    }
    found = [
        (name, f"{name} ({array.dtype}, {' x '.join(map(str, array.dims)) or 'one value'})")
        for name, array in variables.items()
        if getattr(array.dtype, "kind", "") in "biu"
    ]
    variable = "dataset" if kind == "Dataset" else "tree"
    if not found:
        names = ", ".join(f"{name} ({array.dtype})" for name, array in variables.items())
        return (
            f"{kind}: none of its variables has integers: {names or 'it is empty'}; if one of them "
            f"contains labels, pass it, such as {variable}['name']"
        )
    shown = ", ".join(text for _, text in found[:8])
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return (
        f"{kind}: pass one variable, such as {variable}[{found[0][0]!r}]; its variables of "
        f"integers are {shown}{more}"
    )


def _where_dask_computes(request: Request) -> Any:
    """A stored array that came as a Dask array is read where Dask would have computed it.

    Inside a task that is the worker's own thread: to ask the cluster could wait for itself.
    """
    if request.scheduler is None and inside_worker():
        return None
    distributed = sys.modules.get("distributed")
    if request.scheduler is None and distributed is not None:
        try:
            return distributed.default_client()
        except ValueError:
            return None
    return request.scheduler


def _run_lazy(request: Request, tell: Listener) -> Counts:
    """Count a Dask array in the tasks that make its blocks."""
    request = request.along((), "a Dask array", request.target.ndim)
    if request.part is not None:
        raise OptionError("part: the blocks of a Dask array cannot be shared out; slice it instead")
    _refuse_memory(request)
    graph = count_graph(
        request.target,
        request.options,
        request.policy,
        keep_items=request.keep_items,
        region=request.region,
        meaning=request.meaning,
    )
    clock = time.perf_counter()
    if request.scheduler in (None, "threads", *_DASK_NAMES):
        counts = run_graph(graph, request.scheduler, request.workers)
    else:
        with client_of(request.scheduler) as client:
            counts = run_graph(graph, client)
    for notice in counts.provenance["runs"][0].get("notices", []):
        tell(Notice(notice["code"], notice["message"], notice["severity"]))
    tell(Finished(counts.ledger.total, time.perf_counter() - clock))
    return counts


def prepare(request: Request, source: Source) -> Plan:
    """The plan of a request, once it is sure that this source can do what is asked for."""
    assert not request.axis, "the axis of the items has to be a number"
    _check(source, request.policy, request.part)
    source.confirm()
    plan = make_plan(
        [as_counted(info, request.options, request.policy) for info in source.arrays],
        items=request.options.items,
        region=request.region,
        part=request.part,
        workers=request.threads,
        memory=request.memory,
    )
    if request.memory is not None:
        source.keep_within(plan.reading_bytes)
    if plan.pixels > MOST_PIXELS:
        raise CountsOverflow(f"{plan.pixels} pixels are more than int64 holds")
    return plan


def _run_source(request: Request, source: Source, emit: Listener) -> Counts:
    counts, plan, run = _count(request, source, emit)
    return _finish(counts, plan, run, source.notices, request, emit)


def _count(request: Request, source: Source, tell: Listener) -> tuple[Counts, Plan, dict[str, Any]]:
    """Count an open source; returns the plan and the provenance of the run as well."""
    request = request.along_source(source)
    plan = prepare(request, source)
    failures = [BlockFailed(one.name, None, None, one.reason) for one in source.unreadable]
    report(source.notices, tell, strict=request.policy.strict)
    tell(Started(plan.pixels, plan.workers, plan.peak_bytes))
    for failure in failures:
        tell(failure)
    begun, clock = datetime.now(UTC), time.perf_counter()
    collector = _execute(request, source, plan, failures, tell)
    source.confirm()
    seconds = time.perf_counter() - clock
    tell(Finished(plan.pixels, seconds))
    run = _provenance(plan, source, request.part, begun, seconds, failures)
    return _with_run(collector, run, request), plan, run


def _finish(
    counts: Counts,
    plan: Plan,
    run: dict[str, Any],
    notices: Sequence[Notice],
    request: Request,
    emit: Listener,
) -> Counts:
    """Report what the counts show, and put it into their provenance beside other notices."""
    counts = replace(counts, provenance={"runs": [run]})
    found = find_notices(counts, plan)
    report(found, emit, strict=request.policy.strict)
    if every := [*notices, *found]:
        run["notices"] = [notice.to_dict() for notice in every]
    return counts


def _execute(
    request: Request, source: Source, plan: Plan, failures: list[BlockFailed], tell: Listener
) -> Collector:
    """Count the blocks of a plan where the request says."""
    scheduler = request.scheduler
    if not plan.pixels or scheduler in (None, "threads"):
        return _run_threads(request, source, plan, failures, tell)
    job = _job(request, plan)
    if scheduler in _DASK_NAMES:
        return run_scheduler(scheduler, job, plan, failures, tell, request.threads)
    with client_of(scheduler) as client:
        return run_cluster(client, job, plan, failures, tell)


def _job(request: Request, plan: Plan) -> Job:
    """Return what a worker needs to know to count a share of the plan.

    Raises
    ------
    OptionError
        If the source is in the memory of this process.
    """
    return Job(
        target=_reopenable(request.target),
        source_id=request.source_id,
        every=request.every,
        include=request.include,
        exclude=request.exclude,
        region=request.region,
        options=request.options,
        policy=request.policy,
        keep_items=request.keep_items,
        meaning=request.meaning,
        digest=plan.digest,
        run=uuid4().hex,
        memory=request.memory,
    )


def _is_in_this_process(target: Any) -> bool:
    """Return whether a Zarr array cannot be opened by another process."""
    try:
        _reopenable(target)
    except OptionError:
        return True
    return False


def _reopenable(target: Any) -> Any:
    """The target as another process can open it.

    Raises
    ------
    OptionError
        If it lives in the memory of this process.
    """
    if isinstance(target, list | tuple):
        return [_reopenable(one) for one in target]
    if is_path(target):
        path = os.fsdecode(target)
        return path if "://" in path else str(Path(path).absolute())
    zarr = sys.modules.get("zarr")
    if (
        zarr is not None
        and isinstance(target, zarr.Array | zarr.Group)
        and not isinstance(target.store, zarr.storage.MemoryStore)
    ):
        return target
    raise OptionError(
        f"{argument('scheduler')}: {type(target).__qualname__} is in the memory of this process; "
        "count it in threads, or make a Dask array of it"
    )


def _run_threads(
    request: Request, source: Source, plan: Plan, failures: list[BlockFailed], tell: Listener
) -> Collector:
    collector = Collector(plan, request.options, request.keep_items)

    def hire(send: Callable[[Partial | Advanced], None]) -> Tallier:
        def advance(pixels: int) -> None:
            send(Advanced(pixels))

        return Tallier(plan, source, request.options, request.policy, send, advance)

    if not plan.pixels:
        return collector
    with closing(
        run_threads(plan.blocks_and_holes(source.present), plan.pixels, plan.workers, hire)
    ) as messages:
        for message in messages:
            if isinstance(message, Advanced):
                tell(message)
                continue
            if message.failure is not None:
                failures.append(message.failure)
                tell(message.failure)
            collector.add(message)
    return collector


def _provenance(
    plan: Plan,
    source: Source | None,
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
        "run": None if part is None else plan.digest,
        "pixels": plan.pixels,
        "begun": begun.isoformat(timespec="seconds"),
        "seconds": round(seconds, 6),
        "workers": plan.workers,
        "nodata_labels": sorted({n for info in plan.arrays for n in info.meaning.nodata})[:8],
        "skipped": 0 if source is None else len(source.skipped),
        "chunks": {} if source is None else source.chunks_met(),
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
        raise refuse(source.unreadable)
    for place, info in enumerate(source.arrays):
        if part is not None and not info.source:
            raise OptionError(
                f"{argument('part')}: {info.name} has no name by which parts could know "
                f"each other; give one with {argument('source_id')}"
            )
        if not policy.is_filled and not source.knows_missing(place):
            raise OptionError(
                f"{argument('missing')}: {info.name} does not tell missing chunks from others; "
                "only 'fill' and 'zero' work"
            )


def _nobody(event: object) -> None:
    """Listen to nothing."""
    del event
