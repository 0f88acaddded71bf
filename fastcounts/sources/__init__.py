"""Where masks live: one module a kind, all behind the port in :mod:`fastcounts.sources.port`."""

from __future__ import annotations

from fastcounts.sources.opening import open_source
from fastcounts.sources.port import (
    Fetched,
    Known,
    Piece,
    Pile,
    Rows,
    Source,
    Unreadable,
    Way,
    Weight,
)

__all__ = [
    "Fetched",
    "Known",
    "Piece",
    "Pile",
    "Rows",
    "Source",
    "Unreadable",
    "Way",
    "Weight",
    "open_source",
]
