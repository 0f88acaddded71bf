"""Whether this code runs in a task on a worker of a cluster, and how to wait there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["inside_worker", "out_of_the_way", "worker_threads"]


def inside_worker() -> bool:
    """Whether this code runs in a task on a worker of a Dask cluster."""
    module = sys.modules.get("distributed.worker")
    if module is None:
        return False
    try:
        module.get_worker()
    except ValueError:
        return False
    return True


def worker_threads() -> int:
    """Return how many threads run tasks of Dask workers in this process, and at least 1."""
    module = sys.modules.get("distributed.worker")
    workers = list(module.Worker._instances) if module is not None else []
    return max(sum(int(worker.state.nthreads) for worker in workers), 1)


@contextmanager
def out_of_the_way() -> Iterator[None]:
    """Leave the worker's thread to other tasks while this one waits for them."""
    if not inside_worker():
        yield
        return
    import distributed

    distributed.secede()
    try:
        yield
    finally:
        distributed.rejoin()
