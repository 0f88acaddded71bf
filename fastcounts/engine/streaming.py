"""Iterators of arrays: counted in batches, so that they are never in memory all at once.

Only arrays in memory are counted batch by batch.  Paths and stored arrays take no memory before
they are read, so an iterator of them is turned into a list, and counted like one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from fastcounts.plan import Plan
from fastcounts.sources import Source

__all__ = ["batches", "is_in_memory", "join_plans", "join_runs", "number_arrays"]

BATCH_BYTES = 64 << 20
"""Bytes of the arrays of one batch: enough that starting the threads (2 ms) does not matter."""

COPIED_BYTES = 16 << 20
"""Arrays of fewer bytes are copied, others counted before the next is asked for.

Many iterators write every array into the same buffer.  An array that waits for its batch would then
change before it is counted.  Copying this many bytes takes as long as starting the threads.
"""

_EMPTY_BYTES = 512
"""Memory of an array beside its elements."""

_MAX_ARRAYS = 1 << 12
"""Arrays that the rules for notices look at: what they look for is in the first ones if at all."""


def batches(targets: Iterable[Any], memory: int | None) -> Iterator[list[Any]]:
    """Yield the masks of an iterator, several at once, each of them safe from later changes.

    Parameters
    ----------
    targets : arrays, paths, and whatever else may be in a list of masks.
    memory : the budget of the count in bytes, or None.
    """
    limit = BATCH_BYTES if memory is None else min(BATCH_BYTES, memory // 4)
    batch: list[Any] = []
    held = 0
    for target in targets:
        size = _size(target)
        is_large = size >= min(COPIED_BYTES, limit)
        batch.append(target if is_large else _copy(target))
        held += size
        if is_large or held >= limit:
            yield batch
            batch, held = [], 0
        del target  # else it stays while the next one is made
    if batch:
        yield batch


def _size(target: Any) -> int:
    """Return the bytes that a mask takes while it waits; 0 for one that is not in memory."""
    if isinstance(target, list | tuple):
        return sum(map(_size, target))
    return target.nbytes + _EMPTY_BYTES if isinstance(target, np.ndarray) else 0


def _copy(target: Any) -> Any:
    """Return a mask that does not change when what was given changes."""
    if isinstance(target, list | tuple):
        return [_copy(one) for one in target]
    return target.copy(order="K") if isinstance(target, np.ndarray) else target


def is_in_memory(target: Any) -> bool:
    """Return whether a mask of an iterator is, or contains, an array in memory."""
    return _size(target) > 0


def number_arrays(source: Source, first: int) -> None:
    """Give the arrays in memory of a batch the numbers they have among those of all batches."""
    source.arrays = tuple(
        info if info.source else replace(info, name=f"array {place}", number=place)
        for place, info in enumerate(source.arrays, first)
    )


def join_plans(plans: Sequence[Plan]) -> Plan:
    """Return one plan of the first arrays of several, for the rules that look at arrays."""
    arrays = tuple(chain.from_iterable(plan.arrays for plan in plans))[:_MAX_ARRAYS]
    grids = tuple(chain.from_iterable(plan.grids for plan in plans))[:_MAX_ARRAYS]
    return replace(
        plans[0], arrays=arrays, grids=grids, share=(0, sum(grid.size for grid in grids))
    )


def join_runs(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the provenance of several batches as that of one run."""
    joined = dict(runs[0])
    for name in ("arrays", "pixels", "skipped"):
        joined[name] = sum(run[name] for run in runs)
    joined["sources"] = list(chain.from_iterable(run["sources"] for run in runs))[:8]
    joined["seconds"] = round(sum(run["seconds"] for run in runs), 6)
    joined["workers"] = max(run["workers"] for run in runs)
    labels = set(chain.from_iterable(run["nodata_labels"] for run in runs))
    joined["nodata_labels"] = sorted(labels)[:8]
    joined["failures"] = list(chain.from_iterable(run["failures"] for run in runs))
    chunks: Counter[str] = Counter()
    for run in runs:
        chunks.update(run["chunks"])
    joined["chunks"] = dict(chunks)
    if nodata := _join_nodata(chain.from_iterable(run.get("nodata", ()) for run in runs)):
        joined["nodata"] = nodata
    if forbidden := sum(run.get("forbidden", 0) for run in runs):
        joined["forbidden"] = forbidden
    return joined


def _join_nodata(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add up the pixels of labels that became nodata, by label and the attribute that says so."""
    joined: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in entries:
        key = entry["label"], entry["attribute"], entry["masked"]
        if (known := joined.get(key)) is None:
            joined[key] = dict(entry)
            continue
        for name in ("pixels", "arrays"):
            known[name] += entry[name]
    return list(joined.values())
