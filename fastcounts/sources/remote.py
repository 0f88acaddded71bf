"""Chunks in any Zarr store: object stores, servers, archives, memory.

Requests are made by zarr's own event loop, several at once, while threads decode; how many
is zarr's ``async.concurrency``.  Object stores retry with backoff and slow down by
themselves; what they give up on is an error of that chunk.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import _get_loop, sync
from zarr.storage import StorePath

from fastcounts.errors import MissingExtra, ReadError, UnsupportedSource
from fastcounts.grid import Box
from fastcounts.sources.chunks import LocalChunks, Scratch, Shards, Stored, last_of
from fastcounts.sources.port import Piece, Pile
from fastcounts.sources.shortcuts import Shortcuts

__all__ = ["StoreChunks", "StoreShards", "open_url"]

_AHEAD_BYTES = 64 << 20
"""Decoded bytes of the chunks that one thread has asked for and not got to yet."""

_WHOLE_BYTES = 256 << 20
"""A shard that decodes to no more is fetched at once where all of it is wanted."""


def open_url(url: str) -> Store:
    """The store that a URL names; credentials are found as its library always finds them.

    Raises
    ------
    MissingExtra
        If no library for it is installed.
    UnsupportedSource
        If no library knows such a URL.
    """
    try:
        from obstore.store import from_url
        from zarr.storage import ObjectStore
    except ImportError:
        return _open_with_fsspec(url)
    try:
        plain: Any = {"client_options": {"allow_http": True}} if url.startswith("http:") else {}
        return ObjectStore(from_url(url, **plain), read_only=True)
    except Exception as error:  # noqa: BLE001  obstore has errors of many kinds
        if "scheme" in str(error).lower() or "recognise" in str(error).lower():
            return _open_with_fsspec(url)
        raise UnsupportedSource(f"{url}: {_words(error)}") from None


def _open_with_fsspec(url: str) -> Store:
    from zarr.storage import FsspecStore

    try:
        return FsspecStore.from_url(url, read_only=True)
    except ImportError as error:
        raise MissingExtra(f"{url}: {error}", "cloud") from None
    except ValueError as error:
        raise UnsupportedSource(f"{url}: {error}") from None


class _Requests:
    """Requests to one store, shared by the threads that read from it."""

    def __init__(self, store_path: StorePath) -> None:
        self._store_path = store_path
        self._lock = threading.Lock()
        self._readers = 0
        self._under_way = 0

    def __enter__(self) -> _Requests:
        with self._lock:
            self._readers += 1
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._readers -= 1

    def room(self, size: int, own: int) -> int:
        """How many requests for chunks of that size one thread may add to its own."""
        together = int(zarr.config.get("async.concurrency") or 16)
        with self._lock:
            fair = -(-together // max(self._readers, 1))
            free = min(fair - own, together - self._under_way)
        return max(1 - own, min(free, _AHEAD_BYTES // max(size, 1) - own))

    def get(self, key: str, begin: int = 0, end: int | None = None) -> Future[Any]:
        """Ask for the bytes of a key, or some of them; the answer is None for no such key."""
        request = None if end is None else RangeByteRequest(begin, end)
        with self._lock:
            self._under_way += 1
        answer = asyncio.run_coroutine_threadsafe(
            (self._store_path / key).get(default_buffer_prototype(), byte_range=request),
            _get_loop(),
        )
        answer.add_done_callback(self._ended)
        return answer

    def _ended(self, answer: Future[Any]) -> None:
        del answer
        with self._lock:
            self._under_way -= 1

    def size(self, key: str) -> int | None:
        """How many bytes a key has; None for no such key."""
        path = self._store_path / key
        try:
            return sync(path.store.getsize(path.path))
        except FileNotFoundError:
            return None


def _words(error: BaseException) -> str:
    """What an error of a store says, on one line."""
    text = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


class StoreChunks(LocalChunks):
    """The chunks of an array that is not sharded, one key each.

    Parameters
    ----------
    store_path : where the array is.
    others : as for `LocalChunks`.
    """

    def __init__(self, store_path: StorePath, *others: Any) -> None:
        super().__init__(Path(), *others)
        self._requests = _Requests(store_path)

    def read_many(
        self, boxes: Iterable[Box], axis: int | None = None, *, known: bool = False
    ) -> Iterator[Piece | Pile]:
        """Read chunks, or parts of chunks; each box lies in one; see `LocalChunks`."""
        scratch = Scratch(self._decoding.chain)
        shortcuts = Shortcuts(self._decoding, axis) if known else None
        waiting = iter(boxes)
        asked: deque[tuple[Box, str, bool, Future[Any]]] = deque()
        with self._requests:
            try:
                while True:
                    room = self._requests.room(self._decoding.chain.size, len(asked))
                    batch = list(islice(waiting, max(room, 0)))
                    for box, key, whole in zip(batch, *self._keys_of(batch), strict=True):
                        asked.append((box, key, whole, self._requests.get(key)))
                    if not asked:
                        break
                    yield from self._answers(asked, scratch, shortcuts)
                yield from last_of(shortcuts)
            finally:
                for _, _, _, answer in asked:
                    answer.cancel()

    def _answers(
        self,
        asked: deque[tuple[Box, str, bool, Future[Any]]],
        scratch: Scratch,
        shortcuts: Shortcuts | None,
    ) -> Iterator[Piece | Pile]:
        """Wait for the first answer, and decode it and those that have come after it."""
        boxes: list[Box] = []
        keys: list[str] = []
        wholes: list[bool] = []
        used = 0
        while asked and len(boxes) < scratch.chunks and (not boxes or asked[0][3].done()):
            if used + self._decoding.chain.limit > scratch.capacity:
                break
            box, key, whole, answer = asked.popleft()
            try:
                found = answer.result()
            except Exception as error:  # noqa: BLE001  stores have errors of many kinds
                reason = f"{self._name}: chunk {key} cannot be fetched: {_words(error)}"
                yield Piece(box, None, key, error=ReadError(reason))
                continue
            if found is None:
                yield Piece(box, None, key)
                continue
            place = len(boxes)
            scratch.offsets[place] = used
            scratch.lengths[place] = self._keep(found, scratch, used)
            used += max(int(scratch.lengths[place]), 0)
            boxes.append(box)
            keys.append(key)
            wholes.append(whole)
        if boxes:
            count = len(boxes)
            places, lengths = scratch.offsets[:count].copy(), scratch.lengths[:count].copy()
            stored = Stored(boxes, keys, wholes, scratch.stored, places, lengths)
            yield from self._decoding.pieces(stored, scratch, shortcuts)

    def _keep(self, found: Any, scratch: Scratch, used: int) -> int:
        """Copy what a store gave, which may be the store's own memory; return its length."""
        content = found.as_numpy_array()
        if content.nbytes > self._decoding.chain.limit:
            return -errno.EFBIG
        scratch.stored[used : used + content.nbytes] = content.view("u1").reshape(-1)
        return int(content.nbytes)


class _Held:
    """A shard whose bytes are in memory."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self.size = content.nbytes

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes."""
        return bytes(self._content[offset : offset + length])

    def read_into(self, room: memoryview, offset: int) -> int:
        """Fill a buffer; returns how far."""
        part = self._content[offset : offset + room.nbytes]
        room[: part.nbytes] = part
        return part.nbytes

    def close(self) -> None:
        """Nothing to do."""


class _Ranged:
    """A shard of which parts are fetched."""

    def __init__(self, requests: _Requests, key: str, size: int) -> None:
        self._requests = requests
        self._key = key
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes."""
        try:
            found = self._requests.get(self._key, offset, offset + length).result()
        except Exception as error:  # noqa: BLE001  stores have errors of many kinds
            raise OSError(_words(error)) from None
        return b"" if found is None else bytes(found.to_bytes())

    def read_into(self, room: memoryview, offset: int) -> int:
        """Fill a buffer; returns how far."""
        try:
            content = self.read(offset, room.nbytes)
        except OSError:
            return -1
        room[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Nothing to do."""


class StoreShards(Shards):
    """The chunks of a sharded array: one key a shard.

    Parameters
    ----------
    store_path : where the array is.
    others : as for `Shards`.
    """

    def __init__(self, store_path: StorePath, *others: Any) -> None:
        super().__init__(Path(), *others)
        self._requests = _Requests(store_path)

    def _files(self, boxes: Iterable[Box]) -> Iterator[tuple[Box, Sequence[int], str, Any]]:
        """Each box with its shard, opened: None where it does not exist."""
        size = self._decoding.chain.dtype.itemsize
        for length in self._shard:
            size *= length
        waiting = iter(boxes)
        asked: deque[tuple[Box, Sequence[int], str, Future[Any] | None]] = deque()
        with self._requests:
            try:
                while True:
                    room = self._requests.room(size, len(asked))
                    for box in islice(waiting, max(room, 0)):
                        corner, key = self._place(box)
                        whole = size <= _WHOLE_BYTES and self._is_all(box)
                        answer = self._requests.get(key) if whole else None
                        asked.append((box, corner, key, answer))
                    if not asked:
                        return
                    first = asked.popleft()
                    yield *first[:3], self._opened(first[2], first[3])
            finally:
                for _, _, _, answer in asked:
                    if answer is not None:
                        answer.cancel()

    def _is_all(self, box: Box) -> bool:
        """Whether a box is a shard, as far as it lies in the array."""
        return all(
            start % length == 0 and stop == min(start + length, end)
            for (start, stop), length, end in zip(box, self._shard, self._shape, strict=True)
        )

    def _opened(self, key: str, answer: Future[Any] | None) -> Any:
        try:
            if answer is None:
                size = self._requests.size(key)
                return None if size is None else _Ranged(self._requests, key, size)
            found = answer.result()
        except Exception as error:  # noqa: BLE001  stores have errors of many kinds
            return OSError(_words(error))
        return None if found is None else _Held(memoryview(found.to_bytes()))
