"""How fast labels in memory are counted, beside other ways to do it.

Prints a Markdown table, in Gpx/s and as ratios; checks every answer. Run it from the root
of the repository::

    python benchmarks/bench_kernels.py [--mebibytes 64] [--only TEXT]

Peers that are not installed are left out by name.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator
from typing import Any

import masks
import measure
import numpy as np
from numpy.typing import NDArray

Peers = list[str]
Case = tuple[str, Callable[[], NDArray[Any]], Peers]

BYTES: Peers = ["four tables", "four tables, int64", "cv2.calcHist", "np.bincount"]
IDS: Peers = ["fastremap.unique", "np.unique"]

PEERS: dict[str, Callable[[NDArray[Any]], measure.Call | None]] = {
    "four tables": measure.four_tables,
    "four tables, int64": lambda array: measure.four_tables(array, np.int64),
    "cv2.calcHist": measure.opencv,
    "np.bincount": measure.bincount,
    "np.unique": measure.unique,
    "fastremap.unique": measure.fastremap,
}


def byte_cases(size: int) -> Iterator[Case]:
    """Yield inputs of 8-bit labels."""
    for run, name in ((masks.VOC_RUN, "photographs"), (masks.CAMVID_RUN, "street scenes")):
        yield (
            f"uint8, {name}, mean run {run:.0f}",
            lambda run=run: np.resize(masks.natural(run), size),  # type: ignore[misc]
            BYTES,
        )
    for classes in (12, 31, 256):
        yield (
            f"uint8, noise of {classes}",
            lambda classes=classes: masks.noise(size, classes),  # type: ignore[misc]
            BYTES,
        )
    for period in (2, 3, 8, 33, 64):
        yield (
            f"uint8, period {period}",
            lambda period=period: masks.periodic(size, period),  # type: ignore[misc]
            BYTES,
        )
    for tile in (64, 1024, 3000, 8192):
        yield (
            f"uint8, noise and runs by {tile}",
            lambda tile=tile: masks.alternating(size, tile),  # type: ignore[misc]
            BYTES,
        )
    for every in (8, 64):
        yield (
            f"uint8, one odd pixel in {every}",
            lambda every=every: masks.odd_pixels(size, every),  # type: ignore[misc]
            BYTES,
        )


def wide_cases(size: int) -> Iterator[Case]:
    """Yield inputs of bool and wider labels."""
    yield "bool, street scenes", lambda: np.resize(masks.natural(masks.CAMVID_RUN), size) > 3, []
    for dtype in ("uint16", "int32", "int64", "uint64"):
        pixels = size // np.dtype(dtype).itemsize
        yield (
            f"{dtype}, street scenes",
            lambda dtype=dtype, pixels=pixels: np.resize(  # type: ignore[misc]
                masks.natural(masks.CAMVID_RUN), pixels
            ).astype(dtype),
            ["np.bincount"],
        )
        yield (
            f"{dtype}, noise of 31",
            lambda dtype=dtype, pixels=pixels: masks.noise(pixels, 31, dtype=dtype),  # type: ignore[misc]
            ["np.bincount"],
        )
    for dtype in ("uint32", "uint64"):
        pixels = size // np.dtype(dtype).itemsize
        for ids in (1000, 100_000):
            yield (
                f"{dtype}, {ids} ids, mean run 24",
                lambda dtype=dtype, pixels=pixels, ids=ids: masks.segments(  # type: ignore[misc]
                    pixels, ids, dtype=dtype
                ),
                IDS,
            )
            yield (
                f"{dtype}, {ids} ids, noise",
                lambda dtype=dtype, pixels=pixels, ids=ids: masks.segments(  # type: ignore[misc]
                    pixels, ids, run=1.0, dtype=dtype, nearby=ids
                ),
                IDS,
            )


def two_thread_read(array: NDArray[Any]) -> measure.Call:
    """Read an array with two threads."""
    half = array.size // 2

    def call() -> None:
        threads = [
            threading.Thread(target=measure.read(part)) for part in (array[:half], array[half:])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return call


def rates(array: NDArray[Any], peers: Peers, repeats: int) -> dict[str, float]:
    """Measure one input; return pixels a nanosecond of each way to count it."""
    counts: dict[str, measure.Call] = {"fastcounts": measure.ours(array)}
    for name in peers:
        call = PEERS[name](array)
        if call is not None:
            counts[name] = call
    expected = counts["fastcounts"]()
    for name, call in counts.items():
        assert call() == expected, f"{name} counts otherwise"
    assert measure.ours(array, 2)() == expected, "two threads count otherwise"
    counts["read"] = measure.read(array)
    counts["fastcounts, 2 threads"] = measure.ours(array, 2)
    counts["read, 2 threads"] = two_thread_read(array)
    times = measure.medians(counts, repeats)
    return {name: array.size / seconds / 1e9 for name, seconds in times.items()}


def row(name: str, rate: dict[str, float]) -> str:
    """Format the line of one input."""
    own = rate.pop("fastcounts")
    limits = {key: rate.pop(key) for key in ("read", "read, 2 threads")}
    both = rate.pop("fastcounts, 2 threads")
    others = ", ".join(f"{peer} {value:.2f} ({own / value:.1f}x)" for peer, value in rate.items())
    return (
        f"| {name} | {own:.2f} | {own / limits['read']:.2f} | {others or '-'} "
        f"| {both:.2f} | {both / limits['read, 2 threads']:.2f} |"
    )


def main() -> None:
    """Measure all inputs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=64, help="size of an input")
    parser.add_argument("--only", default="", help="inputs whose name holds this text")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(f"{measure.versions()}; {options.mebibytes} MiB an input; Gpx/s\n")
    print("| input | 1 thread | of reading | others, 1 thread (ratio) | 2 threads | of reading |")
    print("|---|---|---|---|---|---|")
    size = options.mebibytes << 20
    for cases in (byte_cases(size), wide_cases(size)):
        for name, make, peers in cases:
            if options.only in name:
                print(row(name, rates(make(), peers, options.repeats)), flush=True)


if __name__ == "__main__":
    main()
