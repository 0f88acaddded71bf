"""Puts partial counts together: totals, items, and the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcounts.classes import (
    FILL_VALUE,
    Labels,
    Options,
    Pixels,
    as_labels,
    join_names,
    sum_by_label,
)
from fastcounts.counts import Counts, spread, with_presence
from fastcounts.engine.places import Places
from fastcounts.engine.tallying import Partial
from fastcounts.items import ItemKey, ItemTable, OpenItem
from fastcounts.ledger import Ignored, Ledger, Unexpected
from fastcounts.plan import Plan
from fastcounts.presence import Presence

__all__ = ["Collector"]

_PENDING = 1 << 18


class _Totals:
    """Pixels by label, added up now and then."""

    def __init__(self) -> None:
        self._labels: list[Labels] = []
        self._pixels: list[Pixels] = []
        self._pending = 0

    def add(self, labels: Labels, pixels: Pixels) -> None:
        if labels.size:
            self._labels.append(labels)
            self._pixels.append(pixels)
            self._pending += labels.size + 16
        if self._pending > _PENDING:
            labels, pixels = self.result()
            self._labels, self._pixels, self._pending = [labels], [pixels], 0

    def result(self) -> tuple[Labels, Pixels]:
        labels, (pixels,) = sum_by_label(self._labels, [self._pixels])
        return labels, pixels

    def __getstate__(self) -> dict[str, Any]:
        labels, pixels = self.result()
        return {"_labels": [labels], "_pixels": [pixels], "_pending": 0}


class Collector:
    """Adds up the partial counts of one run, in one thread.

    A collector can be sent to another process, without its plan, and joined to one there.

    Parameters
    ----------
    plan : of the run; a collector that only joins others needs none.
    options : of the run.
    keep_items : whether to keep a table of items.

    Attributes
    ----------
    forbidden : chunks that a store forbids to read, and that were taken for missing.
    """

    def __init__(self, plan: Plan | None, options: Options, keep_items: bool) -> None:
        self._given_plan = plan
        self._options = options
        self._keep = keep_items
        self._presence = Presence(options, keep_items)
        self._totals = _Totals()
        self._strangers = _Totals()
        self._places = Places(options.item_axis)
        self._open: dict[tuple[ItemKey, int], OpenItem] = {}
        self.forbidden = 0
        self._declared: Counter[tuple[int, int]] = Counter()
        self._sums = dict.fromkeys(("total", "filled", "nodata", "missing", "failed"), 0)

    def add(self, partial: Partial) -> int:
        """Take in one partial count; returns how many pixels it accounts for."""
        if partial.places is not None:
            self._places.join(partial.places)
        self._totals.add(partial.labels, partial.pixels)
        self._strangers.add(partial.unexpected_labels, partial.unexpected_pixels)
        for name in ("filled", "nodata", "missing", "failed"):
            self._sums[name] += getattr(partial, name)
        self.forbidden += partial.forbidden
        self._declared.update(partial.declared)
        pixels = int(partial.seen.sum())
        self._sums["total"] += pixels
        if partial.numbers.size:
            self._add_items(partial)
        return pixels

    def add_complete(self, partial: Partial) -> None:
        """Take in whole items of arrays in memory, which need not be of one size."""
        self._totals.add(partial.labels, partial.pixels)
        self._strangers.add(partial.unexpected_labels, partial.unexpected_pixels)
        self._sums["nodata"] += partial.nodata
        self._sums["total"] += int(partial.seen.sum())
        keys = [ItemKey("", number) for number in partial.numbers.tolist()]
        self._presence.add(keys, partial.offsets, partial.labels, partial.pixels)

    def set_places(self, places: Places) -> None:
        """Take over all places of unexpected labels that were found."""
        self._places = places

    def blank(self) -> Collector:
        """An empty collector for the same run."""
        return Collector(None, self._options, self._keep)

    def join(self, other: Collector) -> int:
        """Take over what another has collected; returns how many pixels that accounts for."""
        self._totals.add(*other._totals.result())
        self._strangers.add(*other._strangers.result())
        self._places.join(other._places)
        self._presence.join(other._presence)
        self.forbidden += other.forbidden
        self._declared.update(other._declared)
        for name in self._sums:
            self._sums[name] += other._sums[name]
        for place, item in other._open.items():
            self._put(place, item)
        return other._sums["total"]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_given_plan": None}

    @property
    def _plan(self) -> Plan:
        assert self._given_plan is not None
        return self._given_plan

    def _add_items(self, partial: Partial) -> None:
        """Close the items that are complete; keep the others until they are."""
        _, total = self._plan.item_of(partial.array, int(partial.numbers[0]))
        keys = [self._plan.item_of(partial.array, n)[0] for n in partial.numbers.tolist()]
        complete = partial.seen == total
        if complete.all():
            self._presence.add(keys, partial.offsets, partial.labels, partial.pixels)
            return
        done: list[OpenItem] = []
        bounds = partial.offsets.tolist()
        for row, (key, seen) in enumerate(zip(keys, partial.seen.tolist(), strict=True)):
            part = slice(bounds[row], bounds[row + 1])
            item = OpenItem(key, seen, total, as_labels(partial.labels[part]), partial.pixels[part])
            if seen == total:
                done.append(item)
            else:
                self._put((key, -1 if key.source else partial.array), item)
        self._presence.add_open(done)

    def _put(self, place: tuple[ItemKey, int], item: OpenItem) -> None:
        """Add what was seen of an item; it closes when its last pixel arrives."""
        if (known := self._open.pop(place, None)) is not None:
            item = known.join(item)
        if item.seen == item.total:
            self._presence.add_open([item])
        else:
            self._open[place] = item

    def finish(self, provenance: Mapping[str, Any]) -> Counts:
        """The counts of everything that was added."""
        labels, pixels = self._totals.result()
        ignored = self._options.is_ignored(labels)
        class_labels, (class_pixels,) = spread(
            self._options, as_labels(labels[~ignored]), [pixels[~ignored]]
        )
        strangers, strange_pixels = self._strangers.result()
        zeros = np.zeros_like(class_pixels)
        given = {
            "labels": class_labels,
            "pixels": class_pixels,
            "items": 0,
            "presence": zeros,
            "presence_pixels": zeros,
            "presence_pixels_total": zeros,
            "unplaced": zeros,
            "ledger": Ledger(
                counted=int(class_pixels.sum()),
                ignored=self._ignored(labels[ignored], pixels[ignored]),
                unexpected=self._unexpected(strangers, strange_pixels),
                **self._sums,
            ),
            "options": self._options,
            "covers": self._plan.covers(),
            "provenance": provenance,
            "data_names": self._names(),
            "item_table": _empty_table() if self._keep else None,
        }
        return with_presence(given, self._presence.result(), list(self._open.values()))

    def declared_nodata(self, *, confirmed: bool) -> list[dict[str, Any]]:
        """Return which labels became nodata because metadata declares them, for the provenance.

        Parameters
        ----------
        confirmed : whether the user confirmed that fill values are nodata.

        Returns
        -------
        An entry for each label and the attribute that declares it: its pixels, the first array
        that has it, in how many arrays it is, whether nothing but a fill value declares it
        (``implicit``), and whether the array that was given has NaN in its place (``masked``).
        """
        entries: dict[tuple[int, str, bool], dict[str, Any]] = {}
        for (array, label), pixels in sorted(self._declared.items()):
            info = self._plan.arrays[array]
            attribute, is_masked = info.meaning.origin(label), info.meaning.is_masked
            entry = entries.setdefault(
                (label, attribute, is_masked),
                {
                    "label": label,
                    "pixels": 0,
                    "attribute": attribute,
                    "array": info.name,
                    "arrays": 0,
                    "implicit": attribute == FILL_VALUE and not is_masked and not confirmed,
                    "masked": is_masked,
                },
            )
            entry["pixels"] += pixels
            entry["arrays"] += 1
        return [entries[key] for key in sorted(entries)]

    def _names(self) -> dict[int, tuple[str, ...]]:
        """What the data calls its labels; nothing where the user said what the classes are."""
        if self._options.classes is not None:
            return {}
        return join_names(info.meaning.names for info in self._plan.arrays)

    def _ignored(self, labels: Labels, pixels: Pixels) -> dict[int, Ignored]:
        found = dict(zip(labels.tolist(), pixels.tolist(), strict=True))
        return {label: Ignored(found.get(label, 0)) for label in self._options.ignore}

    def _unexpected(self, labels: Labels, pixels: Sequence[int] | Pixels) -> dict[int, Unexpected]:
        smallest = sorted(self._places.found)[:256]
        places = {label: tuple(self._places.found[label]) for label in smallest}
        return {
            label: Unexpected(number, places.get(label, ()))
            for label, number in zip(labels.tolist(), np.asarray(pixels).tolist(), strict=True)
        }


def _empty_table() -> ItemTable:
    return ItemTable.of([], np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
