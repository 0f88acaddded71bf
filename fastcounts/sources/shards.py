"""The chunks of a sharded array: one file a shard, an index in each."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastcounts.errors import ReadError
from fastcounts.grid import Box
from fastcounts.sources.codecs import Around, Chain, DecodeError, UnknownChain, chain_v3
from fastcounts.sources.decoding import Decoding, Scratch, Stored, last_of
from fastcounts.sources.keys import Keys
from fastcounts.sources.port import Found, Piece, one_line
from fastcounts.sources.shortcuts import Shortcuts

__all__ = ["FLAGS", "HeldFile", "Layout", "Level", "ShardFile", "Shards", "shard_layout"]

_GAP_BYTES = 64 << 10
"""Chunks of a shard that are no farther apart are read at once."""

FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""How chunks are opened; a key that is a pipe does not stop the count."""

_ABSENT = np.uint64(2**64 - 1)


class Level(NamedTuple):
    """One level of sharding.

    Attributes
    ----------
    chunk : elements an axis of an inner chunk.
    counts : inner chunks an axis of a shard.
    at_start : whether the index stands before the chunks.
    index_chain : of the index.
    """

    chunk: tuple[int, ...]
    counts: tuple[int, ...]
    at_start: bool
    index_chain: Chain

    @property
    def index_bytes(self) -> int:
        """Bytes of the index, with its checksum."""
        assert self.index_chain.stored is not None
        return self.index_chain.stored


class Layout(NamedTuple):
    """How the shards of an array are stored.

    Attributes
    ----------
    levels : of sharding, from the outermost; empty if there is none.
    codecs : of the innermost chunks.
    order : the array's axis of each axis of the innermost shard; None where they agree.
    around : codecs around the outermost shard.
    """

    levels: list[Level]
    codecs: list[Any]
    order: tuple[int, ...] | None = None
    around: tuple[Any, ...] = ()


def shard_layout(codecs: Sequence[Any], shard: tuple[int, ...]) -> Layout:
    """Return how shards are stored, by the codecs of an array.

    All shapes are given along the axes of the array, also where codecs around a shard transpose
    it.

    Parameters
    ----------
    codecs : of the array, in the order of encoding.
    shard : elements an axis of the outermost shard.

    Raises
    ------
    UnknownChain
        If an index or what surrounds a sharding codec is not known here.
    """
    levels: list[Level] = []
    around: list[Any] = []
    inner = list(codecs)
    order = tuple(range(len(shard)))
    while (place := _place_of_sharding(inner)) is not None:
        before, codec, after = inner[:place], inner[place], inner[place + 1 :]
        for step in before:
            order = tuple(order[axis] for axis in step.to_dict()["configuration"]["order"])
        if after and levels:
            raise UnknownChain("codecs after sharding_indexed, within a shard")
        around += after
        level = _level_of(codec, shard, order)
        levels.append(level)
        shard, inner = level.chunk, list(codec.codecs)
    plain = order == tuple(sorted(order))
    return Layout(levels, inner, None if plain else order, tuple(around))


def _place_of_sharding(codecs: Sequence[Any]) -> int | None:
    """Return the place of a sharding codec behind nothing but transpositions; None if none is."""
    for place, codec in enumerate(codecs):
        name = codec.to_dict()["name"]
        if name == "sharding_indexed":
            return place
        if name != "transpose":
            return None
    return None


def _level_of(codec: Any, shard: tuple[int, ...], order: tuple[int, ...]) -> Level:
    """Return one level of sharding; ``order`` names the array's axis of each axis of the shard."""
    back = [order.index(axis) for axis in range(len(order))]
    stored = tuple(int(length) for length in codec.chunk_shape)
    counts = tuple(shard[axis] // length for axis, length in zip(order, stored, strict=True))
    try:
        index = chain_v3(
            codec.index_codecs,
            (*(counts[place] for place in back), 2),
            np.dtype(np.uint64),
            outer=(*order, len(order)),
        )
    except UnknownChain as error:
        raise UnknownChain(f"an index of {error}") from None
    if index.stored is None:
        raise UnknownChain("an index whose size is not fixed")
    location = codec.index_location
    return Level(
        chunk=tuple(stored[place] for place in back),
        counts=tuple(counts[place] for place in back),
        at_start=getattr(location, "value", location) == "start",
        index_chain=index,
    )


class Span(NamedTuple):
    """Where the stored bytes of one shard are: in the whole file, or in an inner chunk of it."""

    base: int
    size: int


class Part(NamedTuple):
    """An inner chunk, or what of it is wanted.

    Attributes
    ----------
    box : what is wanted, in the array.
    whole : whether that is all of it.
    offset, length : where it is in the file; a length of -1 where it does not exist.
    """

    box: Box
    whole: bool
    offset: int
    length: int


class _BrokenIndexError(ValueError):
    """A shard's index, or what surrounds the shard, that cannot be used."""


class ShardFile(Protocol):
    """A shard that can be read in parts; ``size`` is its length in bytes."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes, fewer where it ends."""

    def read_into(self, room: memoryview, offset: int) -> int:
        """Fill a buffer; returns how far, less where it ends.

        Raises
        ------
        OSError
            If it cannot be read.
        """

    def close(self) -> None:
        """Give back what it holds."""


class HeldFile:
    """A shard whose bytes are in memory."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self.size = content.nbytes

    def read(self, offset: int, length: int) -> bytes:
        """Return some bytes, fewer where it ends."""
        return bytes(self._content[offset : offset + length])

    def read_into(self, room: memoryview, offset: int) -> int:
        """Fill a buffer; return how far."""
        part = self._content[offset : offset + room.nbytes]
        room[: part.nbytes] = part
        return part.nbytes

    def close(self) -> None:
        """Do nothing."""


class _File:
    """A shard in a local file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, FLAGS)
        status = os.fstat(self._file)
        self.size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            os.close(self._file)
            raise OSError(errno.EINVAL, "it is no file")

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file, length, offset)

    def read_into(self, room: memoryview, offset: int) -> int:
        done = 0
        while done < room.nbytes:
            step = os.preadv(self._file, [room[done:]], offset + done)
            if not step:
                break
            done += step
        return done

    def close(self) -> None:
        os.close(self._file)


class Shards:
    """The chunks of a sharded array: one file a shard, an index in each.

    Parameters
    ----------
    root : the folder of the array.
    levels : of sharding, from the outermost.
    chain : of the innermost chunks.
    shard : elements an axis of the outermost shard.
    shape : of the array.
    key : gives the key of a shard's coordinates.
    name : of the array, for messages.
    around : undoes what surrounds a whole shard, or None.

    Attributes
    ----------
    room : bytes that each thread may read with, or None.
    """

    room: int | None = None

    def __init__(
        self,
        root: Path,
        levels: Sequence[Level],
        chain: Chain,
        shard: tuple[int, ...],
        shape: tuple[int, ...],
        key: Keys,
        name: str,
        around: Around | None = None,
    ) -> None:
        self._root = root
        self._levels = levels
        self._around = around
        self._shard = shard
        self._shape = shape
        self._key = key
        self._name = name
        self._decoding = Decoding(chain, levels[-1].chunk, name)

    def read_many(
        self, boxes: Iterable[Box], axis: int | None = None, *, known: bool = False
    ) -> Iterator[Found]:
        """Read shards, or parts of shards; each box lies in one; see `LocalChunks`."""
        scratch = Scratch(self._decoding.chain, self.room, self._name)
        shortcuts = Shortcuts(self._decoding, axis) if known else None
        for box, corner, key, file in self._files(boxes):
            if file is None:
                yield Piece(box, None, key)
            elif isinstance(file, OSError):
                yield self._broken(box, key, file)
            else:
                try:
                    yield from self._read(file, box, corner, key, scratch, shortcuts)
                finally:
                    file.close()
        yield from last_of(shortcuts)

    @property
    def chain(self) -> Chain:
        """How the stored bytes of a chunk become its elements."""
        return self._decoding.chain

    @property
    def inner(self) -> tuple[int, ...] | None:
        """Elements an axis of the chunks that can be read alone; None if a shard is read whole."""
        return self._levels[-1].chunk if self._around is None else None

    def _files(self, boxes: Iterable[Box]) -> Iterator[tuple[Box, Sequence[int], str, Any]]:
        """Each box with its shard, opened: None where it does not exist, or the error."""
        for box in boxes:
            corner, key = self._place(box)
            file: _File | OSError | None
            try:
                file = _File(self._root / key)
            except (FileNotFoundError, NotADirectoryError):
                file = None
            except OSError as error:
                file = error
            yield box, corner, key, file

    def _place(self, box: Box) -> tuple[list[int], str]:
        """The coordinates and the key of the shard that a box lies in."""
        corner = [n // length for (n, _), length in zip(box, self._shard, strict=True)]
        return corner, self._key(corner)

    def _broken(self, box: Box, key: str, reason: str | OSError) -> Piece:
        reason = one_line(reason)
        return Piece(
            box, None, key, error=ReadError(f"{self._name}: shard {key} cannot be read: {reason}")
        )

    def _unwrapped(self, file: ShardFile) -> ShardFile:
        """Undo the codecs around a shard, which has to be read whole.

        Raises
        ------
        _BrokenIndexError
            If that fails, or the shard has more bytes than its chunks can have.
        OSError
            If it cannot be read.
        """
        if self._around is None:
            return file
        if file.size > self._around.limit:
            raise _BrokenIndexError(
                f"it is stored in {file.size} bytes, and no such shard takes so many"
            )
        try:
            return HeldFile(self._around.undo(file.read(0, file.size)))
        except DecodeError as error:
            raise _BrokenIndexError(one_line(error)) from None

    def _read(
        self,
        file: ShardFile,
        box: Box,
        corner: Sequence[int],
        key: str,
        scratch: Scratch,
        shortcuts: Shortcuts | None,
    ) -> Iterator[Found]:
        try:
            file = self._unwrapped(file)
        except _BrokenIndexError as error:
            yield self._broken(box, key, str(error))
            return
        except OSError as error:
            yield self._broken(box, key, error)
            return
        origin = tuple(n * length for n, length in zip(corner, self._shard, strict=True))
        parts: list[Part] = []
        for part in self._parts(file, Span(0, file.size), origin, box, key, 0):
            if isinstance(part, Piece):
                yield part
            elif part.length < 0:
                yield Piece(part.box, None, key)
            else:
                parts.append(part)
                if len(parts) == scratch.chunks:
                    yield from self._found(file, parts, key, scratch, shortcuts)
                    parts = []
        if parts:
            yield from self._found(file, parts, key, scratch, shortcuts)

    def _parts(
        self, file: ShardFile, span: Span, origin: tuple[int, ...], box: Box, key: str, depth: int
    ) -> Iterator[Part | Piece]:
        """The innermost chunks of a shard that hold a part of ``box``."""
        level = self._levels[depth]
        try:
            index = self._index(file, span, level)
        except _BrokenIndexError as error:
            yield self._broken(box, key, f"its index cannot be used: {error}")
            return
        except OSError as error:
            yield self._broken(box, key, error)
            return
        entries = iter(index[_cut(origin, box, level)].reshape(-1, 2).tolist())
        spans = [_spans(*axis) for axis in zip(origin, box, level.chunk, strict=True)]
        for inside in product(*spans):
            offset, length = next(entries)
            part = tuple((low, high) for low, high, _, _ in inside)
            if offset == length == int(_ABSENT):
                yield Part(part, False, 0, -1)
            elif offset + length > span.size:
                yield self._broken(
                    part,
                    key,
                    f"its index points to bytes {offset} to {offset + length}, "
                    f"and it has {span.size}",
                )
            elif depth + 1 < len(self._levels):
                corner = tuple(start for _, _, start, _ in inside)
                below = Span(span.base + offset, length)
                yield from self._parts(file, below, corner, part, key, depth + 1)
            else:
                whole = all(full for _, _, _, full in inside)
                yield Part(part, whole, span.base + offset, length)

    def _index(self, file: ShardFile, span: Span, level: Level) -> NDArray[np.uint64]:
        """The offset and length of every inner chunk."""
        size = level.index_bytes
        if span.size < size:
            raise _BrokenIndexError(f"it takes {size} bytes, and the shard has {span.size}")
        begin = span.base if level.at_start else span.base + span.size - size
        content = file.read(begin, size)
        if len(content) != size:
            raise _BrokenIndexError("the file is cut short")
        decoded = np.empty(level.index_chain.size, np.uint8)
        try:
            level.index_chain.decode(content, decoded.data)
        except DecodeError as error:
            raise _BrokenIndexError(str(error)) from None
        entries: NDArray[np.uint64] = level.index_chain.view(decoded, 1)[0]
        return entries

    def _found(
        self,
        file: ShardFile,
        parts: Sequence[Part],
        key: str,
        scratch: Scratch,
        shortcuts: Shortcuts | None,
    ) -> Iterator[Found]:
        """Read the bytes of some chunks, as many as fit at a time, and decode them."""
        start = 0
        while start < len(parts):
            stop, used = start, 0
            while stop < len(parts):
                taken = min(parts[stop].length, self._decoding.chain.limit + 1)
                if used + taken > scratch.capacity:
                    break
                used += taken
                stop += 1
            batch = parts[start:stop]
            failures = self._fetch(file, batch, scratch)
            stored = Stored(
                [part.box for part in batch],
                [f"{key} [{_words(part.box)}]" for part in batch],
                [part.whole for part in batch],
                scratch.stored,
                scratch.offsets[: len(batch)].copy(),
                scratch.lengths[: len(batch)].copy(),
            )
            for place, error in failures.items():
                yield self._broken(stored.boxes[place], stored.keys[place], error)
            if failures:
                stored = stored.only([n for n in range(len(batch)) if n not in failures])
            if stored.boxes:
                yield from self._decoding.pieces(stored, scratch, shortcuts)
            start = stop

    def _fetch(
        self, file: ShardFile, parts: Sequence[Part], scratch: Scratch
    ) -> dict[int, OSError]:
        """Read the stored bytes of some chunks into the buffer; returns which failed, and why."""
        room = scratch.stored.data
        begin = min(part.offset for part in parts)
        end = max(part.offset + part.length for part in parts)
        total = sum(part.length for part in parts)
        if end - begin <= min(total + _GAP_BYTES, scratch.capacity):
            with suppress(OSError):  # one of them may be to blame
                got = file.read_into(room[: end - begin], begin)
                for place, part in enumerate(parts):
                    at = part.offset - begin
                    scratch.offsets[place] = at
                    scratch.lengths[place] = part.length if got >= at + part.length else -errno.EIO
                return {}
        failures: dict[int, OSError] = {}
        used = 0
        for place, part in enumerate(parts):
            wanted, got = min(part.length, self._decoding.chain.limit + 1), -1
            try:
                got = file.read_into(room[used : used + wanted], part.offset)
            except OSError as error:
                failures[place] = error
            scratch.offsets[place] = used
            scratch.lengths[place] = got if got == wanted else -errno.EIO
            used += wanted
        return failures


def _words(box: Box) -> str:
    return ", ".join(f"{start}:{stop}" for start, stop in box)


def _cut(origin: Sequence[int], box: Box, level: Level) -> tuple[slice, ...]:
    """The inner chunks that hold a part of a box, as an index into the shard's index."""
    return tuple(
        slice((low - start) // length, -(-(high - start) // length))
        for start, (low, high), length in zip(origin, box, level.chunk, strict=True)
    )


def _spans(origin: int, bounds: tuple[int, int], length: int) -> list[tuple[int, int, int, bool]]:
    """Along one axis, of each inner chunk: what is wanted, where it begins, whether it is whole."""
    low, high = bounds
    first = low - (low - origin) % length
    return [
        (
            max(low, start),
            min(high, start + length),
            start,
            low <= start and start + length <= high,
        )
        for start in range(first, high, length)
    ]
