"""Files and folders of files: each goes to the format that knows its first bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from fastcounts.errors import (
    FastcountsError,
    ReadError,
    SourceError,
    SourceNotFound,
    UnsupportedSource,
)
from fastcounts.grid import Box
from fastcounts.plan import ArrayInfo
from fastcounts.sources.numpy_files import NpyFormat, NpzFormat
from fastcounts.sources.png import PngFormat
from fastcounts.sources.port import Piece, Source, Unreadable
from fastcounts.sources.tiff import TiffFormat

__all__ = ["FileSource", "Format", "find_files"]

_HEAD = 16
_PICTURES = {b"\xff\xd8\xff": "a JPEG, which changes labels when it compresses", b"GIF8": "a GIF"}
_SUFFIXES = {".npy", ".npz", ".png", ".tif", ".tiff"}
_KNOWN = "PNG, TIFF, .npy, .npz or Zarr"


class Format(Protocol):
    """A kind of file that holds masks."""

    @property
    def magic(self) -> tuple[bytes, ...]:
        """The bytes with which such files begin."""

    def describe(self, path: Path) -> list[ArrayInfo]:
        """Say what arrays the file holds, without reading pixels."""

    def read(self, path: Path, info: ArrayInfo, box: Box) -> NDArray[Any]:
        """Read one block of one of them."""


FORMATS: tuple[Format, ...] = (NpyFormat(), NpzFormat(), PngFormat(), TiffFormat())


class FileSource(Source):
    """Masks in files.

    Parameters
    ----------
    paths : the files, in the order in which they are counted.
    strangers : what a file of no known format is: ``"refuse"`` where it was named,
        ``"skip"`` where it was found in a folder.

    Raises
    ------
    UnsupportedSource
        If a file holds no labels.
    """

    def __init__(self, paths: Sequence[Path], strangers: str = "refuse") -> None:
        arrays: list[ArrayInfo] = []
        self._readers: list[tuple[Format, Path]] = []
        unreadable: list[Unreadable] = []
        skipped: list[str] = []
        for path in paths:
            try:
                reader = _format(path)
                if reader is None:
                    if strangers == "skip" and not _is_named_as_mask(path):
                        skipped.append(str(path))
                        continue
                    raise _refusal(path)
                found = reader.describe(path)
            except ReadError as error:
                unreadable.append(Unreadable(str(path), _without(error, path)))
                continue
            except OSError as error:
                if isinstance(error, FastcountsError):
                    raise
                unreadable.append(Unreadable(str(path), error.strerror or str(error)))
                continue
            arrays += found
            self._readers += [(reader, path)] * len(found)
        self.arrays = tuple(arrays)
        self.unreadable = tuple(unreadable)
        self.skipped = tuple(skipped)

    def read(self, array: int, box: Box) -> Iterable[Piece]:
        """Read one block of one file."""
        reader, path = self._readers[array]
        try:
            return [Piece(box, reader.read(path, self.arrays[array], box))]
        except FastcountsError:
            raise
        except (OSError, EOFError, ValueError) as error:
            raise ReadError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _without(error: ReadError, path: Path) -> str:
    return str(error).removeprefix(str(path)).removeprefix(": ")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _format(path: Path) -> Format | None:
    head = _head(path)
    return next((known for known in FORMATS if head.startswith(known.magic)), None)


def _is_named_as_mask(path: Path) -> bool:
    """Whether a file that is no mask claims to be one: then it is damaged, and no bystander."""
    return path.suffix.lower() in _SUFFIXES


def _refusal(path: Path) -> SourceError:
    """Say why a file of no known format cannot be counted."""
    head = _head(path)
    if not head:
        return ReadError(f"{path}: the file is empty")
    for magic, what in _PICTURES.items():
        if head.startswith(magic):
            return UnsupportedSource(f"{path}: is {what}; masks are {_KNOWN}")
    if _is_named_as_mask(path):
        return ReadError(f"{path}: damaged: it does not begin as a {path.suffix} file does")
    return UnsupportedSource(f"{path}: is no mask that fastcounts knows: {_KNOWN}")


def find_files(folder: Path, is_array: Any) -> Iterator[Path]:
    """Every file below a folder, in a fixed order; folders that are arrays come as one.

    Files and folders whose names start with a dot are left out.

    Raises
    ------
    SourceNotFound
        If a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise SourceNotFound(f"{error.filename}: {error.strerror}")

    seen: set[str] = set()
    for root, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        arrays = [name for name in folders if is_array(Path(root) / name)]
        folders[:] = [name for name in folders if name not in arrays]
        for name in sorted([*arrays, *(name for name in files if not name.startswith("."))]):
            yield Path(root) / name
