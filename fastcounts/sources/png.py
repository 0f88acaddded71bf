"""PNG masks through Pillow: palette indices as they are stored, grey of every depth."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcounts.errors import ReadError, UnsupportedSource
from fastcounts.grid import Box
from fastcounts.plan import ArrayInfo
from fastcounts.sources.port import box_slices, digest, whole_chunks

__all__ = ["PngFormat"]

_COLOURS = {2: "RGB", 4: "grey with transparency", 6: "RGB with transparency"}
_GREY, _PALETTE = 0, 3
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}
_HEADER = struct.Struct(">8xI4sIIBBBBB")
_HEAD_BYTES = _HEADER.size + 4
_MOST_RATIO = 1100
"""No deflate stream is more than 1032 times smaller than what it holds."""

_INFLATE_BYTES = 1 << 20
"""Bytes that are decompressed at once to learn how many there are."""

_PASSES = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
"""Row and column where each pass of an interlaced image begins, and its steps."""


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool


class PngFormat:
    """A PNG of one channel: palette indices or grey values are the labels."""

    magic = (b"\x89PNG\r\n\x1a\n",)

    def describe(self, path: Path) -> list[ArrayInfo]:
        """Read the header."""
        with path.open("rb") as file:
            header = _header(file.read(_HEAD_BYTES), path)
        stored = path.stat().st_size
        if _raw_size(header) > _MOST_RATIO * stored:
            raise ReadError(
                f"{path}: damaged: {stored} bytes cannot hold an image of "
                f"{header.width} x {header.height} pixels"
            )
        shape = (header.height, header.width)
        dtype = _dtype(header)
        return [
            ArrayInfo(
                name=str(path),
                source=path.as_uri(),
                file=path.as_uri(),
                shape=shape,
                dtype=dtype,
                chunks=whole_chunks(shape),
                inner=None,
                digest=digest(header, stored),
                stored_bytes=stored,
            )
        ]

    def read(self, path: Path, info: ArrayInfo, box: Box) -> NDArray[Any]:
        """Decode the image; its checksums are verified, which Pillow does not do."""
        content = path.read_bytes()
        header = _header(content[:_HEAD_BYTES], path)
        if (header.height, header.width) != info.shape:
            raise ReadError(f"{path}: the file was changed while it was being counted")
        data = _check(content, path)
        from PIL.PngImagePlugin import PngImageFile  # on use: it takes time at the start

        with PngImageFile(io.BytesIO(content)) as image:
            if getattr(image, "is_animated", False):
                raise UnsupportedSource(f"{path}: an animated PNG is not a mask")
            pixels = np.asarray(image)
        if pixels.shape != info.shape:
            raise ReadError(
                f"{path}: damaged: its header gives {info.shape} pixels and {pixels.shape} decoded"
            )
        if header.interlaced or not pixels[-1].any():
            _check_length(header, data, path)
        if header.colour == _GREY and header.depth in (2, 4):
            pixels = pixels // (255 // (2**header.depth - 1))  # Pillow scales them up to 255
        return pixels.astype(_dtype(header), copy=False)[box_slices(box)]


def _dtype(header: _Header) -> np.dtype[Any]:
    return np.dtype(np.uint16 if header.depth == 16 else np.uint8)


def _header(head: bytes, path: Path) -> _Header:
    if len(head) < _HEAD_BYTES:
        raise ReadError(f"{path}: the file is cut off within its header")
    _, kind, width, height, depth, colour, compression, filters, interlace = _HEADER.unpack_from(
        head
    )
    (stored,) = struct.unpack(">I", head[-4:])
    if zlib.crc32(head[12:-4]) != stored or kind != b"IHDR" or not width or not height:
        raise ReadError(f"{path}: the PNG header is damaged")
    if (compression, filters) != (0, 0) or interlace > 1:
        raise ReadError(
            f"{path}: the PNG header is damaged: it gives compression {compression}, filter "
            f"{filters} and interlace {interlace}"
        )
    if colour not in _DEPTHS:
        raise UnsupportedSource(
            f"{path}: the image is {_COLOURS.get(colour, f'of the unknown colour type {colour}')}; "
            "a mask has one channel: palette indices or grey values"
        )
    if depth not in _DEPTHS[colour]:
        raise ReadError(f"{path}: the PNG header is damaged: it gives {depth} bits per pixel")
    return _Header(width, height, depth, colour, bool(interlace))


def _raw_size(header: _Header) -> int:
    """Bytes of the rows before compression, each with the byte that names its filter."""
    passes = _PASSES if header.interlaced else ((0, 0, 1, 1),)
    total = 0
    for row, column, down, right in passes:
        rows = len(range(row, header.height, down))
        columns = len(range(column, header.width, right))
        total += rows * (1 + (columns * header.depth + 7) // 8) if columns else 0
    return total


def _check_length(header: _Header, data: list[memoryview], path: Path) -> None:
    """Verify that all rows are there: Pillow leaves rows that are not at 0, which is a label."""
    inflate = zlib.decompressobj()
    wanted, found = _raw_size(header), 0
    for part in data:
        rest: bytes | memoryview = part
        while rest and found <= wanted:
            found += len(inflate.decompress(rest, _INFLATE_BYTES))
            rest = inflate.unconsumed_tail
    if found <= wanted:
        found += len(inflate.flush())
    if found != wanted:
        raise ReadError(f"{path}: damaged: it holds {found} bytes of pixels, not {wanted}")


def _check(content: bytes, path: Path) -> list[memoryview]:
    """Verify length and checksum of every chunk; returns the image data, compressed."""
    place = 8
    data = []
    view = memoryview(content)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind, end = content[place + 4 : place + 8], place + 12 + length
        if end > len(content):
            break
        (stored,) = struct.unpack_from(">I", content, end - 4)
        if zlib.crc32(view[place + 4 : end - 4]) != stored:
            raise ReadError(
                f"{path}: damaged: the checksum of its {repr(kind)[2:-1]} chunk is wrong"
            )
        if kind == b"IHDR" and place > 8:
            raise ReadError(f"{path}: damaged: a second header (IHDR chunk) is at byte {place}")
        if kind == b"IDAT":
            data.append(view[place + 8 : end - 4])
        if kind == b"IEND":
            return data
        place = end
    raise ReadError(f"{path}: the file is cut off at byte {len(content)}")
