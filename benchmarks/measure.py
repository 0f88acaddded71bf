"""Interleaved timing, and what counting is compared with.

Every ratio is one of medians measured in turns in one process, so that whatever else the
machine does falls on both sides.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Call = Callable[[], Any]
Counts = dict[int, int]


def medians(calls: Mapping[str, Call], repeats: int = 7) -> dict[str, float]:
    """Return the median seconds of each call, called in turns after one turn unmeasured."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


@numba.njit(nogil=True)
def _xor(words: Any) -> Any:
    result = np.uint64(0)
    for i in range(words.size):
        result ^= words[i]
    return result


@numba.njit(nogil=True)
def _four_tables(labels: Any, bins: Any) -> None:
    whole = labels.size // 4 * 4
    for i in range(0, whole, 4):
        bins[0, labels[i]] += 1
        bins[1, labels[i + 1]] += 1
        bins[2, labels[i + 2]] += 1
        bins[3, labels[i + 3]] += 1
    for i in range(whole, labels.size):
        bins[0, labels[i]] += 1


def read(array: NDArray[Any]) -> Call:
    """Read every byte once: the limit of what a core can do."""
    words = array.reshape(-1).view(np.uint8)[: array.nbytes // 8 * 8].view(np.uint64)
    return lambda: _xor(words)


def four_tables(array: NDArray[Any], counter: Any = np.uint32) -> Callable[[], Counts]:
    """Count 8-bit labels in four histograms in turns, the usual fast loop."""
    flat = array.reshape(-1)

    def call() -> Counts:
        bins = np.zeros((4, 256), counter)
        _four_tables(flat, bins)
        return from_bins(bins.sum(axis=0))

    return call


def bincount(array: NDArray[Any]) -> Callable[[], Counts]:
    """Count with NumPy, which casts what is not int64."""
    flat = array.reshape(-1)
    if flat.dtype == np.uint64:
        return lambda: from_bins(np.bincount(flat.astype(np.int64)))
    return lambda: from_bins(np.bincount(flat))


def unique(array: NDArray[Any]) -> Callable[[], Counts]:
    """Count with NumPy by sorting."""
    return lambda: from_pairs(*np.unique(array, return_counts=True))


def opencv(array: NDArray[Any]) -> Callable[[], Counts] | None:
    """Count 8-bit labels with OpenCV on one thread, if it is installed."""
    cv2 = optional("cv2")
    if cv2 is None:
        return None
    cv2.setNumThreads(1)
    images = np.array_split(array.reshape(-1, 4096), -(-array.size // 2**24))

    def call() -> Counts:
        bins = np.zeros(256, np.int64)
        for image in images:  # its counters are float32: exact up to 2**24 pixels
            bins += cv2.calcHist([image], [0], None, [256], [0, 256]).ravel().astype(np.int64)
        return from_bins(bins)

    return call


def fastremap(array: NDArray[Any]) -> Callable[[], Counts] | None:
    """Count with fastremap, if it is installed."""
    module = optional("fastremap")
    if module is None:
        return None
    return lambda: from_pairs(*module.unique(array, return_counts=True))


def ours(array: NDArray[Any], threads: int = 1) -> Callable[[], Counts]:
    """Count with fastcounts, from the array to sorted labels."""
    from fastcounts.kernels import count

    def call() -> Counts:
        tally = count(array, threads=threads)
        return from_pairs(tally.labels, tally.pixels)

    return call


def optional(name: str) -> Any:
    """Import a peer, or return None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def from_bins(bins: NDArray[Any]) -> Counts:
    """Turn a histogram into labels and pixels."""
    labels = np.flatnonzero(bins)
    return from_pairs(labels, bins[labels])


def from_pairs(labels: NDArray[Any], pixels: NDArray[Any]) -> Counts:
    """Turn two arrays into labels and pixels, in short where there are many."""
    if labels.size <= 4096:
        return dict(zip(labels.tolist(), np.asarray(pixels).astype(np.int64).tolist(), strict=True))
    weights = np.arange(1, labels.size + 1) % 1009
    return {labels.size: int((pixels * weights).sum())}


def versions() -> str:
    """Say what is compared, and on what."""
    names = ["numpy", "numba", "llvmlite", "opencv-python-headless", "fastremap"]
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return f"Python {platform.python_version()}, {', '.join(found)}; {_processor()}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({numba.config.CPU_NAME or 'host'} code)"
    return platform.processor() or platform.machine()
