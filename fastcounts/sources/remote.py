"""Chunks in any Zarr store: object stores, servers, archives, memory.

Which chunks exist is asked page by page where that takes fewer requests than to read them, and
where a listing can be believed; what a server does not list is simply read.

Requests are made by zarr's own event loop, several at once, while threads decode; how many
is zarr's ``async.concurrency``.  Object stores retry with backoff and slow down by
themselves; what they give up on is an error of that chunk.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from importlib import import_module
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import zarr
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import _get_loop, sync
from zarr.storage import StorePath, WrapperStore

from fastcounts.errors import ForbiddenChunk, MissingExtra, ReadError, UnsupportedSource
from fastcounts.grid import Box, Grid
from fastcounts.plan import AHEAD_BYTES
from fastcounts.sources.chunks import LocalChunks
from fastcounts.sources.decoding import Scratch, Stored, last_of
from fastcounts.sources.listing import PAGE_KEYS, Listing, cheapest, key_corners
from fastcounts.sources.port import Found, Piece
from fastcounts.sources.shards import Shards
from fastcounts.sources.shortcuts import Shortcuts

__all__ = ["StoreChunks", "StoreShards", "fetch_error", "is_forbidden", "list_keys", "open_url"]

Answer = TypeVar("Answer")

_FORBIDDEN = 403

_WHOLE_BYTES = 256 << 20
"""A shard that decodes to no more is fetched at once where all of it is wanted."""


_OBSTORE = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "http", "https")
"""Schemes that obstore serves; fsspec is asked for all others, and for its own ``memory``."""


_AZURE_ACCOUNT = ("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1")
"""Where obstore finds the account, and that of the emulator.

It cannot put a store into words, as zarr's messages do, unless it is told the account as well.
"""


def open_url(url: str) -> Store:
    """The store that a URL names; credentials are found as its library always finds them.

    obstore asks a server that is overloaded or breaks off again, ten times and for three minutes
    at most; who wants it otherwise opens a store and passes that.

    Raises
    ------
    MissingExtra
        If obstore, or fsspec, is not installed.
    UnsupportedSource
        If no library knows such a URL, or fsspec needs another one for it.
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in _OBSTORE:
        return _open_with_fsspec(url)
    try:
        from obstore.store import from_url
        from zarr.storage import ObjectStore
    except ImportError:
        return _open_with_fsspec(url)
    try:
        plain: Any = {"client_options": {"allow_http": True}} if scheme == "http" else {}
        store = from_url(url, **plain)
        if type(store).__name__ == "AzureStore" and "account_name" not in store.config:
            store = from_url(url, account_name=os.environ.get(*_AZURE_ACCOUNT))
        return ObjectStore(store, read_only=True)
    except Exception as error:  # noqa: BLE001  obstore has errors of many kinds
        raise UnsupportedSource(f"{url}: {_words(error)}") from None


def _open_with_fsspec(url: str) -> Store:
    from zarr.storage import FsspecStore

    try:
        import_module("fsspec")
    except ImportError as error:
        raise MissingExtra(f"{url}: {error}", "cloud") from None
    try:
        return FsspecStore.from_url(url, read_only=True)
    except ImportError as error:
        if url.partition(":")[0].lower() in _OBSTORE:
            raise MissingExtra(f"{url}: {error}", "cloud") from None
        raise UnsupportedSource(f"{url}: {error}") from None
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

    def room(self, size: int, own: int, most: int | None) -> int:
        """How many requests for chunks one thread may add to its own.

        Parameters
        ----------
        size : decoded bytes of a chunk.
        own : requests of the thread that are under way or waiting.
        most : bytes that the thread may read with, or None.
        """
        ahead = AHEAD_BYTES if most is None else min(AHEAD_BYTES, most // 5)
        together = _together()
        with self._lock:
            fair = -(-together // max(self._readers, 1))
            free = min(fair - own, together - self._under_way)
        return max(1 - own, min(free, ahead // max(size, 1) - own))

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


# ---- which chunks exist ----

_READS_A_PAGE = 32
"""A page of keys is asked for where it may save so many reads: pages come one by one."""

_SAMPLE_PAGES = 32
"""A listing of no more pages is not worth a sample of chunks."""


def list_keys(store_path: StorePath, grid: Grid, prefix: str, mark: str) -> Listing | None:
    """What finds out which chunks of a grid exist; None where reading them is cheaper.

    Parameters
    ----------
    store_path : where the array is.
    grid : its chunks, or shards.
    prefix, mark : what the keys begin with, and what stands between coordinates.
    """
    rank, folder = len(grid.shape), prefix[: prefix.rfind("/") + 1]
    depth, pages = cheapest(grid) if mark == "/" and _is_bucket(store_path.store) else (0, 0)
    if not depth:
        every = prod(-(-n // m) for n, m in zip(grid.shape, grid.chunks, strict=True))
        pages = -(-every // PAGE_KEYS)
    if pages * _READS_A_PAGE > grid.size or not _is_listed(store_path.store):
        return None

    def count_existing(corners: Sequence[Sequence[int]]) -> int:
        keys = [prefix + mark.join(map(str, corner)) for corner in corners]
        return _answer(_count_existing([store_path / key for key in keys]))

    def list_corners(prefixes: Iterable[Sequence[int]]) -> Iterator[tuple[int, ...]]:
        starts = ("".join(f"{number}/" for number in corner) for corner in prefixes)
        keys = _keys_below(store_path, (folder + start for start in starts))
        return key_corners(keys, prefix, mark, rank)

    dense = 1.0 if pages > _SAMPLE_PAGES else None
    return Listing(grid, list_corners, count_existing, depth=depth, dense=dense)


def _is_bucket(store: Store) -> bool:
    """Whether a store lists what is below a folder without looking at the rest."""
    return type(store).__name__ == "ObjectStore"


def _is_listed(store: Store) -> bool:
    """Whether a store lists all of its keys, one by one.

    Web servers answer with whatever their folders show; fsspec lists from a cache, which may be
    old, and all at once.
    """
    while isinstance(store, WrapperStore):
        store = store._store
    if not store.supports_listing or type(store).__name__ == "FsspecStore":
        return False
    return type(getattr(store, "store", None)).__name__ != "HTTPStore"


def _keys_below(store_path: StorePath, folders: Iterable[str]) -> Iterator[str]:
    """The keys below some folders, a few of which are asked for at once.

    Only one page of each is held.

    Raises
    ------
    OSError
        If the store refuses to list, or fails.
    """
    base = f"{store_path.path}/" if store_path.path else ""
    waiting = iter(folders)
    while some := list(islice(waiting, _together())):
        streams = [store_path.store.list_prefix(base + one) for one in some]
        while streams:
            pages = _answer(_next_pages(streams))
            for page in pages:
                for key in page:
                    yield key.removeprefix(base)
            streams = [
                stream
                for stream, page in zip(streams, pages, strict=True)
                if len(page) == PAGE_KEYS
            ]


async def _next_pages(streams: Sequence[AsyncIterator[str]]) -> list[list[str]]:
    return await asyncio.gather(*map(_next_page, streams))


async def _next_page(stream: AsyncIterator[str]) -> list[str]:
    page: list[str] = []
    async for key in stream:
        page.append(key)
        if len(page) == PAGE_KEYS:
            break
    return page


async def _count_existing(places: Sequence[StorePath]) -> int:
    return sum(await asyncio.gather(*(place.exists() for place in places)))


def _answer(question: Coroutine[Any, Any, Answer]) -> Answer:
    """What a store answers.

    Raises
    ------
    OSError
        If it refuses, or fails.
    """
    try:
        return sync(question)
    except Exception as error:  # noqa: BLE001  stores have errors of many kinds
        raise OSError(_words(error)) from None


def _together() -> int:
    """How many requests may be under way."""
    return int(zarr.config.get("async.concurrency") or 16)


def _words(error: BaseException) -> str:
    """What an error of a store says, on one line."""
    text = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def fetch_error(what: str, error: BaseException) -> ReadError:
    """What a store's own error means for a chunk or shard.

    Parameters
    ----------
    what : the array and the chunk.
    error : of obstore, fsspec or one of its libraries, or of any other store.
    """
    if not is_forbidden(error):
        return ReadError(f"{what} cannot be fetched: {_words(error)}")
    return ForbiddenChunk(
        f"{what} is forbidden (403): {_words(error)}; where the store answers so for keys that do "
        "not exist, forbidden='missing' (--forbidden missing) takes it for missing"
    )


def is_forbidden(error: BaseException) -> bool:
    """Whether a store answered 403: who asks may not read this key, or not know that it is none.

    obstore has a class for it, s3fs gives the builtin one; others carry the status of the answer.
    """
    found: BaseException | None = error
    while found is not None:
        response = getattr(found, "response", None)  # of botocore
        facts = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        statuses = [getattr(found, name, None) for name in ("status", "status_code", "code")]
        if (
            isinstance(found, PermissionError)
            or type(found).__name__ == "PermissionDeniedError"
            or facts.get("HTTPStatusCode") == _FORBIDDEN
            or any(str(status) == str(_FORBIDDEN) for status in statuses)
        ):
            return True
        found = found.__cause__
    return False


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
    ) -> Iterator[Found]:
        """Read chunks, or parts of chunks; each box lies in one; see `LocalChunks`."""
        scratch = Scratch(self._decoding.chain, self.room)
        shortcuts = Shortcuts(self._decoding, axis) if known else None
        waiting = iter(boxes)
        asked: deque[tuple[Box, str, bool, Future[Any]]] = deque()
        with self._requests:
            try:
                while True:
                    room = self._requests.room(self._decoding.chain.size, len(asked), self.room)
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
    ) -> Iterator[Found]:
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
                what = f"{self._name}: chunk {key}"
                yield Piece(box, None, key, error=fetch_error(what, error))
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
        content = _bytes_of(found)
        if content.nbytes > self._decoding.chain.limit:
            return -errno.EFBIG
        scratch.stored.data[used : used + content.nbytes] = content
        return content.nbytes


def _bytes_of(found: Any) -> memoryview:
    """The bytes of zarr's buffer, where they are."""
    content: memoryview = found.as_numpy_array().view("u1").reshape(-1).data
    return content


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


class _NotFetchedError(OSError):
    """A shard that could not be fetched; ``error`` is the store's own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(_words(error))
        self.error = error


class _Ranged:
    """A shard of which parts are fetched."""

    def __init__(self, requests: _Requests, key: str, size: int) -> None:
        self._requests = requests
        self._key = key
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes."""
        return bytes(self._get(offset, length))

    def read_into(self, room: memoryview, offset: int) -> int:
        """Fill a buffer; returns how far."""
        content = self._get(offset, room.nbytes)
        room[: content.nbytes] = content
        return content.nbytes

    def _get(self, offset: int, length: int) -> memoryview:
        try:
            found = self._requests.get(self._key, offset, offset + length).result()
        except Exception as error:  # noqa: BLE001  stores have errors of many kinds
            raise _NotFetchedError(error) from None
        return memoryview(b"") if found is None else _bytes_of(found)[:length]

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
        most = _WHOLE_BYTES if self.room is None else min(_WHOLE_BYTES, self.room // 5)
        waiting = iter(boxes)
        asked: deque[tuple[Box, Sequence[int], str, Future[Any] | None]] = deque()
        with self._requests:
            try:
                while True:
                    room = self._requests.room(size, len(asked), self.room)
                    for box in islice(waiting, max(room, 0)):
                        corner, key = self._place(box)
                        whole = size <= most and self._is_all(box)
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
            return _NotFetchedError(error)
        return None if found is None else _Held(_bytes_of(found))

    def _broken(self, box: Box, key: str, reason: str | OSError) -> Piece:
        if isinstance(reason, _NotFetchedError):
            error = fetch_error(f"{self._name}: shard {key}", reason.error)
            return Piece(box, None, key, error=error)
        return super()._broken(box, key, reason)
