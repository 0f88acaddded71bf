"""Turns the crank: threads or Dask tasks read, decode and count; one collector adds up."""

from __future__ import annotations

from fastcounts.engine.counting import count, count_delayed, run
from fastcounts.engine.events import Advanced, BlockFailed, Event, Finished, Started
from fastcounts.engine.request import FORBIDDEN, MISSING, ON_ERROR, Request

__all__ = [
    "FORBIDDEN",
    "MISSING",
    "ON_ERROR",
    "Advanced",
    "BlockFailed",
    "Event",
    "Finished",
    "Request",
    "Started",
    "count",
    "count_delayed",
    "run",
]
