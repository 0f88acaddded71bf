"""The chunks of one Zarr array, from file to elements, many at a time."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts.errors import ReadError, UnsupportedSource
from fastcounts.grid import Box
from fastcounts.sources.codecs import (
    Chain,
    UnknownChain,
    around_shards,
    chain_v2,
    chain_v3,
    function_address,
)
from fastcounts.sources.decoding import Decoding, Scratch, Stored, Weighing, last_of
from fastcounts.sources.keys import Keys
from fastcounts.sources.port import Fetched, Found, Piece
from fastcounts.sources.shards import FLAGS, Layout, Level, Shards, shard_layout
from fastcounts.sources.shortcuts import Shortcuts

__all__ = ["LocalChunks", "chunks_of", "fetch_chunks"]

_HEADER_BYTES = 1024
"""What codecs add to a chunk within a shard that is compressed as a whole."""


_HUGE_BYTES = 1 << 30
"""Decoded bytes of chunks for which no memory is allocated before one exists."""


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
    ) -> Iterator[Found]:
        """Read chunks, or parts of chunks; each box lies in one.

        Parameters
        ----------
        boxes : what to read.
        axis : along which items lie, or None.
        known : whether labels will do where they are known without pixels.
        """
        scratch = Scratch(self._decoding.chain, self.room, self._name)
        shortcuts = Shortcuts(self._decoding, axis) if known else None
        waiting = iter(boxes)
        try:
            folder = os.open(self._root, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        except OSError as error:
            raise ReadError(f"{self._name}: {error.strerror}") from None
        try:
            left = yield from self._missing_first(waiting)
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

    def _missing_first(self, waiting: Iterator[Box]) -> Generator[Found, None, list[Box]]:
        """Yield huge chunks until one exists, without memory for them; return that one's box."""
        if self._decoding.chain.size < _HUGE_BYTES:
            return []
        for box in waiting:
            (key,), _ = self._keys_of([box])
            try:
                (self._root / key).stat()
            except (FileNotFoundError, NotADirectoryError):
                yield Piece(box, None, key)
                continue
            except OSError:
                pass  # reading it puts the error into words
            return [box]
        return []

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
                FLAGS,
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
    ) -> Iterator[Found]:
        """Yield what does not exist, and decode the rest."""
        lengths = stored.lengths
        if lengths.size and int(lengths.min()) < 0:
            missing = (lengths == -errno.ENOENT) | (lengths == -errno.ENOTDIR)
            for place in np.flatnonzero(missing).tolist():
                yield Piece(stored.boxes[place], None, stored.keys[place])
            stored = stored.only(np.flatnonzero(~missing).tolist())
        if stored.boxes:
            yield from self._decoding.pieces(stored, scratch, shortcuts)


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
    layout, around = Layout([], []), None
    if metadata.zarr_format == 2:
        chunk = tuple(metadata.chunks)
        filters = metadata.filters or ()
        chain = chain_v2(filters, metadata.compressor, metadata.order, chunk, dtype)
    else:
        chunk = _chunk_of(metadata, name)
        layout = shard_layout(metadata.codecs, chunk)
        inner = layout.levels[-1].chunk if layout.levels else chunk
        chain = chain_v3(layout.codecs, inner, dtype, outer=layout.order, metadata=metadata)
        most = _most_shard_bytes(layout.levels, chain)
        around, foreign = around_shards(layout.around, most, chunk, metadata)
        chain = replace(chain, foreign=(*chain.foreign, *foreign))
    if local:
        if layout.levels:
            return Shards(place, layout.levels, chain, chunk, shape, key, name, around)
        return LocalChunks(place, chain, chunk, shape, key, name)
    from fastcounts.sources.remote import StoreChunks, StoreShards

    if layout.levels:
        return StoreShards(place, layout.levels, chain, chunk, shape, key, name, around)
    return StoreChunks(place, chain, chunk, shape, key, name)


def _most_shard_bytes(levels: Sequence[Level], chain: Chain) -> int:
    """Return how many bytes a shard may have whose size nothing else bounds.

    Each chunk may have twice its decoded size and the headers of its codecs.
    """
    chunks, index = 1, 0
    for level in levels:
        index += chunks * level.index_bytes
        chunks *= prod(level.counts)
    return index + chunks * (2 * chain.size + _HEADER_BYTES) + chain.limit


def _chunk_of(metadata: Any, name: str) -> tuple[int, ...]:
    """The shape of the outermost chunks of a Zarr v3 array."""
    grid = getattr(metadata.chunk_grid, "chunk_shape", None)
    if grid is None:
        raise UnknownChain("an irregular grid of chunks")
    if getattr(metadata, "storage_transformers", ()):
        raise UnsupportedSource(f"{name}: storage transformers change what is stored, unknown how")
    return tuple(int(length) for length in grid)


def fetch_chunks(chunks: LocalChunks | Shards, boxes: Iterable[Box]) -> Fetched:
    """Fetch chunks, or the inner chunks of shards, and decode nothing."""
    fetching, decoding = copy(chunks), chunks._decoding
    weighing = Weighing(decoding.chain, decoding.chunk, decoding._name)
    fetching._decoding = weighing
    for _ in fetching.read_many(boxes):
        pass  # what does not exist, or cannot be read
    return Fetched(weighing.chunks, weighing.stored_bytes)
