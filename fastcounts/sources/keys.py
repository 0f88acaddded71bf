"""What stores call the chunks of an array, and which of them exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

from fastcounts.grid import Grid
from fastcounts.sources.listing import (
    LEAST_CHUNKS,
    Listing,
    folder_corners,
    key_corners,
    names_in,
)

__all__ = ["Keys", "key_parts", "list_chunks"]


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
