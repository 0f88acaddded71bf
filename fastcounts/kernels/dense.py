"""Kernels for labels of 8 and 16 bits: a bin for every pattern."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcounts.kernels.jit import compiled
from fastcounts.kernels.vector import load8, load16

__all__ = ["count8", "count16"]


@compiled
def count8(address: int, size: int, bins: Any) -> None:
    """Add the patterns of ``size`` bytes at an address to 256 bins."""
    for i in range(size):
        bins[load8(address + i)] += np.int64(1)


@compiled
def count16(address: int, size: int, bins: Any) -> None:
    """Add the patterns of ``size`` pixels of 2 bytes at an address to 65536 bins."""
    for i in range(size):
        bins[load16(address + 2 * i)] += np.int64(1)
