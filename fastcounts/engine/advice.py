"""What to change so that counting takes less time: only what was measured to matter.

Each rule looks at one cause and says nothing unless the figures show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fastcounts.engine.figures import Measured
from fastcounts.sources import Way

__all__ = ["Advice", "advise"]

_MATTERS = 0.3
_MOST = 0.5
"""Shares of the time from which something matters, and is the most of it."""

_TOLERABLE = 0.1
"""The share of the time that asking for chunks may take."""

_SMALL_BYTES = 1 << 20
"""Chunks of more decoded bytes, or requests of more stored bytes, are not small."""

_LARGEST_BYTES = 16 << 20
_SLOW_READING = 8
"""A store is slow if memory can be read so many times as fast."""

_COLD = 2
_COLD_SECONDS = 0.2
_SLOW_COUNTING = 3
"""Counting is slow if it takes so many times as long as reading the memory."""

_MANY_LABELS = 1 << 12
_DEFLATED = {"gzip", "zlib"}
_CHECKSUMS = {"crc32c"}


class Advice(NamedTuple):
    """One thing to change.

    Attributes
    ----------
    name : of the cause, for machines.
    message : what was measured, and what to do.
    """

    name: str
    message: str


def advise(found: Measured) -> list[Advice]:
    """What the figures say should be changed, most fundamental first; may be nothing."""
    return [Advice(name, message) for name, rule in _RULES.items() if (message := rule(found))]


def _through_zarr(found: Measured) -> str | None:
    obstacles = [way.obstacle for way in found.ways if way.kind == "zarr-python"]
    if not obstacles or _share(found, "decode") < _MATTERS:
        return None
    return (
        f"chunks are read through zarr-python because of {' and '.join(obstacles)}, and that takes "
        f"{_share(found, 'decode'):.0%} of the time; zstd, blosc, lz4 and gzip on a regular grid "
        "are read without it"
    )


def _without_extra(found: Measured) -> str | None:
    slow = [way for way in _python_ways(found) if set(way.codecs) - _CHECKSUMS <= _DEFLATED]
    if not slow or _share(found, "decode") < _MATTERS:
        return None
    return (
        f"{_codecs(slow)} is decoded in Python, and that takes {_share(found, 'decode'):.0%} of "
        "the time; pip install 'fastcounts[fast]' brings a quicker decoder"
    )


def _slow_codec(found: Measured) -> str | None:
    slow = [way for way in _python_ways(found) if set(way.codecs) - _CHECKSUMS - _DEFLATED]
    if slow and _share(found, "decode") >= _MATTERS:
        hint = ""
        if any("shuffle" in way.codecs for way in slow):
            hint = "; blosc shuffles as well, and its shuffle need not be undone to count"
        return (
            f"{_codecs(slow)} is decoded in Python, and that takes "
            f"{_share(found, 'decode'):.0%} of the time; zstd, blosc and lz4 are decoded without "
            f"it{hint}"
        )
    inflated = [way for way in found.ways if way.native and _DEFLATED & set(way.codecs)]
    if inflated and _share(found, "decode") >= _MOST:
        return (
            f"decoding {_codecs(inflated)} takes {_share(found, 'decode'):.0%} of the time; zstd "
            "is decoded faster"
        )
    return None


def _python_ways(found: Measured) -> list[Way]:
    """Chunks straight from their store that are decoded in Python."""
    return [way for way in found.ways if way.kind == "chunks" and way.codecs and not way.native]


def _codecs(ways: Sequence[Way]) -> str:
    return " and ".join(dict.fromkeys(" with ".join(way.codecs) for way in ways))


def _small_chunks(found: Measured) -> str | None:
    """Fetching takes a time for each chunk, however small, on top of a time for its bytes."""
    if found.fetch is None or not found.chunks or found.stored_bytes is None:
        return None
    copying = found.stored_bytes * found.limit.seconds / found.decoded_bytes
    asking = min(max(found.fetch.seconds - copying, 0.0), found.count.seconds)
    stored = found.stored_bytes / found.chunks
    size = stored if _requests(found) else found.chunk_bytes
    if asking < _MATTERS * found.count.seconds or size >= _SMALL_BYTES:
        return None
    each = asking * found.workers / found.chunks
    work = max(found.count.seconds - asking, found.limit.seconds)
    pace = work * found.workers / (found.chunks * found.chunk_bytes)
    wanted = each * (1 - _TOLERABLE) / _TOLERABLE / pace
    wanted = min(max(wanted, 2 * found.chunk_bytes), max(_LARGEST_BYTES, 2 * found.chunk_bytes))
    return (
        f"chunks are small: {_size(found.chunk_bytes)} decoded, {_size(stored)} stored, and to ask "
        f"for one takes {_time(each)} of a thread, {asking / found.count.seconds:.0%} of the time "
        f"in all; chunks of {_size(2 ** (int(wanted) - 1).bit_length())} would do"
        + (", or shards of that size, which are asked for at once" if _requests(found) else "")
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} us"


def _size(number: float) -> str:
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f} bytes"


def _requests(found: Measured) -> int:
    """Requests that may be under way; 0 for what is on this machine."""
    return max((way.requests for way in found.ways), default=0)


def _few_requests(found: Measured) -> str | None:
    requests = _requests(found)
    if not requests or _share(found, "fetch") < _MOST or found.count.idle < _MATTERS:
        return None
    return (
        f"fetching takes {_share(found, 'fetch'):.0%} of the time, and threads wait for "
        f"{found.count.idle:.0%} of theirs, with {requests} requests under way at most; try more "
        f"with the environment variable ZARR_ASYNC__CONCURRENCY={4 * requests}"
    )


def _slow_disk(found: Measured) -> str | None:
    if _requests(found) or not found.stored_bytes:
        return None
    if _was_cold(found):
        begin = found.fetch or found.decode or found.count
        assert found.first is not None
        return (
            f"the first pass over the sample took {found.first:.2g} s, and "
            f"{begin.seconds:.2g} s once it had been read before: the first count of "
            "this data waits for the disk"
        )
    if _is_slow(found):
        assert found.fetch is not None
        return (
            f"fetching takes {_share(found, 'fetch'):.0%} of the time, at "
            f"{found.gigabytes(found.fetch):.2g} GB/s: the disk or the file system sets the pace"
        )
    return None


def _was_cold(found: Measured) -> bool:
    """Whether the first pass took longer than a whole count of what is cached."""
    if found.first is None or found.first < _COLD_SECONDS:
        return False
    begin = found.fetch or found.decode or found.count
    return found.first >= max(_COLD * begin.seconds, found.count.seconds)


def _is_slow(found: Measured) -> bool:
    """Whether most of the time is spent in fetching chunks that are not small, slowly."""
    if found.fetch is None or not found.stored_bytes or _share(found, "fetch") < _MOST:
        return False
    if _small_chunks(found):
        return False
    memory = found.decoded_bytes / found.limit.seconds
    return found.stored_bytes / found.fetch.seconds * _SLOW_READING < memory


def _no_compression(found: Measured) -> str | None:
    if not any(way.kind == "chunks" and not way.codecs for way in found.ways):
        return None
    if not (_was_cold(found) or _is_slow(found)):
        return None
    return (
        "chunks are not compressed, and fetching them sets the pace; zstd or blosc makes masks "
        "of regions many times smaller"
    )


def _wide_labels(found: Measured) -> str | None:
    width = found.dtype.itemsize
    needed = next((size for size in (1, 2) if found.most < 256**size), width)
    if not found.labels or found.least < 0 or needed >= width:
        return None
    return (
        f"the labels of the sample are {found.least} to {found.most}, stored as "
        f"{found.dtype.name} in {width} bytes each; {np.dtype(f'u{needed}').name} holds them in "
        f"{needed}"
    )


def _slow_counting(found: Measured) -> str | None:
    before = 0.0 if found.decode is None else found.decode.seconds
    counting = found.count.seconds - before
    if _share(found, "count") < _MOST or counting < _SLOW_COUNTING * found.limit.seconds:
        return None
    figures = (
        f"counting takes {_share(found, 'count'):.0%} of the time, "
        f"{counting / found.limit.seconds:.2g} times as long as reading the memory: "
    )
    if found.labels > _MANY_LABELS:
        return (
            f"{figures}the sample has {found.labels:,} labels; where those are ids of objects, "
            "count masks of classes instead"
        )
    return (
        f"{figures}labels change from pixel to pixel, as in noise; masks of regions are counted "
        "faster, so make sure that this is the array that is meant"
    )


def _many_threads(found: Measured) -> str | None:
    if found.workers <= found.processors or found.count.idle < _MATTERS or _requests(found):
        return None
    return (
        f"{found.workers} threads share {found.processors} processors, and wait for "
        f"{found.count.idle:.0%} of their time; --workers {found.processors} would do"
    )


def _share(found: Measured, stage: str) -> float:
    return found.shares[stage] or 0.0


_RULES: dict[str, Callable[[Measured], str | None]] = {
    "zarr-python": _through_zarr,
    "extra": _without_extra,
    "codec": _slow_codec,
    "small-chunks": _small_chunks,
    "requests": _few_requests,
    "disk": _slow_disk,
    "compression": _no_compression,
    "wide-labels": _wide_labels,
    "counting": _slow_counting,
    "threads": _many_threads,
}
