"""NumPy's own files: .npy, read through a memory map, and .npz."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from fastcounts.classes import check_label_dtype
from fastcounts.errors import ReadError, UnsupportedSource
from fastcounts.grid import Box
from fastcounts.plan import ArrayInfo, virtual_chunks
from fastcounts.sources.memory import UNIT_PIXELS, memory_order
from fastcounts.sources.port import box_slices, digest, size_of, whole_chunks

__all__ = ["NpyFormat", "NpzFormat"]


class NpyFormat:
    """One array in a .npy file."""

    magic = (b"\x93NUMPY",)

    def describe(self, path: Path) -> list[ArrayInfo]:
        """Read the header: one array."""
        array = _open(path)
        dtype = check_label_dtype(array.dtype, str(path))
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
        try:
            shape, _, dtype = _header(file)
        except UnsupportedSource:
            raise
        except (ValueError, EOFError) as error:
            raise ReadError(f"{path}: its header cannot be read: {error}") from None
    check_label_dtype(dtype, str(path))
    try:
        if size_of(shape) and shape:
            return np.lib.format.open_memmap(path, mode="r")
        loaded: NDArray[Any] = np.load(path, allow_pickle=False)
        return loaded
    except (ValueError, OSError, EOFError) as error:
        raise ReadError(f"{path}: {error}") from None


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(file)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(file)
    return npy_format.read_array_header_2_0(file)


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
                    with archive.open(member) as file:
                        shape, _, dtype = _header(file)
                    infos.append(_member(path, member.filename[:-4], shape, dtype))
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise ReadError(f"{path}: {error}") from None
        if not infos:
            raise UnsupportedSource(f"{path}: the archive holds no array")
        return infos

    def read(self, path: Path, info: ArrayInfo, box: Box) -> NDArray[Any]:
        """Decompress one array."""
        member = info.source.rpartition("#")[2]
        with np.load(path, allow_pickle=False) as archive:
            array: NDArray[Any] = archive[member]
        if array.shape != info.shape or array.dtype != info.dtype:
            raise ReadError(f"{path}: the file was changed while it was being counted")
        return array[box_slices(box)] if box else array


def _member(path: Path, member: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> ArrayInfo:
    name = f"{path}#{member}"
    dtype = check_label_dtype(dtype, name)
    return ArrayInfo(
        name=name,
        source=f"{path.as_uri()}#{member}",
        file=path.as_uri(),
        shape=shape,
        dtype=dtype,
        chunks=whole_chunks(shape),
        inner=None,
        digest=digest(shape, dtype.str),
    )
