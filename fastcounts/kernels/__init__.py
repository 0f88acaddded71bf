"""Counting the labels of arrays in memory: the only code that knows numba.

Kernels know arrays and nothing else. Every label is counted as the bit pattern that
holds it (8, 16, 32 or 64 bits wide) and becomes a number again when a table is drained,
so signed, unsigned and floating point labels share the same few compiled functions.

Importing this package does not import numba; the first array that is counted does.
"""

from __future__ import annotations

from fastcounts.kernels.arrays import count
from fastcounts.kernels.items import count_items
from fastcounts.kernels.tables import Table, table
from fastcounts.kernels.tally import ItemTally, Tally

__all__ = ["ItemTally", "Table", "Tally", "count", "count_items", "table"]
