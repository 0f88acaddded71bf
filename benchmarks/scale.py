"""What a very large run costs, measured on a small share of it.

    python benchmarks/scale.py [--seconds 20]

A store that makes chunk bytes when they are asked for stands for 100 TB of masks in 10^8 chunks of
1 MiB: sixteen distinct masks by chunk number, with a stated latency. What is measured are the
constants: planning, the cost of a chunk, of a task, of a merge, and the memory of each.
``docs/scale.md`` has the figures and the arithmetic that follows from them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import struct
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import zarr
from masks import VOC_RUN, natural
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import MemoryStore

import fastcounts as fc
from fastcounts.engine import Advanced
from fastcounts.engine import cluster as cluster_engine
from fastcounts.plan import make_plan
from fastcounts.sources import open_source

SIDE = 1024
DISTINCT = 16
CLASSES = 21
GRID = (100, 1000, 1000)
"""Chunks along each axis: 10^8."""


class MadeStore(Store):
    """A store that makes what it is asked for.

    Parameters
    ----------
    latency : seconds before an answer.
    repeats : whether chunks of equal masks have equal bytes, as empty tiles have.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False
    supports_partial_writes = False

    def __init__(self, latency: float = 0.0, repeats: bool = False) -> None:
        super().__init__(read_only=True)
        self.latency = latency
        self.repeats = repeats
        self.reads = 0
        self._metadata, self._chunks = _content()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MadeStore) and other.__getstate__() == self.__getstate__()

    __hash__ = None

    def __getstate__(self) -> dict[str, Any]:
        return {"latency": self.latency, "repeats": self.repeats}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)
        self._is_open = True

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The metadata, or the chunk that a key names."""
        assert byte_range is None
        if key == "zarr.json":
            return prototype.buffer.from_bytes(self._metadata)
        if not key.startswith("c/"):
            return None
        if self.latency:
            await asyncio.sleep(self.latency)
        self.reads += 1
        number = sum(int(part) * 7**place for place, part in enumerate(key[2:].split("/")))
        content = self._chunks[number % DISTINCT]
        if not self.repeats:  # a frame that decoders skip makes the bytes of every chunk unlike
            content += struct.pack("<IIQ", 0x184D2A50, 8, number)
        return prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Several at once."""
        return [await self.get(key, prototype, wanted) for key, wanted in key_ranges]

    async def exists(self, key: str) -> bool:
        """Every chunk does."""
        return key == "zarr.json" or key.startswith("c/")

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse."""
        raise PermissionError(key)

    async def delete(self, key: str) -> None:
        """Refuse."""
        raise PermissionError(key)

    async def list(self) -> AsyncIterator[str]:
        """Nothing: it cannot be listed."""
        for key in ():
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Nothing: it cannot be listed."""
        for key in ():
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Nothing: it cannot be listed."""
        for key in ():
            yield key


@cache
def _content() -> tuple[bytes, list[bytes]]:
    """The metadata of the large array, and the bytes of a few of its chunks."""
    masks = natural(VOC_RUN, images=DISTINCT, shape=(SIDE, SIDE), classes=CLASSES)
    small = MemoryStore()
    array = zarr.create_array(
        small,
        shape=masks.shape,
        chunks=(1, SIDE, SIDE),
        dtype="u1",
        compressors=zarr.codecs.ZstdCodec(level=3),
    )
    array[...] = masks
    keys = [f"c/{number}/0/0" for number in range(DISTINCT)]
    chunks = [small._store_dict[key].to_bytes() for key in keys]
    metadata = json.loads(small._store_dict["zarr.json"].to_bytes())
    metadata["shape"] = [GRID[0], GRID[1] * SIDE, GRID[2] * SIDE]
    return json.dumps(metadata).encode(), chunks


def open_made(latency: float = 0.0, repeats: bool = False) -> zarr.Array[Any]:
    """The large array."""
    return zarr.open_array(MadeStore(latency, repeats), mode="r")


def timed(run: Any) -> tuple[float, Any]:
    """The seconds that something takes, and what it gives."""
    begun = time.perf_counter()
    value = run()
    return time.perf_counter() - begun, value


def memory() -> float:
    """Peak memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def chunks_in(
    seconds: float, latency: float, workers: int, repeats: bool = False
) -> tuple[float, float]:
    """Chunks a second, and stored bytes a chunk, of a run that is stopped after a while."""
    array = open_made(latency, repeats)
    done = 0
    begun = time.perf_counter()

    def listen(event: object) -> None:
        nonlocal done
        if isinstance(event, Advanced):
            done += event.pixels
            if time.perf_counter() - begun > seconds:
                raise TimeoutError

    with suppress(TimeoutError):
        fc.count(array, source_id="made", part=(0, 100), workers=workers, items=0, progress=listen)
    taken = time.perf_counter() - begun
    return array.store.reads / taken, statistics.mean(map(len, array.store._chunks))


def planning() -> tuple[float, float]:
    """Seconds and MiB that planning all of it takes."""
    array = open_made()
    before = memory()
    seconds, plan = timed(lambda: make_plan(open_source(array).arrays, items=0, part=(3, 1000)))
    assert plan.units == 10**8
    assert next(iter(plan.blocks())).array == 0
    return seconds, memory() - before


def merging(parts: int = 200) -> float:
    """Seconds that adding one part takes."""
    masks = np.random.default_rng(0).integers(0, CLASSES, (parts, 256, 512), "u1")
    counted = [
        fc.count(masks, items=0, source_id="made", part=(number, parts)) for number in range(parts)
    ]
    seconds, whole = timed(lambda: sum(counted))
    assert whole.items == parts
    return seconds / parts


def task() -> float:
    """Seconds that a task costs the scheduler, beside what it does."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        run = lambda: client.gather(client.map(abs, range(1000), pure=False))  # noqa: E731
        run()
        return statistics.median(timed(run)[0] for _ in range(3)) / 1000


THREADS = 32
"""Threads of a node in the arithmetic."""
NETWORK = 25e9 / 8
"""Bytes a second into a node: 25 Gbit/s."""
NODES = (16, 64, 1000)
IN_FLIGHT = 16
"""Requests under way at once for each thread, in the arithmetic of latency."""


def measured(seconds: float) -> dict[str, float]:
    """The constants."""
    plan_seconds, plan_memory = planning()
    one, stored = chunks_in(seconds, 0.0, 1)
    return {
        "plan": plan_seconds,
        "plan memory": plan_memory,
        "one": one,
        "two": chunks_in(seconds, 0.0, 2)[0],
        "stored": stored,
        "repeated": chunks_in(seconds, 0.0, 1, repeats=True)[0],
        "merge": merging(),
        "task": task(),
    }


def constants_table(found: dict[str, float]) -> str:
    """What was measured, as Markdown."""
    rows = [
        (
            "open and plan 10^8 chunks",
            f"{found['plan'] * 1e3:.0f} ms, {found['plan memory']:.0f} MiB",
        ),
        ("fetch from memory, decode and count a chunk, one thread", f"{1e3 / found['one']:.2f} ms"),
        ("the same, two threads on two cores", f"{1e3 / found['two']:.2f} ms a chunk"),
        ("a chunk whose bytes were seen before, one thread", f"{1e3 / found['repeated']:.3f} ms"),
        ("stored bytes of a chunk of 1 MiB", f"{found['stored'] / 1000:.1f} kB"),
        ("add the counts of one part", f"{found['merge'] * 1e3:.2f} ms"),
        ("a task of the Dask scheduler", f"{found['task'] * 1e3:.2f} ms"),
    ]
    lines = ["| what | cost |", "|---|---|", *(f"| {what} | {cost} |" for what, cost in rows)]
    return "\n".join(lines) + "\n"


def arithmetic_table(found: dict[str, float]) -> str:
    """What follows for large runs, as Markdown."""
    plan = make_plan(open_source(open_made()).arrays)
    lines = [
        "| data | nodes | decode and count | network | Dask shares | scheduler, busy | parts |",
        "|---|---|---|---|---|---|---|",
    ]
    for size, name in ((1e8, "100 TB"), (1e10, "10 PB")):
        for nodes in NODES:
            compute = size / found["one"] / (nodes * THREADS)
            network = size * found["stored"] / (nodes * NETWORK)
            tasks = sum(1 for _ in cluster_engine.shares(plan, nodes * THREADS))
            lines.append(
                f"| {name} | {nodes} | {_time(compute)} | {_time(network)} | {tasks:,} | "
                f"{_time(2 * tasks * found['task'])} | {nodes} in {_time(nodes * found['merge'])} |"
            )
    return "\n".join(lines) + "\n"


def _time(seconds: float) -> str:
    """Seconds, minutes or hours, to two figures."""
    for unit, name in ((3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= 1.5 * unit:
            return (
                f"{seconds / unit:.2g} {name}"
                if seconds / unit < 100
                else f"{seconds / unit:.0f} {name}"
            )
    return f"{seconds * 1e3:.0f} ms"


def write_page(page: Path, tables: dict[str, str]) -> None:
    """Put tables between their markers in a page."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
        head, _, rest = text.partition(begin)
        text = head + begin + table + end + rest.partition(end)[2]
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Measure the constants, and print them with what follows from them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each rate")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    given = parser.parse_args()
    found = measured(given.seconds)
    tables = {"constants": constants_table(found), "arithmetic": arithmetic_table(found)}
    print(f"{os.cpu_count()} cores\n\n" + "\n".join(tables.values()))
    if given.write:
        write_page(Path(__file__).parent.parent / "docs" / "scale.md", tables)


if __name__ == "__main__":
    main()
