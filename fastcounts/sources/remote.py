"""Chunks in any Zarr store: object stores, servers, archives, memory.

Which chunks exist is asked page by page where that takes fewer requests than to read them, and
where a listing can be believed; what a server does not list is simply read.

Requests are made by zarr's own event loop, several at once, while threads decode; how many
is zarr's ``async.concurrency``.  Object stores retry with backoff and slow down by
themselves; what they give up on is an error of that chunk.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from datetime import timedelta
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

from fastcounts.errors import (
    ForbiddenChunk,
    MissingExtra,
    OptionError,
    ReadError,
    UnsupportedSource,
)
from fastcounts.grid import Box, Grid
from fastcounts.plan import AHEAD_BYTES
from fastcounts.sources.chunks import LocalChunks
from fastcounts.sources.decoding import Scratch, Stored, last_of
from fastcounts.sources.listing import PAGE_KEYS, Listing, cheapest, key_corners
from fastcounts.sources.port import Found, Piece, one_line
from fastcounts.sources.shards import HeldFile, Shards
from fastcounts.sources.shortcuts import Shortcuts

__all__ = [
    "OversizedError",
    "StoreChunks",
    "StoreShards",
    "fetch_error",
    "is_forbidden",
    "list_keys",
    "open_url",
    "stored_size",
    "words_of",
]

Answer = TypeVar("Answer")

_FORBIDDEN = 403

_DETAILS = re.compile(r"\n\s*(?:Debug source:|\|)|^\s*[x\u00d7] ")
"""Where obstore and icechunk end their message and begin with details, and icechunk's bullet."""

_WHOLE_BYTES = 256 << 20
"""A shard that decodes to no more is fetched at once where all of it is wanted."""


RETRY_SECONDS = 10
"""Seconds after which a request is not repeated, unless FASTCOUNTS_RETRY_SECONDS is set.

With the 5 seconds that obstore waits for a connection, a server that cannot be reached is
reported within 15 seconds.  Servers that throttle usually answer again after one or two.
"""

_MAX_RETRY = timedelta(days=1)
_RETRIES = 10
_MAX_BACKOFF_SECONDS = 3


_SHARD_SLACK = 1 << 20
"""A shard of so many more bytes than twice its decoded size is read in ranges.

It may be damaged, or contain bytes that its index does not name.
"""

_OBSTORE = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "http", "https")
"""Schemes that obstore serves; fsspec is asked for all others, and for its own ``memory``."""


_AZURE_ACCOUNT = ("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1")
"""Where obstore finds the account, and that of the emulator.

It cannot put a store into words, as zarr's messages do, unless it is told the account as well.
"""


def open_url(url: str) -> Store:
    """Return the store that a URL names.

    Credentials are found as the library of the store finds them.  obstore repeats a request to a
    server that is overloaded, fails or cannot be reached, for ten seconds or the seconds in the
    environment variable ``FASTCOUNTS_RETRY_SECONDS``.  For other settings, open the store
    yourself and pass it.

    Raises
    ------
    MissingExtra
        If obstore, or fsspec, is not installed.
    UnsupportedSource
        If no library knows such a URL, or fsspec needs another one for it.
    OptionError
        If ``FASTCOUNTS_RETRY_SECONDS`` is not a number of seconds.
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in _OBSTORE:
        return _open_with_fsspec(url)
    try:
        from obstore.store import from_url
        from zarr.storage import ObjectStore
    except ImportError:
        return _open_with_fsspec(url)
    options: dict[str, Any] = {"retry_config": _retry_config()}
    if scheme == "http":
        options["client_options"] = {"allow_http": True}
    try:
        store = from_url(url, **options)
        if type(store).__name__ == "AzureStore" and "account_name" not in store.config:
            store = from_url(url, account_name=os.environ.get(*_AZURE_ACCOUNT), **options)
        return ObjectStore(store, read_only=True)
    except Exception as error:  # noqa: BLE001  obstore has errors of many kinds
        raise UnsupportedSource(f"{url}: {words_of(error)}") from None


def _retry_config() -> dict[str, Any]:
    """Return how obstore repeats requests that fail.

    Raises
    ------
    OptionError
        If the environment variable is not a number of seconds.
    """
    text = os.environ.get("FASTCOUNTS_RETRY_SECONDS", "").strip() or str(RETRY_SECONDS)
    try:
        seconds = timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        seconds = timedelta(seconds=-1)
    if not timedelta(0) <= seconds <= _MAX_RETRY:
        raise OptionError(
            "FASTCOUNTS_RETRY_SECONDS: expected a number of seconds from 0 to 86400, such as 60, "
            f"got {text!r}"
        )
    return {
        "max_retries": _RETRIES + int(seconds.total_seconds()),  # so that time is what ends it
        "retry_timeout": seconds,
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=_MAX_BACKOFF_SECONDS),
            "base": 2,
        },
    }


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

    def get(self, key: str, limit: int) -> Future[Any]:
        """Request the value of a key; the answer is None if the key does not exist.

        The answer is an `OversizedError` if the value has more than ``limit`` bytes.
        """
        return self._begin(_get_within(self._store_path / key, limit))

    def get_range(self, key: str, begin: int, end: int) -> Future[Any]:
        """Request some bytes of a key; the answer is None if the key does not exist."""
        request = RangeByteRequest(begin, end)
        place = self._store_path / key
        return self._begin(place.get(default_buffer_prototype(), byte_range=request))

    def _begin(self, request: Coroutine[Any, Any, Any]) -> Future[Any]:
        with self._lock:
            self._under_way += 1
        answer = asyncio.run_coroutine_threadsafe(request, _get_loop())
        answer.add_done_callback(self._ended)
        return answer

    def _ended(self, answer: Future[Any]) -> None:
        del answer
        with self._lock:
            self._under_way -= 1

    def size(self, key: str) -> int | None:
        """Return how many bytes the value of a key has; None if the key does not exist."""
        return stored_size(self._store_path / key)


def stored_size(place: StorePath) -> int | None:
    """Return how many bytes the value of a key has; None if the key does not exist.

    Some stores report 0 bytes for keys that do not exist, and some do not know sizes; both are
    asked for the value.
    """
    try:
        size = sync(place.store.getsize(place.path))
    except FileNotFoundError:
        return None
    except NotImplementedError:
        size = 0
    if size:
        return size
    value = sync(place.get(default_buffer_prototype()))
    return None if value is None else len(value)


class OversizedError(OSError):
    """A stored value that has more bytes than any chunk; ``size`` is None if it is not known."""

    def __init__(self, size: int | None, limit: int) -> None:
        stored = f"more than {limit}" if size is None else str(size)
        super().__init__(f"it is stored in {stored} bytes, and no such chunk takes so many")
        self.size = size


async def _get_within(place: StorePath, limit: int) -> Any:
    """Return the value of a key as a buffer, or None if the key does not exist.

    A value of more than ``limit`` bytes is not fetched: obstore reports the size before the
    content arrives, and fsspec and archives are asked for ``limit + 1`` bytes.  Other stores give
    the whole value; some of them refuse ranges that are longer than the value.

    Raises
    ------
    OversizedError
        If the value has more bytes.
    """
    store, found = place.store, None
    if type(store).__name__ == "ObjectStore":
        import obstore

        try:
            answer = await obstore.get_async(store.store, place.path)  # type: ignore[attr-defined]
            if (size := int(answer.meta["size"])) > limit:
                raise OversizedError(size, limit)
            content = await answer.bytes_async()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        return default_buffer_prototype().buffer.from_bytes(content)
    if _takes_ranges(store):
        try:
            found = await place.get(default_buffer_prototype(), RangeByteRequest(0, limit + 1))
        except Exception as error:
            if not _UNSATISFIABLE.search(str(error)):
                raise
            found = await place.get(default_buffer_prototype())  # it is empty
        if found is not None and len(found) > limit:
            raise OversizedError(None, limit)
        return found
    found = await place.get(default_buffer_prototype())
    if found is not None and len(found) > limit:
        raise OversizedError(len(found), limit)
    return found


_UNSATISFIABLE = re.compile(r"416|InvalidRange|range not satisfiable", re.IGNORECASE)
"""What servers answer if a range begins where the value ends."""


def _takes_ranges(store: Store) -> bool:
    """Return whether a store gives the first bytes of a value that may be shorter."""
    while isinstance(store, WrapperStore) and type(store).__module__.startswith("zarr."):
        store = store._store
    return type(store).__name__ in ("FsspecStore", "ZipStore", "ObjectStore")


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
    """Return whether a store lists all of its keys, one by one.

    A wrapper that does not support listing is not asked, whatever it wraps.  Web servers answer
    with whatever their folders show; fsspec lists from a cache, which may be old, and all at once.
    """
    while True:
        try:
            if not store.supports_listing:
                return False
        except Exception:  # noqa: BLE001  stores have errors of many kinds
            return False
        if not isinstance(store, WrapperStore):
            break
        store = store._store
    if type(store).__name__ == "FsspecStore":
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
        streams = _streams_of(store_path.store, [base + one for one in some])
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


def _streams_of(store: Store, prefixes: Sequence[str]) -> list[AsyncIterator[str]]:
    """Begin to list the keys that start with each prefix.

    Some stores refuse when they are called and not when the answer is read.

    Raises
    ------
    OSError
        If the store refuses.
    """
    try:
        return [aiter(store.list_prefix(prefix)) for prefix in prefixes]
    except Exception as error:  # noqa: BLE001  stores have errors of many kinds
        raise OSError(words_of(error)) from None


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
        raise OSError(words_of(error)) from None


def _together() -> int:
    """How many requests may be under way."""
    return int(zarr.config.get("async.concurrency") or 16)


def words_of(error: BaseException) -> str:
    """Return the message of a store's error on one line, with its class if it says little alone.

    Rust libraries print the message first, and then details for their own developers.
    """
    text = str(getattr(error, "strerror", None) or error)
    text = next(filter(None, _DETAILS.split(text)), "")
    text = one_line(text, 300) if text.strip() else ""
    if not text:
        return type(error).__name__
    return f"{type(error).__name__}: {text}" if isinstance(error, LookupError) else text


def fetch_error(what: str, error: BaseException) -> ReadError:
    """What a store's own error means for a chunk or shard.

    Parameters
    ----------
    what : the array and the chunk.
    error : of obstore, fsspec or one of its libraries, or of any other store.
    """
    if isinstance(error, OversizedError):
        return ReadError(f"{what}: {error}")
    if not is_forbidden(error):
        return ReadError(f"{what} cannot be fetched: {words_of(error)}")
    return ForbiddenChunk(
        f"{what} is forbidden (403): {words_of(error)}; where the store answers so for keys that "
        "do not exist, forbidden='missing' (--forbidden missing) takes it for missing"
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
        scratch = Scratch(self._decoding.chain, self.room, self._name)
        shortcuts = Shortcuts(self._decoding, axis) if known else None
        waiting = iter(boxes)
        asked: deque[tuple[Box, str, bool, Future[Any]]] = deque()
        limit = self._decoding.chain.limit
        with self._requests:
            try:
                while True:
                    room = self._requests.room(self._decoding.chain.size, len(asked), self.room)
                    batch = list(islice(waiting, max(room, 0)))
                    for box, key, whole in zip(batch, *self._keys_of(batch), strict=True):
                        asked.append((box, key, whole, self._requests.get(key, limit)))
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
        scratch.stored.data[used : used + content.nbytes] = content
        return content.nbytes


def _bytes_of(found: Any) -> memoryview:
    """The bytes of zarr's buffer, where they are."""
    content: memoryview = found.as_numpy_array().view("u1").reshape(-1).data
    return content


class _NotFetchedError(OSError):
    """A shard that could not be fetched; ``error`` is the store's own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(words_of(error))
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
            found = self._requests.get_range(self._key, offset, offset + length).result()
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
        limit = 2 * size + self._levels[0].index_bytes + _SHARD_SLACK
        waiting = iter(boxes)
        asked: deque[tuple[Box, Sequence[int], str, Future[Any] | None]] = deque()
        with self._requests:
            try:
                while True:
                    room = self._requests.room(size, len(asked), self.room)
                    for box in islice(waiting, max(room, 0)):
                        corner, key = self._place(box)
                        whole = size <= most and self._is_all(box)
                        answer = self._requests.get(key, limit) if whole else None
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
            try:
                found = answer.result()
            except OversizedError as error:
                size = error.size or self._requests.size(key)
                return None if size is None else _Ranged(self._requests, key, size)
        except Exception as error:  # noqa: BLE001  stores have errors of many kinds
            return _NotFetchedError(error)
        return None if found is None else HeldFile(_bytes_of(found))

    def _broken(self, box: Box, key: str, reason: str | OSError) -> Piece:
        if isinstance(reason, _NotFetchedError):
            error = fetch_error(f"{self._name}: shard {key}", reason.error)
            return Piece(box, None, key, error=error)
        return super()._broken(box, key, reason)
