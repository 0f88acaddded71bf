"""Chunks whose labels are counted without their pixels being put together.

A chunk that is byte for byte one seen before has its counts.  A chunk that blosc has
shuffled need not be put in order again: a count does not ask for the order, and undoing the
shuffle takes longer than decoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastcounts import kernels
from fastcounts.classes import as_labels, sum_by_label
from fastcounts.errors import NonIntegralLabel
from fastcounts.grid import Box, volume
from fastcounts.kernels.tables import Bytes
from fastcounts.sources.memo import Memo
from fastcounts.sources.port import Known, Pile, Rows

if TYPE_CHECKING:
    from fastcounts.sources.decoding import Decoding, Scratch, Stored

__all__ = ["Shortcuts"]

_FLUSH_PIXELS = 32 << 20
_MOST_PAIRED = 2**30
_WORTH = 8
"""A chunk is looked up where its stored bytes are fewer by such a factor."""

_GZIP_DATE = slice(4, 10)
"""Where gzip notes when, where and how hard it compressed, which says nothing of what."""

_SEEN = 2
"""A chunk is counted on its own when it comes again for the second time: that takes longer."""

_PATIENCE = 4
"""Batches without one chunk that could be counted as planes, before it is no longer tried."""


class Shortcuts:
    """What one thread counts without looking at pixels, until it is handed over.

    Parameters
    ----------
    decoding : of the chunks.
    axis : along which items lie, or None; what is handed over together lies in one item.

    Attributes
    ----------
    ready : what can be handed over.
    """

    def __init__(self, decoding: Decoding, axis: int | None) -> None:
        chain = decoding.chain
        self._decoding = decoding
        self._axis = axis
        self._item: int | None = None
        self.ready: list[Pile | Rows] = []
        self._repeated = 0
        self._checked = chain.checked
        self._memo = Memo()
        self._memo.is_open = chain.native != "raw"
        self._dated = _GZIP_DATE if chain.steps and chain.steps[0].name == "gzip" else None
        dtype = chain.dtype
        self._dtype = np.dtype(f"{dtype.kind}{dtype.itemsize}")
        simple = dtype.kind in "bui" and (dtype.itemsize == 1 or dtype.newbyteorder("<") == dtype)
        shuffled = chain.native == "blosc" and not self._checked
        self._shuffled = _PATIENCE if simple and shuffled else 0
        self._boxes: list[Box] = []
        self._bins = np.zeros((2, 256), np.int64)
        self._least = -128 if self._dtype == np.int8 else 0
        self._bytes: Bytes | None = None
        self._whole = chain.native != "" and dtype.kind in "bui" and dtype.itemsize == 1
        self._alone: kernels.Table | None = None
        self._known: dict[int, tuple[Known, int]] = {}

    @property
    def is_open(self) -> bool:
        """Whether there is any use in asking."""
        return self._whole or self._memo.is_open or self._shuffled > 0

    def take(self, stored: Stored, scratch: Scratch) -> list[int]:
        """Count what can be counted; returns the places of the other chunks."""
        left: list[int] = []
        if self._is_apart(stored):
            return self._count_apart(stored, scratch)
        for item, group in self._items_of(stored):
            places = group
            if item is not None:
                if item != self._item:
                    self.flush()
                    self._item = item
                if self._memo.is_open:
                    places = self._look_up(stored, places, scratch)
                if self._shuffled and places and scratch.decoder is not None:
                    places = self._count_shuffled(stored, places, scratch)
                if self._whole and places and not self._checked:
                    places = self._count_whole(stored, places, scratch)
            left += places
        if self._boxes and volume(self._boxes[0]) * len(self._boxes) >= _FLUSH_PIXELS:
            self.flush()
        return left

    def _is_apart(self, stored: Stored) -> bool:
        """Whether every chunk is whole and lies in another item, and labels are bytes."""
        if self._axis is None or self._dtype != np.uint8 or self._checked or self._shuffled:
            return False
        if not self._whole or not all(stored.whole) or int(stored.lengths.min()) <= 0:
            return False
        bounds = [box[self._axis] for box in stored.boxes]
        return len(set(bounds)) == len(bounds) and all(stop - n == 1 for n, stop in bounds)

    def _items_of(self, stored: Stored) -> Iterator[tuple[int | None, list[int]]]:
        """The items that whole chunks lie in, with their chunks; None for others."""
        if self._axis is None and all(stored.whole) and int(stored.lengths.min()) > 0:
            yield 0, list(range(len(stored.boxes)))
            return
        for item, group in groupby(range(len(stored.boxes)), lambda n: self._item_of(stored, n)):
            yield item, list(group)

    def _item_of(self, stored: Stored, place: int) -> int | None:
        """The item that a whole chunk lies in; None for one that has to be looked at."""
        if not stored.whole[place] or stored.lengths[place] <= 0:
            return None
        if self._axis is None:
            return 0
        start, stop = stored.boxes[place][self._axis]
        return start if stop - start == 1 else None

    def flush(self) -> None:
        """Make what has been counted ready to be handed over."""
        if not self._boxes:
            return
        sums = self._bins[0] if self._bytes is None else self._bins[0] + self._bytes.take()
        if self._dtype.kind == "b":
            sums = np.array([sums[0], sums[1:].sum()])
        elif self._dtype == np.int8:
            sums = np.roll(sums, 128)
        places = np.flatnonzero(sums)
        pixels = sums[places]
        together = as_labels(places + self._least)
        if self._known:
            sets = [together, *(known.labels for known, _ in self._known.values())]
            columns = [pixels, *(known.pixels * times for known, times in self._known.values())]
            together, (pixels,) = sum_by_label(sets, [columns])
        nodata = sum(known.nodata * times for known, times in self._known.values())
        known = Known(together, pixels, nodata, self._repeated)
        self.ready.append(Pile(self._boxes, None, known))
        self._boxes, self._repeated = [], 0
        self._bins[0] = 0
        self._known.clear()

    # ---- the same bytes again ----

    def _look_up(self, stored: Stored, places: Sequence[int], scratch: Scratch) -> list[int]:
        """Count chunks seen before; returns the places of the others."""
        found = self._seen(stored, places, scratch)
        for place, known in found.items():
            _, times = self._known.get(id(known), (known, 0))
            self._known[id(known)] = known, times + 1
            self._boxes.append(stored.boxes[place])
        self._repeated += len(found)
        return [place for place in places if place not in found]

    def _seen(self, stored: Stored, places: Sequence[int], scratch: Scratch) -> dict[int, Known]:
        """The labels of those chunks that were seen before, by their places."""
        found: dict[int, Known] = {}
        most = self._decoding.chain.size // _WORTH
        memory, look = stored.memory.data, self._memo.look
        offsets, lengths = stored.offsets.tolist(), stored.lengths.tolist()
        for place in places:
            begin, length = offsets[place], lengths[place]
            if length > most:
                continue
            content = bytes(memory[begin : begin + length])
            if self._dated:
                content = content[: self._dated.start] + content[self._dated.stop :]
            entry = look(content)
            if entry is None or (entry.known is None and entry.seen < _SEEN):
                continue
            if entry.known is None:
                entry.known = self._count_alone(stored, place, scratch)
            if entry.known is not None:
                found[place] = entry.known
        return found

    def _count_alone(self, stored: Stored, place: int, scratch: Scratch) -> Known | None:
        pixels = self._decoding.decode_alone(stored, scratch, place)
        if pixels is None:
            return None
        if self._alone is None:
            self._alone = kernels.table(pixels.dtype)
        try:
            self._alone.add(pixels)
        except NonIntegralLabel:
            return None
        tally = self._alone.drain()
        return Known(as_labels(tally.labels), tally.pixels, tally.nodata)

    # ---- shuffled ----

    def _count_shuffled(self, stored: Stored, places: Sequence[int], scratch: Scratch) -> list[int]:
        """Count chunks as the planes that a shuffle makes; returns the places of the others."""
        good = self._count_bits(stored, places, scratch)
        if self._dtype.itemsize > 1:
            self._count_bytes(stored, places, scratch, good)
        self._boxes += [
            stored.boxes[place] for place, done in zip(places, good, strict=True) if done
        ]
        if good.any():
            self._shuffled = _PATIENCE
        else:
            self._shuffled -= 1
        return [place for place, done in zip(places, good, strict=True) if not done]

    def _count_bits(
        self, stored: Stored, places: Sequence[int], scratch: Scratch
    ) -> NDArray[np.int64]:
        from fastcounts.kernels import planes

        assert scratch.decoder is not None
        good = np.zeros(len(places), np.int64)
        planes.count_blosc_planes(
            scratch.decoder.function,
            stored.addresses()[places],
            stored.lengths[places],
            scratch.decoded_at,
            self._decoding.chain.size,
            self._dtype.itemsize,
            self._bins[0].ctypes.data,
            self._bins[1].ctypes.data,
            scratch.rest.ctypes.data,
            good,
        )
        return good

    def _count_bytes(
        self, stored: Stored, places: Sequence[int], scratch: Scratch, good: NDArray[np.int64]
    ) -> None:
        """Count chunks of small labels by the lowest byte of each."""
        from fastcounts.kernels import planes

        assert scratch.decoder is not None
        bins = self._byte_bins()
        planes.count_low_bytes(
            scratch.decoder.function,
            stored.addresses()[places],
            stored.lengths[places],
            scratch.decoded_at,
            self._decoding.chain.size,
            self._dtype.itemsize,
            good,
            *bins.addresses,
        )
        bins.settle(_MOST_PAIRED)

    # ---- decoded and counted in one go ----

    def _decoder(self, scratch: Scratch) -> tuple[int, int, int] | None:
        """What the kernels have to know to decode; None where that is done in Python."""
        from fastcounts.kernels import native

        if scratch.decoder is not None:
            return scratch.decoder.kind, scratch.decoder.function, scratch.decoder.context
        return (native.RAW, 0, 0) if self._decoding.chain.native == "raw" else None

    def _byte_bins(self) -> Bytes:
        from fastcounts.kernels import dense

        if self._bytes is None:
            self._bytes = Bytes(dense.SCRATCH8)
        return self._bytes

    def _count_whole(self, stored: Stored, places: Sequence[int], scratch: Scratch) -> list[int]:
        """Decode and count chunks of labels of 8 bits; returns the places of broken ones."""
        from fastcounts.kernels import streams

        if (decoder := self._decoder(scratch)) is None:
            return list(places)
        bins, good = self._byte_bins(), np.zeros(len(places), np.int64)
        streams.count_chunks8(
            *decoder,
            stored.addresses()[places],
            stored.lengths[places],
            scratch.decoded_at,
            self._decoding.chain.size,
            scratch.sizes,
            good,
            *bins.addresses,
        )
        bins.settle(_MOST_PAIRED)
        self._boxes += [
            stored.boxes[place] for place, done in zip(places, good, strict=True) if done
        ]
        return [place for place, done in zip(places, good, strict=True) if not done]

    # ---- each chunk in an item of its own ----

    def _count_apart(self, stored: Stored, scratch: Scratch) -> list[int]:
        """Count chunks each by itself; returns the places of broken ones."""
        self.flush()
        places = list(range(len(stored.boxes)))
        if self._memo.is_open:
            found = self._seen(stored, places, scratch)
            places = [place for place in places if place not in found]
            if found:
                self.ready.append(_as_rows(stored, found))
        if not places:
            return []
        if (decoder := self._decoder(scratch)) is None:
            return places
        from fastcounts.kernels import streams

        good, offsets = np.zeros(len(places), np.int64), np.zeros(len(places) + 1, np.int64)
        labels, pixels = np.empty((2, streams.LISTED * len(places)), np.int64)
        streams.count_chunks8_apart(
            *decoder,
            stored.addresses()[places],
            stored.lengths[places],
            scratch.decoded_at,
            self._decoding.chain.size,
            scratch.sizes,
            good,
            *self._byte_bins().addresses,
            offsets,
            labels,
            pixels,
        )
        end, whole = offsets[-1], good != 0
        boxes = [stored.boxes[n] for n, done in zip(places, good, strict=True) if done]
        starts = np.append(offsets[:-1][whole], end)
        self.ready.append(Rows(boxes, starts, labels[:end].copy(), pixels[:end].copy()))
        return [place for place, done in zip(places, good, strict=True) if not done]


def _as_rows(stored: Stored, found: Mapping[int, Known]) -> Rows:
    """Chunks seen before, each with its labels."""
    sizes = [known.labels.size for known in found.values()]
    return Rows(
        [stored.boxes[place] for place in found],
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([known.labels for known in found.values()]),
        np.concatenate([known.pixels for known in found.values()]),
        sum(known.nodata for known in found.values()),
        len(found),
    )
