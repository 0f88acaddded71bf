"""The oracle: what a count must be, computed slowly and obviously with ``np.unique``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

import fastcounts as fc


class Picture(NamedTuple):
    """One item: its pixels, and how an index in them becomes a coordinate of the source."""

    source: str
    item: int
    pixels: np.ndarray
    origin: tuple[int, ...]
    axis: int | None = None

    def coordinate(self, index: Iterable[int]) -> tuple[int, ...]:
        at = [int(n) for n in index]
        if self.axis is not None:
            at.insert(self.axis, 0)
        return tuple(n + start for n, start in zip(at, self.origin, strict=True))


def pictures(
    array: np.ndarray,
    items: int | str = "auto",
    source: str = "",
    item: int = 0,
    region: tuple[slice, ...] | None = None,
) -> list[Picture]:
    """The items of one array, as they should be told apart."""
    origin = (0,) * array.ndim
    if region is not None:
        origin = tuple(part.start for part in region)
        array = array[region]
    if isinstance(items, str):
        return [Picture(source, item, array, origin)]
    found = []
    for number in range(array.shape[items]):
        start = tuple(n + number * (axis == items) for axis, n in enumerate(origin))
        found.append(
            Picture(source, start[items], array.take([number], items).squeeze(items), start, items)
        )
    return found


def class_of(classes: Any, ignore: Iterable[int] = ()) -> dict[int, int] | None:
    """For every label of a class, the smallest label of that class."""
    if classes is None:
        return None
    if isinstance(classes, int):
        classes = dict.fromkeys(range(classes))
    elif not isinstance(classes, Mapping):
        classes = dict(enumerate(classes))
    kept = {label: name for label, name in sorted(classes.items()) if label not in set(ignore)}
    return {
        label: label if name is None else min(other for other in kept if kept[other] == name)
        for label, name in kept.items()
    }


def tally(pixels: np.ndarray) -> tuple[dict[int, int], int]:
    """Pixels of each label, and pixels that are masked or NaN."""
    values = np.ma.compressed(pixels) if isinstance(pixels, np.ma.MaskedArray) else pixels.ravel()
    masked = pixels.size - values.size
    valid = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    labels, numbers = np.unique(valid, return_counts=True)
    found: dict[int, int] = {}
    for label, number in zip(labels.tolist(), numbers.tolist(), strict=True):
        found[int(label)] = found.get(int(label), 0) + number
    return found, masked + values.size - valid.size


def answer(
    items: Iterable[Picture], ignore: Iterable[int] = (), classes: Any = None
) -> dict[str, Any]:
    """Everything that a count says, as plain dictionaries."""
    kept = set(ignore)
    mapping = class_of(classes, kept)
    every = set(mapping.values()) if mapping else set()
    columns: dict[str, dict[int, int]] = {
        name: dict.fromkeys(every, 0)
        for name in ("pixels", "presence", "presence_pixels", "presence_pixels_total")
    }
    ignored = {label: [0, 0, 0] for label in kept}
    unexpected: dict[int, int] = {}
    rows = []
    nodata = total = 0
    for picture in items:
        if picture.pixels.size == 0:
            continue
        found, void = tally(picture.pixels)
        total += picture.pixels.size
        nodata += void
        row: dict[int, int] = {}
        for label, number in found.items():
            if label in kept or mapping is None:
                row[label] = number
            elif label in mapping:
                row[mapping[label]] = row.get(mapping[label], 0) + number
            else:
                unexpected[label] = unexpected.get(label, 0) + number
        rows.append(((picture.source, picture.item), row))
        within = sum(number for label, number in row.items() if label not in kept)
        whole = sum(row.values())
        for label, number in row.items():
            if label in kept:
                ignored[label] = [
                    a + b for a, b in zip(ignored[label], (number, 1, whole), strict=True)
                ]
                continue
            for name, value in zip(columns, (number, 1, within, whole), strict=True):
                columns[name][label] = columns[name].get(label, 0) + value
    return columns | {
        "ignored": {label: tuple(entry) for label, entry in ignored.items()},
        "nodata": nodata,
        "unexpected": unexpected,
        "total": total,
        "items": len(rows),
        "rows": sorted((key, sorted(row.items())) for key, row in rows),
    }


def places(
    items: Iterable[Picture], ignore: Iterable[int] = (), classes: Any = None
) -> dict[int, list[Any]]:
    """The three smallest places of each of the 256 smallest unexpected labels."""
    mapping = class_of(classes, ignore)
    assert mapping is not None
    found: dict[int, list[Any]] = {}
    for picture in items:
        for index, value in np.ndenumerate(np.ma.getdata(picture.pixels)):
            if np.ma.getmaskarray(picture.pixels)[index] or value != value:
                continue
            if (label := int(value)) not in mapping and label not in set(ignore):
                place = (picture.source, picture.item, picture.coordinate(index))
                found.setdefault(label, []).append(place)
    return {label: sorted(found[label])[:3] for label in sorted(found)[:256]}


def said(counts: fc.Counts) -> dict[str, Any]:
    """What a count says, in the words of :func:`answer`."""
    ledger = counts.ledger
    labels = counts.labels.tolist()
    names = ("pixels", "presence", "presence_pixels", "presence_pixels_total")
    result: dict[str, Any] = {
        name: dict(zip(labels, getattr(counts, name).tolist(), strict=True)) for name in names
    }
    rows = None
    if counts.item_table is not None:
        rows = sorted(
            ((key.source, key.item), list(zip(found, pixels, strict=True)))
            for key, found, pixels in counts.item_table.rows()
        )
    return result | {
        "ignored": {
            label: (entry.pixels, entry.presence, entry.presence_pixels_total)
            for label, entry in ledger.ignored.items()
        },
        "nodata": ledger.nodata,
        "unexpected": {label: entry.pixels for label, entry in ledger.unexpected.items()},
        "total": ledger.total,
        "items": counts.items,
        "rows": rows,
    }


def said_places(counts: fc.Counts) -> dict[int, list[Any]]:
    """Where the unexpected labels stand, in the words of :func:`places`."""
    return {
        label: list(entry.places)
        for label, entry in counts.ledger.unexpected.items()
        if entry.places
    }


def check_ledger(counts: fc.Counts) -> None:
    """Conservation, stated once more and apart from the code under test."""
    ledger = counts.ledger
    assert counts.pixels.dtype == np.int64
    assert ledger.counted == sum(counts.pixels.tolist())
    assert ledger.total == (
        ledger.counted
        + sum(entry.pixels for entry in ledger.ignored.values())
        + ledger.nodata
        + sum(entry.pixels for entry in ledger.unexpected.values())
        + ledger.missing
        + ledger.failed
    )
    assert 0 <= ledger.filled <= ledger.counted
