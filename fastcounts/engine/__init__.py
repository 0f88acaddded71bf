"""Turns the crank: threads or Dask tasks read, decode and count; one collector adds up."""

from __future__ import annotations

from fastcounts.engine.advice import Advice, advise
from fastcounts.engine.counter import Counter
from fastcounts.engine.counting import count, count_delayed, run
from fastcounts.engine.events import Advanced, BlockFailed, Event, Finished, Started
from fastcounts.engine.figures import Measured
from fastcounts.engine.measuring import bench
from fastcounts.engine.planning import Preview, preview
from fastcounts.engine.request import FORBIDDEN, MISSING, NODATA, ON_ERROR, Request

__all__ = [
    "FORBIDDEN",
    "MISSING",
    "NODATA",
    "ON_ERROR",
    "Advanced",
    "Advice",
    "BlockFailed",
    "Counter",
    "Event",
    "Finished",
    "Measured",
    "Preview",
    "Request",
    "Started",
    "advise",
    "bench",
    "count",
    "count_delayed",
    "preview",
    "run",
]
