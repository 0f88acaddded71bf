"""Contradictions: what arithmetic can refute in the numbers of Counts.

Counts that contradict themselves cannot be constructed, added, subtracted or loaded.  Every rule
here follows from how pixels are counted, so it holds for everything that a count, a merge, a
subtraction or ``Counts.from_pixels`` returns.  What the rules say is listed in the docstrings of
the functions; each returns a sentence that starts with the name of the field, or None.

Three sets of pixels appear in all of them, per label:

``open``
    Pixels of items that are not complete.
``unplaced``
    Pixels of which it is not known in which items they are: those of counts that came without
    complete item statistics.
``closed``
    All others.  They are in complete items, so the presence statistics account for each of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcounts.classes import Labels, Pixels, comparable, concatenate_labels, labels_from_integers
from fastcounts.covers import Cover, Piece
from fastcounts.errors import LabelRangeError
from fastcounts.grid import Box, volume
from fastcounts.items import ItemTable, OpenItem
from fastcounts.ledger import MOST_PIXELS, PLACES, Ledger

if TYPE_CHECKING:
    from fastcounts.counts import Counts

__all__ = ["contradiction", "coverage_contradiction", "exact_sum", "unaccounted"]

COLUMNS = ("pixels", "presence", "presence_pixels", "presence_pixels_total", "unplaced")

MAX_AXES = 64
"""Axes of a NumPy array, at most; items lie along one of them."""

_MAX_LOOKUP = 1 << 22
"""Labels are looked up in a table if they span no more than this, which is 32 MB of int64."""


def exact_sum(column: Pixels) -> int:
    """Return the sum of nonnegative int64 numbers, however large."""
    if column.size and int(column.max()) > MOST_PIXELS // column.size:
        return sum(column.tolist())
    return int(column.sum())


def contradiction(counts: Counts) -> str | None:
    """Return in what way the numbers contradict each other, or None."""
    for rule in (_columns, _labels, _ledger):
        if fault := rule(counts):
            return fault
    if isinstance(known := _Statistics.of(counts), str):
        return known
    rules = (_items, _least, _most, _whole) if counts.item_table is None else (_items, _table)
    for check in rules:
        if fault := check(counts, known):
            return fault
    return None


# ---- columns, labels, ledger ----


def _columns(counts: Counts) -> str | None:
    """Every column is int64, has a number per class, and none is negative."""
    for name in COLUMNS:
        column = getattr(counts, name)
        if column.dtype != np.int64 or column.shape != counts.labels.shape:
            return f"{name}: expected int64 of shape {counts.labels.shape}"
        if column.size and column.min() < 0:
            return f"{name}: a negative number"
    return None


def _labels(counts: Counts) -> str | None:
    """Labels are sorted and distinct, none is ignored, and they are those of ``options``."""
    labels, options = counts.labels, counts.options
    if labels.size > 1 and not np.all(labels[1:] > labels[:-1]):
        return "labels: expected in ascending order, each once"
    if np.any(options.is_ignored(labels)):
        return "labels: one of them is ignored"
    if options.classes is not None and not np.array_equal(options.classes.labels, labels):
        return "labels: they are not those of options.classes"
    if (axis := options.item_axis) is not None and not 0 <= axis < MAX_AXES:
        return f"options: items: {axis} is not the number of an axis"
    return None


def _ledger(counts: Counts) -> str | None:
    """The ledger counts the pixels of the classes, and names labels as ``options`` does."""
    ledger, options = counts.ledger, counts.options
    counted = exact_sum(counts.pixels)
    if counted != ledger.counted:
        return f"pixels add up to {counted}, and the ledger says counted {ledger.counted}"
    if set(ledger.ignored) != set(options.ignore):
        return (
            f"ledger.ignored: it has the labels {_some(ledger.ignored)} and options.ignore "
            f"{_some(options.ignore)}"
        )
    if ledger.unexpected and options.classes is None:
        return "ledger.unexpected: without options.classes no label is unexpected"
    assigned = options.classes.assigned if options.classes is not None else {}
    for label, entry in ledger.unexpected.items():
        if label in assigned or label in ledger.ignored:
            return f"ledger.unexpected: label {label} is a class or ignored"
        if entry.pixels == 0:
            return f"ledger.unexpected.{label}.pixels: 0, so the label is not there"
    return None


def _some(labels: Any) -> str:
    shown = list(labels)
    return f"[{', '.join(map(str, shown[:4]))}{', ...' if len(shown) > 4 else ''}]"


# ---- statistics of items ----


@dataclass(frozen=True)
class _Statistics:
    """Columns over class labels, followed by ignored labels.

    Attributes
    ----------
    classes : how many of the rows are classes.
    pixels, presence, total, unplaced : (n,) int64; ``total`` is ``presence_pixels_total``.
    closed : (n,) int64, pixels that are in complete items, unplaced ones included.
    seen : pixels of the items that are not complete.
    lookup : finds the row of a label.
    """

    classes: int
    pixels: Pixels
    presence: Pixels
    total: Pixels
    unplaced: Pixels
    closed: Pixels
    seen: int
    lookup: _Lookup

    @classmethod
    def of(cls, counts: Counts) -> _Statistics | str:
        """Put the columns together; returns what is wrong with the open items, if anything."""
        ignored = counts.ledger.ignored.values()

        def column(name: str, field: str) -> Pixels:
            found = np.array([getattr(entry, field) for entry in ignored], np.int64)
            return np.concatenate([getattr(counts, name), found])

        lookup = _Lookup(counts.labels, labels_from_integers(list(counts.ledger.ignored)))
        if isinstance(opened := _opened(counts.open_items, lookup), str):
            return opened
        pixels = column("pixels", "pixels")
        if np.any(short := opened > pixels):
            return f"open_items: they have more pixels of {_called(counts, short)} than pixels has"
        unplaced = column("unplaced", "unplaced")
        closed = pixels - opened
        if np.any(short := unplaced > closed):
            return f"unplaced: {_called(counts, short)} has more than pixels outside of open items"
        return cls(
            classes=counts.labels.size,
            pixels=pixels,
            presence=column("presence", "presence"),
            total=column("presence_pixels_total", "presence_pixels_total"),
            unplaced=unplaced,
            closed=closed,
            seen=sum(item.seen for item in counts.open_items),
            lookup=lookup,
        )


class _Lookup:
    """Finds the row of labels among class labels, followed by ignored labels."""

    def __init__(self, classes: Labels, ignored: Labels) -> None:
        self._classes = classes
        self._ignored = ignored
        self.size = classes.size + ignored.size

    def rows(self, labels: Labels) -> NDArray[Any]:
        """Return the row of every label; -1 if it is neither a class nor ignored."""
        rows = _find(self._classes, labels)
        if self._ignored.size and rows.size and rows.min() < 0:
            others = np.flatnonzero(rows < 0)
            found = _find(self._ignored, labels[others])
            rows[others] = np.where(found < 0, -1, found + self._classes.size)
        return rows


def _find(known: Labels, wanted: Labels) -> NDArray[Any]:
    """Return the place of each ``wanted`` label in ``known``, which is sorted; -1 for others."""
    if not known.size or not wanted.size:
        return np.full(wanted.size, -1, np.int64)
    low, high = int(known[0]), int(known[-1])
    if known.dtype == wanted.dtype and high - low < _MAX_LOOKUP:
        table = np.full(high - low + 1, -1, np.int64)
        table[known - known[0]] = np.arange(known.size)
        if low <= int(wanted.min()) and int(wanted.max()) <= high:
            rows: NDArray[Any] = table[wanted - known[0]]
            return rows
        inside = (wanted >= known[0]) & (wanted <= known[-1])
        rows = np.full(wanted.size, -1, np.int64)
        rows[inside] = table[wanted[inside] - known[0]]
        return rows
    left, right = comparable(known, wanted)
    place = np.minimum(np.searchsorted(left, right), left.size - 1)
    return np.where(left[place] == right, place, -1)


def _sum_at(rows: NDArray[Any], numbers: Pixels, size: int) -> Pixels:
    """Return the exact sum of ``numbers`` under each of ``size`` rows; the whole fits int64."""
    if numbers.size and int(numbers.max()) <= 2**53 // numbers.size:
        return np.bincount(rows, numbers, size).astype(np.int64)  # exact: below 2**53
    sums = np.zeros(size, np.int64)
    np.add.at(sums, rows, numbers)
    return sums


def _opened(items: Sequence[OpenItem], lookup: _Lookup) -> Pixels | str:
    """Open items are of distinct keys, have labels of classes or ignored ones, and are open."""
    if not items:
        return np.zeros(lookup.size, np.int64)
    if len({item.key for item in items}) < len(items):
        return "open_items: one item is there twice"
    for item in items:
        if item.seen >= item.total:
            return "open_items: one is complete"
        if item.seen == 0 or item.total > MOST_PIXELS:
            return f"open_items: {item.key.source} item {item.key.item}: seen or total: impossible"
        if item.pixels.size and item.pixels.min() < 1:
            return f"open_items: {item.key.source} item {item.key.item}: pixels: less than 1"
    pixels = np.concatenate([item.pixels for item in items])
    try:
        rows = lookup.rows(concatenate_labels([item.labels for item in items]))
    except LabelRangeError:  # negative labels in one item, huge ones in another
        rows = np.concatenate([lookup.rows(item.labels) for item in items])
    if rows.size and rows.min() < 0:
        label = [label for item in items for label in item.labels.tolist()][rows.argmin()]
        return f"open_items: labels: {label} is neither a class nor ignored"
    if exact_sum(pixels) > MOST_PIXELS:
        return "open_items: pixels: more than int64 holds"
    return _sum_at(rows, pixels, lookup.size)


def unaccounted(
    labels: Labels,
    pixels: Pixels,
    ledger: Ledger,
    open_items: Sequence[OpenItem],
    table: ItemTable | None,
) -> tuple[Pixels, Pixels]:
    """Return the pixels that are neither in open items nor in a table: by class, by ignored label.

    Nothing is checked: numbers that contradict each other give numbers that do as well.
    """
    ignored = np.array([entry.pixels for entry in ledger.ignored.values()], np.int64)
    lookup = _Lookup(labels, labels_from_integers(list(ledger.ignored)))
    left = np.concatenate([pixels, ignored])
    opened = _opened(open_items, lookup)
    if left.shape == (lookup.size,) and not isinstance(opened, str):
        left = left - opened
        if table is not None and exact_sum(table.pixels) <= MOST_PIXELS:
            rows = lookup.rows(table.labels)
            left = left - _sum_at(rows[rows >= 0], table.pixels[rows >= 0], lookup.size)
    left = np.maximum(left, 0)
    return left[: pixels.size], left[pixels.size :]


def _called(counts: Counts, wrong: NDArray[np.bool_]) -> str:
    """Name the first label that is wrong."""
    row = int(wrong.argmax())
    if row >= counts.labels.size:
        return f"ignored label {list(counts.ledger.ignored)[row - counts.labels.size]}"
    return f"class {counts.labels[row]}"


def _field(counts: Counts, wrong: NDArray[np.bool_], name: str) -> str:
    """Name the field of the first label that is wrong, and the label."""
    row = int(wrong.argmax())
    if row >= counts.labels.size:
        label = list(counts.ledger.ignored)[row - counts.labels.size]
        return f"ledger.ignored.{label}.{name}"
    return f"{name}: class {counts.labels[row]}"


def _items(counts: Counts, known: _Statistics) -> str | None:
    """Every item has a pixel, and no label is in more items than there are."""
    left = counts.ledger.total - known.seen
    if left < 0:
        return f"open_items: {known.seen} pixels seen, of the {counts.ledger.total} in all"
    if counts.items < 0:
        return f"items: {counts.items} is negative"
    if counts.items > left:
        return f"items: {counts.items} of them, and {left} pixels that they could be made of"
    if np.any(wrong := known.presence > counts.items):
        return (
            f"{_field(counts, wrong, 'presence')}: more items contain it than the {counts.items} "
            "there are"
        )
    if counts.item_table is not None and len(counts.item_table) != counts.items:
        return f"item_table: {len(counts.item_table)} rows for {counts.items} items"
    if (
        not counts.items
        and not counts.open_items
        and np.any(wrong := known.unplaced < known.pixels)
    ):
        return f"{_field(counts, wrong, 'unplaced')}: without items every pixel is unplaced"
    return None


def _least(counts: Counts, known: _Statistics) -> str | None:
    """What the closed pixels of a label need: an item that contains them, and its pixels."""
    placed = known.closed - known.unplaced
    if np.any(wrong := (placed > 0) & (known.presence == 0)):
        return (
            f"{_field(counts, wrong, 'presence')}: 0 items, with "
            f"{placed[wrong.argmax()]} pixels in complete items"
        )
    inside = counts.presence_pixels
    if np.any(wrong := inside < placed[: known.classes]):
        return (
            f"{_field(counts, wrong, 'presence_pixels')}: {inside[wrong.argmax()]} pixels of any "
            f"class, fewer than its own {placed[wrong.argmax()]}"
        )
    if np.any(wrong := known.total < placed):
        return (
            f"{_field(counts, wrong, 'presence_pixels_total')}: {known.total[wrong.argmax()]} "
            f"pixels, fewer than its own {placed[wrong.argmax()]}"
        )
    return None


def _most(counts: Counts, known: _Statistics) -> str | None:
    """What the closed pixels of all labels leave room for."""
    n = known.classes
    if np.any(wrong := known.presence > known.closed):
        return (
            f"{_field(counts, wrong, 'presence')}: {known.presence[wrong.argmax()]} items, with "
            f"{known.closed[wrong.argmax()]} pixels in complete items"
        )
    classes, ignored = exact_sum(known.closed[:n]), exact_sum(known.closed[n:])
    inside = counts.presence_pixels
    if np.any(wrong := inside > known.total[:n]):
        return f"{_field(counts, wrong, 'presence_pixels')}: more than presence_pixels_total"
    if np.any(wrong := inside > classes):
        return (
            f"{_field(counts, wrong, 'presence_pixels')}: {inside[wrong.argmax()]} pixels of any "
            f"class, and all complete items have {classes}"
        )
    if np.any(wrong := known.total > classes + ignored):
        return (
            f"{_field(counts, wrong, 'presence_pixels_total')}: {known.total[wrong.argmax()]} "
            f"pixels, and all complete items have {classes + ignored}"
        )
    if np.any(wrong := known.total[:n] - inside > ignored):
        return (
            f"{_field(counts, wrong, 'presence_pixels_total')}: exceeds presence_pixels by more "
            f"than the {ignored} ignored pixels"
        )
    wrong = (known.presence == 0) & (known.total > 0)
    if np.any(wrong):
        return (
            f"{_field(counts, wrong, 'presence_pixels_total')}: "
            f"{known.total[wrong.argmax()]} pixels of 0 items; presence says that none contains it"
        )
    return None


def _whole(counts: Counts, known: _Statistics) -> str | None:
    """A label that is in every item has the pixels of all of them around it."""
    if known.unplaced.any():
        return None  # the items of unplaced pixels may be among them, with their pixels unknown
    n = known.classes
    classes = exact_sum(known.closed[:n])
    total = classes + exact_sum(known.closed[n:])
    everywhere = (known.presence == counts.items) & (counts.items > 0)
    if np.any(wrong := everywhere[:n] & (counts.presence_pixels != classes)):
        return (
            f"{_field(counts, wrong, 'presence_pixels')}: it is in every item, and these have "
            f"{classes} pixels of classes, not {counts.presence_pixels[wrong.argmax()]}"
        )
    if np.any(wrong := everywhere & (known.total != total)):
        return (
            f"{_field(counts, wrong, 'presence_pixels_total')}: it is in every item, and these "
            f"have {total} pixels, not {known.total[wrong.argmax()]}"
        )
    return None


def _table(counts: Counts, known: _Statistics) -> str | None:
    """The table of items accounts for every closed pixel and every statistic."""
    table = counts.item_table
    assert table is not None
    if table.pixels.size and table.pixels.min() < 1:
        return "item_table: pixels: expected 1 or more"
    if table.items.size and table.items.min() < 0:
        return "item_table: items: a negative number"
    if not _ascending(table):
        return "item_table: labels: expected in ascending order within a row, each once"
    rows = known.lookup.rows(table.labels)
    if rows.size and rows.min() < 0:
        return f"item_table: labels: {table.labels[rows.argmin()]} is neither a class nor ignored"
    if exact_sum(table.pixels) > counts.ledger.total:
        return "item_table: pixels: more than ledger.total"
    size = known.lookup.size
    sums = _sum_at(rows, table.pixels, size)
    if np.any(wrong := sums != known.closed - known.unplaced):
        row = int(wrong.argmax())
        return (
            f"item_table: pixels: {sums[row]} of {_called(counts, wrong)}, and its pixels in "
            f"complete items are {known.closed[row] - known.unplaced[row]}"
        )
    is_class = rows < known.classes
    inside = _by_entry(table, np.where(is_class, table.pixels, 0))
    total = _by_entry(table, table.pixels) if not is_class.all() else inside
    n = known.classes
    inside_sums = _sum_at(rows, inside, size)
    total_sums = inside_sums if total is inside else _sum_at(rows, total, size)
    for name, expected, found in (
        ("presence", np.bincount(rows, minlength=size), known.presence),
        ("presence_pixels", inside_sums[:n], counts.presence_pixels),
        ("presence_pixels_total", total_sums, known.total),
    ):
        if np.any(wrong := expected != found):
            row = int(wrong.argmax())
            return (
                f"{_field(counts, wrong, name)}: {found[row]}, and item_table gives {expected[row]}"
            )
    return None


def _ascending(table: ItemTable) -> bool:
    """Return whether the labels of every row are sorted and distinct."""
    if table.labels.size < 2:
        return True
    rises = table.labels[1:] > table.labels[:-1]
    starts = table.offsets[1:-1]
    starts = starts[(starts > 0) & (starts < table.labels.size)]
    rises[starts - 1] = True
    return bool(rises.all())


def _by_entry(table: ItemTable, pixels: Pixels) -> Pixels:
    """Return for every entry of the table the sum of ``pixels`` over its row."""
    ends = np.concatenate([[0], np.cumsum(pixels)])
    return np.repeat(np.diff(ends[table.offsets]), np.diff(table.offsets))


# ---- coverage ----

_DIGEST = re.compile("[0-9a-f]{16}")

_MAX_BOXES = 4096
"""Boxes of one source that are compared pair by pair, in about 0.1 s; more are taken on trust."""


class _Span(NamedTuple):
    """Successive items of one region of a source of which equally many pixels were seen."""

    start: int
    stop: int
    seen: int
    total: int


def coverage_contradiction(counts: Counts) -> str | None:
    """Return in what way the numbers contradict what the coverage says was seen, or None.

    Where a source was seen in part, or in a region, the coverage has its shape, so its pixels, its
    complete items and its open items follow.  Of a source that was seen whole the coverage has no
    shape; of arrays in memory, and of counts that were given, it has nothing.
    """
    spans: dict[str, list[_Span]] = {}
    for source, cover in counts.covers.sources.items():
        if not _DIGEST.fullmatch(cover.digest):
            return f"covers: {source}: digest: expected 16 hexadecimal digits, got {cover.digest!r}"
        if fault := _fault_of_pieces(cover, counts.options.item_axis):
            return f"covers: {source}: {fault}"
        if cover.pieces:
            spans[source] = list(_spans(cover, counts.options.item_axis))
    for rule in (_runs, _places):
        if fault := rule(counts):
            return fault
    for check in (_open_items, _totals, _table_keys):
        if fault := check(counts, spans):
            return fault
    return None


def _fault_of_pieces(cover: Cover, axis: int | None) -> str | None:
    """Pieces are of one shape and of the axis of items, not empty, distinct, and not the whole."""
    if not cover.pieces:
        return None
    shape = cover.pieces[0].grid.shape
    for piece in cover.pieces:
        grid = piece.grid
        if grid.shape != shape:
            return f"shape: {grid.shape} in one place and {shape} in another"
        if grid.first != axis:
            return f"first: {grid.first}, and options.items gives {axis}"
        if not piece.blocks:
            return "blocks: there is none"
        if piece.is_whole or (grid.region is not None and grid.region == _all(shape)):
            return "pieces: one covers the whole array, which is written without pieces"
    if len({piece.grid for piece in cover.pieces}) < len(cover.pieces):
        return "pieces: one grid is there twice"
    if _overlap([box for piece in cover.pieces for box in piece.boxes()]):
        return "pieces: two of them overlap"
    return None


def _all(shape: tuple[int, ...]) -> Box:
    return tuple((0, length) for length in shape)


def _overlap(boxes: list[Box]) -> bool:
    """Return whether two of the boxes share an element."""
    if len(boxes) < 2 or len(boxes) > _MAX_BOXES:
        return False
    bounds = np.array(boxes, np.int64)
    for place in range(1, len(boxes)):
        others = bounds[:place]
        meets = (others[:, :, 0] < bounds[place, :, 1]) & (others[:, :, 1] > bounds[place, :, 0])
        if meets.all(axis=1).any():
            return True
    return False


def _spans(cover: Cover, axis: int | None) -> Iterator[_Span]:
    """Yield the items of a source by region, with the pixels that were seen of each."""
    regions: dict[Box, list[Piece]] = {}
    for piece in cover.pieces:
        regions.setdefault(piece.grid.bounds, []).append(piece)
    for bounds, pieces in regions.items():
        boxes = [box for piece in pieces for box in piece.boxes()]
        if axis is None:
            yield _Span(0, 1, sum(map(volume, boxes)), volume(bounds))
            continue
        begin, end = bounds[axis]
        total = volume(bounds) // max(end - begin, 1)
        changes: Counter[int] = Counter()
        for box in boxes:
            start, stop = box[axis]
            pixels = prod(b - a for place, (a, b) in enumerate(box) if place != axis)
            changes[start] += pixels
            changes[stop] -= pixels
        seen, edges = 0, sorted(changes)
        for start, stop in pairwise(edges):
            seen += changes[start]
            if seen:
                yield _Span(start, stop, seen, total)


def _runs(counts: Counts) -> str | None:
    """Only a run that was split into parts sees a grid in part, and it names all its blocks."""
    partial = sum(
        sum(stop - start for start, stop in piece.blocks)
        for cover in counts.covers.sources.values()
        for piece in cover.pieces
        if piece.blocks != ((0, piece.grid.size),)
    )
    runs = counts.covers.runs
    here = sum(stop - start for run in runs.values() for start, stop in run.blocks)
    if partial > here:
        return f"covers: run: {here} blocks of runs that were split, and {partial} seen in part"
    if wrong := [digest for digest in runs if not _DIGEST.fullmatch(digest)]:
        return f"covers: run: expected 16 hexadecimal digits, got {wrong[0]!r}"
    return None


def _places(counts: Counts) -> str | None:
    """Places of unexpected labels are sorted, few, and within the shape of their source."""
    axis = counts.options.item_axis
    for label, entry in counts.ledger.unexpected.items():
        where = f"ledger.unexpected.{label}.places"
        if len(entry.places) > PLACES or list(entry.places) != sorted(set(entry.places)):
            return f"{where}: expected at most {PLACES}, sorted, each once"
        for source, item, at in entry.places:
            if min(at, default=0) < 0 or item < 0:
                return f"{where}: a negative number"
            if axis is not None and (len(at) <= axis or at[axis] != item):
                return f"{where}: item {item} is not at {list(at)} along axis {axis}"
            if axis is None and source and item:
                return f"{where}: item {item}: {source} is one item, 0"
            cover = counts.covers.sources.get(source)
            if cover is None or not cover.pieces:
                continue
            shape = cover.pieces[0].grid.shape
            if len(at) != len(shape) or any(n >= size for n, size in zip(at, shape, strict=True)):
                return f"{where}: {list(at)} is not in the shape {list(shape)} of {source}"
    return None


def _is_of(source: str, key: str) -> bool:
    """Return whether a source is that of an item's key, or an array in the file of that name."""
    return source == key or (source.startswith(key) and source[len(key)] in "#/")


def _open_items(counts: Counts, spans: dict[str, list[_Span]]) -> str | None:
    """The items of which a part was seen are open, and no others are."""
    opened: dict[str, dict[int, OpenItem]] = {}
    for item in counts.open_items:
        opened.setdefault(item.key.source, {})[item.key.item] = item
    by_file = counts.options.items in ("auto", "file")
    expected: Counter[str] = Counter()
    least: Counter[str] = Counter()
    for source, found in spans.items():
        key = source
        if by_file and source not in opened:
            key = next((key for key in opened if _is_of(source, key)), source)
        for span in found:
            if span.seen > span.total:
                return f"covers: {source}: more than all of an item was seen"
            least[key] += span.seen
            if span.seen == span.total or key != source:
                continue
            expected[key] += span.stop - span.start
            items = opened.get(key, {})
            if expected[key] > len(items):
                return (
                    f"open_items: covers says that {span.seen} of {span.total} pixels of {source} "
                    f"item {span.start} were seen; that item, or one like it, is not there"
                )
            for number in range(span.start, span.stop):
                one = items.get(number)
                if one is None or (one.seen, one.total) != (span.seen, span.total):
                    return (
                        f"open_items: {source} item {number}: covers says that {span.seen} of "
                        f"{span.total} pixels were seen"
                    )
    return _unseen(counts, opened, expected, least)


def _unseen(
    counts: Counts,
    opened: dict[str, dict[int, OpenItem]],
    expected: Counter[str],
    least: Counter[str],
) -> str | None:
    """Every open item is of a source that was seen, and no fewer of its pixels were."""
    for key, items in opened.items():
        number, item = next(iter(items.items()))
        if key in expected:
            if len(items) != expected[key]:
                return f"open_items: {key}: {len(items)} items, and covers has {expected[key]}"
            continue
        if counts.options.items not in ("auto", "file") or key in counts.covers.sources:
            return f"open_items: {key} item {number}: covers does not have a part of it"
        if not any(_is_of(source, key) for source in counts.covers.sources):
            return f"open_items: {key} item {number}: covers does not have its source"
        if len(items) > 1 or number or item.seen < least[key]:
            return f"open_items: {key} item {number}: covers has {least[key]} pixels of it"
    return None


def _totals(counts: Counts, spans: dict[str, list[_Span]]) -> str | None:
    """No fewer pixels and items were seen than the coverage has."""
    pixels = sum(span.seen * (span.stop - span.start) for found in spans.values() for span in found)
    whole = sum(not cover.pieces for cover in counts.covers.sources.values())
    if (total := counts.ledger.total) < pixels + whole:
        return f"ledger.total: {total}, and covers has {pixels + whole} pixels or more"
    by_file = counts.options.items in ("auto", "file")
    complete = sum(
        span.stop - span.start
        for source, found in spans.items()
        for span in found
        if span.seen == span.total and not (by_file and "#" in source)
    )
    complete += sum(
        not cover.pieces and not (by_file and "#" in source)
        for source, cover in counts.covers.sources.items()
    )
    if counts.items < complete:
        return f"items: {counts.items}, and covers has {complete} or more"
    rest = total - pixels
    if counts.items > complete + rest and not by_file:
        return f"items: {counts.items}, and covers has {complete} and {rest} pixels beside them"
    return None


def _table_keys(counts: Counts, spans: dict[str, list[_Span]]) -> str | None:
    """The table has a row per complete item of each source that the coverage names."""
    table = counts.item_table
    if table is None:
        return None
    axis, by_file = counts.options.item_axis, counts.options.items in ("auto", "file")
    sources = counts.covers.sources
    if unknown := [source for source in table.sources if source and source not in sources]:
        files = {key for source in sources for key in _files(source)} if by_file else set()
        if others := [source for source in unknown if source not in files]:
            return f"item_table: sources: covers does not have {others[0]}"
    is_named = np.array([bool(source) for source in table.sources], bool)
    if axis is None and np.any(wrong := is_named[table.source] & (table.items != 0)):
        source = table.sources[table.source[wrong.argmax()]]
        return f"item_table: items: {source} is one item, 0"
    if by_file:
        return None
    number_of = {source: number for number, source in enumerate(table.sources)}
    bounds = np.searchsorted(table.source, np.arange(len(table.sources) + 2)).tolist()
    for source in sources:
        number = number_of.get(source, len(table.sources))
        found = table.items[bounds[number] : bounds[number + 1]]
        if (parts := spans.get(source)) is not None:
            done = [(span.start, span.stop) for span in parts if span.seen == span.total]
        else:
            done = [(0, max(found.size, 1) if axis is not None else 1)]
        if sum(stop - start for start, stop in done) != found.size or not np.array_equal(
            np.sort(np.concatenate([np.arange(*one) for one in done] or [found])), found
        ):
            return f"item_table: items: those of {source} are not the items that covers has"
    return None


def _files(source: str) -> Iterator[str]:
    """Yield the names of the files that an array of this name may lie in."""
    for place, letter in enumerate(source):
        if letter in "#/":
            yield source[:place]
