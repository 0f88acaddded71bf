"""Items, the images of a data set: those not fully seen yet, and the table of those that are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcounts.classes import (
    Labels,
    Pixels,
    as_labels,
    concatenate_labels,
    read_labels,
    sum_by_label,
)
from fastcounts.errors import FormatError, IncompatibleCounts, OptionError
from fastcounts.files import text, whole_number, whole_numbers

__all__ = ["ItemKey", "ItemTable", "OpenItem"]


class ItemKey(NamedTuple):
    """Which image: the source it is in (empty for arrays in memory) and its number there."""

    source: str
    item: int


@dataclass(frozen=True, eq=False)
class OpenItem:
    """An item of which some pixels have not been seen.

    Attributes
    ----------
    key : which item.
    seen, total : pixels seen so far and in all; failed and missing ones count as seen.
    labels : the class labels (folded) and ignored labels found so far, sorted: (n,).
    pixels : how often each: (n,) int64.
    """

    key: ItemKey
    seen: int
    total: int
    labels: Labels
    pixels: Pixels

    def __post_init__(self) -> None:
        for array in (self.labels, self.pixels):
            array.flags.writeable = False
        if not 0 <= self.seen <= self.total or int(self.pixels.sum()) > self.seen:
            raise IncompatibleCounts(
                f"{self.key.source} item {self.key.item}: {self.seen} of {self.total} pixels seen, "
                f"{int(self.pixels.sum())} of them with a label: the parts do not belong together"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OpenItem):
            return NotImplemented
        return (
            (self.key, self.seen, self.total) == (other.key, other.seen, other.total)
            and np.array_equal(self.labels, other.labels)
            and np.array_equal(self.pixels, other.pixels)
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def join(self, other: OpenItem) -> OpenItem:
        """The same item with the pixels that both have seen."""
        if self.total != other.total:
            raise IncompatibleCounts(
                f"{self.key.source} item {self.key.item}: it has {self.total} pixels in one count "
                f"and {other.total} in the other"
            )
        labels, (pixels,) = sum_by_label([self.labels, other.labels], [[self.pixels, other.pixels]])
        return OpenItem(self.key, self.seen + other.seen, self.total, labels, pixels)

    def to_dict(self) -> dict[str, Any]:
        """The item as it stands in ``counts.json``."""
        return {
            "source": self.key.source,
            "item": self.key.item,
            "seen": self.seen,
            "total": self.total,
            "labels": self.labels.tolist(),
            "pixels": self.pixels.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Any) -> OpenItem:
        """Read what :meth:`to_dict` wrote; raises FormatError that names the field."""
        try:
            labels = read_labels(data["labels"], "open_items: labels")
            pixels = whole_numbers(data["pixels"], "open_items: pixels")
            if labels.size != pixels.size or np.any(pixels < 0) or sum(pixels.tolist()) >= 2**63:
                raise FormatError("open_items: pixels: expected one number a label, none negative")
            if np.any(labels[1:] <= labels[:-1]):
                raise FormatError("open_items: labels: expected in ascending order, each once")
            if (item := whole_number(data["item"], "open_items: item")) < 0:
                raise FormatError(f"open_items: item: expected at least 0, got {item}")
            return cls(
                ItemKey(text(data["source"], "open_items: source"), item),
                whole_number(data["seen"], "open_items: seen"),
                whole_number(data["total"], "open_items: total"),
                labels,
                pixels,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"open_items: {error!r}") from None
        except IncompatibleCounts as error:
            raise FormatError(f"open_items: {error}") from None


@dataclass(frozen=True, eq=False)
class ItemTable:
    """Pixels of every label in every item, without the zeros.

    Row ``i`` is item ``items[i]`` of ``sources[source[i]]``; it has the labels
    ``labels[offsets[i]:offsets[i + 1]]``, sorted, class labels and ignored ones, and as many
    ``pixels`` of each.  Rows are sorted by source and item.

    Attributes
    ----------
    sources : the sources' names, sorted.
    source : (n,) int64, an index into ``sources``.
    items : (n,) int64.
    offsets : (n + 1,) int64.
    labels : (m,) int64 or uint64.
    pixels : (m,) int64.
    """

    sources: tuple[str, ...]
    source: NDArray[np.int64]
    items: NDArray[np.int64]
    offsets: NDArray[np.int64]
    labels: Labels
    pixels: Pixels

    def __len__(self) -> int:
        return int(self.items.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ItemTable):
            return NotImplemented
        return self.sources == other.sources and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("source", "items", "offsets", "labels", "pixels")
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    @classmethod
    def of(
        cls,
        keys: Sequence[ItemKey],
        offsets: NDArray[np.int64],
        labels: Labels,
        pixels: Pixels,
    ) -> ItemTable:
        """Build a table from rows in any order."""
        sources = tuple(sorted({key.source for key in keys}))
        number = {source: place for place, source in enumerate(sources)}
        source = np.array([number[key.source] for key in keys], np.int64)
        items = np.array([key.item for key in keys], np.int64)
        order = np.lexsort((items, source))
        order = _break_ties(order, source, items, offsets, labels, pixels)
        taken, starts = _take(offsets, order)
        return cls(
            sources, source[order], items[order], starts, as_labels(labels[taken]), pixels[taken]
        )

    @property
    def keys(self) -> list[ItemKey]:
        """Which item each row is."""
        pairs = zip(self.source.tolist(), self.items.tolist(), strict=True)
        return [ItemKey(self.sources[source], item) for source, item in pairs]

    def dense(self, labels: Iterable[int]) -> Pixels:
        """The columns of ``labels`` as a dense table: (items, labels) int64.

        Raises
        ------
        OptionError
            If a label is given twice.
        """
        wanted = [int(label) for label in labels]
        if len(set(wanted)) != len(wanted):
            raise OptionError("labels: one is given twice")
        dense = np.zeros((len(self), len(wanted)), np.int64)
        rows = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        for column, label in enumerate(wanted):
            if label < 0 and self.labels.dtype == np.uint64:
                continue
            hits = self.labels == label
            dense[rows[hits], column] = self.pixels[hits]
        return dense

    def join(self, other: ItemTable) -> ItemTable:
        """The rows of both."""
        labels = concatenate_labels([self.labels, other.labels])
        offsets = np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return ItemTable.of(
            self.keys + other.keys, offsets, labels, np.concatenate([self.pixels, other.pixels])
        )

    def without(self, other: ItemTable) -> ItemTable:
        """The rows that are left when those of ``other`` are taken away."""
        away: dict[object, int] = {}
        for row in other.rows():
            away[row] = away.get(row, 0) + 1
        kept = []
        for place, row in enumerate(self.rows()):
            if away.get(row):
                away[row] -= 1
            else:
                kept.append(place)
        if any(away.values()):
            raise IncompatibleCounts("an item that would be taken away was not counted")
        taken, starts = _take(self.offsets, np.array(kept, np.int64))
        keys = self.keys
        return ItemTable.of(
            [keys[place] for place in kept], starts, self.labels[taken], self.pixels[taken]
        )

    def rows(self) -> Iterable[tuple[ItemKey, tuple[int, ...], tuple[int, ...]]]:
        """Every item with its labels and pixels."""
        bounds = self.offsets.tolist()
        for place, key in enumerate(self.keys):
            part = slice(bounds[place], bounds[place + 1])
            yield key, tuple(self.labels[part].tolist()), tuple(self.pixels[part].tolist())

    def to_dict(self) -> dict[str, Any]:
        """The table as it stands in ``counts.json``."""
        arrays = ("source", "items", "offsets", "labels", "pixels")
        return {"sources": list(self.sources)} | {
            name: getattr(self, name).tolist() for name in arrays
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ItemTable:
        """Read what :meth:`to_dict` wrote; raises FormatError that names the field."""
        try:
            labels = read_labels(data["labels"], "item_table: labels")
            sources = data["sources"]
            if not isinstance(sources, list) or not all(isinstance(s, str) for s in sources):
                raise FormatError("item_table: sources: expected a list of names")
            source, items, offsets, pixels = (
                whole_numbers(data[name], f"item_table: {name}")
                for name in ("source", "items", "offsets", "pixels")
            )
            if (
                offsets.shape != (items.size + 1,)
                or source.shape != items.shape
                or offsets[0] != 0
                or np.any(np.diff(offsets) < 0)
                or np.any(pixels < 0)
                or np.any(source < 0)
                or not offsets[-1] == labels.size == pixels.size
            ):
                raise ValueError("the lengths of its columns do not fit together")
            keys = [
                ItemKey(sources[place], item)
                for place, item in zip(source.tolist(), items.tolist(), strict=True)
            ]
            return cls.of(keys, offsets, labels, pixels)
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise FormatError(f"item_table: {error!r}") from None


def _take(
    offsets: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the entries of ``rows`` stand, and the offsets of the new table."""
    lengths = np.diff(offsets)[rows] if rows.size else np.empty(0, np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    within = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    return np.repeat(offsets[rows], lengths) + within if rows.size else within, starts


def _break_ties(
    order: NDArray[np.intp],
    source: NDArray[np.int64],
    items: NDArray[np.int64],
    offsets: NDArray[np.int64],
    labels: Labels,
    pixels: Pixels,
) -> NDArray[np.intp]:
    """Order rows of equal keys (arrays in memory have no name) by what is in them."""
    same = (np.diff(source[order]) == 0) & (np.diff(items[order]) == 0)
    if not same.any():
        return order

    def content(row: int) -> tuple[int, int, list[int], list[int]]:
        part = slice(offsets[row], offsets[row + 1])
        return int(source[row]), int(items[row]), labels[part].tolist(), pixels[part].tolist()

    return np.array(sorted(order.tolist(), key=content), np.intp)
