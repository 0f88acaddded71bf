"""A real cluster: two worker processes on this machine, one of which is killed now and then."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from itertools import pairwise

import dask.array as da
import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts.engine import Advanced, BlockFailed
from fastcounts.engine.cluster import shares
from fastcounts.errors import OptionError, ReadError, SourceError, UnexpectedLabel
from fastcounts.plan import ArrayInfo, Plan, make_plan

distributed = pytest.importorskip("distributed", reason="distributed is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of workers that are killed
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    """Two workers of one thread each, in processes of their own; dead ones are replaced."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as running:
        yield running


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as connected:
        connected.wait_for_workers(2, timeout=60)
        yield connected


@pytest.fixture(scope="module")
def mask():
    return np.random.default_rng(3).integers(0, 7, (64, 120, 130)).astype("u1")


@pytest.fixture(scope="module")
def stored(mask, tmp_path_factory):
    path = tmp_path_factory.mktemp("masks") / "m.zarr"
    array = zarr.create_array(path, shape=mask.shape, chunks=(3, 60, 130), dtype="u1")
    array[...] = mask
    return path


@pytest.fixture(autouse=True)
def small_shares(monkeypatch):
    """Many shares of a small array, so that there is something to share out."""
    monkeypatch.setattr("fastcounts.engine.cluster._LEAST_PIXELS", 1 << 16)


def places(counts):
    return {label: entry.places for label, entry in counts.ledger.unexpected.items()}


OPTIONS = [
    {},
    {"items": 0, "keep_items": True},
    {"items": 2, "ignore": 3, "classes": {0: "a", 1: "b", 2: "a"}},
    {"region": (slice(5, 40), slice(None), slice(2, 99)), "items": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_cluster_counts_as_threads_do(client, stored, options):
    expected = fc.count(stored, **options)
    for scheduler in (client, "dask", client.scheduler.address):
        counts = fc.count(stored, scheduler=scheduler, **options)
        assert counts == expected
        assert places(counts) == places(expected)


@pytest.mark.parametrize("scheduler", ["synchronous", "processes"])
def test_schedulers_of_dask_by_name(stored, scheduler):
    assert fc.count(stored, items=0, scheduler=scheduler) == fc.count(stored, items=0)


def test_parts_on_a_cluster(client, stored):
    parts = [fc.count(stored, items=0, part=(i, 3), scheduler=client) for i in range(3)]
    assert sum(parts) == fc.count(stored, items=0)


def test_labels_that_metadata_declares_nodata(client, mask, tmp_path):
    array = zarr.create_array(
        tmp_path / "m.zarr", shape=mask.shape, chunks=(3, 60, 130), dtype="u1"
    )
    array.attrs["_FillValue"] = 3
    array[...] = mask
    counts = fc.count(tmp_path / "m.zarr", items=0, scheduler=client)
    (entry,) = counts.provenance["runs"][0]["nodata"]
    assert entry["label"] == 3
    assert entry["pixels"] == counts.ledger.nodata == np.count_nonzero(mask == 3)
    assert counts == fc.count(tmp_path / "m.zarr", items=0)


def test_files(client, tmp_path):
    for number in range(9):
        np.save(tmp_path / f"{number}.npy", np.full((30, 30), number, "u1"))
    assert fc.count(tmp_path, scheduler=client) == fc.count(tmp_path)


def test_ids_too_many_to_come_home_are_joined_on_the_workers(client, tmp_path, monkeypatch):
    ids = np.arange(1 << 19, dtype="u4").reshape(64, 64, 128) // 2
    array = zarr.create_array(
        tmp_path / "ids.zarr", shape=ids.shape, chunks=(2, 64, 128), dtype="u4"
    )
    array[...] = ids
    heard = []
    counts = fc.count(tmp_path / "ids.zarr", scheduler=client, progress=heard.append)
    assert counts.labels.tolist() == list(range(1 << 18))
    assert np.all(counts.pixels == 2)
    assert sum(event.pixels for event in heard if isinstance(event, Advanced)) == ids.size


def test_dask_arrays_are_counted_where_they_are(client, mask):
    array = da.from_array(mask, chunks=(7, 50, 130)).persist()
    assert fc.count(array, items=0) == fc.count(mask, items=0)
    assert fc.count(array + 1, scheduler=client) == fc.count(mask + 1)


def test_a_count_inside_a_task(client, mask, stored):
    def inside(path):
        import dask.array

        import fastcounts

        stored = fastcounts.count(path)
        lazy = fastcounts.count(dask.array.ones((20, 20), dtype="u1", chunks=5))
        return stored.pixels.tolist(), lazy.pixels.tolist()

    futures = [client.submit(inside, str(stored), pure=False) for _ in range(3)]
    expected = fc.count(mask).pixels.tolist()
    assert client.gather(futures) == [(expected, [400])] * 3


@pytest.mark.parametrize("scheduler", [None, "dask"])
def test_counts_inside_tasks_that_fill_the_cluster(client, mask, stored, scheduler):
    """A stored array, by path or as a Dask array, from as many tasks as there are threads."""

    def inside(path):
        import dask.array

        import fastcounts

        lazy = fastcounts.count(dask.array.from_zarr(path), scheduler=scheduler)
        return lazy.pixels.tolist() == fastcounts.count(path, scheduler=scheduler).pixels.tolist()

    futures = [client.submit(inside, str(stored), pure=False) for _ in range(4)]
    assert [future.result(timeout=60) for future in futures] == [True] * 4


def test_progress_arrives(client, stored, mask):
    heard = []
    fc.count(stored, scheduler=client, progress=heard.append)
    assert sum(event.pixels for event in heard if isinstance(event, Advanced)) == mask.size


def slow_down(client, log, seconds=0.05):
    """Let every block take a while on the workers there are now, and note each in a file."""

    def patch(dask_worker):
        from fastcounts.engine.tallying import Tallier

        count_many = Tallier.count_many

        def slowly(blocks):
            for block in blocks:
                time.sleep(seconds)
                with open(log, "a") as file:
                    file.write("x")
                yield block

        def slow(self, blocks):
            count_many(self, slowly(blocks))

        Tallier.count_many = slow
        dask_worker.undo_slow = lambda: setattr(Tallier, "count_many", count_many)

    client.run(patch)


@pytest.fixture
def undo_slow(client):
    yield
    client.run(lambda dask_worker: getattr(dask_worker, "undo_slow", int)())


def wait_for(log, blocks):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if log.exists() and log.stat().st_size >= blocks:
            return
        time.sleep(0.01)
    raise AssertionError("the workers did not begin")


def test_a_worker_that_is_killed(client, stored, tmp_path, undo_slow, caplog):
    """SIGKILL to one of the two workers while both are counting."""
    log = tmp_path / "blocks"
    slow_down(client, str(log))
    pids = list(client.run(os.getpid).values())

    def kill():
        wait_for(log, 8)
        os.kill(pids[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with caplog.at_level(logging.WARNING, logger="fastcounts"):
        counts = fc.count(stored, items=0, keep_items=True, scheduler=client)
    thread.join()
    assert counts == fc.count(stored, items=0, keep_items=True)
    assert "was lost" in caplog.text
    assert pids[0] not in client.run(os.getpid).values()
    client.wait_for_workers(2, timeout=60)


@pytest.mark.parametrize("large", [False, True])
def test_a_connection_lost_and_found(
    client, stored, tmp_path, undo_slow, monkeypatch, large, caplog
):
    """The socket between client and scheduler is closed in the middle; what it held runs again."""
    if large:
        monkeypatch.setattr("fastcounts.engine.cluster.LARGE_BYTES", 0)
    log = tmp_path / "blocks"
    slow_down(client, str(log))

    def cut():
        wait_for(log, 30)
        client.loop.add_callback(client.scheduler_comm.comm.abort)

    thread = threading.Thread(target=cut)
    thread.start()
    with caplog.at_level(logging.WARNING, logger="fastcounts"):
        counts = fc.count(stored, items=0, keep_items=True, scheduler=client)
    thread.join()
    assert counts == fc.count(stored, items=0, keep_items=True)
    assert "the connection to the scheduler was lost" in caplog.text


def test_a_worker_that_runs_out_of_memory(stored, tmp_path):
    """It is killed by its nanny at its memory limit, and its shares are counted elsewhere."""
    marker = str(tmp_path / "grown once")

    def patch(dask_worker):
        from fastcounts.engine.tallying import Tallier

        count_many = Tallier.count_many

        def hungry(self, blocks):
            try:
                open(marker, "x").close()
            except FileExistsError:
                count_many(self, blocks)
            else:
                hoard = []
                while True:
                    hoard.append(np.ones(1 << 20))
                    time.sleep(0.02)

        Tallier.count_many = hungry

    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="700MB",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as small,
        distributed.Client(small) as client,
    ):
        client.run(patch)
        counts = fc.count(stored, items=0, scheduler=client)
    assert os.path.exists(marker)
    assert counts == fc.count(stored, items=0)


def test_an_error_that_passes(client, stored, tmp_path):
    """A block that fails on its first attempt is read again, and counted once."""
    marker = str(tmp_path / "failed once")

    def patch(dask_worker):
        from fastcounts.engine.tallying import Tallier
        from fastcounts.errors import ReadError

        count_many = Tallier.count_many

        def flaky(self, blocks):
            try:
                open(marker, "x").close()
            except FileExistsError:
                return count_many(self, blocks)
            raise ReadError("the connection was reset")

        Tallier.count_many = flaky
        dask_worker.undo = lambda: setattr(Tallier, "count_many", count_many)

    client.run(patch)
    try:
        assert fc.count(stored, items=0, scheduler=client) == fc.count(stored, items=0)
        assert os.path.exists(marker)
    finally:
        client.run(lambda dask_worker: dask_worker.undo())


@pytest.fixture
def damaged(mask, tmp_path):
    array = zarr.create_array(
        tmp_path / "m.zarr", shape=mask.shape, chunks=(16, 60, 130), dtype="u1"
    )
    array[...] = mask
    chunk = tmp_path / "m.zarr" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    return tmp_path / "m.zarr"


def test_a_block_that_stays_unreadable(client, damaged):
    with pytest.raises(ReadError, match=r"m\.zarr"):
        fc.count(damaged, scheduler=client)
    heard = []
    counts = fc.count(damaged, on_error="record", scheduler=client, progress=heard.append)
    assert counts == fc.count(damaged, on_error="record")
    assert counts.ledger.failed == 16 * 60 * 130
    assert len(counts.provenance["runs"][0]["failures"]) == 1
    assert sum(isinstance(event, BlockFailed) for event in heard) == 1


def test_strict_on_a_cluster(client, stored):
    with pytest.raises(UnexpectedLabel, match="belongs to no class"):
        fc.count(stored, classes=3, strict=True, scheduler=client)


def test_cancelling_cancels_the_tasks(client, stored, tmp_path, undo_slow):
    log = tmp_path / "blocks"
    slow_down(client, str(log), 0.2)

    def listen(event):
        if isinstance(event, Advanced):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fc.count(stored, scheduler=client, progress=listen)
    deadline = time.monotonic() + 30
    while any(client.processing().values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(client.processing().values())


def test_a_source_that_workers_cannot_see(client, stored, tmp_path):
    """Refused before the run, with the worker and the path."""
    other = tmp_path / "elsewhere.zarr"
    zarr.create_array(other, shape=(4, 4), chunks=(2, 2), dtype="u1")

    def hide(dask_worker):
        from fastcounts.engine import cluster

        dask_worker.undo = lambda kept=cluster.open_source: setattr(cluster, "open_source", kept)
        opened = cluster.open_source

        def blind(target, **given):
            return opened(str(target) + ".not-mounted", **given)

        cluster.open_source = blind

    client.run(hide)
    try:
        with pytest.raises(SourceError, match=r"worker tcp.*elsewhere\.zarr\.not-mounted"):
            fc.count(other, scheduler=client)
    finally:
        client.run(lambda dask_worker: dask_worker.undo())


def test_a_worker_of_another_version(client, stored, monkeypatch):
    monkeypatch.setattr("fastcounts.engine.cluster.__version__", "99.0")
    with pytest.raises(OptionError, match=r"worker tcp.* has fastcounts .*; this one is 99\.0"):
        fc.count(stored, scheduler=client)


def test_workers_that_see_other_data(client, stored, monkeypatch):
    monkeypatch.setattr(Plan, "digest", "0123456789abcdef")
    with pytest.raises(SourceError, match="other data"):
        fc.count(stored, scheduler=client)


def test_what_cannot_go_to_a_cluster(client, mask):
    with pytest.raises(OptionError, match="in the memory of this process"):
        fc.count(mask, scheduler=client)
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(store, shape=(4, 4), chunks=(2, 2), dtype="u1")
    with pytest.raises(OptionError, match="in the memory of this process"):
        fc.count(array, scheduler=client)


def test_addresses_where_nothing_answers(stored):
    with pytest.raises(OptionError, match="nothing answers"):
        fc.count(stored, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(OptionError, match="no active Dask client"):
        fc.count(stored, scheduler="dask")


def test_a_million_chunks_are_few_tasks():
    shape = (1000, 1000, 64 * 1024)
    info = ArrayInfo("m", "m", "", shape, np.dtype("u1"), (1, 1, 64 * 1024), None, "")
    plan = make_plan([info])
    ranges = list(shares(plan, 2))
    assert len(ranges) < 100  # and as many that report
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 1_000_000
    assert all(a[1] == b[0] for a, b in pairwise(ranges))
    sizes = [stop - start for start, stop in ranges]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 5 * sizes[-2]
