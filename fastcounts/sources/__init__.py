"""Where masks live: one module a kind, all behind the port in :mod:`fastcounts.sources.port`."""

from __future__ import annotations

from fastcounts.sources.opening import open_source
from fastcounts.sources.port import Piece, Source, Unreadable

__all__ = ["Piece", "Source", "Unreadable", "open_source"]
