"""Where a command writes: the place is checked before anything is read."""

from __future__ import annotations

import errno
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fastcounts.errors import OptionError, OutputError

__all__ = ["COUNTS_SUFFIXES", "Output", "check_not_a_source", "check_stdout", "is_within_zarr"]

COUNTS_SUFFIXES = (".json", ".npz")
_STDOUT = "-"
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
"""A folder with one of these belongs to a Zarr array or group."""

Identity = tuple[int, int, int]


class Output:
    """The place that ``-o`` names: a file, standard output (``-``), or none.

    Parameters
    ----------
    path : as given; None if there was no ``-o``.
    option : what messages call it.

    Raises
    ------
    OptionError
        If nothing can be written there: an empty name, a folder, a missing folder.
    """

    def __init__(self, path: str | None, option: str = "-o") -> None:
        self.path = path
        self.is_stdout = path == _STDOUT
        self._option = option
        self._before: Identity | None = None
        self.real = Path()
        if path is None or self.is_stdout:
            return
        if not path:
            raise OptionError(f"{option}: the name is empty; give a file, or - for standard output")
        try:
            if Path(path).is_dir():
                raise OptionError(f"{option} {path}: is a folder; name a file in it")
            if not Path(path).parent.is_dir():
                raise OptionError(f"{option} {path}: its folder does not exist")
            self._before = _identity(path)
            self.real = Path(os.path.realpath(path))
            if not os.access(self.real.parent, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise OptionError(f"{option} {path}: cannot be written: {error.strerror}") from None

    @property
    def is_file(self) -> bool:
        """Whether a file is to be written."""
        return self.path is not None and not self.is_stdout

    @property
    def suffix(self) -> str:
        """Suffix of the file, in lower case."""
        return Path(self.path).suffix.lower() if self.path is not None and self.is_file else ""

    def check_suffix(self, allowed: Sequence[str], what: str) -> None:
        """Refuse a file whose suffix says something else than what is written to it."""
        if self.is_file and self.suffix not in allowed:
            raise OptionError(
                f"{self._option} {self.path}: {what} are saved as {' or '.join(allowed)}"
            )

    def was_written(self) -> bool:
        """Return whether the file is another one than when the command began."""
        if self.path is None or self.is_stdout:
            return False
        try:
            return _identity(self.path) != self._before
        except OSError:
            return False


def _identity(path: str) -> Identity | None:
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def check_stdout() -> None:
    """Refuse to begin if the result would go to a standard output that is closed.

    Raises
    ------
    OutputError
        If it is closed.
    """
    if not sys.stdout.writable():
        raise OutputError("standard output is closed, and there is no -o: the result would be lost")


def check_not_a_source(output: Output, sources: Iterable[str], option: str = "-o") -> None:
    """Refuse an output that is one of the sources or lies in one: sources are never written to.

    Parameters
    ----------
    output : where the command writes.
    sources : as they were given: files, folders, globs, Zarr arrays, URLs.
    option : what messages call the output.

    Raises
    ------
    OptionError
        Naming the output and the source.
    """
    if output.path is None or not output.is_file:
        return
    if (array := is_within_zarr(output.real)) is not None:
        raise OptionError(
            f"{option} {output.path}: lies in the Zarr array or group {array}, which it would "
            "damage; write it elsewhere"
        )
    for source in chain.from_iterable(map(_spellings, sources)):
        if how := _conflict(Path(output.path), output.real, source):
            raise OptionError(
                f"{option} {output.path}: {how} {source}, and sources are never written to; "
                "write it elsewhere"
            )


def is_within_zarr(path: Path) -> Path | None:
    """Return the Zarr array or group that a path lies in, or None."""
    return next(
        (
            above
            for above in path.parents
            if any(os.path.lexists(above / name) for name in _ZARR_FILES)
        ),
        None,
    )


def _spellings(source: str) -> Iterator[str]:
    """Yield a source, and the archive or glob of archives of which it may name a member."""
    yield source
    for place, character in enumerate(source):
        if character == "#":
            yield source[:place]


def _conflict(path: Path, real: Path, source: str) -> str:
    """Return how an output belongs to a source, or an empty text."""
    place = _local(source)
    if place is None:
        return ""
    if _is_among(path, _files_named(place)):
        return "is the source"
    if place.is_dir():
        folder = Path(os.path.realpath(place))
        if folder in real.parents or _is_among(path, _files_below(folder)):
            return "lies in the source"
    elif glob.has_magic(str(place)) and not place.exists():
        matches = map(Path, glob.iglob(str(place), recursive=True))  # noqa: PTH207  as it is opened
        if _matches(place, path) or _is_among(path, matches):
            return "matches the source"
    return ""


def _local(source: str) -> Path | None:
    """Return the path of a source on this machine, or None for a URL."""
    if "://" in source:
        parts = urlsplit(source)
        if parts.scheme != "file":
            return None
        source = unquote(parts.path)
    return Path(source).expanduser()


def _files_named(place: Path) -> Iterator[Path]:
    """Yield the files that a source may name: itself, and an archive of which it names a member."""
    yield place
    yield from place.parents


def _is_among(path: Path, files: Iterable[Path]) -> bool:
    """Return whether a path is one of some files, by whatever name; a new one is none of them."""
    if not path.is_file():
        return False
    found = path.stat()
    for file in files:
        with suppress(OSError):
            if os.path.samestat(found, file.stat()):
                return True
    return False


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, also through links to other folders."""
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(root) / name for name in files)


def _matches(pattern: Path, path: Path) -> bool:
    """Return whether a glob would find a path, had it been written."""
    parts = pattern.parts
    plain = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    base = Path(os.path.realpath(Path(*parts[:plain]))) if plain else Path(os.path.realpath("."))
    real = Path(os.path.realpath(path.parent)) / path.name
    return base in real.parents and _match_parts(parts[plain:], real.relative_to(base).parts)


def _match_parts(pattern: Sequence[str], names: Sequence[str]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_match_parts(pattern[1:], names[place:]) for place in range(len(names) + 1))
    if not names or (names[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatchcase(names[0], pattern[0]) and _match_parts(pattern[1:], names[1:])
