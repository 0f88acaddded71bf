"""NumPy's own files: .npy, read through a memory map, and .npz.

Every block of a .npy file is mapped anew, and the size of the file is verified before.  A file that
is truncated while one of its blocks is being counted ends the process with SIGBUS: the pages are
gone, and no error can be raised.  Reading into a buffer would prevent that and take half as long
again for a file in the page cache; replace files by renaming, as ``np.save`` does not.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from fastcounts.classes import check_label_dtype
from fastcounts.errors import FastcountsError, ReadError, UnsupportedSource
from fastcounts.grid import Box
from fastcounts.plan import ArrayInfo, virtual_chunks
from fastcounts.sources.archives import ZIP_MAGIC, first_duplicate
from fastcounts.sources.memory import UNIT_PIXELS, memory_order
from fastcounts.sources.port import box_slices, digest, whole_chunks

__all__ = ["COUNTS_REFUSAL", "COUNTS_START", "NpyFormat", "NpzFormat"]

COUNTS_START = b'{"fastcounts"'
"""The first bytes of the description of counts in ``header.npy``; see `Counts.save`."""

_COUNTS_HEADER = "header.npy"

COUNTS_REFUSAL = (
    "is a counts file that fastcounts wrote, and not masks; read it with fastcounts.load, or add "
    "it to others with 'fastcounts merge'"
)

_MAX_BYTES = 2**63 - 1
_MAX_AXES = 64
"""NumPy's own limits: bytes that an index can address, and axes of an array."""

_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    MemoryError,
)
"""What a damaged, encrypted or exotic archive makes the standard library raise."""


class NpyFormat:
    """One array in a .npy file."""

    magic = (b"\x93NUMPY",)

    def describe(self, path: Path) -> list[ArrayInfo]:
        """Read the header: one array."""
        array = _open(path)
        dtype = array.dtype
        return [
            ArrayInfo(
                name=str(path),
                source=path.as_uri(),
                file=path.as_uri(),
                shape=array.shape,
                dtype=dtype,
                chunks=virtual_chunks(array.shape, UNIT_PIXELS, memory_order(array)),
                inner=None,
                digest=digest(array.shape, dtype.str, array.flags.f_contiguous),
                is_view=True,
                stored_bytes=array.nbytes,
            )
        ]

    def read(self, path: Path, info: ArrayInfo, box: Box) -> NDArray[Any]:
        """Map one block."""
        array = _open(path)
        _check_same(array.shape, array.dtype, info)
        return array[box_slices(box)] if box else array


def _open(path: Path) -> NDArray[Any]:
    """Map the array of a .npy file; one that cannot be mapped (no axes, no pixels) is read."""
    with path.open("rb") as file:
        header = _header(file, str(path))
        check_label_dtype(header.dtype, str(path))
        begin = file.tell()
        wanted, found = header.nbytes, os.fstat(file.fileno()).st_size - begin
        if found < wanted:
            raise ReadError(f"{path}: cut off: {found} of {wanted} bytes of pixels are there")
        if found > wanted:
            raise ReadError(f"{path}: {found - wanted} bytes follow the array; is there another?")
        order: Literal["C", "F"] = "F" if header.is_fortran else "C"
        if not header.shape or not wanted:
            return np.frombuffer(file.read(wanted), header.dtype).reshape(header.shape)
        try:
            return np.memmap(file, header.dtype, "r", begin, header.shape, order)
        except (ValueError, OSError, OverflowError) as error:
            raise ReadError(f"{path}: cannot be mapped: {error}") from None


class _Header(NamedTuple):
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def _header(file: Any, name: str) -> _Header:
    """Read the header of an array.

    Raises
    ------
    ReadError
        If it cannot be read, or gives a shape that no array can have.
    """
    try:
        version = npy_format.read_magic(file)
        if version == (1, 0):
            header = _Header(*npy_format.read_array_header_1_0(file))
        else:
            header = _Header(*npy_format.read_array_header_2_0(file))
    except Exception as error:  # noqa: BLE001  NumPy evaluates the text, which may be anything
        reason = " ".join(str(error).split())
        raise ReadError(f"{name}: its header cannot be read: {reason}") from None
    lengths = [length for length in header.shape if length]
    if (
        any(type(length) is not int or length < 0 for length in header.shape)
        or prod(lengths) * max(header.dtype.itemsize, 1) > _MAX_BYTES
        or len(header.shape) > _MAX_AXES
    ):
        raise ReadError(
            f"{name}: its header gives the shape {header.shape} of {header.dtype}, which no array "
            "can have"
        )
    return header


def _check_same(shape: tuple[int, ...], dtype: np.dtype[Any], info: ArrayInfo) -> None:
    """Refuse an array that is not the one that was described."""
    if shape != info.shape or dtype != info.dtype:
        raise ReadError(
            f"{info.name}: the file was changed while it was being counted: it contained "
            f"{info.dtype} {info.shape}, now {dtype} {shape}"
        )


class NpzFormat:
    """The arrays of a .npz archive; the archive is one file, and so one item."""

    magic = ZIP_MAGIC

    def describe(self, path: Path) -> list[ArrayInfo]:
        """Read the header of every array in the archive, also of those that are not labels.

        Nothing is returned for counts that were saved as .npz.
        """
        infos = []
        try:
            with zipfile.ZipFile(path) as archive:
                members = _members(archive, path)
                if _is_counts(archive, path):
                    return []
                for member in members:
                    name = f"{path}#{member.filename[:-4]}"
                    with archive.open(member) as file:
                        header = _header(file, name)
                        begin = file.tell()
                    found = member.file_size - begin
                    if not header.dtype.hasobject and found < header.nbytes:
                        raise ReadError(
                            f"{name}: cut off: {found} of {header.nbytes} bytes of pixels are there"
                        )
                    infos.append(_member(path, name, header, member.compress_size))
        except _ARCHIVE_ERRORS as error:
            if isinstance(error, FastcountsError):
                raise
            raise ReadError(f"{path}: {error}") from None
        if not infos:
            raise UnsupportedSource(f"{path}: the archive holds no array")
        return infos

    def read(self, path: Path, info: ArrayInfo, box: Box) -> NDArray[Any]:
        """Decompress one array."""
        name = f"{info.name[len(f'{path}#') :]}.npy"
        try:
            with zipfile.ZipFile(path) as archive:
                _members(archive, path)
                with archive.open(name) as file:
                    header = _header(file, info.name)
                    _check_same(header.shape, header.dtype, info)
                with archive.open(name) as file:
                    array: NDArray[Any] = npy_format.read_array(file, allow_pickle=False)
                    if file.read(1):  # reading to the end verifies the checksum as well
                        raise ReadError(f"{info.name}: bytes follow the array; is there another?")
        except _ARCHIVE_ERRORS as error:
            if isinstance(error, FastcountsError):
                raise
            raise ReadError(f"{info.name}: {error}") from None
        return array[box_slices(box)] if box else array


def _members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """Return the members of an archive, which must be arrays of different names."""
    members = archive.infolist()
    names = [member.filename for member in members]
    if other := next((name for name in names if not name.endswith(".npy")), None):
        raise UnsupportedSource(f"{path}: holds {other}, so it is no .npz of label arrays")
    if (twice := first_duplicate(names)) is not None:
        raise UnsupportedSource(
            f"{path}: contains several arrays named {twice[:-4]!r}, and only the last of them "
            "could be read; write the archive again, with one name for each array"
        )
    return members


def _is_counts(archive: zipfile.ZipFile, path: Path) -> bool:
    """Return whether an archive is a counts file, which contains their description."""
    if _COUNTS_HEADER not in archive.namelist():
        return False
    with archive.open(_COUNTS_HEADER) as file:
        header = _header(file, str(path))
        start = file.read(len(COUNTS_START)) if header.dtype == np.uint8 else b""
    return start == COUNTS_START


def _member(path: Path, name: str, header: _Header, stored: int) -> ArrayInfo:
    return ArrayInfo(
        name=name,
        source=f"{path.as_uri()}{name[len(str(path)) :]}",
        file=path.as_uri(),
        shape=header.shape,
        dtype=header.dtype,
        chunks=whole_chunks(header.shape),
        inner=None,
        digest=digest(header.shape, header.dtype.str),
        stored_bytes=stored,
    )
