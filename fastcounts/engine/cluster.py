"""Dask as executor: shares of the plan are counted on the workers, partial counts come home.

A task carries a range of units, never an array; the worker opens the source itself.  Shares are
large at first and small at the end, so that no straggler holds the run, and a few are under way for
each worker thread.  Dask runs the share of a worker that dies again elsewhere; since a share is a
value and is joined once, nothing is counted twice.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version as installed_version
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any

from fastcounts.classes import Meaning, Options
from fastcounts.engine.collecting import Collector
from fastcounts.engine.events import Advanced, BlockFailed, Listener
from fastcounts.engine.tallying import Partial, Policy, Tallier, as_counted
from fastcounts.engine.worker import out_of_the_way, worker_threads
from fastcounts.errors import FastcountsError, MissingExtra, OptionError, ReadError, SourceError
from fastcounts.messages import argument
from fastcounts.plan import Plan, make_plan
from fastcounts.sources import Source, open_source
from fastcounts.sources.port import one_line
from fastcounts.version import __version__

if TYPE_CHECKING:
    from dask.delayed import Delayed
    from distributed import Client, Future

__all__ = ["Job", "ShareAnswer", "client_of", "run_cluster", "run_scheduler", "share_graph"]

_LOG = logging.getLogger("fastcounts")

LARGE_BYTES = 1 << 20
"""Partial counts larger than this are joined on the workers."""

_FAN_IN = 8
_IN_FLIGHT = 2
"""Shares under way for each worker thread."""
_RETRIES = 2
_LOSSES = 100
"""Answers that may be lost with a connection before the run is given up."""
_LEAST_PIXELS = 1 << 22
"""A share of fewer pixels is not worth a task."""
_SHARES = 16
"""The smallest share is about this part of what a thread does in all."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to know to count any share of a run.

    Attributes
    ----------
    target : what the source is opened from: a path, or an open Zarr array of a store that can be
        opened elsewhere.
    meaning : what is known of the labels beside what the target says itself, or None.
    digest : of the plan, to notice a worker that sees other data.
    memory : bytes that each worker process may read and count with, or None.
    run : unlike that of any other run, so that every run opens the source anew.
    """

    target: Any
    source_id: str | None
    every: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    region: Any
    options: Options
    policy: Policy
    keep_items: bool
    meaning: Meaning | None
    digest: str
    run: str
    memory: int | None = None


@dataclass
class ShareAnswer:
    """What became of a share; ``collector`` is None where it is too large to come home."""

    pixels: int
    failures: list[BlockFailed]
    collector: Collector | None
    error: FastcountsError | None = None


@lru_cache(maxsize=4)
def _open_job(pickled: bytes) -> tuple[Job, Source, Plan, BoundedSemaphore | None]:
    """Open the source of a job, and plan its run within the memory of this process.

    Returns
    -------
    The job, its source and its plan, and what lets as many threads read as the memory allows;
    None if it is not limited.
    """
    job: Job = pickle.loads(pickled)  # noqa: S301  it came from this run's own client
    source = open_source(
        job.target,
        source_id=job.source_id,
        every=job.every,
        include=job.include,
        exclude=job.exclude,
        meaning=job.meaning,
    )
    source.confirm()
    plan = make_plan(
        [as_counted(info, job.options, job.policy) for info in source.arrays],
        items=job.options.items,
        region=job.region,
        workers=worker_threads(),
        memory=job.memory,
    )
    if plan.digest != job.digest:
        raise ReadError(
            f"{_name(source)}: this worker sees other data than the one that planned the run"
        )
    if job.memory is None:
        return job, source, plan, None
    source.keep_within(plan.reading_bytes)
    return job, source, plan, BoundedSemaphore(plan.workers)


_OPENING = Lock()


def _opened(pickled: bytes) -> tuple[Job, Source, Plan, BoundedSemaphore | None]:
    """Return what `_open_job` gives, opened once in a process."""
    with _OPENING:
        return _open_job(pickled)


def _pickled(job: Job) -> bytes:
    """Return a job as it is sent to the workers.

    Raises
    ------
    OptionError
        If it cannot be sent.
    """
    try:
        return pickle.dumps(job)
    except Exception as error:  # noqa: BLE001  stores have errors of many kinds
        raise OptionError(
            f"{argument('scheduler')}: {type(job.target).__qualname__} cannot be sent to the "
            f"workers: {one_line(error)}; count it in threads"
        ) from None


def _name(source: Source) -> str:
    return source.arrays[0].name if source.arrays else "source"


def count_share(pickled: bytes, start: int, stop: int) -> tuple[Collector, ShareAnswer]:
    """Count the units from ``start`` to ``stop``; runs on a worker, in one of its threads."""
    job, source, whole, turns = _opened(pickled)
    with turns or nullcontext():
        return _count_share(job, source, replace(whole, share=(start, stop)))


def _count_share(job: Job, source: Source, plan: Plan) -> tuple[Collector, ShareAnswer]:
    collector = Collector(plan, job.options, job.keep_items)
    answer = ShareAnswer(0, [], None)

    def take(partial: Partial) -> None:
        if partial.failure is not None:
            answer.failures.append(partial.failure)
        answer.pixels += collector.add(partial)

    try:
        tallier = Tallier(plan, source, job.options, job.policy, take)
        tallier.count_many(plan.blocks_and_holes(source.present))
        tallier.flush()
        source.confirm()
    except ReadError as error:
        _LOG.warning("%s; the share is tried again", error)
        raise  # it may pass: Dask tries again
    except FastcountsError as error:
        answer.error = error
    return collector, answer


def _report(counted: tuple[Collector, ShareAnswer], large: int) -> ShareAnswer:
    """The answer of a share, with its partial counts where they are small."""
    collector, answer = counted
    small = len(pickle.dumps(collector)) <= large
    return replace(answer, collector=collector if small else None)


def _join(counted: list[tuple[Collector, ShareAnswer]]) -> tuple[Collector, ShareAnswer]:
    """Partial counts of several shares as one; what was given stays as it is."""
    joined = counted[0][0].blank()
    for collector, _ in counted:
        joined.join(collector)
    return joined, ShareAnswer(0, [], None)


def _visible(pickled: bytes) -> str:
    """Whether this worker can open the source; runs on each of them before the run."""
    return _opened(pickled)[2].digest


@contextmanager
def client_of(scheduler: Any) -> Iterator[Client]:
    """The client that a ``scheduler`` argument means; see :func:`_client_of`."""
    with out_of_the_way(), _client_of(scheduler) as client:
        yield client


@contextmanager
def _client_of(scheduler: Any) -> Iterator[Client]:
    """The client that a ``scheduler`` argument means.

    It is a client, an address, ``"dask"`` (the active one) or ``"local"``.

    Raises
    ------
    MissingExtra
        If distributed is not installed.
    OptionError
        If there is no active client, or nothing answers at the address.
    """
    try:
        import distributed
    except ImportError:
        raise MissingExtra("counting on a Dask cluster", "distributed") from None
    if isinstance(scheduler, distributed.Client):
        yield scheduler
    elif scheduler == "dask":
        try:
            client = distributed.get_client()
        except ValueError:
            raise OptionError(
                f"{argument('scheduler')}: there is no active Dask client; make one with "
                "distributed.Client(...)"
            ) from None
        yield client
    elif scheduler == "local":
        with (
            distributed.LocalCluster(dashboard_address="127.0.0.1:0") as cluster,
            cluster.get_client() as own,
        ):
            yield own
    else:
        try:
            own = distributed.Client(scheduler, timeout="5s")
        except (OSError, TypeError, ValueError, TimeoutError) as error:
            raise OptionError(
                f"{argument('scheduler')}: nothing answers at {scheduler}: {error}"
            ) from None
        with own:
            yield own


def run_cluster(
    client: Client, job: Job, plan: Plan, failures: list[BlockFailed], tell: Listener
) -> Collector:
    """Count a plan on a cluster.

    Parameters
    ----------
    client : of the cluster.
    job : what the workers need to know.
    plan : the run, or the part of it that is counted.
    failures : takes the blocks that could not be read.
    tell : listens.

    Raises
    ------
    SourceError
        If a worker cannot open the source, or has no fastcounts of this version; named, before
        anything is read.
    """
    pickled = _pickled(job)
    workers = _check_workers(client, pickled)
    collector = Collector(plan, job.options, job.keep_items)
    run = _Run(client, pickled, plan)
    try:
        while not run.is_done:
            for answer in run.answers():
                if answer.error is not None:
                    raise answer.error
                for failure in answer.failures:
                    failures.append(failure)
                    tell(failure)
                if answer.collector is not None:
                    collector.join(answer.collector)
                tell(Advanced(answer.pixels))
            if (rest := run.rest()) is not None:
                collector.join(rest)
    finally:
        run.cancel()
    for address in workers - set(client.nthreads()):
        _LOG.warning("worker %s was lost; what it had not finished was counted elsewhere", address)
    return collector


Share = tuple[int, int]


class _Run:
    """Shares under way on a cluster.

    What the client holds is lost when its connection to the scheduler is: those shares are counted
    again.  A share is joined once, when its answer arrives.
    """

    def __init__(self, client: Client, pickled: bytes, plan: Plan) -> None:
        self._client = client
        self._pickled = pickled
        threads = sum(client.nthreads().values()) or 1
        self._most = threads * _IN_FLIGHT
        self._shares = shares(plan, threads)
        self._again: list[Share] = []
        self._losses = 0
        self._counted: dict[Future, tuple[Future, list[Share]]] = {}
        self._large: list[Future] = []
        self._large_shares: list[Share] = []
        self.is_done = False

    def answers(self) -> Iterator[ShareAnswer]:
        """What the shares came to, in the order in which they end."""
        from distributed import as_completed

        arriving = as_completed()
        for _ in range(self._most):
            self._begin(arriving)
        for report in arriving:
            counted, held = self._counted.pop(report)
            try:
                answer: ShareAnswer = report.result()
            except CancelledError:
                self._lose(held)
            else:
                if answer.collector is None and answer.error is None:
                    self._keep(counted, held)
                yield answer
            self._begin(arriving)

    def _begin(self, arriving: Any) -> None:
        """Submit the next share, if there is one."""
        share = self._again.pop() if self._again else next(self._shares, None)
        if share is None:
            return
        counted = self._client.submit(
            count_share, self._pickled, *share, pure=False, retries=_RETRIES
        )
        report = self._client.submit(_report, counted, LARGE_BYTES, pure=False)
        self._counted[report] = counted, [share]
        arriving.add(report)

    def _lose(self, held: list[Share]) -> None:
        """Count shares again whose answers will not come."""
        self._losses += 1
        if self._losses > _LOSSES:
            raise SourceError("the connection to the scheduler is lost again and again")
        _LOG.warning("the connection to the scheduler was lost; %d shares run again", len(held))
        self._again += held

    def _keep(self, counted: Future, held: list[Share]) -> None:
        """Hold partial counts that are large where they are, and join them there."""
        self._large.append(counted)
        self._large_shares += held
        if len(self._large) >= _FAN_IN:
            self._large = [self._client.submit(_join, self._large, pure=False)]

    def rest(self) -> Collector | None:
        """The partial counts that stayed on the workers, joined; None if there are none (left)."""
        large, held = self._large, self._large_shares
        self._large, self._large_shares = [], []
        joined: Collector | None = None
        try:
            if large:
                joined = self._client.submit(_join, large, pure=False).result()[0]
        except CancelledError:
            self._lose(held)
        self.is_done = not self._again
        return joined

    def cancel(self) -> None:
        """Stop what is still under way."""
        if self._counted:
            under_way = [future for future, _ in self._counted.values()]
            self._client.cancel([*self._counted, *under_way], force=True)


_GRAPH_THREADS = 16
"""Threads that the shares of a graph are cut for: where it will run is not known."""


def share_graph(job: Job, plan: Plan) -> Delayed:
    """Return the graph that counts a plan; computing it gives partial counts and failures."""
    import dask

    pickled = _pickled(job)
    count, merge = dask.delayed(count_share, pure=True), dask.delayed(_merge, pure=True)
    counted = [count(pickled, *share) for share in shares(plan, _GRAPH_THREADS)]
    while len(counted) > 1:
        counted = [merge(counted[n : n + _FAN_IN]) for n in range(0, len(counted), _FAN_IN)]
    return counted[0]


def _merge(counted: list[tuple[Collector, ShareAnswer]]) -> tuple[Collector, ShareAnswer]:
    """Merge what several shares gave; the arguments are not changed."""
    collector, answer = _join(counted)
    answer.pixels = sum(one.pixels for _, one in counted)
    answer.failures = [failure for _, one in counted for failure in one.failures]
    answer.error = next((one.error for _, one in counted if one.error is not None), None)
    return collector, answer


def shares(plan: Plan, threads: int) -> Iterator[Share]:
    """Ranges of units that together are the plan's share: large first, small at the end."""
    start, stop = plan.share
    if start >= stop:
        return
    per_unit = max(plan.pixels // (stop - start), 1)
    least = max(_LEAST_PIXELS // per_unit, (stop - start) // (_SHARES * threads), 1)
    while start < stop:
        size = max((stop - start) // (2 * threads), least)
        yield start, min(start + size, stop)
        start += size


def _check_workers(client: Client, pickled: bytes) -> set[str]:
    """Refuse workers that cannot do it, before the run; gives the addresses of those that can."""
    versions = client.run(installed_version, "fastcounts", on_error="return")
    if not versions:
        raise OptionError(f"{argument('scheduler')}: the cluster has no workers")
    for address, found in versions.items():
        if isinstance(found, BaseException):
            raise OptionError(f"worker {address} has no fastcounts; install {__version__} there")
        if found != __version__:
            raise OptionError(f"worker {address} has fastcounts {found}; this one is {__version__}")
    seen = client.run(_visible, pickled, on_error="return")
    for address, found in seen.items():
        if isinstance(found, FastcountsError):
            raise SourceError(f"worker {address} cannot read the source: {found}")
        if isinstance(found, BaseException):
            raise SourceError(f"worker {address} cannot open the source: {found!r}")
    _LOG.info("counting on %d workers", len(seen))
    return set(seen)


def run_scheduler(
    scheduler: str, job: Job, plan: Plan, failures: list[BlockFailed], tell: Listener, workers: int
) -> Collector:
    """Count a plan with one of Dask's own schedulers, by name: synchronous, processes."""
    import dask

    pickled = _pickled(job)
    collector = Collector(plan, job.options, job.keep_items)
    tasks = [dask.delayed(count_share)(pickled, *share) for share in shares(plan, workers)]
    for counted, answer in dask.compute(*tasks, scheduler=scheduler, num_workers=workers):
        if answer.error is not None:
            raise answer.error
        failures += answer.failures
        collector.join(counted)
        tell(Advanced(answer.pixels))
    return collector
