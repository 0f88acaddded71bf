"""Turns the crank: threads read, decode and count; one collector adds up."""

from __future__ import annotations

from fastcounts.engine.counting import count, count_source
from fastcounts.engine.events import Advanced, BlockFailed, Event, Finished, Started

__all__ = ["Advanced", "BlockFailed", "Event", "Finished", "Started", "count", "count_source"]
