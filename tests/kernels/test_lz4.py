"""LZ4, alone and inside blosc: what is accepted is what the libraries accept, byte for byte."""

from __future__ import annotations

import ctypes

import numcodecs
import numcodecs.lz4
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastcounts.kernels import lz4, native
from fastcounts.kernels.lz4 import SLACK, undo_blosc_lz4, undo_lz4
from fastcounts.sources.codecs import NativeDecoder

GUARD = 32
UNTOUCHED = 0xA5


def theirs(block: bytes, size: int) -> bytes | None:
    """What LZ4 itself makes of a block; None where it refuses."""
    decode = ctypes.CDLL(str(numcodecs.lz4.__file__)).LZ4_decompress_safe
    out = ctypes.create_string_buffer(size + 1)
    return out.raw[:size] if decode(block, out, len(block), size) == size else None


def ours(block: bytes, size: int) -> bytes | None:
    """What is made of a block here, with nothing written beyond the slack."""
    stored = np.frombuffer(block + b"\xff" * SLACK, np.uint8)
    room = np.full(GUARD + size + SLACK + GUARD, UNTOUCHED, np.uint8)
    good = undo_lz4(stored.ctypes.data, len(block), room.ctypes.data + GUARD, size)
    assert (room[:GUARD] == UNTOUCHED).all()
    assert (room[GUARD + size + SLACK :] == UNTOUCHED).all()
    return room[GUARD : GUARD + size].tobytes() if good else None


def check(block: bytes, size: int) -> bool:
    """What is accepted here is accepted by LZ4, and is the same."""
    made = ours(block, size)
    assert made in (None, theirs(block, size))
    return made is not None


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Bytes that repeat themselves in many ways."""
    content = b""
    for _ in range(draw(st.integers(1, 8))):
        pattern = draw(st.binary(min_size=1, max_size=80))
        content += (pattern * (1 + draw(st.integers(0, 700)) // len(pattern)))[:700]
    return content


@given(contents())
@example(b"")
@example(b"\7")
@example(bytes(300_000))
@example(bytes(range(256)) * 40)
def test_what_lz4_made(content: bytes):
    block = numcodecs.LZ4().encode(content)[4:] if content else b"\0"
    assert ours(block, len(content)) == content


@pytest.mark.parametrize("distance", range(1, 140))
def test_every_distance(distance: int):
    content = bytes(range(1, distance + 1)) * (1 + 600 // distance) + bytes(16)
    assert ours(numcodecs.LZ4().encode(content)[4:], len(content)) == content


@given(contents(), st.data())
def test_what_was_damaged(content: bytes, data: st.DataObject):
    block = bytearray(numcodecs.LZ4().encode(content)[4:])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(block) - 1))
        block[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del block[data.draw(st.integers(0, len(block))) :]
    size = max(0, len(content) + data.draw(st.sampled_from([0, 0, 0, -1, 1, 5, -13])))
    check(bytes(block), size)


@given(st.binary(max_size=60), st.integers(0, 90))
@example(b"\3", 0)
def test_any_bytes(block: bytes, size: int):
    check(block, size)


def sequence(literals: bytes, distance: int = 0, size: int = 0) -> bytes:
    """One sequence; the last of a block has no match."""
    words = [len(literals), max(size - 4, 0)]
    more = [b"", b""]
    for n, word in enumerate(words):
        if word >= 15:
            more[n] = b"\xff" * ((word - 15) // 255) + bytes([(word - 15) % 255])
    token = min(words[0], 15) << 4 | min(words[1], 15)
    match = distance.to_bytes(2, "little") + more[1] if size else b""
    return bytes([token]) + more[0] + literals + match


@pytest.mark.parametrize("literals", [1, 14, 15, 16, 17, 64, 269, 270, 271, 600])
@pytest.mark.parametrize("size", [4, 18, 19, 20, 63, 64, 65, 273, 274, 275, 600])
def test_lengths_about_their_limits(literals: int, size: int):
    content = bytes(n % 251 for n in range(literals))
    block = sequence(content, literals, size) + sequence(bytes(12))
    assert check(block, literals + size + 12)


@pytest.mark.parametrize("last", range(16))
def test_the_end_of_a_block(last: int):
    block = sequence(b"abcdefgh", 8, 24) + (sequence(bytes(last)) if last else b"")
    assert check(block, 32 + last) == (last >= 5)
    late = sequence(bytes(40), 1, 4) + sequence(bytes(last))
    assert check(late, 44 + last) == (theirs(late, 44 + last) is not None)


@pytest.mark.parametrize("distance", [0, 9, 65535])
def test_a_match_from_before_the_beginning(distance: int):
    block = sequence(b"abcdefgh", distance, 24) + sequence(bytes(12))
    assert not check(block, 8 + 24 + 12)


# ---- zeros ----


def is_zero(block: bytes, size: int) -> bool:
    stored = np.frombuffer(block + b"\xff" * SLACK, np.uint8)
    return bool(lz4._is_zero(stored.ctypes.data, len(block), size))


@pytest.mark.parametrize("size", [1, 5, 12, 13, 20, 64, 255, 300, 4096, 131_072])
def test_zeros_are_known_without_decoding(size: int):
    assert is_zero(numcodecs.LZ4().encode(bytes(size))[4:], size)
    for place in {0, size // 2, size - 1}:
        content = bytearray(size)
        content[place] = 1
        assert not is_zero(numcodecs.LZ4().encode(bytes(content))[4:], size)
    assert not is_zero(numcodecs.LZ4().encode(bytes(size))[4:], size + 1)


@given(st.integers(0, 700), st.data())
def test_zeros__damaged(size: int, data: st.DataObject):
    block = bytearray(numcodecs.LZ4().encode(bytes(size + 1))[4:])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(block) - 1))
        block[place] = data.draw(st.sampled_from([0, 1, 15, 16, 31, 80, 255]))
    if is_zero(bytes(block), size + 1):
        assert theirs(bytes(block), size + 1) == bytes(size + 1)


@given(st.binary(max_size=40), st.integers(0, 60))
@example(b"\3", 0)
def test_zeros__of_any_bytes(block: bytes, size: int):
    if is_zero(block, size):
        assert theirs(block, size) == bytes(size)


# ---- inside blosc ----


def undo_blosc(stored: bytes, size: int, flags: int) -> NDArray[np.uint8] | None:
    source = np.frombuffer(stored + bytes(SLACK), np.uint8).copy()
    room = np.full(size + SLACK, UNTOUCHED, np.uint8)
    function = NativeDecoder("blosc").function
    places = source.ctypes.data, len(stored), room.ctypes.data
    done = native.undo_blosc(function, *places, size, flags)
    return room[:size] if done else None


@pytest.mark.parametrize("shuffle", [0, 1, 2])
@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("level", [0, 1, 5, 9])
@pytest.mark.parametrize("size", [16, 1000, 32768, 100_008, 600_000])
def test_blosc(shuffle: int, width: int, level: int, size: int):
    labels = np.repeat(np.arange(1 + size // (40 * width)) % 23, 40).astype(f"u{width}")
    content = np.resize(labels.view("u1"), size).tobytes()
    codec = numcodecs.Blosc("lz4", level, shuffle)
    stored = bytes(codec.encode(np.frombuffer(content, f"u{width}")))
    made = undo_blosc(stored, size, stored[2])
    assert made is not None
    assert made.tobytes() == content


@pytest.mark.parametrize("blocksize", [256, 4096, 65536])
def test_blosc__in_blocks_that_are_split(blocksize: int):
    """Containers say whether blocks are split; some writers split those of LZ4."""
    content = np.resize(np.repeat(np.arange(50), 37), 20_000).astype("<u4").tobytes()
    stored = split_container(content, 4, blocksize)
    assert numcodecs.blosc.decompress(stored) == content
    made = undo_blosc(stored, len(content), stored[2])
    assert made is not None
    assert made.tobytes() == content


def split_container(content: bytes, width: int, blocksize: int) -> bytes:
    """A container whose full blocks are split into as many streams as a label has bytes."""
    blocks, starts = b"", []
    number = -(-len(content) // blocksize)
    for start in range(0, len(content), blocksize):
        block = content[start : start + blocksize]
        splits = width if len(block) == blocksize and blocksize // width >= 128 else 1
        starts.append(16 + 4 * number + len(blocks))
        part = len(block) // splits
        for split in range(splits):
            piece = block[split * part : (split + 1) * part]
            stored = bytes(numcodecs.LZ4().encode(piece))[4:]
            stored = piece if len(stored) >= part else stored
            blocks += len(stored).to_bytes(4, "little") + stored
    total = 16 + 4 * number + len(blocks)
    sizes = b"".join(n.to_bytes(4, "little") for n in (len(content), blocksize, total, *starts))
    return bytes([2, 1, 1 << 5, width]) + sizes + blocks


@given(st.data())
def test_blosc__damaged(data: st.DataObject):
    content = np.repeat(np.arange(40, dtype="u1"), 50).tobytes()
    stored = bytearray(numcodecs.Blosc("lz4", 5, 0, 256).encode(content))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(16, len(stored) - 1))
        stored[place] = data.draw(st.integers(0, 255))
    made = undo_blosc(bytes(stored), len(content), stored[2])
    try:
        expected = numcodecs.blosc.decompress(bytes(stored))
    except RuntimeError:
        assert made is None
    else:
        assert made is not None
        assert made.tobytes() == expected


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 3), (1, 0), (1, 2), (2, 1 << 5 | 8), (8, 4000 + 1), (8, 2 * 4000), (8, 2**31), (8, 0)],
)
def test_blosc__with_a_header_that_it_refuses(place: int, value: int):
    content = np.repeat(np.arange(40, dtype="u1"), 100).tobytes()
    stored = bytearray(numcodecs.Blosc("lz4", 5, 0).encode(content))
    width = 4 if place == 8 else 1
    stored[place : place + width] = value.to_bytes(width, "little")
    with pytest.raises(RuntimeError):
        numcodecs.blosc.decompress(bytes(stored))
    assert undo_blosc(bytes(stored), len(content), stored[2]) is None


def test_blosc__higher_bytes_that_are_stored_as_they_are():
    """They may look like a stream of LZ4 that makes zeros, and be none."""
    high = sequence(b"\0", 1, 5) + sequence(bytes(240))
    part = len(high)
    assert is_zero(high, part)
    low = bytes(part)
    stored = b"".join(len(one).to_bytes(4, "little") + one for one in (low, high))
    sizes = b"".join(n.to_bytes(4, "little") for n in (2 * part, 2 * part, 20 + len(stored), 20))
    container = bytes([2, 1, 1 << 5 | 1, 2]) + sizes + stored
    labels = np.frombuffer(numcodecs.blosc.decompress(container), "<u2")
    assert labels.max() > 255
    source = np.frombuffer(container + bytes(SLACK), np.uint8).copy()
    room, places = np.zeros(2 * part + SLACK, np.uint8), (source.ctypes.data, len(container))
    assert undo_blosc_lz4(*places, room.ctypes.data, 2 * part, container[2], False)
    assert not undo_blosc_lz4(*places, room.ctypes.data, 2 * part, container[2], True)
