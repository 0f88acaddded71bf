"""From what a user gives to the source that reads it, by content and not by suffix."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import IOBase
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from fastcounts.classes import Meaning
from fastcounts.errors import (
    AmbiguousSource,
    LabelError,
    OptionError,
    SourceError,
    SourceNotFound,
    UnsupportedSource,
)
from fastcounts.messages import argument
from fastcounts.sources.archives import zarr_roots, zip_names
from fastcounts.sources.collection import Collection, rename
from fastcounts.sources.files import (
    SUFFIXES,
    FileSource,
    FolderFiles,
    file_type,
    find_files,
    unreadable_at,
)
from fastcounts.sources.kinds import mixed_kinds
from fastcounts.sources.memory import MemorySource
from fastcounts.sources.port import Source, Unreadable
from fastcounts.sources.refusals import refuse_file, refuse_object
from fastcounts.sources.selection import Opening, abbreviate, names_below

__all__ = ["is_iterator", "is_path", "open_source"]

_MAX_PATH = 1 << 15
"""Bytes of the longest path of any system; more are the content of a file."""


def open_source(
    target: Any,
    *,
    source_id: str | None = None,
    every: bool = False,
    meaning: Meaning | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Source:
    """Open whatever holds masks.

    Parameters
    ----------
    target : an array, a path or glob, an open Zarr array or group, a Zarr store, or a list of
        these.
    source_id : the name under which the data is known wherever it lies; needed to split arrays
        in memory into parts.
    every : take all label arrays of a Zarr group or .npz archive.
    meaning : what is known of the labels, in place of what the target says itself.
    include, exclude : patterns that files have to match, or must not match; see `Opening`.

    Raises
    ------
    SourceNotFound, UnsupportedSource, AmbiguousSource, ReadError, MissingExtra
    """
    opening = Opening(every, include, exclude)
    source = _open(target, opening)
    opening.check()
    mixed = mixed_kinds(info.file for info in source.arrays if info.file)
    source.notices = (*source.notices, *opening.notices(), *mixed)
    source.skipped = tuple(one.name for one in opening.skipped)
    if source_id is not None:
        if not source_id or not isinstance(source_id, str):
            raise OptionError(f"{argument('source_id')}: expected a name, got {source_id!r}")
        source.arrays = rename(source.arrays, source_id)
    if meaning is not None:
        source.arrays = tuple(replace(info, meaning=meaning) for info in source.arrays)
    return source


def _open(target: Any, opening: Opening) -> Source:
    if isinstance(target, np.ndarray):
        return MemorySource([target])
    if isinstance(target, np.generic):
        return MemorySource([np.asarray(target)])
    if is_path(target):
        return _open_path(os.fsdecode(target), opening)
    if _is_zarr(target):
        from fastcounts.sources.zarr_arrays import open_zarr

        return open_zarr(target, every=opening.every)
    if isinstance(target, list | tuple) or is_iterator(target):
        return _open_list(list(target), opening)
    raise UnsupportedSource(refuse_object(target))


def is_path(target: Any) -> bool:
    """Return whether this is a path, as text, bytes or an object.

    Raises
    ------
    UnsupportedSource
        If it is the content of a file instead.
    """
    if isinstance(target, bytes) and (b"\0" in target or len(target) > _MAX_PATH):
        raise UnsupportedSource(
            f"bytes: {len(target)} bytes that are not a path; bytes are taken for the path of a "
            "file, so give that, or decode its content and pass the array"
        )
    return isinstance(target, str | bytes | os.PathLike)


def is_iterator(target: Any) -> bool:
    """Return whether this yields masks one after the other; an open file yields lines instead."""
    return isinstance(target, Iterator) and not isinstance(target, IOBase)


def _is_zarr(target: Any) -> bool:
    """Whether this is an open array, group or store, without importing zarr for the question."""
    if (zarr := sys.modules.get("zarr")) is None:
        return False
    return isinstance(
        target, zarr.Array | zarr.Group | zarr.abc.store.Store | zarr.storage.StorePath
    )


def _open_list(targets: Sequence[Any], opening: Opening) -> Source:
    if not targets:
        raise OptionError("source: the list is empty")
    if all(isinstance(target, np.ndarray) for target in targets):
        return MemorySource(targets)
    sources: list[Source] = []
    for plain, group in groupby(targets, key=_is_plain_file):
        if plain:
            paths = [_local(os.fsdecode(path)) for path in group]
            sources.append(FileSource(_selected(paths, opening), opening=opening))
        else:
            sources += [_open(target, opening) for target in group]
    return _unless_empty(Collection(sources), opening, "source: every file of the list is left out")


def _selected(paths: Sequence[Path], opening: Opening) -> list[Path]:
    """Leave out files that were named and that ``include`` and ``exclude`` do not take."""
    return [path for path in paths if opening.takes(path.parts[1:], anchored=False)]


def _is_plain_file(target: Any) -> bool:
    if not is_path(target):
        return False
    path = Path(os.fsdecode(target))
    try:
        return path.is_file() and not _is_zarr_file(path)
    except (OSError, ValueError):
        return False


def _is_zarr_file(path: Path) -> bool:
    """Return whether a file is a zip of Zarr arrays, whatever it is called.

    Files with the suffixes of masks are not opened to find out: there may be very many.  A file
    named ``.zarr.zip`` is one even if it is damaged, so that the error says what is damaged.
    """
    if path.suffix.lower() in SUFFIXES:
        return False
    try:
        if path.name.lower().endswith(".zarr.zip"):
            return path.is_file()
        return path.is_file() and bool(zarr_roots(zip_names(path)))
    except (OSError, ValueError):
        return False


def _open_path(text: str, opening: Opening) -> Source:
    if not text:
        raise OptionError("source: the path is empty")
    if "://" in text and not text.startswith("file:"):
        return _open_url(text, opening)
    path = _local(text)
    try:
        path.exists()
    except OSError as error:  # such as a name that no file can have
        raise SourceNotFound(f"{abbreviate(text)}: {error.strerror}") from None
    if path.is_dir():
        return _open_folder(path, opening)
    if path.is_file():
        if _is_zarr_file(path):
            return _zarr_in_archive(path, "", opening)
        files = FileSource(_selected([path], opening), opening=opening)
        return _unless_empty(files, opening, f"{path}: is left out")
    if (archive := _file_above(path)) is not None:
        return _open_member(archive, path.relative_to(archive).as_posix(), opening)
    if "#" in text and (parts := _file_before_mark(text)) is not None:
        return _open_member(*parts, opening)
    if glob.has_magic(text):
        return _open_glob(text, opening)
    if path.exists():
        raise UnsupportedSource(f"{text}: is {file_type(path.stat().st_mode)}")
    raise SourceNotFound(f"{abbreviate(text)}: there is no such file or folder")


def _unless_empty(source: Source, opening: Opening, nothing: str) -> Source:
    """Return the source, unless ``include`` and ``exclude`` left out all of its files."""
    if opening.selects and not source.arrays and not source.unreadable:
        raise SourceNotFound(f"{nothing} by {argument('include')} or {argument('exclude')}")
    return source


def _open_url(url: str, opening: Opening) -> Source:
    from fastcounts.sources.remote import open_url
    from fastcounts.sources.zarr_arrays import open_zarr

    url = url.rstrip("/")
    return open_zarr(open_url(url), every=opening.every, url=url)


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
    except (RuntimeError, OSError, ValueError) as error:  # a ValueError for a NUL byte
        reason = getattr(error, "strerror", None) or error
        raise SourceNotFound(f"{abbreviate(path)!r}: {reason}") from None


def _open_folder(path: Path, opening: Opening) -> Source:
    from fastcounts.sources.zarr_arrays import is_zarr_folder

    try:
        if is_zarr_folder(path):
            return _zarr_at(path, opening)
    except OSError as error:
        raise SourceNotFound(f"{abbreviate(path)}: {error.strerror}") from None
    found = find_files(path, is_zarr_folder, opening)
    if not found.paths and path.suffix == ".zarr":
        return _zarr_at(path, opening)
    return _gather(found, opening, f"{path}: the folder holds no masks")


def _open_glob(pattern: str, opening: Opening) -> Source:
    from fastcounts.sources.zarr_arrays import is_zarr_folder

    member = None
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207  Path has no absolute patterns
    if not matches and "#" in pattern:
        files, _, member = pattern.rpartition("#")
        matches = glob.glob(files, recursive=True)  # noqa: PTH207
    if not matches:
        raise SourceNotFound(f"{pattern}: no file matches")
    base = _before_magic(pattern)
    found = FolderFiles([], [])
    # a link that leads back up lets ** match one file under many names
    for match in dict.fromkeys(_local(match) for match in sorted(matches)):
        names = names_below(match, base) if match.is_relative_to(base) else match.parts[1:]
        is_folder = match.is_dir()
        if is_folder and not is_zarr_folder(match):
            if "**" not in pattern:  # which matches the files in it as well
                opening.skip(match, "folder")
        elif opening.takes(names):
            found.paths.append((match, is_folder))
    return _gather(found, opening, f"{pattern}: no mask matches", member)


def _before_magic(pattern: str) -> Path:
    """Return the folder that a glob begins with, before its first wildcard."""
    parts = Path(pattern).parts
    fixed = list(takewhile(lambda part: not glob.has_magic(part), parts))
    return _local(str(Path(*fixed) if fixed else Path())).resolve()


def _gather(
    found: FolderFiles, opening: Opening, nothing: str, member: str | None = None
) -> Source:
    """Files as one source and each Zarr as another, in the order they were found."""
    sources: list[Source] = []
    refused: list[Unreadable] = list(found.unreadable)
    for is_zarr, group in groupby(found.paths, key=_is_zarr_path):
        paths = [path for path, _ in group]
        if not is_zarr:
            sources.append(FileSource(paths, "skip", opening, member))
            continue
        for path in paths:
            try:
                sources.append(_zarr_at(path, opening))
            except (SourceError, LabelError) as error:
                refused.append(unreadable_at(path, error, found=True))
    collection = Collection(sources)
    collection.unreadable = (*refused, *collection.unreadable)
    if not collection.arrays and not collection.unreadable:
        others = [one.name for one in opening.skipped if one.reason == "not-a-mask"]
        if others:
            nothing += f", only {len(others)} other files"
            if (reason := refuse_file(Path(others[0]))) is not None:
                nothing += f"; {abbreviate(others[0])} {reason}"
        _unless_empty(collection, opening, f"{nothing}: what matches is left out, if anything is,")
        raise SourceNotFound(nothing)
    return collection


def _is_zarr_path(found: tuple[Path, bool]) -> bool:
    """Return whether this is a Zarr folder or a zip file of one; other folders were left out."""
    path, is_folder = found
    return is_folder or _is_zarr_file(path)


def _zarr_at(path: Path, opening: Opening) -> Source:
    from fastcounts.sources.zarr_arrays import open_zarr

    if path.is_file():
        return _zarr_in_archive(path, "", opening)
    return open_zarr(path, every=opening.every)


def _file_above(path: Path) -> Path | None:
    """Return the file that a path leads into, such as ``x.zip/labels``."""
    return next((above for above in path.parents if above.is_file()), None)


def _file_before_mark(text: str) -> tuple[Path, str] | None:
    """Return the file and the member that a text such as ``x.npz#labels`` names."""
    places = [place for place, character in enumerate(text) if character == "#"]
    for place in places:
        if (path := _local(text[:place])).is_file():
            return path, text[place + 1 :]
    return None


def _open_member(archive: Path, member: str, opening: Opening) -> Source:
    """Open one array of an .npz archive, or of a zip file of Zarr arrays."""
    if _is_zarr_file(archive):
        return _zarr_in_archive(archive, member, opening)
    if zip_names(archive):
        return FileSource([archive], opening=opening, member=member)
    raise SourceNotFound(
        f"{archive}/{member}: {archive} is a file, and not an archive that contains arrays"
    )


def _zarr_in_archive(archive: Path, member: str, opening: Opening) -> Source:
    """Open the Zarr array or group in a zip file, which may lie in a folder of the archive.

    Raises
    ------
    AmbiguousSource
        If there are several beside each other, and neither one was named nor all asked for.
    """
    from fastcounts.sources.zarr_arrays import open_zarr

    roots = [member] if member else zarr_roots(zip_names(archive)) or [""]
    if len(roots) > 1 and not opening.every:
        listed = ", ".join(roots[:16])
        raise AmbiguousSource(
            f"{archive}: contains {len(roots)} Zarr arrays or groups: {listed}; name one as "
            f"{archive}/{roots[0]}, or count all with {argument('all_arrays', True)}"
        )
    sources = [open_zarr(archive, every=opening.every, path=root) for root in roots]
    return sources[0] if len(sources) == 1 else Collection(sources)
