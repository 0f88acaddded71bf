"""Presence: what complete items say about the labels in them, added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastcounts.classes import Labels, Options, Pixels, concatenate_labels, sum_by_label
from fastcounts.items import ItemKey, ItemTable, OpenItem

__all__ = ["Presence", "PresenceSums"]

_PENDING = 1 << 18


class PresenceSums(NamedTuple):
    """What some complete items add to the presence statistics.

    Attributes
    ----------
    items : how many there are.
    labels : (n,) class and ignored labels in them, sorted.
    presence : (n,) int64, items that contain each.
    pixels : (n,) int64, class pixels of those items.
    pixels_total : (n,) int64, the same with ignored pixels.
    table : their rows, if they were to be kept.
    """

    items: int
    labels: Labels
    presence: Pixels
    pixels: Pixels
    pixels_total: Pixels
    table: ItemTable | None


class Presence:
    """Adds up what complete items say about their labels.

    Parameters
    ----------
    options : which labels are ignored.
    keep : whether to keep the table of items.
    """

    def __init__(self, options: Options, keep: bool) -> None:
        self._options = options
        self._keep = keep
        self._items = 0
        self._labels: list[Labels] = []
        self._columns: list[list[Pixels]] = [[], [], []]
        self._pending = 0
        self._kept_keys: list[ItemKey] = []
        self._kept: list[tuple[Pixels, Labels, Pixels]] = []

    def add_open(self, items: Sequence[OpenItem]) -> None:
        """Add items that are complete."""
        if not items:
            return
        lengths = [item.labels.size for item in items]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        labels = concatenate_labels([item.labels for item in items])
        pixels = np.concatenate([item.pixels for item in items])
        self.add([item.key for item in items], offsets, labels, pixels)

    def add(self, keys: Sequence[ItemKey], offsets: Pixels, labels: Labels, pixels: Pixels) -> None:
        """Add complete items as rows of a sparse table: labels sorted, pixels above zero."""
        self._items += len(keys)
        lengths = np.diff(offsets)
        rows = np.repeat(np.arange(len(keys)), lengths)
        ignored = self._options.is_ignored(labels)
        total = np.zeros(len(keys), np.int64)
        counted = np.zeros(len(keys), np.int64)
        np.add.at(total, rows, pixels)
        np.add.at(counted, rows, np.where(ignored, 0, pixels))
        self._labels.append(labels)
        for column, values in zip(
            self._columns, (np.ones(labels.size, np.int64), counted[rows], total[rows]), strict=True
        ):
            column.append(values)
        if self._keep:
            self._kept_keys.extend(keys)
            self._kept.append((lengths, labels, pixels))
        self._pending += labels.size
        if self._pending > _PENDING:
            self._reduce()

    def join(self, other: Presence) -> None:
        """Take over the items of another."""
        self._items += other._items
        self._labels += other._labels
        for column, more in zip(self._columns, other._columns, strict=True):
            column.extend(more)
        self._pending += other._pending
        self._kept_keys += other._kept_keys
        self._kept += other._kept
        if self._pending > _PENDING:
            self._reduce()

    def __getstate__(self) -> dict[str, Any]:
        self._reduce()
        return self.__dict__

    def _reduce(self) -> tuple[Labels, list[Pixels]]:
        labels, columns = sum_by_label(self._labels, self._columns)
        self._labels = [labels]
        self._columns = [[column] for column in columns]
        self._pending = 0
        return labels, columns

    def result(self) -> PresenceSums:
        """The sums over all items that were added."""
        labels, (presence, pixels, pixels_total) = self._reduce()
        return PresenceSums(self._items, labels, presence, pixels, pixels_total, self._table())

    def _table(self) -> ItemTable | None:
        if not self._kept:
            return None
        lengths = np.concatenate([part[0] for part in self._kept])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        labels = concatenate_labels([part[1] for part in self._kept])
        pixels = np.concatenate([part[2] for part in self._kept])
        return ItemTable.of(self._kept_keys, offsets, labels, pixels)
