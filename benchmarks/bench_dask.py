"""Counting on a Dask cluster and counting Dask arrays, as ratios measured in one run.

    python benchmarks/bench_dask.py [--gigapixels 4] [--repeats 3]

Two worker processes of one thread each against two threads of this process; ``da.bincount`` on the
same cluster; a computed Dask array against the same graph with a sum in place of the count. Every
answer is checked. Needs ``distributed``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import zarr
from masks import VOC_RUN, natural

import fastcounts as fc
from fastcounts.engine import cluster as cluster_engine
from fastcounts.plan import make_plan
from fastcounts.sources import open_source

CLASSES = 21
SIDE = 1024


def write(path: Path, gigapixels: float) -> zarr.Array[Any]:
    """Natural masks in chunks of 1 MiB, zstd; no two chunks are the same."""
    chunks = max(int(gigapixels * 1e9 / SIDE**2), 4)
    drawn = natural(VOC_RUN, images=8, shape=(SIDE, SIDE), classes=CLASSES)
    array = zarr.create_array(
        path,
        shape=(chunks, SIDE, SIDE),
        chunks=(1, SIDE, SIDE),
        dtype="u1",
        compressors=zarr.codecs.ZstdCodec(level=3),
    )
    for number in range(chunks):
        array[number] = np.roll(drawn[number % 8], (number * 7, number * 13), (0, 1))
    return array


def interleaved(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The median seconds of each side, taken in turns."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            begun = time.perf_counter()
            side()
            taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in taken.items()}


def executor(client: Any, path: Path, repeats: int) -> tuple[float, float]:
    """Threads over cluster, and da.bincount over cluster, in time."""
    expected = fc.count(path, items=0)
    few = zarr.open_array(path, mode="r").shape[0] // 16

    def bincount() -> None:
        lazy = da.from_zarr(str(path))[:few]
        counts = da.bincount(lazy.ravel(), minlength=CLASSES).compute()
        assert counts.tolist() == fc.count(path, region=slice(0, few)).pixels.tolist()

    def on_cluster() -> None:
        assert fc.count(path, items=0, scheduler=client) == expected

    def in_threads() -> None:
        assert fc.count(path, items=0, workers=2) == expected

    on_cluster()
    taken = interleaved({"threads": in_threads, "cluster": on_cluster}, repeats)
    slow = interleaved({"bincount": bincount}, 1)["bincount"] * 16
    pixels = expected.ledger.total
    print(f"| threads, 2 | {pixels / taken['threads'] / 1e9:.2f} Gpx/s |")
    print(f"| cluster, 2 processes | {pixels / taken['cluster'] / 1e9:.2f} Gpx/s |")
    print(f"| da.bincount, same cluster, a sixteenth of it | {pixels / slow / 1e9:.2f} Gpx/s |")
    return taken["threads"] / taken["cluster"], slow / taken["cluster"]


def computed(client: Any, repeats: int) -> float:
    """A threshold, counted and summed: the time of the sum over that of the count."""
    field = da.random.random((64, 1024, 1024), chunks=(1, 1024, 1024))
    labels = field.map_blocks(lambda block: (block > 0.5).astype("u1"), dtype="u1")
    with dask.config.set({"array.rechunk.threshold": 4}):
        sides = {
            "sum": lambda: labels.sum().compute(),
            "count": lambda: fc.count(labels),
        }
        sides["count"]()
        taken = interleaved(sides, repeats)
    return taken["sum"] / taken["count"]


def many_chunks(client: Any) -> tuple[int, float, float]:
    """A million chunks, none of which exists, on the cluster: tasks, seconds, MiB of the scheduler.

    The scheduler is in this process.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.zarr"
        zarr.create_array(path, shape=(1000, 1000, 65536), chunks=(1, 1, 65536), dtype="u1")
        before = peak()
        begun = time.perf_counter()
        counts = fc.count(path, items=0, scheduler=client)
        seconds = time.perf_counter() - begun
        assert counts.ledger.filled == counts.ledger.total == 65_536_000_000
        plan = make_plan(open_source(path).arrays)
        tasks = 2 * len(list(cluster_engine.shares(plan, 2)))
        return tasks, seconds, (peak() - before) / 1024


def peak() -> int:
    """The most memory that this process has had, in KiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def block_memory(client: Any) -> float:
    """Peak memory of a worker above what it began with, less a block, in MiB: no ravel."""

    def peak() -> int:  # its own, since workers do not have this file
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    client.restart()
    fc.count(da.ones((64, 64), chunks=64, dtype="u1") + 0)
    before = max(client.run(peak).values())
    fc.count(da.ones((16, 8192, 8192), chunks=(1, 8192, 8192), dtype="u1") + 0)
    return (max(client.run(peak).values()) - before) / 1024 - 64


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigapixels", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    print(f"dask {dask.__version__}, distributed {distributed.__version__}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "masks.zarr"
        write(path, given.gigapixels)
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            against_threads, against_bincount = executor(client, path, given.repeats)
            against_sum = computed(client, given.repeats)
            tasks, seconds, growth = many_chunks(client)
            extra = block_memory(client)
    print("\n| what | measured | at least |\n|---|---|---|")
    print(f"| cluster against threads | {against_threads:.2f}x | 0.85x |")
    print(f"| cluster against da.bincount | {against_bincount:.1f}x | 15x |")
    print(f"| count against sum of the same graph | {against_sum:.2f}x | 0.9x |")
    print(f"| tasks for 1,000,000 chunks, 2 workers | {tasks} | < 200 |")
    print(f"| the same, planned, run and joined | {seconds:.2f} s | planned in 2 s |")
    print(f"| the same, growth of the scheduler | {growth:.0f} MiB | < 50 MiB |")
    print(f"| worker memory beyond a block | {extra:.0f} MiB | < 64 MiB |")


if __name__ == "__main__":
    main()
