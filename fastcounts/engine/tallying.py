"""One worker: reads blocks, counts them, and hands over partial counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import isnan
from operator import itemgetter
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts import kernels
from fastcounts.classes import (
    Labels,
    Meaning,
    Options,
    Pixels,
    among,
    as_labels,
    concatenate_labels,
    sum_by_label,
)
from fastcounts.engine.events import BlockFailed
from fastcounts.engine.places import Places
from fastcounts.errors import (
    ForbiddenChunk,
    MissingChunk,
    NonIntegralLabel,
    ReadError,
    UnexpectedLabel,
)
from fastcounts.grid import Box, volume
from fastcounts.items import ItemKey
from fastcounts.ledger import PLACES
from fastcounts.messages import argument
from fastcounts.plan import ArrayInfo, Block, Hole, Plan
from fastcounts.sources import Known, Piece, Pile, Rows, Source
from fastcounts.sources.port import digest

__all__ = ["Partial", "Policy", "Tallier", "fold_rows"]

_MOST_KNOWN = 1024
_TELL_SECONDS = 0.1

_READY_ITEMS = 64
_READY_LABELS = 1 << 14
"""Items, and labels of them, after which partial counts are sent."""

_LOOK_PIXELS = 8 << 20
"""Where classes are given: pixels after which labels of no class are looked for."""


@dataclass(frozen=True)
class Policy:
    """What to do with chunks that do not exist, blocks that fail, labels of no class."""

    missing: str = "fill"
    on_error: str = "raise"
    strict: bool = False
    forbidden: str = "raise"
    nodata: str = "auto"

    @property
    def is_filled(self) -> bool:
        """Whether chunks that do not exist are counted as a label."""
        return self.missing in ("fill", "zero")


def _none() -> Pixels:
    return np.empty(0, np.int64)


@dataclass
class Partial:
    """Pixels accounted for, of some items of one array.

    Attributes
    ----------
    array : which array.
    numbers : (n,) the items' numbers; 0 where an item is a whole array or file.
    seen : (n,) pixels of each that are accounted for here.
    offsets, labels, pixels : class and ignored labels of each item, as sparse rows.
    unexpected_labels, unexpected_pixels : labels of no class.
    filled, nodata, missing, failed : pixels.
    declared : pixels of labels that metadata declares nodata, by array and label, once, at the end;
        they are part of ``nodata``.
    forbidden : chunks that a store forbids to read, and that were taken for missing.
    failure : what could not be read, if that is what this is about.
    places : where unexpected labels stand, once, at the end.
    """

    array: int
    numbers: Pixels
    seen: Pixels
    offsets: Pixels
    labels: Labels = field(default_factory=_none)
    pixels: Pixels = field(default_factory=_none)
    unexpected_labels: Labels = field(default_factory=_none)
    unexpected_pixels: Pixels = field(default_factory=_none)
    filled: int = 0
    nodata: int = 0
    missing: int = 0
    failed: int = 0
    declared: Mapping[tuple[int, int], int] = field(default_factory=dict)
    forbidden: int = 0
    failure: BlockFailed | None = None
    places: Places | None = None


def _kind(block: Block | Hole) -> tuple[int, bool]:
    """What blocks that are read in one go have in common."""
    return block.array, isinstance(block, Hole)


def _is_label(value: float) -> bool:
    return value.is_integer() and abs(value) <= 2**53


def _offsets(rows: NDArray[np.int64], number: int) -> Pixels:
    """Where each of ``number`` rows begins and the last one ends, of entries in order of rows."""
    lengths = np.bincount(rows, minlength=number)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _joined(partials: Sequence[Partial]) -> Partial:
    """Partial counts of several items of one array as one, a row for each."""
    if len(partials) == 1:
        return partials[0]
    lengths = np.concatenate([np.diff(partial.offsets) for partial in partials])
    strangers, (strange_pixels,) = sum_by_label(
        [partial.unexpected_labels for partial in partials],
        [[partial.unexpected_pixels for partial in partials]],
    )
    return Partial(
        array=partials[0].array,
        numbers=np.concatenate([partial.numbers for partial in partials]),
        seen=np.concatenate([partial.seen for partial in partials]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        labels=concatenate_labels([partial.labels for partial in partials]),
        pixels=np.concatenate([partial.pixels for partial in partials]),
        unexpected_labels=strangers,
        unexpected_pixels=strange_pixels,
        filled=sum(partial.filled for partial in partials),
        nodata=sum(partial.nodata for partial in partials),
        missing=sum(partial.missing for partial in partials),
    )


def fold_rows(partial: Partial, options: Options) -> None:
    """Fold labels into classes, and take out those of no class."""
    assert options.classes is not None
    rows = np.repeat(np.arange(partial.numbers.size), np.diff(partial.offsets))
    ignored = options.is_ignored(partial.labels)
    known, folded = options.classes.fold(partial.labels)
    labels = partial.labels.copy()
    labels[known] = folded.astype(labels.dtype)
    keep = known | ignored
    partial.unexpected_labels, (partial.unexpected_pixels,) = sum_by_label(
        [partial.labels[~keep]], [[partial.pixels[~keep]]]
    )
    rows, labels, pixels = rows[keep], labels[keep], partial.pixels[keep]
    order = np.lexsort((labels, rows))
    rows, labels, pixels = rows[order], labels[order], pixels[order]
    first = np.ones(rows.size, bool)
    first[1:] = (rows[1:] != rows[:-1]) | (labels[1:] != labels[:-1])
    starts = np.flatnonzero(first)
    partial.labels = labels[starts]
    partial.pixels = np.add.reduceat(pixels, starts) if starts.size else pixels
    partial.offsets = _offsets(rows[starts], partial.numbers.size)


def as_counted(info: ArrayInfo, options: Options, policy: Policy) -> ArrayInfo:
    """Return an array with a digest of its own if ``nodata="none"`` counts labels of it.

    Two parts of one array can then not be added if a label is nodata in one part only.
    """
    kept = options.unclaimed(info.meaning.nodata).tolist()
    if not kept or not _keeps_nodata(info.meaning, policy):
        return info
    return replace(info, digest=digest(info.digest, "nodata", "none", *kept))


def _keeps_nodata(meaning: Meaning, policy: Policy) -> bool:
    """Return whether labels that metadata declares nodata are counted as labels."""
    return policy.nodata == "none" and not meaning.is_masked


class Tallier:
    """Counts blocks in one thread.

    While blocks of one item follow each other they go into one table; the table is handed over
    when the next item begins.

    Parameters
    ----------
    plan, source, options, policy : what is counted, and how.
    send : takes the partial counts.
    advance : told every now and then how many pixels more are accounted for.
    """

    def __init__(
        self,
        plan: Plan,
        source: Source,
        options: Options,
        policy: Policy,
        send: Callable[[Partial], None],
        advance: Callable[[int], None] | None = None,
    ) -> None:
        self._plan = plan
        self._source = source
        self._options = options
        self._policy = policy
        self._send = send
        self._advance = advance
        self._news = 0
        self._told = perf_counter()
        self._axis = options.item_axis
        self._places = Places(self._axis)
        self._tables: dict[str, kernels.Table] = {}
        self._voids: dict[int, Labels] = {}
        self._declared: Counter[tuple[int, int]] = Counter()
        self._current: tuple[int, int] | None = None
        self._seen = 0
        self._nodata = 0
        self._missing = 0
        self._forbidden = 0
        self._fill: dict[int, int] = {}
        self._known: list[Known] = []
        self._boxes: list[Box] = []
        self._ready: list[Partial] = []
        self._ready_labels = 0

    def count(self, block: Block) -> None:
        """Read and count one block; see :meth:`count_many`."""
        self.count_many([block])

    def count_many(self, blocks: Iterable[Block | Hole]) -> None:
        """Read and count blocks, one after the other.

        Raises
        ------
        ReadError
            If it cannot be read, under ``on_error="raise"``.
        MissingChunk
            If a chunk does not exist and may not be assumed.
        NonIntegralLabel, UnexpectedLabel
            For pixels that are no labels.
        """
        for (array, hollow), group in groupby(blocks, key=_kind):
            if hollow:
                for hole in group:
                    assert isinstance(hole, Hole)
                    self._count_hole(hole)
                continue
            boxes = map(itemgetter(1), group)
            for found in self._source.read_many(array, boxes, self._axis):
                if isinstance(found, Pile):
                    self._count_pile(array, found)
                elif isinstance(found, Rows):
                    self._count_rows(array, found)
                else:
                    self._count_found(array, found)

    def flush(self) -> None:
        """Hand over what is left."""
        self._hand_over()
        self._send_ready()
        self._told = 0.0
        self._account(0)
        if self._forbidden:
            self._send(
                Partial(0, _none(), _none(), np.zeros(1, np.int64), forbidden=self._forbidden)
            )
            self._forbidden = 0
        if self._declared:
            self._send(
                Partial(0, _none(), _none(), np.zeros(1, np.int64), declared=dict(self._declared))
            )
            self._declared.clear()
        if self._places.found:
            self._send(Partial(0, _none(), _none(), np.zeros(1, np.int64), places=self._places))

    def _count_found(self, array: int, piece: Piece) -> None:
        """Count a piece, whatever is known of it."""
        if isinstance(piece.error, ForbiddenChunk) and self._policy.forbidden == "missing":
            self._forbidden += 1
            piece = Piece(piece.box, None, piece.key)
        if piece.error is not None:
            if self._policy.on_error == "raise":
                raise piece.error
            self._record_failure(Block(array, piece.box), str(piece.error))
            return
        for number, part in self._by_item(piece):
            if number is None:
                self._count_stack(array, part)
            else:
                self._count_piece(array, number, part)

    def _count_pile(self, array: int, pile: Pile) -> None:
        """Count chunks of one item at once, and others one by one."""
        axis, start = self._axis, 0
        if axis is not None:
            start, stop = pile.boxes[0][axis]
            if stop - start != 1 or any(box[axis][0] != start for box in pile.boxes):
                for piece in pile.pieces():
                    self._count_found(array, piece)
                return
        self._turn_to(array, start)
        if pile.known is not None:
            self._add_known(pile.known)
            self._saw(volume(pile.boxes[0]) * len(pile.boxes), pile.boxes)
            return
        assert pile.pixels is not None
        try:
            self._table(array).add(self._without_numbers(array, pile.pixels))
        except NonIntegralLabel as error:
            place, *index = error.index
            raise self._placed(error, array, pile.boxes[place], tuple(index)) from None
        self._saw(pile.pixels.size, pile.boxes)

    # ---- one item at a time ----

    def _turn_to(self, array: int, number: int) -> None:
        """Begin with an item, unless it is the one that is being counted."""
        if self._current != (array, number):
            self._hand_over()
            self._current = (array, number)

    def _saw(self, pixels: int, boxes: Iterable[Box]) -> None:
        """Note what was counted of the current item."""
        self._seen += pixels
        self._account(pixels)
        if self._options.classes is not None:
            self._boxes.extend(boxes)
            if self._seen >= _LOOK_PIXELS:
                self._hand_over()

    def _account(self, pixels: int) -> None:
        """Say how far the work is; an item may be as large as the whole array."""
        if self._advance is None:
            return
        self._news += pixels
        now = perf_counter()
        if now - self._told > _TELL_SECONDS:
            self._advance(self._news)
            self._news, self._told = 0, now

    def _by_item(self, piece: Piece) -> Iterator[tuple[int | None, Piece]]:
        """The piece with its item's number; None stands for several that are counted at once."""
        axis = self._axis
        if axis is None:
            yield 0, piece
            return
        start, stop = piece.box[axis]
        if stop - start == 1:
            yield start, piece
        elif piece.pixels is not None and not isinstance(piece.pixels, np.ma.MaskedArray):
            yield None, piece
        else:
            for number in range(start, stop):
                box = (*piece.box[:axis], (number, number + 1), *piece.box[axis + 1 :])
                pixels = piece.pixels
                if pixels is not None:
                    pixels = pixels.take([number - start], axis)
                yield number, Piece(box, pixels, piece.key)

    def _count_piece(self, array: int, number: int, piece: Piece) -> None:
        self._turn_to(array, number)
        if piece.known is not None:
            self._add_known(piece.known)
        elif piece.pixels is None:
            self._count_absent(array, piece)
        elif isinstance(piece.pixels, np.ma.MaskedArray):
            self._count_masked(array, piece)
        else:
            self._add(array, piece.pixels, piece.box)
        self._saw(volume(piece.box), [piece.box])

    def _add_known(self, known: Known) -> None:
        """Add labels of the current item that need no counting."""
        self._known.append(known)
        self._nodata += known.nodata
        if len(self._known) == _MOST_KNOWN:
            labels, (pixels,) = sum_by_label(
                [known.labels for known in self._known],
                [[known.pixels for known in self._known]],
            )
            self._known = [Known(as_labels(labels), pixels)]

    def _table(self, array: int) -> kernels.Table:
        dtype = self._plan.arrays[array].dtype
        if dtype.str not in self._tables:
            self._tables[dtype.str] = kernels.table(dtype)
        return self._tables[dtype.str]

    def _add(self, array: int, pixels: NDArray[Any], box: Box) -> None:
        try:
            self._table(array).add(self._without_numbers(array, pixels))
        except NonIntegralLabel as error:
            raise self._placed(error, array, box, error.index) from None

    def _placed(
        self, error: NonIntegralLabel, array: int, box: Box, index: tuple[int, ...]
    ) -> NonIntegralLabel:
        at = tuple(n + start for n, (start, _) in zip(index, box, strict=True))
        return NonIntegralLabel(error.value, at, self._plan.arrays[array].name)

    def _count_masked(self, array: int, piece: Piece) -> None:
        """Count what a mask leaves; masked elements are nodata."""
        pixels = piece.pixels
        assert isinstance(pixels, np.ma.MaskedArray)
        valid = ~np.ma.getmaskarray(pixels)
        left = pixels.data[valid]
        try:
            self._table(array).add(self._without_numbers(array, left))
        except NonIntegralLabel as error:
            index = tuple(int(n) for n in np.argwhere(valid)[error.index[0]])
            raise self._placed(error, array, piece.box, index) from None
        self._nodata += pixels.size - left.size

    def _count_absent(self, array: int, piece: Piece) -> None:
        """Account for a chunk that does not exist."""
        pixels = volume(piece.box)
        label = self._worth(array, piece, pixels)
        if self._policy.missing == "separate":
            self._missing += pixels
        elif label is None:
            self._nodata += pixels
        else:
            self._table(array).add_constant(label, pixels)
            self._fill[label] = self._fill.get(label, 0) + pixels

    def _worth(self, array: int, piece: Piece, pixels: int) -> int | None:
        """Return the label of so many missing pixels; None for nodata, or if kept apart."""
        if self._policy.missing == "separate":
            return None
        name = self._plan.arrays[array].name
        if self._policy.missing == "raise":
            raise MissingChunk(f"{name}: chunk {piece.key} does not exist")
        value = self._fill_value(array)
        if value is None:
            raise MissingChunk(
                f"{name}: chunk {piece.key} does not exist, and the array has no fill value "
                f"(null); count such chunks as label 0 with {argument('missing', 'zero')}, or "
                f"keep their pixels apart with {argument('missing', 'separate')}"
            )
        if isinstance(value, float | np.floating) and self._is_number(array, float(value)):
            return None
        if isinstance(value, float | np.floating) and not _is_label(float(value)):
            origin = tuple(start for start, _ in piece.box)
            raise NonIntegralLabel(float(value), origin, f"{name}: chunk {piece.key}, fill value")
        label = int(value)
        if label not in self._void(array):
            return label
        self._declared[array, label] += pixels
        return None

    def _fill_value(self, array: int) -> Any:
        """Return the fill value of an array; under ``missing="zero"``, 0 if it is null."""
        value = self._source.fill_value(array)
        return 0 if value is None and self._policy.missing == "zero" else value

    # ---- labels that stand for no data ----

    def _void(self, array: int) -> Labels:
        """Return the labels of an array that are nodata, unless the user says what they are."""
        if (void := self._voids.get(array)) is None:
            meaning = self._plan.arrays[array].meaning
            is_kept = _keeps_nodata(meaning, self._policy)
            void = self._options.unclaimed(() if is_kept else meaning.nodata)
            self._voids[array] = void
        return void

    def _is_number(self, array: int, value: float) -> bool:
        """Return whether a value of a floating point array is nodata and could not be a label."""
        return isnan(value) or value in self._plan.arrays[array].meaning.numbers

    def _without_numbers(self, array: int, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return pixels with NaN in place of nodata values that could not be labels.

        Tables would refuse such a value, so that the pixels are compared before they are counted.
        Few arrays declare one; the pixels of all others are returned as they are.
        """
        for number in self._plan.arrays[array].meaning.numbers:
            if (found := pixels == pixels.dtype.type(number)).any():
                pixels = pixels.copy()
                pixels[found] = np.nan
        return pixels

    def _as_nodata(self, array: int, labels: Labels, pixels: Pixels) -> int:
        """Note pixels of labels that metadata declares nodata; returns how many there are."""
        for label, number in zip(labels.tolist(), pixels.tolist(), strict=True):
            self._declared[array, label] += number
        return int(pixels.sum())

    # ---- many chunks that do not exist ----

    def _count_hole(self, hole: Hole) -> None:
        """Account for all chunks of a range that do not exist, by arithmetic."""
        array, axis = hole.array, self._axis
        grid = self._plan.grids[array]
        numbers = np.arange(hole.start, min(hole.stop, hole.start + hole.present.size + PLACES))
        absent = np.setdiff1d(numbers, hole.present, assume_unique=True)[:PLACES].tolist()
        first = [grid.box(number) for number in absent]
        piece = Piece(first[0], None)
        with suppress(ReadError):  # what the store calls such a chunk is all that is wanted
            (found, *_) = self._source.read(array, first[0])
            if found.pixels is None:  # else it has come to be since it was looked for
                piece = found
        bounds = grid.bounds_of(hole.present)
        pixels = np.diff(bounds, axis=-1).prod(axis=(1, 2))
        ranges = list(grid.boxes(hole.start, hole.stop))
        if axis is None:
            left = sum(map(volume, ranges)) - int(pixels.sum())
            self._turn_to(array, 0)
            self._count_absent(array, Piece(((0, left),), None, piece.key))
            self._saw(left, first)
            return
        low = min(box[axis][0] for box in ranges)
        steps = np.zeros(max(box[axis][1] for box in ranges) - low + 1, np.int64)
        for box in ranges:
            begin, end = box[axis]
            steps[[begin - low, end - low]] += np.array([1, -1]) * (volume(box) // (end - begin))
        begins, ends = bounds[:, axis, 0], bounds[:, axis, 1]
        np.subtract.at(steps, begins - low, pixels // (ends - begins))
        np.add.at(steps, ends - low, pixels // (ends - begins))
        seen = np.cumsum(steps)[:-1]
        items = np.flatnonzero(seen)
        self._send_filled(array, items + low, seen[items], piece, first)

    def _send_filled(
        self, array: int, numbers: Pixels, seen: Pixels, piece: Piece, first: list[Box]
    ) -> None:
        """Send pixels of many items that lie in chunks that do not exist."""
        total = int(seen.sum())
        label = self._worth(array, piece, total)
        partial = Partial(array, numbers, seen, np.zeros(numbers.size + 1, np.int64))
        self._account(total)
        if self._policy.missing == "separate":
            partial.missing = total
        elif label is None:
            partial.nodata = total
        else:
            labels = as_labels(np.array([label], np.int64 if label < 2**63 else np.uint64))
            kept = self._options.sort(labels, np.array([total], np.int64))
            partial.unexpected_labels = kept.unexpected_labels
            partial.unexpected_pixels = kept.unexpected_pixels
            if kept.labels.size:
                partial.offsets = np.arange(numbers.size + 1)
                partial.labels = as_labels(np.repeat(kept.labels, numbers.size))
                partial.pixels = seen
                partial.filled = total if self._is_class(label) else 0
            else:
                key = ItemKey(self._plan.item_of(array, int(numbers[0]))[0].source, int(numbers[0]))
                for box in first:
                    self._places.look(labels, self._as_filled(array, box), key)
                self._refuse(array, labels)
        self._send(partial)

    def _as_filled(self, array: int, box: Box) -> Piece:
        """A chunk that does not exist, as if it did."""
        value = np.array(self._fill_value(array), self._plan.arrays[array].dtype)
        shape = tuple(stop - start for start, stop in box)
        return Piece(box, np.broadcast_to(value, shape))

    def _hand_over(self) -> None:
        """Send what the current item's table holds."""
        if self._current is None:
            return
        array, number = self._current
        labels, pixels = self._drained(array)
        if (void := self._void(array)).size:
            is_void = among(as_labels(labels), void)
            self._nodata += self._as_nodata(array, as_labels(labels[is_void]), pixels[is_void])
            labels, pixels = as_labels(labels[~is_void]), pixels[~is_void]
        kept = self._options.sort(labels, pixels)
        if kept.unexpected_labels.size:
            self._look(array, number, kept.unexpected_labels)
            self._refuse(array, kept.unexpected_labels)
        self._put_by(
            Partial(
                array=array,
                numbers=np.array([number], np.int64),
                seen=np.array([self._seen], np.int64),
                offsets=np.array([0, kept.labels.size], np.int64),
                labels=kept.labels,
                pixels=kept.pixels,
                unexpected_labels=kept.unexpected_labels,
                unexpected_pixels=kept.unexpected_pixels,
                filled=sum(self._fill[label] for label in self._fill if self._is_class(label)),
                nodata=self._nodata,
                missing=self._missing,
            )
        )
        self._current = None
        self._seen = self._nodata = self._missing = 0
        self._fill.clear()
        self._known.clear()
        self._boxes.clear()

    def _drained(self, array: int) -> tuple[Labels, Pixels]:
        """The labels of the current item and their pixels; what is nodata goes elsewhere."""
        table = self._table(array)
        if table.is_empty and len(self._known) == 1:
            return self._known[0].labels, self._known[0].pixels
        tally = table.drain()
        self._nodata += tally.nodata
        if not self._known:
            return as_labels(tally.labels), tally.pixels
        labels, (pixels,) = sum_by_label(
            [as_labels(tally.labels), *(known.labels for known in self._known)],
            [[tally.pixels, *(known.pixels for known in self._known)]],
        )
        return labels, pixels

    def _put_by(self, partial: Partial) -> None:
        """Send partial counts a few items at a time: each message costs the collector as much."""
        if self._ready and self._ready[0].array != partial.array:
            self._send_ready()
        self._ready.append(partial)
        self._ready_labels += partial.labels.size
        if len(self._ready) >= _READY_ITEMS or self._ready_labels >= _READY_LABELS:
            self._send_ready()

    def _send_ready(self) -> None:
        """Send what was put by."""
        if self._ready:
            self._send(_joined(self._ready))
            self._ready, self._ready_labels = [], 0

    def _look(self, array: int, number: int, labels: Labels) -> None:
        """Find out where labels of no class stand, in what was counted of the current item.

        What was counted is read once more, so that nothing has to be kept while there are no
        such labels, and only where a place could come before those that are known.
        """
        key, _ = self._plan.item_of(array, number)
        for box in self._boxes:
            if not self._places.wants(labels, key, box):
                continue
            for piece in self._read_again(array, box):
                pixels = piece.pixels
                if pixels is None:
                    if not self._policy.is_filled:
                        continue
                    pixels = self._as_filled(array, piece.box).pixels
                self._places.look(labels, Piece(piece.box, pixels, piece.key), key)

    def _read_again(self, array: int, box: Box) -> Iterable[Piece]:
        """Read what was counted before."""
        try:
            return list(self._source.read(array, box))
        except ForbiddenChunk:
            if self._policy.forbidden == "raise":
                raise
            return [Piece(box, None)]

    def _is_class(self, label: int) -> bool:
        classes = self._options.classes
        known = classes is None or label in classes.assigned
        return known and label not in self._options.ignore

    def _refuse(self, array: int, labels: Labels) -> None:
        if not self._policy.strict:
            return
        label = int(labels[0])
        _, item, at = self._places.found[label][0]
        raise UnexpectedLabel(
            f"{self._plan.arrays[array].name}: label {label} at {at}, item {item}, belongs to no "
            f"class and is not ignored; add it to {argument('classes')} or to "
            f"{argument('ignore')}, or count without {argument('strict')}"
        )

    # ---- many items at once ----

    def _count_stack(self, array: int, piece: Piece) -> None:
        """Count a piece of several items in one pass."""
        axis, pixels = self._axis, piece.pixels
        assert axis is not None
        assert pixels is not None
        try:
            tally = kernels.count_items(self._without_numbers(array, pixels), axis)
        except NonIntegralLabel as error:
            raise self._placed(error, array, piece.box, error.index) from None
        start, stop = piece.box[axis]
        partial = Partial(
            array=array,
            numbers=np.arange(start, stop),
            seen=np.full(stop - start, volume(piece.box) // (stop - start), np.int64),
            offsets=tally.offsets,
            labels=as_labels(tally.labels),
            pixels=tally.pixels,
            nodata=int(tally.nodata.sum()),
        )
        self._sift(partial)
        if partial.unexpected_labels.size:
            key = ItemKey(self._plan.item_of(array, start)[0].source, start)
            self._places.look(partial.unexpected_labels, piece, key)
            self._refuse(array, partial.unexpected_labels)
        self._send(partial)
        self._account(volume(piece.box))

    def _count_rows(self, array: int, rows: Rows) -> None:
        """Count chunks whose labels are known, each in another item."""
        if not rows.boxes:
            return
        self._hand_over()
        axis = self._axis
        assert axis is not None
        numbers = np.array([box[axis][0] for box in rows.boxes], np.int64)
        each = volume(rows.boxes[0])
        partial = Partial(
            array=array,
            numbers=numbers,
            seen=np.full(numbers.size, each, np.int64),
            offsets=rows.offsets,
            labels=as_labels(rows.labels),
            pixels=rows.pixels,
            nodata=rows.nodata,
        )
        self._sift(partial)
        if partial.unexpected_labels.size:
            for number, box in zip(numbers.tolist(), rows.boxes, strict=True):
                self._boxes = [box]
                self._look(array, number, partial.unexpected_labels)
            self._boxes = []
            self._refuse(array, partial.unexpected_labels)
        self._send(partial)
        self._account(each * numbers.size)

    def _sift(self, partial: Partial) -> None:
        """Fold labels into classes, and take out those of no class and those that mean nothing."""
        if (void := self._void(partial.array)).size:
            self._drop_void(partial, void)
        if self._options.classes is not None:
            fold_rows(partial, self._options)

    def _drop_void(self, partial: Partial, void: Labels) -> None:
        """Make labels that stand for no data nodata."""
        is_void = among(partial.labels, void)
        rows = np.repeat(np.arange(partial.numbers.size), np.diff(partial.offsets))[~is_void]
        partial.nodata += self._as_nodata(
            partial.array, as_labels(partial.labels[is_void]), partial.pixels[is_void]
        )
        partial.labels = as_labels(partial.labels[~is_void])
        partial.pixels = partial.pixels[~is_void]
        partial.offsets = _offsets(rows, partial.numbers.size)

    # ---- blocks that fail ----

    def _record_failure(self, block: Block, reason: str) -> None:
        """Account for a block that could not be read."""
        axis, pixels = self._axis, volume(block.box)
        start, stop = (0, 1) if axis is None else block.box[axis]
        items = stop - start
        name = self._plan.arrays[block.array].name
        self._send(
            Partial(
                array=block.array,
                numbers=np.arange(start, stop),
                seen=np.full(items, pixels // items, np.int64),
                offsets=np.zeros(items + 1, np.int64),
                failed=pixels,
                failure=BlockFailed(name, block.box, pixels, reason),
            )
        )
        self._account(pixels)
