"""Refuse a change that makes counting slow.

Every floor is a ratio of medians measured in this run, with room for a busy machine; the
targets are in the tables of `benchmarks/bench_kernels.py` and `benchmarks/bench_zarr.py`. Needs
what the package needs, and no more. Exits with 1 if a ratio is below its floor, after measuring
that input a second time::

    python benchmarks/guard.py
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import masks
import measure
import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray

import fastcounts as fc

SIZE = 1 << 25


class Floor(NamedTuple):
    """The least ratio of fastcounts to a peer on one input."""

    name: str
    make: Callable[[], NDArray[Any]]
    peer: str
    least: float


@functools.cache
def _street() -> NDArray[np.uint8]:
    return np.resize(masks.natural(masks.CAMVID_RUN, images=6, shape=(360, 480)), SIZE)


@functools.cache
def _photographs() -> NDArray[np.uint8]:
    return np.resize(masks.natural(masks.VOC_RUN, images=12, shape=(360, 480)), SIZE)


# A floor is about three quarters of the lowest ratio measured on the machines tried so far.  Ratios
# differ between machines: on two shared cores of an AMD EPYC (Zen 4) one and the same commit missed
# the floors of another machine.  The guard is to notice that a fast path is lost, which costs a
# factor; percents are measured by building both commits and letting them take turns.
FLOORS = [
    Floor("uint8, mean run 144", _photographs, "four tables", 4.5),
    Floor("uint8, mean run 144", _photographs, "read", 0.33),
    Floor("uint8, mean run 37", _street, "four tables", 4.0),
    Floor("uint8, mean run 37", _street, "read", 0.22),
    Floor("uint8, noise of 12", lambda: masks.noise(SIZE, 12), "four tables", 1.7),
    Floor("uint8, noise of 31", lambda: masks.noise(SIZE, 31), "four tables", 0.75),
    Floor("uint8, noise of 256", lambda: masks.noise(SIZE, 256), "four tables", 0.65),
    Floor("uint8, period 33", lambda: masks.periodic(SIZE, 33), "four tables", 0.75),
    Floor("uint8, alternating", lambda: masks.alternating(SIZE, 1024), "four tables", 0.6),
    Floor("uint8, odd pixels", lambda: masks.odd_pixels(SIZE, 8), "four tables", 0.75),
    Floor("bool", lambda: _street() > 3, "read", 0.45),
    Floor("uint16, mean run 37", lambda: _street().astype(np.uint16), "np.bincount", 9.0),
    Floor("int32, mean run 37", lambda: _street()[::4].astype(np.int32), "np.bincount", 4.5),
    Floor(
        "int32, noise of 31", lambda: masks.noise(SIZE // 4, 31, dtype=np.int32), "np.bincount", 2.8
    ),
    Floor("int64, mean run 37", lambda: _street()[: SIZE // 8].astype(np.int64), "read", 0.22),
    Floor("uint64, ids", lambda: masks.segments(SIZE // 8, 10_000), "np.unique", 6.0),
]

PEERS: dict[str, Callable[[NDArray[Any]], measure.Call]] = {
    "read": measure.read,
    "four tables": measure.four_tables,
    "np.bincount": measure.bincount,
    "np.unique": measure.unique,
}


class Stored(NamedTuple):
    """The least ratio of a count of stored masks to decoding them, both in two threads."""

    name: str
    codec: Any
    dtype: str
    least: float


STORED = [
    Stored("zstd", numcodecs.Zstd(), "u1", 0.4),
    Stored("lz4", numcodecs.LZ4(), "u1", 0.4),
    Stored("blosc, bits", numcodecs.Blosc("lz4", shuffle=2), "u1", 0.9),
    Stored("blosc, bytes", numcodecs.Blosc("lz4", shuffle=1), "i4", 0.6),
]


def stored_ratio(floor: Stored) -> float:
    """Measure how many times as fast as decoding alone counting is, and check its answer."""
    labels = np.tile(_street().astype(floor.dtype), 3).reshape(-1, 1024, 1024)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        path = Path(folder) / "a.zarr"
        zarr.create_array(
            path,
            shape=labels.shape,
            chunks=(1, 1024, 1024),
            dtype=labels.dtype,
            zarr_format=2,
            compressors=floor.codec,
            filters=None,
        )[...] = labels
        chunks = [(path / f"{place}.0.0").read_bytes() for place in range(len(labels))]
        counts = fc.count(path)
        expected = np.unique(labels, return_counts=True)
        assert [counts.labels.tolist(), counts.pixels.tolist()] == [x.tolist() for x in expected]
        times = measure.medians(
            {
                "own": lambda: fc.count(path, workers=2),
                "alone": lambda: [None for _ in pool.map(_undo(floor.codec), chunks)],
            },
            9,
        )
    return times["alone"] / times["own"]


def _undo(codec: Any) -> Callable[[bytes], None]:
    def undo(chunk: bytes) -> None:
        codec.decode(chunk)

    return undo


def ratio(floor: Floor, array: NDArray[Any]) -> float:
    """Measure how many times faster than its peer fastcounts is, and check its answer."""
    peer, own = PEERS[floor.peer](array), measure.ours(array)
    if floor.peer != "read":
        assert own() == peer(), f"{floor.name}: {floor.peer} counts otherwise"
    times = measure.medians({"own": own, "peer": peer}, 5)
    return times["peer"] / times["own"]


def main() -> int:
    """Measure everything; return 1 if something is too slow."""
    start = time.perf_counter()
    lines, failures = [], []
    made: dict[str, NDArray[Any]] = {}
    for floor in FLOORS:
        if floor.name not in made:
            made = {floor.name: floor.make()}
        measured = ratio(floor, made[floor.name])
        if measured < floor.least:
            measured = max(measured, ratio(floor, made[floor.name]))
        line = f"{floor.name:24} {measured:6.2f} x {floor.peer:12} (floor {floor.least})"
        lines.append(line)
        if measured < floor.least:
            failures.append(f"TOO SLOW: {line}")
    for stored in STORED:
        measured = stored_ratio(stored)
        if measured < stored.least:
            measured = max(measured, stored_ratio(stored))
        line = f"{stored.name:24} {measured:6.2f} x {'decoding':12} (floor {stored.least})"
        lines.append(line)
        if measured < stored.least:
            failures.append(f"TOO SLOW: {line}")
    print(measure.versions())
    print("\n".join(lines))
    print(f"{len(lines)} ratios in {time.perf_counter() - start:.0f} s")
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
