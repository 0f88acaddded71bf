"""Zarr arrays, v2 and v3, sharded or not, through zarr-python."""

from __future__ import annotations

import asyncio
import logging
import stat
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeAlias
from zipfile import BadZipFile

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import LocalStore, MemoryStore, StorePath, WrapperStore, ZipStore

from fastcounts.classes import FILL_VALUE, Meaning, check_label_dtype, join_names
from fastcounts.errors import (
    AmbiguousSource,
    ForbiddenChunk,
    ReadError,
    SourceNotFound,
    UnsupportedSource,
)
from fastcounts.grid import Box, Grid
from fastcounts.messages import argument
from fastcounts.plan import ArrayInfo
from fastcounts.sources.cf import nodata_labels, read_attributes
from fastcounts.sources.chunks import LocalChunks, chunks_of, fetch_chunks
from fastcounts.sources.codecs import UnknownChain
from fastcounts.sources.keys import list_chunks
from fastcounts.sources.listing import Listing
from fastcounts.sources.metadata import StoredMetadata, number_orders
from fastcounts.sources.ome import (
    axis_names,
    class_names,
    describe_group,
    find_labels,
    holds_labels,
)
from fastcounts.sources.port import (
    Fetched,
    Found,
    Piece,
    Pile,
    Rows,
    Source,
    Way,
    Weight,
    box_slices,
    digest,
    one_line,
    whole_chunks,
)
from fastcounts.sources.remote import fetch_error, is_forbidden, stored_size, words_of
from fastcounts.sources.shards import Shards
from fastcounts.sources.survey import way_of, weigh_chunks

__all__ = ["ZarrSource", "is_zarr_folder", "meaning_of", "open_zarr"]

Array: TypeAlias = "zarr.Array[Any]"  # a string: before zarr 3.1.4 the class takes no type

_LOG = logging.getLogger("fastcounts")
MET = ("read", "missing", "repeated", "broken", "forbidden")
_MARKERS = ("zarr.json", ".zarray", ".zgroup")
_ABSENT = np.uint64(2**64 - 1)

_ELEMENT_BYTES = 64
"""More than any codec makes of an element: as text it has 21, in an index of shards 16 a level."""

_SLACK = 1 << 16


def is_zarr_folder(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((path / marker).is_file() for marker in _MARKERS)


def open_zarr(target: Any, *, every: bool = False, path: str = "", url: str = "") -> ZarrSource:
    """Open an array, or the label array of a group.

    Parameters
    ----------
    target : a path, a store, an open array or group.
    every : take all label arrays of a group, where there are several.
    path : where in a store.
    url : what the root of the store is called.

    Raises
    ------
    SourceNotFound, UnsupportedSource, AmbiguousSource, ReadError
        Where there is nothing, no label array, or several.
    """
    if not isinstance(target, zarr.Array | zarr.Group):
        target = _open(target, path, url)
    if isinstance(target, zarr.Array):
        return ZarrSource([target], url)
    return ZarrSource(_members(target, every, url), url, url or _name(target.store_path))


def _open(target: Any, path: str, url: str = "") -> Array | zarr.Group:
    name = url or (f"{target}/{path}" if path else str(target))
    try:
        if isinstance(target, Path) and target.is_file():
            target = ZipStore(target, mode="r")
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            opened: Array | zarr.Group = zarr.open(target, mode="r", path=path or None)
    except FileNotFoundError:
        raise SourceNotFound(f"{name}: holds no Zarr array or group") from None
    except (OSError, BadZipFile) as error:
        raise ReadError(f"{name}: {words_of(error)}") from None
    except Exception as error:  # noqa: BLE001  metadata may be wrong in any way
        if is_forbidden(error) or type(error).__module__.startswith("obstore"):
            raise ReadError(f"{name}: {words_of(error)}") from None
        repaired = _with_letter_orders(target)
        if repaired is None:
            raise UnsupportedSource(
                f"{name}: its metadata cannot be read: {words_of(error)}"
            ) from None
        return repaired
    for warning in heard:  # the others are advice for those who write arrays
        if "invalid" in str(warning.message):
            raise UnsupportedSource(f"{name}: {shorten(str(warning.message), 200)}")
    return opened


def _with_letter_orders(target: Any) -> Array | None:
    """Open an array whose transpose codec says "C" or "F", as early writers of v3 did."""
    import json

    from zarr import AsyncArray
    from zarr.core.metadata import ArrayV3Metadata

    if not isinstance(target, Path):
        return None
    try:
        metadata = json.loads((target / "zarr.json").read_text())
        if not number_orders(metadata) or metadata.get("storage_transformers"):
            return None  # it is something else that is wrong
        store_path = StorePath(LocalStore(target, read_only=True))
        return zarr.Array(AsyncArray(ArrayV3Metadata.from_dict(metadata), store_path))
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _members(group: zarr.Group, every: bool, url: str = "") -> list[Array]:
    """The label array of a group, or all of them."""
    name = url or _name(group.store_path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files beside the arrays, which harm nobody
            coordinates: list[Array] = []
            # what a list of labels names twice exists once
            found = dict(find_labels(group, coordinates))
    except Exception as error:  # noqa: BLE001  metadata may be wrong in any way
        raise UnsupportedSource(
            f"{name}: the metadata of one of its arrays cannot be read: {one_line(error)}; "
            "name the array that holds the labels"
        ) from None
    base = f"{group.path}/" if group.path else ""
    arrays = [(path.removeprefix(base), member) for path, member in found.items()]
    labels = [(path, array) for path, array in arrays if holds_labels(array)]
    if not labels:
        raise UnsupportedSource(f"{name}: {_without_labels(group, name, arrays, coordinates)}")
    if len(labels) > 1 and not every:
        several = ", ".join(f"{path} ({array.dtype} {array.shape})" for path, array in labels[:16])
        raise AmbiguousSource(
            f"{name}: the group holds {len(labels)} arrays of integers; name one as "
            f"{name}/{labels[0][0]}, or count all with {argument('all_arrays', True)}: {several}"
        )
    return [array for _, array in labels]


def _without_labels(
    group: zarr.Group,
    name: str,
    arrays: Sequence[tuple[str, Array]],
    coordinates: Sequence[Array],
) -> str:
    """Return what a group without labels contains, and what to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files beside the arrays
        with suppress(Exception):  # metadata may be wrong in any way, and is only described
            if description := describe_group(group, name):
                return description
    what = "the group holds no array of integers"
    names = [
        f"{array.path.rpartition('/')[2]} ({array.dtype})"
        for array in coordinates
        if holds_labels(array)
    ]
    if arrays:
        others = ", ".join(f"{path} ({array.dtype})" for path, array in arrays[:8])
        what += f", only {others}"
    elif not names:
        what += "; it is empty"
    if names:
        what += (
            f"; beside coordinates: {', '.join(names[:8])}. If one of them contains labels, name it"
        )
    return what


def _name(store_path: StorePath) -> str:
    """What messages call an array: its path, where it has one."""
    store = store_path.store
    if isinstance(store, LocalStore):
        return str(Path(store.root) / store_path.path)
    if isinstance(store, ZipStore):
        return f"{store.path}/{store_path.path}".rstrip("/")
    if isinstance(store, MemoryStore):
        return str(store_path)
    return _text(store_path) or f"{type(store).__name__}/{store_path.path}".rstrip("/")


def _text(store_path: StorePath) -> str:
    """Return how a store names an array; empty if the name differs from process to process."""
    store = store_path.store
    while isinstance(store, WrapperStore):
        store = store._store
    if isinstance(store, MemoryStore):
        return ""
    try:
        text = str(store_path)
    except Exception:  # noqa: BLE001  stores have errors of many kinds
        return ""
    return "" if " object at 0x" in text else text


def _identity(store_path: StorePath) -> str:
    """Return the canonical URI of an array; empty for one in memory or in a nameless store."""
    store = store_path.store
    if isinstance(store, LocalStore):
        return (Path(store.root) / store_path.path).resolve().as_uri()
    if isinstance(store, ZipStore):
        return f"{Path(store.path).resolve().as_uri()}/{store_path.path}".rstrip("/")
    return _text(store_path)


def _on_disk(array: Array) -> Array:
    """The same array through zarr's own local store, where fsspec's local files hold it.

    Dask opens a path through fsspec; the array is the same, by another name and slower to read.
    """
    store = array.store
    system = getattr(getattr(store, "fs", None), "sync_fs", None)
    if type(system).__name__ != "LocalFileSystem" or not hasattr(store, "path"):
        return array
    local = StorePath(LocalStore(store.path, read_only=True), array.path)
    return zarr.Array(zarr.AsyncArray(array.metadata, local))


def meaning_of(array: Array, name: str = "") -> Meaning:
    """What a stored array says of its labels, in its attributes and as an OME-Zarr label image.

    In arrays of format 2 that xarray wrote, which name their dimensions in an attribute, the
    fill value is what elsewhere is ``_FillValue``; xarray writes none where there is none.

    Raises
    ------
    UnsupportedSource
        If its elements are no labels before they are decoded.
    """
    attributes = dict(array.attrs)
    fill = array.metadata.fill_value
    origins: dict[int, str] = {}
    if array.metadata.zarr_format == 2 and "_ARRAY_DIMENSIONS" in attributes and fill is not None:
        attributes["_FillValue"] = fill
        origins = dict.fromkeys(nodata_labels([fill], array.dtype), FILL_VALUE)
    said = read_attributes(attributes, array.dtype, name or _name(array.store_path))
    names = join_names([said.names, class_names(array)])
    return replace(said, names=names, origins={**said.origins, **origins})


class ZarrSource(Source):
    """Zarr arrays.

    Parameters
    ----------
    arrays : open arrays; nothing is written to them.
    url : what the root of their store is called, if it has such a name.
    group : the name of the group that contains them, if they were not named.

    Raises
    ------
    UnsupportedSource
        If the elements of one cannot be labels.
    """

    def __init__(self, arrays: Sequence[Array], url: str = "", group: str = "") -> None:
        self._arrays = tuple(_Reader(_on_disk(array), url) for array in arrays)
        together = group if len(arrays) > 1 else ""
        self.arrays = tuple(replace(reader.info, group=together) for reader in self._arrays)
        self._lock = threading.Lock()
        self._met: Counter[str] = Counter()
        self._listings: dict[tuple[int, Grid], Listing | None] = {}

    def read(self, array: int, box: Box) -> Iterable[Piece]:
        """Read one block: a chunk, a shard, or some chunks of a shard."""
        reader = self._arrays[array]
        return reader.read(box) if reader.chunks is None else _keep(reader.chunks.read_many([box]))

    def read_many(
        self, array: int, boxes: Iterable[Box], axis: int | None = None, *, known: bool = True
    ) -> Iterator[Found]:
        """Read chunks or shards straight from where they are stored, where that can be done."""
        chunks = self._arrays[array].chunks
        if chunks is None:
            return super().read_many(array, boxes, axis)
        return self._watch(chunks.read_many(boxes, axis, known=known))

    def way(self, array: int) -> Way:
        """Straight from the store, or through zarr-python and why."""
        reader = self._arrays[array]
        return way_of(reader.array, reader.chunks, reader.obstacle)

    def fetch(self, array: int, boxes: Iterable[Box]) -> Fetched | None:
        """Fetch chunks, or parts of shards, where zarr-python is not asked for them."""
        chunks = self._arrays[array].chunks
        return None if chunks is None else fetch_chunks(chunks, boxes)

    def weigh(self, array: int, grid: Grid, start: int, stop: int) -> Weight:
        """What listing says of chunks or shards, where the store is on this machine."""
        return weigh_chunks(self._arrays[array].array, grid, start, stop)

    def _watch(self, found: Iterable[Found]) -> Iterator[Found]:
        """Pass on what was found, and note how many chunks of which kind there were."""
        met = dict.fromkeys(MET, 0)
        try:
            for one in found:
                known = one if isinstance(one, Rows) else one.known
                repeated = known.repeated if known is not None else 0
                met["repeated"] += repeated
                if isinstance(one, Pile | Rows):
                    met["read"] += len(one.boxes) - repeated
                elif one.error is not None:
                    met["forbidden" if isinstance(one.error, ForbiddenChunk) else "broken"] += 1
                else:
                    met["missing" if one.pixels is None else "read"] += 1
                yield one
        finally:
            with self._lock:
                self._met.update(met)

    def present(self, array: int, grid: Grid, start: int, stop: int) -> NDArray[np.int64] | None:
        """The chunks or shards that exist, where listing them is cheaper than reading."""
        listing = self._listings.get((array, grid))
        if listing is None and (array, grid) not in self._listings:
            reader = self._arrays[array]
            listing = list_chunks(reader.array, grid) if reader.knows_missing else None
            self._listings[array, grid] = listing
        if listing is None:
            return None
        try:
            found = listing.present(start, stop)
        except OSError as error:  # what cannot be listed may be readable
            _LOG.info("%s: cannot be listed: %s", self._arrays[array].name, error)
            self._listings[array, grid] = found = None
        if found is None:
            return None
        with self._lock:
            self._met["missing"] += stop - start - found.size
        return found

    def keep_within(self, reading_bytes: int) -> None:
        """Read fewer chunks together, and ahead, where memory asks for it."""
        for reader in self._arrays:
            if reader.chunks is not None:
                reader.chunks.room = reading_bytes

    def confirm(self) -> None:
        """Check that every array exists, with the metadata it was opened with."""
        for reader in self._arrays:
            reader.metadata.check()

    def chunks_met(self) -> dict[str, int]:
        """How many chunks were read, missing, repeated and broken."""
        with self._lock:
            return dict(self._met)

    def axis_names(self, array: int) -> tuple[str, ...]:
        """Return the names of the dimensions, or of the axes of an OME-Zarr image."""
        return axis_names(self._arrays[array].array)

    def fill_value(self, array: int) -> Any:
        """The array's fill value; None where its metadata gives none."""
        return self._arrays[array].fill_value

    def knows_missing(self, array: int) -> bool:
        """False only for shards whose inner chunks cannot be told apart."""
        return self._arrays[array].knows_missing


def _keep(found: Iterable[Found]) -> Iterator[Piece]:
    """Pieces that stay valid, out of memory that is used again.

    Raises
    ------
    ReadError
        For the first piece that cannot be read.
    """
    for one in found:
        assert not isinstance(one, Rows)  # which come only where labels will do
        for piece in one.pieces() if isinstance(one, Pile) else [one]:
            if piece.error is not None:
                raise piece.error
            pixels = piece.pixels
            yield piece if pixels is None else piece._replace(pixels=pixels.copy())


class _Reader:
    """One array, its chunks, and which of them exist.

    Chunks are read by `LocalChunks`, `Shards` and their like, which bound what is read and
    decoded.  zarr-python reads whole blocks only of irregular chunk grids and of shards that
    cannot be divided, such as those with a filter around them.  There a chunk that is stored in
    more bytes than any codec makes of its elements is refused unread; what is decoded of fewer
    bytes is not bounded.
    """

    def __init__(self, array: Array, url: str = "") -> None:
        self.array = array
        place = f"{url}/{array.path}".rstrip("/") if url else ""
        self.name = place or _name(array.store_path)
        self.metadata = StoredMetadata(array, self.name)
        self.chunks: LocalChunks | Shards | None = None
        self.obstacle = ""
        dtype = check_label_dtype(array.dtype, self.name)
        regular = type(array.metadata).__name__ != "ArrayV3Metadata" or hasattr(
            array.metadata.chunk_grid, "chunk_shape"
        )
        if regular:
            unit = tuple(array.shards or array.chunks)
            inner = tuple(array.chunks) if array.shards else None
        else:
            unit, inner = whole_chunks(array.shape), None
        if 0 in unit and 0 not in array.shape:
            raise UnsupportedSource(f"{self.name}: its metadata gives chunks of no elements")
        self._unit = tuple(max(length, 1) for length in unit)
        self._regular = regular
        self._find_way()
        self.knows_missing = self.chunks is not None
        self.fill_value = array.metadata.fill_value
        meaning = meaning_of(array, self.name)
        self.info = ArrayInfo(
            name=self.name,
            source=place or _identity(array.store_path),
            file="",
            shape=tuple(array.shape),
            dtype=dtype,
            chunks=self._unit,
            inner=self._inner(inner),
            digest=digest(
                array.shape,
                dtype.str,
                unit,
                inner,
                str(self.fill_value),
                *meaning.nodata,
                *map(repr, meaning.numbers),
            ),
            is_fetched=not isinstance(array.store, LocalStore),
            meaning=meaning,
        )
        self._most_stored = _SLACK + prod(self._unit) * _ELEMENT_BYTES

    def _inner(self, said: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """Return the shape of the smallest box that is read alone; None if a unit is read whole.

        Parameters
        ----------
        said : the chunks of shards as zarr-python gives them; of shards that are transposed it
            gives none, and of shards in shards the outer ones.
        """
        return self.chunks.inner if isinstance(self.chunks, Shards) else said

    def _find_way(self) -> None:
        """Read chunks without zarr-python, where that can be done."""
        try:
            self.chunks = chunks_of(self.array, self.name)
            self.obstacle = " and ".join(self.chunks.chain.foreign)
            if self.obstacle:
                _LOG.info(
                    "%s: decoded through zarr-python, more slowly: %s", self.name, self.obstacle
                )
        except UnknownChain as error:
            self.obstacle = str(error)
            _LOG.info("%s: read through zarr-python, more slowly: %s", self.name, error)

    def read(self, box: Box) -> list[Piece]:
        if not self._regular:
            return [Piece(box, self._pixels(box, "chunks at"))]
        corner = tuple(start // length for (start, _), length in zip(box, self._unit, strict=True))
        key = self.array.metadata.encode_chunk_key(corner)
        if not self._exists(key):
            return [Piece(box, None, key)]
        return [Piece(box, self._pixels(box, f"chunk {key} at"), key)]

    def _pixels(self, box: Box, what: str) -> NDArray[Any]:
        try:
            return np.asarray(self.array[box_slices(box)])
        except Exception as error:  # noqa: BLE001  a codec may fail in any way on damaged bytes
            sync(_settle())
            place = ", ".join(f"{start}:{stop}" for start, stop in box)
            if is_forbidden(error):
                raise fetch_error(f"{self.name}: {what} [{place}]", error) from None
            raise ReadError(
                f"{self.name}: {what} [{place}] cannot be read: {words_of(error)}"
            ) from None

    def _exists(self, key: str) -> bool:
        """Whether a chunk exists.

        Raises
        ------
        ReadError
            If it cannot be, or is stored in more bytes than its metadata allows; it is not read
            then.
        """
        size = self._stored_bytes(key)
        if size is not None and size > self._most_stored:
            raise ReadError(
                f"{self.name}: chunk {key} is stored in {size} bytes, and no chunk of "
                f"{prod(self._unit)} elements takes so many"
            )
        return size is not None

    def _stored_bytes(self, key: str) -> int | None:
        """How many bytes a chunk is stored in; None if it does not exist, 0 if nobody knows."""
        store_path = self.array.store_path
        store = store_path.store
        if not isinstance(store, LocalStore):
            place = store_path / key
            tells = type(store).getsize is not Store.getsize  # which reads all of it to tell
            try:
                if tells:
                    return stored_size(place)
                return 0 if sync(place.exists()) else None
            except FileNotFoundError:
                return None
            except Exception as error:  # noqa: BLE001  stores have errors of many kinds
                raise fetch_error(f"{self.name}: chunk {key}", error) from None
        path = Path(store.root) / store_path.path / key
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ReadError(f"{self.name}: chunk {key}: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise ReadError(f"{self.name}: chunk {key} is no file")
        return status.st_size


async def _settle() -> None:
    """Wait for the reads that zarr-python leaves running when one of them fails.

    Left alone they complain on stderr when the process ends.
    """
    for _ in range(3):  # a read may start others
        if not (others := asyncio.all_tasks() - {asyncio.current_task()}):
            return
        await asyncio.wait(others, timeout=1)
