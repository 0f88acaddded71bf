"""The memory budget holds where chunks are fetched ahead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from test_plan import info
from test_remote import Server, server  # noqa: F401  a fixture
from zarr.storage import MemoryStore

import fastcounts as fc
from fastcounts.plan import AHEAD_BYTES, make_plan
from fastcounts.sources import open_source
from fastcounts.sources.decoding import Scratch

MEASURED = """
import sys, threading, time
import fastcounts as fc

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def watch():
    while not done.is_set():
        peak[0] = max(peak[0], resident())
        time.sleep(0.002)

small, url, memory = sys.argv[1:]
fc.count(small, memory=memory, workers=2)
peak, done = [0], threading.Event()
before = resident()
thread = threading.Thread(target=watch)
thread.start()
counts = fc.count(url, memory=memory, workers=2)
done.set()
thread.join()
print(counts.ledger.total, peak[0] - before)
"""


def noise(folder: Path, name: str, megabytes: int, **options: Any) -> None:
    """An array of bytes that cannot be compressed."""
    shape = (megabytes, 1 << 20)
    array = zarr.create_array(folder / name, shape=shape, dtype="u1", compressors=None, **options)
    rng = np.random.default_rng(0)
    for start in range(0, megabytes, 32):
        rows = min(32, megabytes - start)
        array[start : start + 32] = rng.integers(0, 31, (rows, 1 << 20), np.uint8)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("kind", ["chunks", "shards"])
def test_budget__holds_for_what_is_fetched(tmp_path: Path, server: Server, kind: str) -> None:  # noqa: F811
    options: dict[str, Any] = {"chunks": (4, 1 << 20)}
    if kind == "shards":
        options = {"chunks": (1, 1 << 20), "shards": (32, 1 << 20)}
    noise(tmp_path, "large.zarr", 64, **options)
    noise(tmp_path, "small.zarr", 1, chunks=(1, 1 << 18))
    urls = [f"{server.url}/{name}.zarr" for name in ("small", "large")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *urls, "32MB"], capture_output=True, text=True, check=True
    )
    total, grown = map(int, done.stdout.split())
    assert total == 64 << 20
    assert grown < 40_000_000
    if kind == "shards":  # which are larger than the budget: an index and ranges of each
        assert min(server.asked[f"/large.zarr/c/{shard}/0"] for shard in range(2)) > 8


def test_plan__counts_what_is_fetched_ahead() -> None:
    stored = info((4096, 4096), (256, 256))
    fetched = info((4096, 4096), (256, 256), is_fetched=True)
    here, there = (make_plan([one], workers=2) for one in (stored, fetched))
    assert there.peak_bytes > here.peak_bytes
    large = info((1 << 16, 1 << 16), (256, 256), is_fetched=True)
    assert make_plan([large]).peak_bytes > AHEAD_BYTES
    for memory in (5 << 20, 8 << 20, 32 << 20, 1 << 30):
        plan = make_plan([large], workers=4, memory=memory)
        assert plan.peak_bytes <= memory
        assert plan.reading_bytes >= 5 * plan.most_bytes


def test_plan__of_shards_larger_than_the_budget_is_by_inner_chunks() -> None:
    shards = info((4096, 4096), (4096, 4096), (64, 64), is_fetched=True)
    plan = make_plan([shards], memory=8 << 20)
    assert plan.peak_bytes <= 8 << 20
    assert len(list(plan.blocks())) > 16


@pytest.mark.parametrize("size", [256, 1 << 16, 1 << 20, 4 << 20])
def test_scratch__fits_into_its_room(size: int) -> None:
    array = zarr.create_array(MemoryStore(), shape=(size,), chunks=(size,), dtype="u1")
    chain = open_source(array)._arrays[0].chunks._decoding.chain
    room = max(5 * size, 1 << 20)
    scratch = Scratch(chain, room)
    assert scratch.stored.nbytes + scratch.decoded.nbytes < room
    assert scratch.stored.nbytes <= Scratch(chain).stored.nbytes


def test_answer__does_not_depend_on_the_budget() -> None:
    pixels = np.random.default_rng(1).integers(0, 9, (256, 512), np.uint8)
    for shards in (None, (64, 128)):
        array = zarr.create_array(
            MemoryStore(), shape=pixels.shape, chunks=(16, 16), shards=shards, dtype="u1"
        )
        array[...] = pixels
        free = fc.count(array, items=0)
        for memory in ("5MB", "9MB", "64MB"):
            assert fc.count(array, items=0, memory=memory) == free
