"""What counting returns, and how bit patterns become labels again."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ItemTally", "Tally", "interpret", "merge"]

_LARGEST_LABEL = 2**63


class Tally(NamedTuple):
    """Pixels of every label that occurs.

    Attributes
    ----------
    labels : (n,), ascending and distinct; int64, or uint64 when one is 2**63 or more.
    pixels : (n,), all greater than zero.
    nodata : pixels of floating point input that are NaN; 0 for other input.
    """

    labels: NDArray[Any]
    pixels: NDArray[np.int64]
    nodata: int


class ItemTally(NamedTuple):
    """Pixels of every label in every item of a stack.

    Item ``i`` holds ``labels[offsets[i]:offsets[i + 1]]``, ascending, with the pixels at
    the same places.

    Attributes
    ----------
    offsets : (items + 1,), where each item begins.
    labels : the labels of all items, item after item; int64 or uint64 as in `Tally`.
    pixels : as long as ``labels``, all greater than zero.
    nodata : (items,), pixels of floating point input that are NaN.
    """

    offsets: NDArray[np.int64]
    labels: NDArray[Any]
    pixels: NDArray[np.int64]
    nodata: NDArray[np.int64]


def interpret(
    patterns: NDArray[Any], pixels: NDArray[np.int64], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.bool_]]:
    """Turn bit patterns into labels.

    Parameters
    ----------
    patterns : unsigned integers that hold the bits of labels, in any order.
    pixels : how many pixels hold each.
    dtype : the type of the array that was counted, in native byte order.

    Returns
    -------
    labels : int64 or uint64 (from 2**63 on), as long as ``patterns``.
    pixels : as given.
    nodata : which of the patterns are NaN; their labels are 0.
    """
    nothing = np.zeros(patterns.shape, np.bool_)
    if dtype.kind == "b":
        return (patterns != 0).astype(np.int64), pixels, nothing
    values = patterns.astype(f"u{dtype.itemsize}").view(dtype)
    if dtype.kind == "f":
        nothing = np.isnan(values)
        return np.where(nothing, 0, values).astype(np.int64), pixels, nothing
    if dtype == np.uint64 and values.size and values.max() >= _LARGEST_LABEL:
        return values, pixels, nothing
    return values.astype(np.int64), pixels, nothing


def merge(labels: NDArray[Any], pixels: NDArray[np.int64], nodata: int) -> Tally:
    """Sort labels, add the pixels of equal ones and leave out those without pixels."""
    if not (labels[1:] > labels[:-1]).all():
        order = np.argsort(labels)
        labels, pixels = labels[order], pixels[order]
        first = np.append(True, labels[1:] != labels[:-1])
        starts = np.flatnonzero(first)
        if starts.size < labels.size:
            pixels = np.add.reduceat(pixels, starts)
            labels = labels[starts]
    if not pixels.all():
        present = pixels != 0
        labels, pixels = labels[present], pixels[present]
    return Tally(labels, pixels, nodata)
