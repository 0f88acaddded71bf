"""The chunks of one Zarr array in a local folder, from file to elements, many at a time."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import cache
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fastcounts.errors import ReadError, UnsupportedSource
from fastcounts.grid import Box, Grid
from fastcounts.sources.codecs import (
    Chain,
    DecodeError,
    NativeDecoder,
    UnknownChain,
    chain_v2,
    chain_v3,
    function_address,
    has_native,
    verified,
)
from fastcounts.sources.listing import (
    LEAST_CHUNKS,
    Listing,
    folder_corners,
    key_corners,
    names_in,
)
from fastcounts.sources.port import Fetched, Piece, Pile
from fastcounts.sources.shortcuts import Shortcuts

__all__ = ["LocalChunks", "Shards", "chunks_of", "fetch_chunks", "list_chunks"]

_BATCH_BYTES = 8 << 20
"""Decoded bytes of the chunks that are read at once."""

_SLOT_BYTES = 1 << 20
"""Decoded bytes that are counted at once: a part of the second-level cache."""

_MOST_CHUNKS = 128
_PAGE_BYTES = 2 << 20
"""Decoded chunks begin where a large page of memory may: NumPy asks for such pages."""

_GAP_BYTES = 64 << 10
"""Chunks of a shard that are no farther apart are read at once."""

_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_PADDING = 64
"""Decoders write, and read, so far beyond what they are asked for."""

_REST_BYTES = 4096
"""More than the kernels for planes ask for, without importing them for the question."""

_ABSENT = np.uint64(2**64 - 1)


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

    Attributes
    ----------
    chunks : how many are read at once, at most.
    slots : how many of them can lie decoded side by side.
    """

    def __init__(self, chain: Chain, room: int | None = None) -> None:
        size = max(chain.size, 1)
        batch = _BATCH_BYTES if room is None else min(_BATCH_BYTES, room // 6)
        slot = _SLOT_BYTES if room is None else min(_SLOT_BYTES, room // 12)
        self.chunks = max(1, min(batch // size, _MOST_CHUNKS))
        self.slots = max(1, min(slot // size, self.chunks))
        self.capacity = chain.limit + 1 + min((self.chunks - 1) * size, batch)
        decoded = self.slots * chain.size + _PADDING
        memory = np.empty(_PAGE_BYTES + decoded + self.capacity + _PADDING, np.uint8)
        begin = -memory.ctypes.data % _PAGE_BYTES
        self.decoded = memory[begin : begin + decoded]
        self.stored = memory[begin + decoded :][: self.capacity]
        self.rest = np.empty(_REST_BYTES, np.uint8)
        self.offsets = np.zeros(self.chunks, np.int64)
        self.lengths = np.zeros(self.chunks, np.int64)
        self.good = np.zeros(self.chunks, np.int64)
        self.sizes = np.zeros(2, np.int64)
        native = chain.native
        usable = native not in ("", "raw") and has_native(native)
        self.decoder = NativeDecoder(native) if usable else None
        self.stored_at: int = self.stored.ctypes.data
        self.decoded_at: int = self.decoded.ctypes.data


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
    ) -> Iterator[Piece | Pile]:
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

    def _decoded(self, stored: Stored, scratch: Scratch) -> Iterator[Piece | Pile]:
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
            return str(error)
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


class _Weighing(Decoding):
    """Adds up stored bytes instead of decoding them."""

    def __init__(self, chain: Chain, chunk: tuple[int, ...], name: str) -> None:
        super().__init__(chain, chunk, name)
        self.chunks = 0
        self.stored_bytes = 0

    def pieces(
        self, stored: Stored, scratch: Scratch, shortcuts: Shortcuts | None
    ) -> Iterator[Piece | Pile]:
        """Nothing; what is there has been fetched."""
        del scratch, shortcuts
        lengths = stored.lengths[: len(stored.boxes)]
        self.chunks += int((lengths >= 0).sum())
        self.stored_bytes += int(lengths[lengths >= 0].sum())
        return iter(())


def fetch_chunks(chunks: LocalChunks | Shards, boxes: Iterable[Box]) -> Fetched:
    """Fetch chunks, or the inner chunks of shards, and decode nothing."""
    fetching, decoding = copy(chunks), chunks._decoding
    weighing = _Weighing(decoding.chain, decoding.chunk, decoding._name)
    fetching._decoding = weighing
    for _ in fetching.read_many(boxes):
        pass  # what does not exist, or cannot be read
    return Fetched(weighing.chunks, weighing.stored_bytes)


# ---- files ----


@cache
def file_functions() -> NDArray[np.int64] | None:
    """The addresses of the C library's functions that read files; None where it has none."""
    if os.name != "posix":
        return None
    try:
        library = ctypes.CDLL(None)
        place = next(name for name in ("__errno_location", "__error") if hasattr(library, name))
        names = ("openat", "read", "close", place)
        return np.array([function_address(library, name) for name in names], np.int64)
    except (OSError, AttributeError, StopIteration):
        return None


class LocalChunks:
    """The chunks of an array that is not sharded, one file each.

    Parameters
    ----------
    root : the folder of the array.
    chain, chunk, shape : of the array.
    key : gives the key of a chunk's coordinates.
    name : of the array, for messages.

    Attributes
    ----------
    room : bytes that each thread may read with, or None.
    """

    room: int | None = None

    def __init__(
        self,
        root: Path,
        chain: Chain,
        chunk: tuple[int, ...],
        shape: tuple[int, ...],
        key: Keys,
        name: str,
    ) -> None:
        self._root = root
        self._chunk = chunk
        self._shape = shape
        self._key = key
        self._name = name
        self._decoding = Decoding(chain, chunk, name)

    def read_many(
        self, boxes: Iterable[Box], axis: int | None = None, *, known: bool = False
    ) -> Iterator[Piece | Pile]:
        """Read chunks, or parts of chunks; each box lies in one.

        Parameters
        ----------
        boxes : what to read.
        axis : along which items lie, or None.
        known : whether labels will do where they are known without pixels.
        """
        scratch = Scratch(self._decoding.chain, self.room)
        shortcuts = Shortcuts(self._decoding, axis) if known else None
        waiting = iter(boxes)
        try:
            folder = os.open(self._root, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        except OSError as error:
            raise ReadError(f"{self._name}: {error.strerror}") from None
        try:
            left: list[Box] = []
            while batch := left + list(islice(waiting, scratch.chunks - len(left))):
                keys, whole = self._keys_of(batch)
                done = self._fetch(folder, keys, scratch)
                found = Stored(
                    batch[:done],
                    keys[:done],
                    whole[:done],
                    scratch.stored,
                    scratch.offsets[:done].copy(),
                    scratch.lengths[:done].copy(),
                )
                yield from self._found(found, scratch, shortcuts)
                left = batch[done:]
            yield from last_of(shortcuts)
        finally:
            os.close(folder)

    @property
    def chain(self) -> Chain:
        """How the stored bytes of a chunk become its elements."""
        return self._decoding.chain

    def _keys_of(self, boxes: Sequence[Box]) -> tuple[list[str], list[bool]]:
        """The key of each box's chunk, and whether the box is all of it.

        Once a chunk, so fast: most boxes lie in one row with the box before.
        """
        keys: list[str] = []
        whole: list[bool] = []
        if not self._chunk:
            return [self._key(())] * len(boxes), [True] * len(boxes)
        *chunk, last = self._chunk
        row: Box | None = None
        for box in boxes:
            if box[:-1] != row:
                row, full = box[:-1], True
                corner = []
                for (start, stop), length in zip(row, chunk, strict=True):
                    corner.append(start // length)
                    full &= stop - start == length
                stem = self._key.stem(corner)
            start, stop = box[-1]
            place = start // last
            keys.append(self._key((*corner, place)) if stem is None else f"{stem}{place}")
            whole.append(full and stop - start == last)
        return keys, whole

    def _fetch(self, folder: int, keys: Sequence[str], scratch: Scratch) -> int:
        """Read files until the buffer is full; returns how many of them."""
        limit = self._decoding.chain.limit
        functions = file_functions()
        if functions is None:
            return self._fetch_one(keys, scratch)
        from fastcounts.kernels import native

        names = np.frombuffer(os.fsencode("\0".join(keys)) + b"\0", np.uint8)
        return int(
            native.read_files(
                functions,
                folder,
                names.ctypes.data,
                _FLAGS,
                limit,
                scratch.stored_at,
                scratch.capacity,
                scratch.offsets,
                scratch.lengths[: len(keys)],
            )
        )

    def _fetch_one(self, keys: Sequence[str], scratch: Scratch) -> int:
        """Read one file, in Python."""
        scratch.offsets[0] = 0
        room = scratch.stored.data[: self._decoding.chain.limit + 1]
        try:
            with (self._root / keys[0]).open("rb", buffering=0) as file:
                length = 0
                while (step := file.readinto(room[length:])) and length < room.nbytes:
                    length += step
                scratch.lengths[0] = length
        except OSError as error:
            scratch.lengths[0] = -(error.errno or errno.EIO)
        return 1

    def _found(
        self, stored: Stored, scratch: Scratch, shortcuts: Shortcuts | None
    ) -> Iterator[Piece | Pile]:
        """Yield what does not exist, and decode the rest."""
        lengths = stored.lengths
        if lengths.size and int(lengths.min()) < 0:
            missing = (lengths == -errno.ENOENT) | (lengths == -errno.ENOTDIR)
            for place in np.flatnonzero(missing).tolist():
                yield Piece(stored.boxes[place], None, stored.keys[place])
            stored = stored.only(np.flatnonzero(~missing).tolist())
        if stored.boxes:
            yield from self._decoding.pieces(stored, scratch, shortcuts)


def last_of(shortcuts: Shortcuts | None) -> Iterator[Pile]:
    """What has been counted and not yet handed over."""
    if shortcuts is not None:
        shortcuts.flush()
        yield from shortcuts.ready


# ---- shards ----


class Level(NamedTuple):
    """One level of sharding.

    Attributes
    ----------
    chunk : elements an axis of an inner chunk.
    counts : inner chunks an axis of a shard.
    at_start : whether the index stands before the chunks.
    dtype : of the index.
    checked : whether a CRC-32C follows the index.
    """

    chunk: tuple[int, ...]
    counts: tuple[int, ...]
    at_start: bool
    dtype: np.dtype[Any]
    checked: bool

    @property
    def index_bytes(self) -> int:
        """Bytes of the index, with its checksum."""
        return 16 * prod(self.counts) + 4 * self.checked


def shard_levels(codecs: Sequence[Any], shard: tuple[int, ...]) -> tuple[list[Level], list[Any]]:
    """The levels of sharding, from the outermost, and the codecs of the innermost chunks.

    Raises
    ------
    UnknownChain
        If an index or what surrounds a sharding codec is not known here.
    """
    levels: list[Level] = []
    inner = list(codecs)
    while inner and inner[0].to_dict()["name"] == "sharding_indexed":
        (codec, *rest) = inner
        if rest:
            raise UnknownChain("codecs after sharding_indexed")
        steps = [step.to_dict() for step in codec.index_codecs]
        names = [str(step["name"]) for step in steps]
        if names not in (["bytes"], ["bytes", "crc32c"]):
            raise UnknownChain(f"an index of {', '.join(names)}")
        endian = dict(steps[0].get("configuration") or {}).get("endian", "little")
        chunk = tuple(int(length) for length in codec.chunk_shape)
        location = codec.index_location
        levels.append(
            Level(
                chunk=chunk,
                counts=tuple(n // m for n, m in zip(shard, chunk, strict=True)),
                at_start=getattr(location, "value", location) == "start",
                dtype=np.dtype(">u8" if endian == "big" else "<u8"),
                checked="crc32c" in names,
            )
        )
        shard, inner = chunk, list(codec.codecs)
    return levels, inner


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
    """A shard's index that cannot be used."""


class ShardFile(Protocol):
    """A shard that can be read in parts; ``size`` is its length in bytes."""

    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes, fewer where it ends."""

    def read_into(self, room: memoryview, offset: int) -> int:
        """Fill a buffer; returns how far, less where it ends or fails."""

    def close(self) -> None:
        """Give back what it holds."""


class _File:
    """A shard in a local file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, _FLAGS)
        status = os.fstat(self._file)
        self.size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            os.close(self._file)
            raise OSError(errno.EINVAL, "it is no file")

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file, length, offset)

    def read_into(self, room: memoryview, offset: int) -> int:
        done = 0
        try:
            while done < room.nbytes:
                step = os.preadv(self._file, [room[done:]], offset + done)
                if not step:
                    break
                done += step
        except OSError:
            return -1
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
    ) -> None:
        self._root = root
        self._levels = levels
        self._shard = shard
        self._shape = shape
        self._key = key
        self._name = name
        self._decoding = Decoding(chain, levels[-1].chunk, name)

    def read_many(
        self, boxes: Iterable[Box], axis: int | None = None, *, known: bool = False
    ) -> Iterator[Piece | Pile]:
        """Read shards, or parts of shards; each box lies in one; see `LocalChunks`."""
        scratch = Scratch(self._decoding.chain, self.room)
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
        if isinstance(reason, OSError):
            reason = str(reason.strerror or reason)
        return Piece(
            box, None, key, error=ReadError(f"{self._name}: shard {key} cannot be read: {reason}")
        )

    def _read(
        self,
        file: ShardFile,
        box: Box,
        corner: Sequence[int],
        key: str,
        scratch: Scratch,
        shortcuts: Shortcuts | None,
    ) -> Iterator[Piece | Pile]:
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
        except (_BrokenIndexError, OSError) as error:
            yield self._broken(box, key, f"its index cannot be used: {error}")
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
        if level.checked:
            try:
                verified(memoryview(content))
            except DecodeError as error:
                raise _BrokenIndexError(str(error)) from None
        entries = np.frombuffer(content, level.dtype, 2 * prod(level.counts))
        return entries.reshape(*level.counts, 2)

    def _found(
        self,
        file: ShardFile,
        parts: Sequence[Part],
        key: str,
        scratch: Scratch,
        shortcuts: Shortcuts | None,
    ) -> Iterator[Piece | Pile]:
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
            self._fetch(file, batch, scratch)
            yield from self._decoding.pieces(
                Stored(
                    [part.box for part in batch],
                    [f"{key} [{_words(part.box)}]" for part in batch],
                    [part.whole for part in batch],
                    scratch.stored,
                    scratch.offsets[: len(batch)].copy(),
                    scratch.lengths[: len(batch)].copy(),
                ),
                scratch,
                shortcuts,
            )
            start = stop

    def _fetch(self, file: ShardFile, parts: Sequence[Part], scratch: Scratch) -> None:
        """Read the stored bytes of some chunks into the buffer."""
        room = scratch.stored.data
        begin = min(part.offset for part in parts)
        end = max(part.offset + part.length for part in parts)
        total = sum(part.length for part in parts)
        if end - begin <= min(total + _GAP_BYTES, scratch.capacity):
            got = file.read_into(room[: end - begin], begin)
            for place, part in enumerate(parts):
                at = part.offset - begin
                scratch.offsets[place] = at
                scratch.lengths[place] = part.length if got >= at + part.length else -errno.EIO
            return
        used = 0
        for place, part in enumerate(parts):
            wanted = min(part.length, self._decoding.chain.limit + 1)
            got = file.read_into(room[used : used + wanted], part.offset)
            scratch.offsets[place] = used
            scratch.lengths[place] = got if got == wanted else -errno.EIO
            used += wanted


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


# ---- from metadata ----


def chunks_of(array: Any, name: str) -> LocalChunks | Shards:
    """What reads the chunks of an array in a local folder, or in any other store.

    Parameters
    ----------
    array : an open array.
    name : of the array, for messages.

    Raises
    ------
    UnknownChain
        If zarr-python itself has to read them.
    """
    from zarr.storage import LocalStore

    metadata = array.metadata
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    key = Keys(metadata, len(shape))
    store_path = array.store_path
    place = store_path
    if local := type(store_path.store) is LocalStore:
        place = Path(store_path.store.root) / store_path.path
    levels: list[Level] = []
    if metadata.zarr_format == 2:
        chunk = tuple(metadata.chunks)
        filters = metadata.filters or ()
        chain = chain_v2(filters, metadata.compressor, metadata.order, chunk, dtype)
    else:
        chunk = _chunk_of(metadata, name)
        levels, codecs = shard_levels(metadata.codecs, chunk)
        chain = chain_v3(codecs, levels[-1].chunk if levels else chunk, dtype)
    if local:
        if levels:
            return Shards(place, levels, chain, chunk, shape, key, name)
        return LocalChunks(place, chain, chunk, shape, key, name)
    from fastcounts.sources.remote import StoreChunks, StoreShards

    if levels:
        return StoreShards(place, levels, chain, chunk, shape, key, name)
    return StoreChunks(place, chain, chunk, shape, key, name)


def _chunk_of(metadata: Any, name: str) -> tuple[int, ...]:
    """The shape of the outermost chunks of a Zarr v3 array."""
    grid = getattr(metadata.chunk_grid, "chunk_shape", None)
    if grid is None:
        raise UnknownChain("an irregular grid of chunks")
    if getattr(metadata, "storage_transformers", ()):
        raise UnsupportedSource(f"{name}: storage transformers change what is stored, unknown how")
    return tuple(int(length) for length in grid)


class Keys:
    """From a chunk's coordinates to its key: zarr-python's way, or a quicker one.

    Parameters
    ----------
    metadata : of the array.
    rank : its number of axes.
    """

    def __init__(self, metadata: Any, rank: int) -> None:
        self._encode = metadata.encode_chunk_key
        self._parts = key_parts(metadata, rank)

    def __call__(self, corner: Sequence[int]) -> str:
        """The key of one chunk."""
        if self._parts is None:
            return str(self._encode(tuple(corner)))
        prefix, mark = self._parts
        return prefix + mark.join(map(str, corner))

    def stem(self, corner: Sequence[int]) -> str | None:
        """What stands before the last coordinate, given the others; None for other keys."""
        if self._parts is None:
            return None
        prefix, mark = self._parts
        return prefix + "".join(f"{place}{mark}" for place in corner)


def key_parts(metadata: Any, rank: int) -> tuple[str, str] | None:
    """What keys begin with, and what stands between coordinates; None for other keys."""
    sample = tuple(range(1, rank + 1))
    text = str(metadata.encode_chunk_key(sample))
    for prefix, mark in (("c/", "/"), ("c.", "."), ("", "."), ("", "/")):
        if rank and text == prefix + mark.join(map(str, sample)):
            return prefix, mark
    return None


def list_chunks(array: Any, grid: Grid) -> Listing | None:
    """What finds out which chunks of a grid exist; None where reading them is cheaper."""
    from zarr.storage import LocalStore

    rank, store_path = len(array.shape), array.store_path
    parts = key_parts(array.metadata, rank)
    if parts is None:
        return None
    prefix, mark = parts
    if type(store_path.store) is not LocalStore:
        from fastcounts.sources.remote import list_keys

        return list_keys(store_path, grid, prefix, mark)
    if grid.size < LEAST_CHUNKS:
        return None
    root: Path = Path(store_path.store.root) / store_path.path

    def count_existing(corners: Sequence[Sequence[int]]) -> int:
        return sum((root / (prefix + mark.join(map(str, one)))).exists() for one in corners)

    if mark == "/":
        corners = folder_corners(root, prefix.rstrip("/"), rank)
        return Listing(grid, corners, count_existing, depth=min(rank - 1, 1))
    every = prod(-(-n // m) for n, m in zip(grid.shape, grid.chunks, strict=True))
    if grid.size * 8 < every:
        return None

    def keys_in_folder(_: Iterable[Sequence[int]]) -> Iterator[tuple[int, ...]]:
        return key_corners(names_in(root), prefix, mark, rank)

    return Listing(grid, keys_in_folder, count_existing, depth=0)
