"""Counts as a Delayed with the policies of a count, and budgets of worker processes."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

import fastcounts as fc
from fastcounts.engine import cluster as cluster_module
from fastcounts.engine.counting import _job, prepare
from fastcounts.engine.request import Request
from fastcounts.errors import MemoryBudgetError, MissingChunk, OptionError, ReadError

SHAPE = (40, 50, 60)


@pytest.fixture
def masks() -> np.ndarray:
    pixels = np.random.default_rng(5).integers(1, 6, SHAPE).astype("u1")
    pixels[:10] = 9
    return pixels


@pytest.fixture
def stored(masks: np.ndarray, tmp_path: Path) -> zarr.Array[Any]:
    """An array whose first chunks along the first axis do not exist."""
    array = zarr.create_array(
        tmp_path / "m.zarr", shape=SHAPE, chunks=(10, 25, 30), dtype="u1", fill_value=9
    )
    array[10:] = masks[10:]
    return array


POLICIES: list[dict[str, Any]] = [
    {},
    {"missing": "separate"},
    {"missing": "separate", "items": 0, "keep_items": True},
    {"region": (slice(5, 33), slice(None), slice(2, 31)), "items": 1},
    {"classes": {1: "a", 2: "b"}, "ignore": 3},
    {"memory": "5MB", "forbidden": "missing"},
]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("options", POLICIES, ids=str)
def test_delayed__stored_array_is_counted_as_count_does(
    stored: zarr.Array[Any], options: dict[str, Any], scheduler: str
) -> None:
    array = da.from_zarr(stored)
    graph = fc.count_delayed(array, **options)
    counts = graph.compute(scheduler=scheduler)
    expected = fc.count(array, **options)
    assert counts == expected
    assert counts.ledger == expected.ledger
    assert pickle.loads(pickle.dumps(counts)) == expected


def test_delayed__missing_and_broken_chunks(stored: zarr.Array[Any], tmp_path: Path) -> None:
    array = da.from_zarr(stored)
    with pytest.raises(MissingChunk, match=r"m\.zarr: chunk c/0/\d/\d does not exist"):
        fc.count_delayed(array, missing="raise").compute()
    (tmp_path / "m.zarr/c/2/1/0").write_bytes(b"damaged")
    with pytest.raises(ReadError, match=r"c/2/1/0"):
        fc.count_delayed(array).compute()
    counts = fc.count_delayed(array, on_error="record", items=0).compute()
    assert counts == fc.count(array, on_error="record", items=0)
    assert counts.ledger.failed == 10 * 25 * 30
    (failure,) = counts.provenance["runs"][0]["failures"]
    assert failure["box"] == [[20, 30], [25, 50], [0, 30]]
    assert "c/2/1/0" in failure["reason"]


def test_delayed__of_nothing(stored: zarr.Array[Any]) -> None:
    counts = fc.count_delayed(da.from_zarr(stored), region=slice(3, 3), missing="separate")
    assert counts.compute().ledger.total == 0


def test_delayed__joins_a_larger_graph(stored: zarr.Array[Any]) -> None:
    counts = fc.count_delayed(da.from_zarr(stored), missing="separate")
    weights = dask.delayed(fc.solve)(counts, "inverse").compute()
    assert weights == fc.solve(fc.count(stored, missing="separate"), "inverse")


def test_delayed__array_in_memory_or_computed_has_no_policies(masks: np.ndarray) -> None:
    held = zarr.create_array(MemoryStore(), data=masks, chunks=(10, 25, 30))
    for array in (da.from_zarr(held), da.from_array(masks, chunks=20) + 0):
        assert fc.count_delayed(array).compute() == fc.count(masks)
        for options in (
            {"missing": "separate"},
            {"on_error": "record"},
            {"forbidden": "missing"},
            {"memory": "1GB"},
        ):
            with pytest.raises(OptionError, match=next(iter(options))):
                fc.count_delayed(array, **options)
    with pytest.raises(OptionError, match="memory: the blocks of a Dask array are made"):
        fc.count(da.from_array(masks, chunks=20) + 0, memory="1GB")


# ---- memory on workers ----


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """One worker process of two threads."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as running,
        distributed.Client(running) as connected,
    ):
        connected.wait_for_workers(1, timeout=60)
        yield connected


def job_of(target: Any, memory: Any) -> bytes:
    request = Request.parse(str(target), memory=memory)
    return pickle.dumps(_job(request, prepare(request, request.open())))


def on_worker(pickled: bytes) -> tuple[int, int, Any]:
    """Threads that read in a worker, the bytes of each, and those that its source knows of."""
    from fastcounts.engine.cluster import _opened

    _, source, plan, turns = _opened(pickled)
    room = source._arrays[0].chunks.room  # type: ignore[attr-defined]
    return (turns._value if turns is not None else 0), plan.reading_bytes, room


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """An array of noise in chunks of 1 MiB."""
    noise = np.random.default_rng(2).integers(0, 9, (8, 1024, 1024)).astype("u1")
    zarr.create_array(tmp_path / "large.zarr", data=noise, chunks=(1, 1024, 1024))
    return tmp_path / "large.zarr"


def test_memory__is_the_budget_of_a_worker_process(client: Any, large: Path) -> None:
    unlimited = client.submit(on_worker, job_of(large, None), pure=False).result()
    assert (unlimited[0], unlimited[2]) == (0, None)
    threads, each, room = client.submit(on_worker, job_of(large, "64MB"), pure=False).result()
    assert (threads, room) == (2, each)
    assert 2 * each < 64_000_000
    threads, each, room = client.submit(on_worker, job_of(large, "9MB"), pure=False).result()
    assert (threads, room) == (1, each)
    assert each < 9_000_000
    expected = fc.count(large, items=0)
    for memory in ("64MB", "9MB"):
        assert fc.count(large, items=0, memory=memory, scheduler=client) == expected
    with pytest.raises(MemoryBudgetError, match="would do"):
        fc.count(large, memory="1MB", scheduler=client)


def test_memory__lets_no_more_threads_read_than_it_holds(
    client: Any, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each share notes how many others run beside it."""

    def watch(log: str) -> None:
        import threading
        import time

        from fastcounts.engine import cluster

        real, running, lock = cluster._count_share, [0], threading.Lock()

        def watched(*arguments: Any) -> Any:
            with lock:
                running[0] += 1
                now = running[0]
            with open(log, "a") as file:
                file.write(f"{now}\n")
            time.sleep(0.05)
            try:
                return real(*arguments)
            finally:
                with lock:
                    running[0] -= 1

        cluster._real_count_share = real  # type: ignore[attr-defined]
        cluster._count_share = watched

    def undo() -> None:
        from fastcounts.engine import cluster

        cluster._count_share = cluster._real_count_share  # type: ignore[attr-defined]

    monkeypatch.setattr(cluster_module, "_LEAST_PIXELS", 1 << 16)
    log = tmp_path / "log"
    client.run(watch, str(log))
    try:
        fc.count(large, memory="9MB", scheduler=client)
    finally:
        client.run(undo)
    together = [int(line) for line in log.read_text().split()]
    assert len(together) > 2
    assert max(together) == 1


def test_memory__holds_in_a_graph(client: Any, large: Path) -> None:
    array = da.from_zarr(str(large))
    graph = fc.count_delayed(array, memory="9MB", items=0)
    assert client.compute(graph).result() == fc.count(large, items=0)


def test_what_cannot_be_sent_to_workers(client: Any) -> None:
    icechunk = pytest.importorskip("icechunk", reason="icechunk is not installed")
    store = icechunk.Repository.create(icechunk.in_memory_storage()).writable_session("main").store
    array = zarr.create_array(store, name="label", shape=(8, 8), chunks=(4, 4), dtype="u1")
    with pytest.raises(OptionError, match=r"scheduler: Array cannot be sent to the workers: .*"):
        fc.count(array, scheduler=client)
