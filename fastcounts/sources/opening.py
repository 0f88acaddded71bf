"""From what a user gives to the source that reads it, by content and not by suffix."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from fastcounts.classes import Meaning
from fastcounts.errors import OptionError, SourceNotFound, UnsupportedSource
from fastcounts.sources.collection import Collection, rename
from fastcounts.sources.files import FileSource, find_files
from fastcounts.sources.memory import MemorySource
from fastcounts.sources.port import Source

__all__ = ["open_source"]


def open_source(
    target: Any,
    *,
    source_id: str | None = None,
    every: bool = False,
    meaning: Meaning | None = None,
) -> Source:
    """Open whatever holds masks.

    Parameters
    ----------
    target : an array, a path or glob, an open Zarr array or group, a Zarr store, or a list of
        these.
    source_id : the name under which the data is known wherever it lies; needed to split arrays
        in memory into parts.
    every : take all label arrays of a Zarr group.
    meaning : what is known of the labels, in place of what the target says itself.

    Raises
    ------
    SourceNotFound, UnsupportedSource, AmbiguousSource, ReadError, MissingExtra
    """
    source = _open(target, every)
    if source_id is not None:
        if not source_id or not isinstance(source_id, str):
            raise OptionError(f"source_id: expected a name, got {source_id!r}")
        source.arrays = rename(source.arrays, source_id)
    if meaning is not None:
        source.arrays = tuple(replace(info, meaning=meaning) for info in source.arrays)
    return source


def _open(target: Any, every: bool) -> Source:
    if isinstance(target, np.ndarray):
        return MemorySource([target])
    if isinstance(target, np.generic):
        return MemorySource([np.asarray(target)])
    if isinstance(target, str | os.PathLike):
        return _open_path(os.fspath(target), every)
    if _is_zarr(target):
        from fastcounts.sources.zarr_arrays import open_zarr

        return open_zarr(target, every=every)
    if isinstance(target, list | tuple) or _is_iterator(target):
        return _open_list(list(target), every)
    raise UnsupportedSource(_refusal(target))


def _is_iterator(target: Any) -> bool:
    return isinstance(target, Iterable) and iter(target) is target


def _is_zarr(target: Any) -> bool:
    """Whether this is an open array, group or store, without importing zarr for the question."""
    if (zarr := sys.modules.get("zarr")) is None:
        return False
    return isinstance(
        target, zarr.Array | zarr.Group | zarr.abc.store.Store | zarr.storage.StorePath
    )


def _refusal(target: Any) -> str:
    kind = f"{type(target).__module__}.{type(target).__qualname__}"
    if hasattr(target, "__array__"):
        return (
            f"{kind}: converting it to a NumPy array could lose what its elements mean (masks, "
            "axes, device); convert it yourself and pass the array"
        )
    return f"{kind}: is no source of masks; give an array, a path, or an open Zarr array"


def _open_list(targets: Sequence[Any], every: bool) -> Source:
    if not targets:
        raise OptionError("source: the list is empty")
    if all(isinstance(target, np.ndarray) for target in targets):
        return MemorySource(targets)
    sources: list[Source] = []
    for plain, group in groupby(targets, key=_is_plain_file):
        if plain:
            sources.append(FileSource([_local(os.fspath(path)) for path in group]))
        else:
            sources += [_open(target, every) for target in group]
    return Collection(sources)


def _is_plain_file(target: Any) -> bool:
    return (
        isinstance(target, str | os.PathLike)
        and Path(target).is_file()
        and not str(target).lower().endswith(".zip")
    )


def _open_path(text: str | bytes, every: bool) -> Source:
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if not text:
        raise OptionError("source: the path is empty")
    if "://" in text and not text.startswith("file:"):
        return _open_url(text, every)
    path = _local(text)
    try:
        path.exists()
    except OSError as error:  # such as a name that no file can have
        raise SourceNotFound(f"{text}: {error.strerror}") from None
    if path.is_dir():
        return _open_folder(path, every)
    if path.is_file():
        if path.suffix.lower() == ".zip":
            return _zarr_at(path, every)
        return FileSource([path])
    if (archive := _archive_above(path)) is not None:
        return _zarr_in_archive(archive, path, every)
    if glob.has_magic(text):
        return _open_glob(text, every)
    if path.exists():
        raise UnsupportedSource(f"{text}: is neither a file nor a folder")
    raise SourceNotFound(f"{text}: there is no such file or folder")


def _open_url(url: str, every: bool) -> Source:
    from fastcounts.sources.remote import open_url
    from fastcounts.sources.zarr_arrays import open_zarr

    url = url.rstrip("/")
    return open_zarr(open_url(url), every=every, url=url)


def _local(text: str) -> Path:
    """The path on this machine that a text or file:// URI names.

    Links on the way are followed, the last name is kept: stores that hold equal files once
    link several masks to one, and each of them counts.
    """
    if "://" not in text:
        return _named(Path(text))
    parts = urlsplit(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise UnsupportedSource(
            f"{text}: open it with zarr (zarr.open_array) and pass the open array"
        )
    return _named(Path(unquote(parts.path)))


def _named(path: Path) -> Path:
    """The path with all links but the last followed."""
    try:
        path = path.expanduser()
        return path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()
    except (RuntimeError, OSError) as error:
        raise SourceNotFound(f"{path}: {error}") from None


def _open_folder(path: Path, every: bool) -> Source:
    from fastcounts.sources.zarr_arrays import is_zarr_folder

    if is_zarr_folder(path):
        return _zarr_at(path, every)
    found = list(find_files(path, is_zarr_folder))
    if not found and path.suffix == ".zarr":
        return _zarr_at(path, every)
    return _gather(found, every, f"{path}: the folder holds no masks")


def _open_glob(pattern: str, every: bool) -> Source:
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207  Path has no absolute patterns
    found = [_local(match) for match in sorted(matches)]
    if not found:
        raise SourceNotFound(f"{pattern}: no file matches")
    files: list[Path] = []
    for match in found:
        from fastcounts.sources.zarr_arrays import is_zarr_folder

        if match.is_dir() and not is_zarr_folder(match):
            continue  # its files match a pattern of their own, such as **
        files.append(match)
    return _gather(files, every, f"{pattern}: no mask matches")


def _gather(found: Sequence[Path], every: bool, nothing: str) -> Source:
    """Files as one source and each Zarr as another, in the order they were found."""
    sources: list[Source] = []
    for is_folder, group in groupby(found, key=Path.is_dir):
        if is_folder:
            sources += [_zarr_at(path, every) for path in group]
        else:
            sources.append(FileSource(list(group), strangers="skip"))
    collection = Collection(sources)
    if not collection.arrays and not collection.unreadable:
        skipped = len(collection.skipped)
        raise SourceNotFound(nothing + (f", only {skipped} other files" if skipped else ""))
    return collection


def _zarr_at(path: Path, every: bool) -> Source:
    from fastcounts.sources.zarr_arrays import open_zarr

    return open_zarr(path, every=every)


def _archive_above(path: Path) -> Path | None:
    """The zip file that a path leads into, such as ``x.zip/labels``."""
    return next(
        (above for above in path.parents if above.suffix == ".zip" and above.is_file()), None
    )


def _zarr_in_archive(archive: Path, path: Path, every: bool) -> Source:
    from fastcounts.sources.zarr_arrays import open_zarr

    return open_zarr(archive, every=every, path=path.relative_to(archive).as_posix())
