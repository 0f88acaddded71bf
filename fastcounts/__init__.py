"""Exact pixel counts of every class over every mask, and the loss weights that follow."""

from __future__ import annotations

from fastcounts import errors
from fastcounts.counts import Counts, load
from fastcounts.engine import count
from fastcounts.ledger import Ledger
from fastcounts.solvers import schemes, solve
from fastcounts.version import __version__
from fastcounts.weights import Weights

__all__ = [
    "Counts",
    "Ledger",
    "Weights",
    "__version__",
    "count",
    "errors",
    "load",
    "schemes",
    "solve",
]
