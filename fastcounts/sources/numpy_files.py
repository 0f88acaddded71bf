"""NumPy's own files: .npy, read through a memory map, and .npz."""

from __future__ import annotations

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
from fastcounts.sources.memory import UNIT_PIXELS, memory_order
from fastcounts.sources.port import box_slices, digest, whole_chunks

__all__ = ["NpyFormat", "NpzFormat"]

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
        if array.shape != info.shape or array.dtype != info.dtype:
            raise ReadError(f"{path}: the file was changed while it was being counted")
        return array[box_slices(box)] if box else array


def _open(path: Path) -> NDArray[Any]:
    """Map the array of a .npy file; one that cannot be mapped (no axes, no pixels) is read."""
    with path.open("rb") as file:
        header = _header(file, str(path))
        begin = file.tell()
        wanted, found = header.nbytes, path.stat().st_size - begin
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
    """Read the header of an array, and refuse what is none or holds no labels."""
    try:
        version = npy_format.read_magic(file)
        if version == (1, 0):
            header = _Header(*npy_format.read_array_header_1_0(file))
        else:
            header = _Header(*npy_format.read_array_header_2_0(file))
    except Exception as error:  # noqa: BLE001  NumPy evaluates the text, which may be anything
        raise ReadError(f"{name}: its header cannot be read: {error}") from None
    if any(length < 0 for length in header.shape):
        raise ReadError(f"{name}: its header gives the shape {header.shape}")
    check_label_dtype(header.dtype, name)
    return header


class NpzFormat:
    """The arrays of a .npz archive; the archive is one file, and so one item."""

    magic = (b"PK\x03\x04", b"PK\x05\x06")

    def describe(self, path: Path) -> list[ArrayInfo]:
        """Read the header of every array in the archive."""
        infos = []
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if not member.filename.endswith(".npy"):
                        raise UnsupportedSource(
                            f"{path}: holds {member.filename}, so it is no .npz of label arrays"
                        )
                    name = f"{path}#{member.filename[:-4]}"
                    with archive.open(member) as file:
                        header = _header(file, name)
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
        member = info.name[len(f"{path}#") :]
        try:
            with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
                array: NDArray[Any] = npy_format.read_array(file, allow_pickle=False)
                if file.read(1):  # reading to the end verifies the checksum as well
                    raise ReadError(f"{info.name}: bytes follow the array; is there another?")
        except _ARCHIVE_ERRORS as error:
            if isinstance(error, FastcountsError):
                raise
            raise ReadError(f"{info.name}: {error}") from None
        if array.shape != info.shape or array.dtype != info.dtype:
            raise ReadError(f"{path}: the file was changed while it was being counted")
        return array[box_slices(box)] if box else array


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
