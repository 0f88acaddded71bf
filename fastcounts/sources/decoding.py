"""From stored chunks to pieces: many are decoded at a time, in memory that is used again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcounts.errors import MemoryBudgetError, ReadError
from fastcounts.grid import Box
from fastcounts.sources.codecs import Chain, DecodeError, NativeDecoder, has_native, verified
from fastcounts.sources.port import Found, Piece, Pile, one_line
from fastcounts.sources.shortcuts import Shortcuts

__all__ = ["Decoding", "Scratch", "Stored", "Weighing", "last_of"]

_BATCH_BYTES = 8 << 20
"""Decoded bytes of the chunks that are read at once."""

_SLOT_BYTES = 1 << 20
"""Decoded bytes that are counted at once: a part of the second-level cache."""

_MOST_CHUNKS = 128

_PAGE_BYTES = 2 << 20
"""Decoded chunks begin where a large page of memory may: NumPy asks for such pages."""

_PADDING = 64
"""Decoders write, and read, so far beyond what they are asked for."""

_REST_BYTES = 4096
"""More than the kernels for planes ask for, without importing them for the question."""


_SHOWN_BYTES = 512

_LINK_OR_PAGE = re.compile(r'[\w.~-]*/|<[!?\w]|\{\s*"|version https?://')
"""How the path of a link, a page, a JSON message or a pointer of Git LFS begins."""


class Stored(NamedTuple):
    """The stored bytes of some chunks.

    Attributes
    ----------
    boxes : where each lies in the array, clipped to what is wanted.
    keys : what messages call each.
    whole : whether each is wanted entirely.
    memory : that holds the bytes of all.
    offsets, lengths : where in it they are; a negative length is the number of an error.
    """

    boxes: Sequence[Box]
    keys: Sequence[str]
    whole: Sequence[bool]
    memory: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def addresses(self) -> NDArray[np.int64]:
        """Where the bytes of each chunk are."""
        begin: int = self.memory.ctypes.data
        return self.offsets + begin

    def content(self, place: int) -> memoryview:
        """The stored bytes of one chunk."""
        begin = int(self.offsets[place])
        return self.memory[begin : begin + int(self.lengths[place])].data

    def only(self, places: Sequence[int]) -> Stored:
        """Some of the chunks."""
        places = list(places)
        return Stored(
            [self.boxes[n] for n in places],
            [self.keys[n] for n in places],
            [self.whole[n] for n in places],
            self.memory,
            self.offsets[places],
            self.lengths[places],
        )


class Scratch:
    """What one thread needs to read and decode chunks of one chain, used again and again.

    Parameters
    ----------
    chain : of the chunks.
    room : bytes that the thread may read with, or None.
    name : of the array, for messages.

    Attributes
    ----------
    chunks : how many are read at once, at most.
    slots : how many of them can lie decoded side by side.
    """

    def __init__(self, chain: Chain, room: int | None = None, name: str = "array") -> None:
        size = max(chain.size, 1)
        batch = _BATCH_BYTES if room is None else min(_BATCH_BYTES, room // 6)
        slot = _SLOT_BYTES if room is None else min(_SLOT_BYTES, room // 12)
        self.chunks = max(1, min(batch // size, _MOST_CHUNKS))
        self.slots = max(1, min(slot // size, self.chunks))
        self.capacity = chain.limit + 1 + min((self.chunks - 1) * size, batch)
        self._decoded_bytes = self.slots * chain.size + _PADDING
        self._chunk_bytes, self._name = chain.size, name
        self.rest = np.empty(_REST_BYTES, np.uint8)
        self.offsets = np.zeros(self.chunks, np.int64)
        self.lengths = np.zeros(self.chunks, np.int64)
        self.good = np.zeros(self.chunks, np.int64)
        self.sizes = np.zeros(2, np.int64)
        native = chain.native
        usable = native not in ("", "raw") and has_native(native)
        self.decoder = NativeDecoder(native) if usable else None

    @cached_property
    def _memory(self) -> NDArray[np.uint8]:
        """The memory of all chunks, allocated when the first chunk that exists is read.

        Metadata may declare chunks that are larger than any memory and do not exist.

        Raises
        ------
        MemoryBudgetError
            If it cannot be allocated.
        """
        size = _PAGE_BYTES + self._decoded_bytes + self.capacity + _PADDING
        try:
            memory = np.empty(size, np.uint8)
        except (MemoryError, ValueError):  # NumPy refuses sizes beyond the address space
            raise MemoryBudgetError(
                f"{self._name}: a chunk of {self._chunk_bytes} bytes cannot be read: it takes "
                f"{size} bytes of memory, which cannot be allocated; store the array in smaller "
                "chunks"
            ) from None
        return memory[-memory.ctypes.data % _PAGE_BYTES :]

    @cached_property
    def decoded(self) -> NDArray[np.uint8]:
        """Where chunks are decoded."""
        return self._memory[: self._decoded_bytes]

    @cached_property
    def stored(self) -> NDArray[np.uint8]:
        """Where stored bytes are read to."""
        return self._memory[self._decoded_bytes :][: self.capacity]

    @cached_property
    def stored_at(self) -> int:
        """The address of ``stored``."""
        return int(self.stored.ctypes.data)

    @cached_property
    def decoded_at(self) -> int:
        """The address of ``decoded``."""
        return int(self.decoded.ctypes.data)


class Decoding:
    """Turns stored chunks into pieces.

    Parameters
    ----------
    chain : of the chunks.
    chunk : elements an axis of one chunk.
    name : of the array, for messages.
    """

    def __init__(self, chain: Chain, chunk: tuple[int, ...], name: str) -> None:
        self.chain = chain
        self.chunk = chunk
        self._name = name

    def pieces(
        self, stored: Stored, scratch: Scratch, shortcuts: Shortcuts | None
    ) -> Iterator[Found]:
        """Count or decode some chunks, at most ``scratch.chunks``, and yield what is in them."""
        if shortcuts is not None and shortcuts.is_open:
            left = shortcuts.take(stored, scratch)
            yield from shortcuts.ready
            shortcuts.ready.clear()
            if not left:
                return
            if len(left) < len(stored.boxes):
                stored = stored.only(left)
        for start in range(0, len(stored.boxes), scratch.slots):
            stop = min(start + scratch.slots, len(stored.boxes))
            some = stored if not start and stop == len(stored.boxes) else None
            yield from self._decoded(some or stored.only(range(start, stop)), scratch)

    def _decoded(self, stored: Stored, scratch: Scratch) -> Iterator[Found]:
        """Decode some chunks, at most ``scratch.slots``, and yield them."""
        count = len(stored.boxes)
        decoded = self._decode(stored, scratch)
        pixels = self.chain.view(decoded[: count * self.chain.size], count)
        good = scratch.good
        start = 0
        while start < count:
            if not good[start]:
                yield self._failed(stored, scratch, start)
                start += 1
                continue
            if not stored.whole[start]:
                box = stored.boxes[start]
                yield Piece(box, self._crop(pixels[start], box), stored.keys[start])
                start += 1
                continue
            stop = start + 1
            while stop < count and good[stop] and stored.whole[stop]:
                stop += 1
            yield Pile(stored.boxes[start:stop], pixels[start:stop])
            start = stop

    def decode_alone(self, stored: Stored, scratch: Scratch, place: int) -> NDArray[Any] | None:
        """The elements of one chunk, at the begin of the scratch buffer; None if it is broken."""
        alone = stored.only([place])
        decoded = self._decode(alone, scratch)
        return self.chain.view(decoded[: self.chain.size], 1)[0] if scratch.good[0] else None

    def _crop(self, pixels: NDArray[Any], box: Box) -> NDArray[Any]:
        """The part of a chunk that is wanted."""
        return pixels[
            tuple(
                slice(low % length, low % length + high - low)
                for (low, high), length in zip(box, self.chunk, strict=True)
            )
        ]

    def _decode(self, stored: Stored, scratch: Scratch) -> NDArray[np.uint8]:
        """Decode some chunks into the scratch buffer, or find them where they are."""
        chain, count = self.chain, len(stored.boxes)
        lengths, good = stored.lengths[:count], scratch.good[:count]
        if chain.checked:
            lengths = self._verify(stored)
        if chain.native == "raw":
            good[:] = lengths == chain.size
            if (np.diff(stored.offsets) == chain.size).all() and good.all():
                begin = int(stored.offsets[0])
                return stored.memory[begin : begin + count * chain.size]
            for place in np.flatnonzero(good).tolist():
                at, begin = place * chain.size, int(stored.offsets[place])
                scratch.decoded[at : at + chain.size] = stored.memory[begin : begin + chain.size]
        elif scratch.decoder is not None:
            from fastcounts.kernels import native

            decoder = scratch.decoder
            native.decode_many(
                decoder.kind,
                decoder.function,
                decoder.context,
                stored.addresses(),
                lengths,
                scratch.decoded_at,
                chain.size,
                scratch.sizes,
                good,
            )
        else:
            for place in range(count):
                good[place] = self._decode_one(stored, scratch, place) is None
        return scratch.decoded

    def _verify(self, stored: Stored) -> NDArray[np.int64]:
        """The lengths without a checksum at the end; -1 where it is wrong."""
        lengths = np.full(len(stored.boxes), -1, np.int64)
        for place, length in enumerate(stored.lengths[: lengths.size].tolist()):
            if length >= 0:
                try:
                    data = stored.content(place)
                    lengths[place] = verified(data).nbytes
                except DecodeError:
                    pass  # it is found again where the error is put into words
        return lengths

    def _decode_one(self, stored: Stored, scratch: Scratch, place: int) -> str | None:
        """Decode one chunk in Python; says why, where that cannot be done."""
        length = int(stored.lengths[place])
        if length < 0:
            return os.strerror(-length)
        if length > self.chain.limit:
            return (
                f"it is stored in {length} bytes or more, and no chunk of {self.chain.size} "
                "bytes takes so many"
            )
        at = place * self.chain.size
        out = scratch.decoded[at : at + self.chain.size].data
        try:
            self.chain.decode(stored.content(place), out)
        except DecodeError as error:
            return one_line(error) + _text_instead(stored.content(place))
        return None

    def _failed(self, stored: Stored, scratch: Scratch, place: int) -> Piece:
        """What becomes of a chunk that could not be decoded natively."""
        box, key = stored.boxes[place], stored.keys[place]
        reason = self._decode_one(stored, scratch, place)
        if reason is not None:
            return Piece(box, None, key, error=ReadError(f"{self._name}: chunk {key}: {reason}"))
        at = place * self.chain.size
        pixels = self.chain.view(scratch.decoded[at : at + self.chain.size], 1)[0]
        return Piece(box, self._crop(pixels, box), key)


class Weighing(Decoding):
    """Adds up stored bytes instead of decoding them."""

    def __init__(self, chain: Chain, chunk: tuple[int, ...], name: str) -> None:
        super().__init__(chain, chunk, name)
        self.chunks = 0
        self.stored_bytes = 0

    def pieces(
        self, stored: Stored, scratch: Scratch, shortcuts: Shortcuts | None
    ) -> Iterator[Found]:
        """Nothing; what is there has been fetched."""
        del scratch, shortcuts
        lengths = stored.lengths[: len(stored.boxes)]
        self.chunks += int((lengths >= 0).sum())
        self.stored_bytes += int(lengths[lengths >= 0].sum())
        return iter(())


def _text_instead(content: memoryview) -> str:
    """Return what to say of a broken chunk that contains text; empty if it contains none.

    Archives and object stores keep symbolic links as files with the path of the target, and
    servers send pages that say what went wrong.
    """
    begin = bytes(content[:_SHOWN_BYTES]).decode("ascii", "replace")
    if not _LINK_OR_PAGE.match(begin) or not "".join(begin.split()).isprintable():
        return ""
    return (
        f"; the chunk contains the text {one_line(begin, 60)!r}: a symbolic link that was copied "
        "as a file, or a message of a server? Fetch the data again"
    )


def last_of(shortcuts: Shortcuts | None) -> Iterator[Found]:
    """What has been counted and not yet handed over."""
    if shortcuts is not None:
        shortcuts.flush()
        yield from shortcuts.ready
