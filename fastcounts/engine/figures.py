"""What was measured of a count: the time of each stage, on a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcounts.sources import Way

__all__ = ["Measured", "Stage"]


@dataclass(frozen=True)
class Stage:
    """What was measured of one stage.

    Attributes
    ----------
    seconds : for the sample, the median of all rounds.
    idle : the share of the threads' time in which they waited, the median of all rounds.
    """

    seconds: float
    idle: float


@dataclass(frozen=True)
class Measured:
    """Where the time goes.

    Attributes
    ----------
    name : of the source.
    ways : how the arrays of the sample are read, each way once.
    dtype : the widest of the sample.
    workers, processors : threads that count, and processors that they may use.
    rounds : how often everything was measured.
    pixels, decoded_bytes : of the sample, missing chunks included.
    stored_bytes : of the sample, or None where that is not known.
    chunks : that were fetched in a round: chunks, inner chunks of shards, or files.
    chunk_bytes : of one of them, decoded.
    missing, repeated : chunks that do not exist, and that were the same as one seen before.
    labels : how many there are in the sample.
    least, most : the smallest and the largest of them.
    first : seconds of the first pass over the sample, by the first of the stages; None where
        some of it had been read already.
    fetch : the stored bytes alone; None where that cannot be told from decoding.
    decode : fetched and decoded; None for what is mapped into memory.
    count : fetched, decoded and counted.
    limit : as many decoded bytes read from memory.
    """

    name: str
    ways: tuple[Way, ...]
    dtype: np.dtype[Any]
    workers: int
    processors: int
    rounds: int
    pixels: int
    decoded_bytes: int
    stored_bytes: int | None
    chunks: int
    chunk_bytes: int
    missing: int
    repeated: int
    labels: int
    least: int
    most: int
    first: float | None
    fetch: Stage | None
    decode: Stage | None
    count: Stage
    limit: Stage

    @property
    def stages(self) -> dict[str, Stage | None]:
        """The stages by name."""
        return {
            "fetch": self.fetch,
            "decode": self.decode,
            "count": self.count,
            "limit": self.limit,
        }

    @property
    def shares(self) -> dict[str, float | None]:
        """The share of a count's time that each stage adds to the one before; they add up to 1.

        A count may take less time than decoding, since it need not decode everything; what it
        adds is nothing then.
        """
        whole = self.count.seconds
        fetched = 0.0 if self.fetch is None else min(self.fetch.seconds / whole, 1.0)
        decoded = 0.0 if self.decode is None else min(self.decode.seconds / whole, 1.0)
        decoded = max(decoded, fetched)
        return {
            "fetch": None if self.fetch is None else fetched,
            "decode": None if self.decode is None else decoded - fetched,
            "count": 1 - decoded,
        }

    def to_dict(self) -> dict[str, Any]:
        """The same in types that JSON has, with rates in 10**9 bytes and pixels a second."""
        plain = ("name", "workers", "processors", "rounds", "first")
        sample = ("pixels", "decoded_bytes", "stored_bytes", "chunks", "chunk_bytes")
        shares = self.shares
        stages = {}
        for name, stage in self.stages.items():
            stages[name] = stage and {
                "seconds": stage.seconds,
                "gigabytes": self.gigabytes(stage) if name != "limit" else None,
                "gigapixels": self.gigapixels(stage),
                "share": shares.get(name),
                "idle": stage.idle,
            }
        return {
            **{name: getattr(self, name) for name in plain},
            "dtype": self.dtype.str,
            "ways": [way._asdict() | {"codecs": list(way.codecs)} for way in self.ways],
            "sample": {name: getattr(self, name) for name in (*sample, "missing", "repeated")},
            "labels": {"number": self.labels, "least": self.least, "most": self.most},
            "stages": stages,
        }

    def gigabytes(self, stage: Stage) -> float | None:
        """Stored bytes a second, in 10**9; None where they are not known."""
        return None if self.stored_bytes is None else self.stored_bytes / stage.seconds / 1e9

    def gigapixels(self, stage: Stage) -> float:
        """Pixels a second, in 10**9."""
        return self.pixels / stage.seconds / 1e9
