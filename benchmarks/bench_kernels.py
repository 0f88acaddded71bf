"""How fast labels in memory are counted, beside other ways to do it.

Prints a Markdown table, in Gpx/s and as ratios; checks every answer. Run it from the root
of the repository::

    python benchmarks/bench_kernels.py [--mebibytes 64] [--only TEXT]
    python benchmarks/bench_kernels.py --markdown [--write]
    python benchmarks/bench_kernels.py --prange

Peers that are not installed are left out by name. ``--markdown`` prints the short table of
``docs/benchmarks.md`` between its markers, and ``--write`` puts it there; ``--prange``
compares a parallel loop over the same kernels with the threads of `fastcounts.kernels.count`.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import masks
import measure
import numba
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
            lambda run=run: np.resize(masks.natural(run), size),
            BYTES,
        )
    for classes in (12, 31, 256):
        yield (
            f"uint8, noise of {classes}",
            lambda classes=classes: masks.noise(size, classes),
            BYTES,
        )
    for period in (2, 3, 8, 33, 64):
        yield (
            f"uint8, period {period}",
            lambda period=period: masks.periodic(size, period),
            BYTES,
        )
    for tile in (64, 1024, 3000, 8192):
        yield (
            f"uint8, noise and runs by {tile}",
            lambda tile=tile: masks.alternating(size, tile),
            BYTES,
        )
    for every in (8, 64):
        yield (
            f"uint8, one odd pixel in {every}",
            lambda every=every: masks.odd_pixels(size, every),
            BYTES,
        )


def wide_cases(size: int) -> Iterator[Case]:
    """Yield inputs of bool and wider labels."""
    yield "bool, street scenes", lambda: np.resize(masks.natural(masks.CAMVID_RUN), size) > 3, []
    for dtype in ("uint16", "int32", "int64", "uint64"):
        pixels = size // np.dtype(dtype).itemsize
        yield (
            f"{dtype}, street scenes",
            lambda dtype=dtype, pixels=pixels: np.resize(
                masks.natural(masks.CAMVID_RUN), pixels
            ).astype(dtype),
            ["np.bincount"],
        )
        yield (
            f"{dtype}, noise of 31",
            lambda dtype=dtype, pixels=pixels: masks.noise(pixels, 31, dtype=dtype),
            ["np.bincount"],
        )
    for dtype in ("uint32", "uint64"):
        pixels = size // np.dtype(dtype).itemsize
        for ids in (1000, 100_000):
            yield (
                f"{dtype}, {ids} ids, mean run 24",
                lambda dtype=dtype, pixels=pixels, ids=ids: masks.segments(
                    pixels, ids, dtype=dtype
                ),
                IDS,
            )
            yield (
                f"{dtype}, {ids} ids, noise",
                lambda dtype=dtype, pixels=pixels, ids=ids: masks.segments(
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


def prange_twin(array: NDArray[Any], threads: int = 2) -> measure.Call:
    """Count 8 or 16-bit labels in a parallel loop over the serial kernels, in private bins."""
    from fastcounts.kernels import dense

    count8, count16, narrow = dense.count8, dense.count16, array.itemsize == 1

    def body(place: int, size: int, width: int, memory: Any) -> None:
        share = -(-size // len(memory))
        for part in numba.prange(len(memory)):
            low = min(size, part * share)
            own, here = memory[part], place + width * low
            if narrow:
                count8(here, min(size - low, share), own[0], own[1], own[2])
            else:
                count16(here, min(size - low, share), own.ctypes.data)

    kernel = numba.njit(body, parallel=True, nogil=True)

    def call() -> measure.Counts:
        bins = np.zeros((threads, dense.BINS8 if narrow else dense.BINS16), np.int64)
        pairs = np.zeros((threads, dense.PAIRS), np.uint32)
        scratch = np.zeros((threads, dense.SCRATCH8), np.uint8)
        memory = np.array(
            [[row.ctypes.data for row in rows] for rows in zip(bins, pairs, scratch, strict=True)]
        )
        if not narrow:
            memory = np.array([[row[0], 0, 0, row[2], 0, 0] for row in memory.tolist()])
        kernel(array.ctypes.data, array.size, array.itemsize, memory)
        for own in memory if narrow else ():
            dense.settle_pairs(*own.tolist())
        return measure.from_bins(bins.reshape(-1, 256 if narrow else dense.BINS16).sum(axis=0))

    return call


def compare_prange(repeats: int) -> None:
    """Print how a parallel loop compares with one thread and with two, for several sizes."""
    print("| input | KiB | 1 thread, us | 2 threads | prange | prange : better of both |")
    print("|---|---|---|---|---|---|")
    for run in (masks.VOC_RUN, masks.CAMVID_RUN):
        made = masks.natural(run, images=4)
        for dtype in (np.uint8, np.uint16):
            for kibibytes in (64, 1024, 16384, 262144):
                pixels = (kibibytes << 10) // np.dtype(dtype).itemsize
                array = np.resize(made, pixels).astype(dtype)
                calls = [measure.ours(array), measure.ours(array, 2), prange_twin(array)]
                assert calls[0]() == calls[1]() == calls[2](), "prange counts otherwise"
                one, two, loop = (1e6 * _median_apart(call, repeats) for call in calls)
                print(
                    f"| {np.dtype(dtype)}, mean run {run:.0f} | {kibibytes} | {one:.0f} "
                    f"| {two:.0f} | {loop:.0f} | {min(one, two) / loop:.2f}x |"
                )
    layer = numba.threading_layer()
    print(f"\nthreading layer: {layer}")


def _median_apart(call: measure.Call, repeats: int) -> float:
    """Return the median seconds of calls, each after the workers of a loop stopped spinning.

    This thread stays awake: after sleep, Linux may start the next thread on the same core.
    """

    def rest() -> None:
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            pass

    return measure.medians({"rest": rest, "call": call}, repeats)["call"]


PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: kernels -->", "<!-- end: kernels -->"


def short_table(size: int, repeats: int, only: str) -> str:
    """Measure inputs that are not made to be difficult; return a compact Markdown table."""
    lines = [
        BEGIN,
        f"{measure.versions()}. {size >> 20} MiB an input, one thread.",
        "",
        "| input | Gpx/s | relative to `np.bincount` | relative to the fastest other library "
        "| relative to reading the memory |",
        "|---|---|---|---|---|",
    ]
    for name, make, peers in (*byte_cases(size), *wide_cases(size)):
        if only not in name or any(word in name for word in ("period", "odd", " by ")):
            continue
        rate = rates(make(), peers, repeats)
        own = rate["fastcounts"]
        others = {peer: rate[peer] for peer in peers if peer in rate and peer != "np.bincount"}
        best = max(others, key=lambda peer: others[peer]) if others else ""
        times = f"{own / rate['np.bincount']:.1f}" if "np.bincount" in rate else "-"
        peer = f"{own / others[best]:.1f} ({best})" if best else "-"
        lines.append(f"| {name} | {own:.2f} | {times} | {peer} | {own / rate['read']:.2f} |")
    for name, run in (("photographs", masks.VOC_RUN), ("street scenes", masks.CAMVID_RUN)):
        label = f"uint8, {name}, two threads"
        if only in label:
            array = np.resize(masks.natural(run, images=12), 4 * size)
            rate = rates(array, [], repeats)
            own, limit = rate["fastcounts, 2 threads"], rate["read, 2 threads"]
            lines.append(
                f"| {label}, {4 * size >> 20} MiB | {own:.2f} | - | - | {own / limit:.2f} |"
            )
    return "\n".join([*lines, END])


def write(table: str) -> None:
    """Put a table between its markers in the page of benchmarks."""
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{table}{after}", encoding="utf-8")


def main() -> None:
    """Measure all inputs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=64, help="size of an input")
    parser.add_argument("--only", default="", help="inputs whose name holds this text")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--markdown", action="store_true", help="print the short table")
    parser.add_argument("--write", action="store_true", help=f"and put it into docs/{PAGE.name}")
    parser.add_argument("--prange", action="store_true", help="compare a parallel loop")
    options = parser.parse_args()
    if options.prange:
        compare_prange(options.repeats)
        return
    if options.markdown or options.write:
        table = short_table(options.mebibytes << 20, options.repeats, options.only)
        print(table)
        if options.write:
            write(table)
        return
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
