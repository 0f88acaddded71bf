"""What happens while counting, as small records for whoever listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastcounts.grid import Box
from fastcounts.notices import Notice

__all__ = ["Advanced", "BlockFailed", "Event", "Finished", "Listener", "Notice", "Started"]


@dataclass(frozen=True)
class Started:
    """Counting begins: pixels to count, workers, and the memory it may take, in bytes."""

    pixels: int
    workers: int
    peak_bytes: int


@dataclass(frozen=True)
class Advanced:
    """More pixels are accounted for."""

    pixels: int


@dataclass(frozen=True)
class BlockFailed:
    """A block, or a whole file whose size is not known, could not be read."""

    name: str
    box: Box | None
    pixels: int | None
    reason: str


@dataclass(frozen=True)
class Finished:
    """All pixels are accounted for; ``seconds`` is the time that took."""

    pixels: int
    seconds: float


Event = Started | Advanced | BlockFailed | Finished | Notice
Listener = Callable[[Event], None]
