"""PNG files of every kind, written byte by byte: Pillow writes only some, and none that lie."""

from __future__ import annotations

import struct
import zlib

import numpy as np

GREY, PALETTE = 0, 3
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
PASSES.append((1, 0, 2, 1))


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk, with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def rows(pixels: np.ndarray, depth: int) -> bytes:
    """The rows of an image, packed, each after the byte of the filter that changes nothing."""
    if pixels.size == 0:
        return b""
    if depth == 16:
        packed = pixels.astype(">u2").view(np.uint8).reshape(len(pixels), -1)
    else:
        bits = np.unpackbits(pixels.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - depth :]
        packed = np.packbits(bits.reshape(len(pixels), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def png(
    pixels: np.ndarray,
    depth: int = 8,
    colour: int = GREY,
    *,
    interlace: bool = False,
    data: bytes | None = None,
    split: int = 1,
) -> bytes:
    """A PNG; ``data`` takes the place of what its image data should be."""
    height, width = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    if interlace:
        raw = b"".join(rows(pixels[y::dy, x::dx], depth) for y, x, dy, dx in PASSES)
    else:
        raw = rows(pixels, depth)
    body = zlib.compress(raw) if data is None else data
    step = -(-len(body) // split)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            chunk(b"PLTE", bytes(range(192)) * 4) if colour == PALETTE and depth == 8 else b"",
            chunk(b"PLTE", bytes(range(3 << depth))) if colour == PALETTE and depth < 8 else b"",
            *(chunk(b"IDAT", body[at : at + step]) for at in range(0, len(body), step)),
            chunk(b"IEND", b""),
        ]
    )
