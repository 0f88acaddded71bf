"""PNG masks through Pillow: palette indices as they are stored, grey of every depth."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcounts.errors import MissingExtra, ReadError, UnsupportedSource
from fastcounts.grid import Box
from fastcounts.plan import ArrayInfo
from fastcounts.sources.port import box_slices, digest, whole_chunks

__all__ = ["PngFormat"]

_COLOURS = {2: "RGB", 4: "grey with transparency", 6: "RGB with transparency"}
_GREY, _PALETTE = 0, 3
_HEADER = struct.Struct(">8xI4sIIBBBBB")


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int


class PngFormat:
    """A PNG of one channel: palette indices or grey values are the labels."""

    magic = (b"\x89PNG\r\n\x1a\n",)

    def describe(self, path: Path) -> list[ArrayInfo]:
        """Read the header."""
        _pillow()
        with path.open("rb") as file:
            header = _header(file.read(_HEADER.size), path)
        shape = (header.height, header.width)
        dtype = np.dtype(np.uint16 if header.depth == 16 else np.uint8)
        return [
            ArrayInfo(
                name=str(path),
                source=path.as_uri(),
                file=path.as_uri(),
                shape=shape,
                dtype=dtype,
                chunks=whole_chunks(shape),
                inner=None,
                digest=digest(header, path.stat().st_size),
                stored_bytes=path.stat().st_size,
            )
        ]

    def read(self, path: Path, info: ArrayInfo, box: Box) -> NDArray[Any]:
        """Decode the image; its checksums are verified, which Pillow does not do."""
        content = path.read_bytes()
        header = _header(content[: _HEADER.size], path)
        if (header.height, header.width) != info.shape:
            raise ReadError(f"{path}: the file was changed while it was being counted")
        _check(content, path)
        image_class = _pillow().PngImageFile
        try:
            with image_class(io.BytesIO(content)) as image:
                if getattr(image, "is_animated", False):
                    raise UnsupportedSource(f"{path}: an animated PNG is no mask")
                pixels = np.asarray(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise ReadError(f"{path}: cannot be decoded: {error}") from None
        if header.colour == _GREY and header.depth in (2, 4):
            pixels = pixels // (255 // (2**header.depth - 1))  # Pillow scales them up to 255
        return pixels.astype(info.dtype, copy=False)[box_slices(box)]


def _pillow() -> Any:
    try:
        from PIL import PngImagePlugin
    except ImportError:
        raise MissingExtra("reading PNG masks needs Pillow", "images") from None
    return PngImagePlugin


def _header(head: bytes, path: Path) -> _Header:
    if len(head) < _HEADER.size:
        raise ReadError(f"{path}: the file is cut off within its header")
    _, kind, width, height, depth, colour, *_ = _HEADER.unpack(head)
    if kind != b"IHDR" or not width or not height:
        raise ReadError(f"{path}: the PNG header is damaged")
    if colour not in (_GREY, _PALETTE):
        raise UnsupportedSource(
            f"{path}: the image is {_COLOURS.get(colour, 'of an unknown colour type')}; a mask has "
            "one channel: palette indices or grey values"
        )
    return _Header(width, height, depth, colour)


def _check(content: bytes, path: Path) -> None:
    """Verify length and checksum of every chunk."""
    place = 8
    view = memoryview(content)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind, end = content[place + 4 : place + 8], place + 12 + length
        if end > len(content):
            break
        (stored,) = struct.unpack_from(">I", content, end - 4)
        if zlib.crc32(view[place + 4 : end - 4]) != stored:
            raise ReadError(f"{path}: damaged: the checksum of its {kind!r} chunk is wrong")
        if kind == b"IEND":
            return
        place = end
    raise ReadError(f"{path}: the file is cut off at byte {len(content)}")
