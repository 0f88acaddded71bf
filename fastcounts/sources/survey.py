"""What is known of a Zarr array without reading its chunks: codecs, sizes, which are missing."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore, MemoryStore, StorePath, ZipStore

from fastcounts.grid import Grid
from fastcounts.sources.chunks import LocalChunks
from fastcounts.sources.codecs import has_native
from fastcounts.sources.keys import key_parts
from fastcounts.sources.listing import folder_corners, key_corners, names_in
from fastcounts.sources.port import Way, Weight
from fastcounts.sources.shards import Shards

__all__ = ["way_of", "weigh_chunks"]

_AT_ONCE = 1 << 16
_MOST_KEYS = 1 << 20
"""Stores with more chunks are not listed: that takes seconds."""


def way_of(array: Any, chunks: LocalChunks | Shards | None, obstacle: str) -> Way:
    """How the chunks of an array are read.

    Parameters
    ----------
    array : an open array.
    chunks : what reads its chunks; None where zarr-python does.
    obstacle : why zarr-python reads or decodes them; empty if it does neither.
    """
    here = isinstance(array.store_path.store, LocalStore | MemoryStore | ZipStore)
    requests = 0 if here else int(zarr.config.get("async.concurrency") or 0)
    codecs = tuple(_codecs(array.metadata))
    if chunks is None or obstacle:
        return Way("zarr-python", codecs, False, requests, obstacle)
    native = chunks.chain.native != "" and has_native(chunks.chain.native)
    return Way("chunks", codecs, native, requests)


def _codecs(metadata: Any) -> Iterator[str]:
    """The codecs of the smallest chunks, without those that only say how numbers are laid out."""
    if metadata.zarr_format == 2:
        for codec in (*(metadata.filters or ()), metadata.compressor):
            if codec is not None:
                options = dict(codec.get_config())
                yield _words(str(options.pop("id")), options)
        return
    waiting = [codec.to_dict() for codec in metadata.codecs]
    while waiting:
        spec = waiting.pop(0)
        name, options = str(spec["name"]), dict(spec.get("configuration") or {})
        if name == "sharding_indexed":
            waiting = [*options["codecs"], *waiting]
        elif name not in ("bytes", "transpose"):
            yield _words(name.removeprefix("numcodecs."), options)


def _words(name: str, options: Mapping[str, Any]) -> str:
    """A codec, with its compressor and shuffle where it is blosc."""
    if name != "blosc":
        return name
    shuffle: Any = options.get("shuffle")
    shuffle = {-1: "autoshuffle", 0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}.get(
        shuffle, getattr(shuffle, "value", shuffle)
    )
    return f"blosc {getattr(options.get('cname'), 'value', options.get('cname'))} {shuffle}"


def weigh_chunks(array: Any, grid: Grid, start: int, stop: int) -> Weight:
    """How many chunks or shards of a range do not exist, and the bytes of the others.

    Known for folders and zip files, by listing; nothing is known of other stores, nor where
    there are too many chunks to list.

    Parameters
    ----------
    array : an open array.
    grid : its chunks or shards.
    start, stop : the half-open range of them.
    """
    rank, store_path = len(array.shape), array.store_path
    if (parts := key_parts(array.metadata, rank)) is None:
        return Weight()
    try:
        if isinstance(store_path.store, ZipStore):
            sizes = _sizes_in_archive(store_path, grid, parts, start, stop)
        elif type(store_path.store) is LocalStore:
            sizes = _sizes_in_folder(store_path, grid, parts, start, stop)
        else:
            return Weight()
    except (OSError, zipfile.BadZipFile):
        return Weight()
    return Weight() if sizes is None else Weight(stop - start - len(sizes), sum(sizes))


def _sizes_in_folder(
    store_path: StorePath, grid: Grid, parts: tuple[str, str], start: int, stop: int
) -> list[int] | None:
    """Bytes of each chunk that is a file; None where there are too many."""
    assert isinstance(store_path.store, LocalStore)
    prefix, mark = parts
    root, rank = Path(store_path.store.root) / store_path.path, len(grid.shape)
    if mark == "/":
        firsts = [(first,) for first in range(*grid.span[0])] if rank > 1 else [()]
        corners = folder_corners(root, prefix.rstrip("/"), rank)(firsts)
    else:
        corners = key_corners(names_in(root), prefix, mark, rank)
    if (numbers := _numbers(corners, grid, start, stop)) is None:
        return None
    sizes = []
    for key in _keys(numbers, grid, parts):
        try:
            sizes.append((root / key).stat().st_size)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return sizes


def _sizes_in_archive(
    store_path: StorePath, grid: Grid, parts: tuple[str, str], start: int, stop: int
) -> list[int] | None:
    """Bytes of each chunk that the directory of a zip file names; None where there are too many."""
    assert isinstance(store_path.store, ZipStore)
    prefix, mark = parts
    base = f"{store_path.path}/" if store_path.path else ""
    with zipfile.ZipFile(store_path.store.path) as archive:
        sizes = {
            entry.filename[len(base) :]: entry.file_size
            for entry in archive.infolist()
            if entry.filename.startswith(base)
        }
    corners = key_corners(sizes, prefix, mark, len(grid.shape))
    if (numbers := _numbers(corners, grid, start, stop)) is None:
        return None
    return [sizes[key] for key in _keys(numbers, grid, parts) if key in sizes]


def _numbers(
    corners: Iterable[tuple[int, ...]], grid: Grid, start: int, stop: int
) -> NDArray[np.int64] | None:
    """The numbers in the grid of the chunks of a range, each once; None for too many."""
    waiting, found = iter(corners), np.empty(0, np.int64)
    listed = 0
    while batch := list(islice(waiting, _AT_ONCE)):
        listed += len(batch)
        if listed > _MOST_KEYS:
            return None
        numbers = grid.ordinals(np.array(batch, np.int64))
        found = np.union1d(found, numbers[(numbers >= start) & (numbers < stop)])
    return found


def _keys(numbers: NDArray[np.int64], grid: Grid, parts: tuple[str, str]) -> Iterator[str]:
    """The keys of some chunks."""
    prefix, mark = parts
    corners = grid.bounds_of(numbers)[:, :, 0] // np.array(grid.chunks)
    return (prefix + mark.join(map(str, corner)) for corner in corners.tolist())
