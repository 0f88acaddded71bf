"""From the stored bytes of a Zarr chunk to its elements, within what the metadata allows.

A chain knows how many bytes a chunk has before it sees one.  No decoder is given room for
more, and a chunk that decodes to another number of bytes is an error.
"""

from __future__ import annotations

import bz2
import ctypes
import lzma
import struct
import weakref
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chain", "DecodeError", "NativeDecoder", "UnknownChain", "chain_v2", "chain_v3"]

Undo = Callable[[memoryview, int, memoryview], Any]
"""Decode some bytes to so many; the result may be put into the buffer or returned."""

_SLACK = 1 << 16
"""What headers, checksums and incompressible data may add to the stored size of a chunk."""

_DICTIONARY_BYTES = 256 << 20
"""Memory that an LZMA stream may ask for."""

_FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    EOFError,
    OSError,
    ArithmeticError,
    LookupError,
    AssertionError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
)
"""What decoders raise for bytes that they cannot decode."""


class DecodeError(ValueError):
    """Stored bytes that are not what the metadata says."""


class UnknownChain(Exception):
    """Codecs that only zarr-python itself can undo."""


class Step(NamedTuple):
    """One codec undone.

    Attributes
    ----------
    name : what messages call it.
    undo : gives the bytes that were encoded.
    size : how many those are; -1 for a checksum around something of unknown length.
    native : the decoder that does the same without Python, or an empty text.
    """

    name: str
    undo: Undo
    size: int
    native: str = ""


@dataclass(frozen=True)
class Chain:
    """How the stored bytes of a chunk become its elements.

    Attributes
    ----------
    dtype : of the elements as they are stored.
    shape : of the chunk as it is stored.
    axes : for each axis of the array the axis of the stored chunk, or None where they agree.
    steps : in the order of decoding.
    native : the decoder that does all of it without Python, or an empty text.
    checked : whether the stored bytes end with a CRC-32C that ``native`` leaves out.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None
    steps: tuple[Step, ...]
    native: str
    checked: bool

    @property
    def size(self) -> int:
        """Bytes of one decoded chunk."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def limit(self) -> int:
        """The most bytes that a stored chunk may have; one that has more is refused unread."""
        if not self.steps:
            return self.size
        return 2 * max(self.size, *(step.size for step in self.steps)) + _SLACK

    def decode(self, stored: Any, out: memoryview) -> None:
        """Decode one chunk into a buffer of exactly its size.

        Raises
        ------
        DecodeError
            If the bytes are not those of such a chunk.
        """
        data = memoryview(stored)
        for name, undo, size, _ in self.steps:
            try:
                room = (
                    out[:size] if 0 <= size <= out.nbytes else memoryview(bytearray(max(size, 0)))
                )
                made = memoryview(undo(data, size, room)).cast("B")
            except _FAILURES as error:
                raise DecodeError(f"{name}: {error}") from None
            if size not in (-1, made.nbytes):
                raise DecodeError(f"{name}: expected {size} bytes, got {made.nbytes}")
            data = made
        if data.nbytes != self.size:
            raise DecodeError(f"expected {self.size} bytes, got {data.nbytes}")
        if _begin(data) != _begin(out):
            out[:] = data

    def view(self, decoded: NDArray[np.uint8], chunks: int) -> NDArray[Any]:
        """Chunks that lie one behind the other, as (chunks, *chunk shape), without a copy."""
        stored = decoded.view(self.dtype).reshape(chunks, *self.shape)
        if self.axes is None:
            return stored
        return stored.transpose(0, *(axis + 1 for axis in self.axes))


def _begin(view: memoryview) -> int:
    """Where a buffer begins."""
    return int(np.frombuffer(view, np.uint8).ctypes.data)


# ---- from metadata to chains ----


def chain_v3(codecs: Iterable[Any], shape: Sequence[int], dtype: np.dtype[Any]) -> Chain:
    """The chain of the codecs of a Zarr v3 array, or of a shard's inner chunks.

    Raises
    ------
    UnknownChain
        If one of them is not known here.
    """
    order = tuple(range(len(shape)))
    size: int | None = None
    steps: list[Step] = []
    placed = False
    for codec in codecs:
        spec = codec.to_dict()
        name, options = str(spec["name"]), dict(spec.get("configuration") or {})
        if placed:
            step, size = _encoding(name.removeprefix("numcodecs."), options, size)
            steps.insert(0, step)
        elif name == "transpose":
            order = tuple(order[axis] for axis in options["order"])
        elif name == "bytes":
            dtype = _in_order(dtype, options.get("endian"))
            size, placed = prod(shape) * dtype.itemsize, True
        else:
            raise UnknownChain(name)
    if not placed:
        raise UnknownChain("no bytes codec")
    return _chain(dtype, shape, order, steps)


def chain_v2(
    filters: Iterable[Any],
    compressor: Any,
    order: str,
    shape: Sequence[int],
    dtype: np.dtype[Any],
) -> Chain:
    """The chain of a Zarr v2 array's filters and compressor.

    Raises
    ------
    UnknownChain
        If one of them is not known here.
    """
    size: int | None = prod(shape) * dtype.itemsize
    steps: list[Step] = []
    for codec in [*filters, *([] if compressor is None else [compressor])]:
        options = dict(codec.get_config())
        step, size = _encoding(str(options.pop("id")), options, size)
        steps.insert(0, step)
    axes = tuple(range(len(shape)))
    return _chain(dtype, shape, axes[::-1] if order == "F" else axes, steps)


def _in_order(dtype: np.dtype[Any], endian: Any) -> np.dtype[Any]:
    if dtype.itemsize == 1:
        return dtype
    return dtype.newbyteorder(">" if getattr(endian, "value", endian) == "big" else "<")


def _chain(
    dtype: np.dtype[Any], shape: Sequence[int], order: tuple[int, ...], steps: list[Step]
) -> Chain:
    """Put a chain together; ``order`` names the array's axis of each stored axis."""
    stored = tuple(shape[axis] for axis in order)
    axes = None if order == tuple(sorted(order)) else tuple(int(n) for n in np.argsort(order))
    rest = steps
    checked = bool(steps) and steps[0].name == "crc32c" and steps[0].native == "crc32c"
    if checked:
        rest = steps[1:]
    native = "" if rest else "raw"
    if len(rest) == 1 and rest[0].native in _NATIVE:
        native = rest[0].native
    return Chain(dtype, stored, axes, tuple(steps), native, checked)


def _encoding(name: str, options: Mapping[str, Any], size: int | None) -> tuple[Step, int | None]:
    """The undoing of one codec, and the bytes that it encodes ``size`` bytes to, if fixed."""
    if name in _CHECKSUMS:
        known = -1 if size is None else size
        native = "crc32c" if name == "crc32c" and not options else ""
        step = Step(name, _checksum(name, options), known, native)
        return step, None if size is None else size + 4
    if size is None:
        raise UnknownChain(f"{name} after a compressor")
    if name in _COMPRESSORS:
        undo = _COMPRESSORS[name]
        if name == "lzma":
            undo = _lzma(options)
        return Step(name, undo, size, name if name in _NATIVE else ""), None
    if (encoded := _filtered_size(name, options, size)) is not None:
        return Step(name, _filter(name, options), size), encoded
    raise UnknownChain(name)


# ---- checksums and filters ----

_CHECKSUMS = ("crc32c", "crc32", "adler32", "fletcher32", "jenkins_lookup3")


def _checksum(name: str, options: Mapping[str, Any]) -> Undo:
    if name == "crc32c" and not options:
        return _crc32c
    return _filter(name, options)


def _crc32c(stored: memoryview, size: int, out: memoryview) -> memoryview:
    del size, out
    return verified(stored)


def verified(stored: memoryview) -> memoryview:
    """What stands before a CRC-32C, which must be right.

    Raises
    ------
    DecodeError
        If it is not.
    """
    import google_crc32c

    if stored.nbytes < 4:
        raise DecodeError("crc32c: the checksum is missing")
    content = stored[:-4]
    if google_crc32c.value(bytes(content)) != int.from_bytes(stored[-4:], "little"):
        raise DecodeError("crc32c: the checksum is wrong")
    return content


def _filter(name: str, options: Mapping[str, Any]) -> Undo:
    """One of numcodecs' filters; what it makes is a fixed multiple of what it is given."""
    from numcodecs import get_codec

    codec = get_codec({"id": name, **options})

    def undo(stored: memoryview, size: int, out: memoryview) -> Any:
        del size, out
        made = np.asarray(codec.decode(np.frombuffer(stored, np.uint8)))
        return np.ascontiguousarray(made).reshape(-1).view(np.uint8)

    return undo


def _filtered_size(name: str, options: Mapping[str, Any], size: int) -> int | None:
    """The bytes that a filter encodes ``size`` bytes to; None for a filter not known here."""
    if name in ("shuffle", "bitround"):
        return size
    if name == "packbits":
        return 1 + -(-size // 8)
    names = {
        "delta": ("dtype", "astype"),
        "fixedscaleoffset": ("dtype", "astype"),
        "quantize": ("dtype", "astype"),
        "astype": ("decode_dtype", "encode_dtype"),
    }
    if name not in names:
        return None
    before, after = (options.get(key) for key in names[name])
    decoded = np.dtype(before)
    encoded = decoded if after is None else np.dtype(after)
    return size // decoded.itemsize * encoded.itemsize


# ---- compressors, in Python ----


def _zstd(stored: memoryview, size: int, out: memoryview) -> memoryview:
    from numcodecs import zstd

    claimed = zstd_content_size(stored)
    if claimed not in (None, size):
        raise DecodeError(f"expected {size} bytes, the frame says {claimed}")
    zstd.decompress(stored, out)
    return out


def zstd_content_size(stored: memoryview) -> int | None:
    """What Zstandard frames say that they decode to; None where one does not say.

    After RFC 8878, section 3.1.

    Raises
    ------
    DecodeError
        If these are no frames.
    """
    place, total, known = 0, 0, True
    while place < stored.nbytes:
        (magic,) = struct.unpack_from("<I", stored, place)
        if magic & 0xFFFFFFF0 == 0x184D2A50:  # a frame to be skipped
            (length,) = struct.unpack_from("<I", stored, place + 4)
            place += 8 + length
            continue
        if magic != 0xFD2FB528:
            raise DecodeError("there is no frame")
        place, content, checksum = _zstd_header(stored, place + 4)
        known &= content is not None
        total += content or 0
        last = False
        while not last:
            header = int.from_bytes(stored[place : place + 3], "little")
            last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
            if place + 3 > stored.nbytes or kind == 3:
                raise DecodeError("a block is broken")
            place += 3 + (1 if kind == 1 else length)
        place += 4 * checksum
    if place != stored.nbytes:
        raise DecodeError("the frame is cut short")
    return total if known else None


def _zstd_header(stored: memoryview, place: int) -> tuple[int, int | None, bool]:
    """Where a frame's blocks begin, the size of its content, whether it has a checksum."""
    descriptor = stored[place]
    single = descriptor >> 5 & 1
    place += 1 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    width = (single, 2, 4, 8)[descriptor >> 6]
    if place + width > stored.nbytes:
        raise DecodeError("the frame is cut short")
    content = int.from_bytes(stored[place : place + width], "little") + 256 * (width == 2)
    return place + width, content if width else None, bool(descriptor >> 2 & 1)


def _blosc(stored: memoryview, size: int, out: memoryview) -> memoryview:
    from numcodecs import blosc

    if stored.nbytes < 16:
        raise DecodeError("the header is cut short")
    claimed, _, length = struct.unpack_from("<III", stored, 4)
    if claimed != size:
        raise DecodeError(f"expected {size} bytes, the header says {claimed}")
    if length > stored.nbytes:
        raise DecodeError(f"the header says {length} stored bytes, there are {stored.nbytes}")
    blosc.decompress(stored, out)
    return out


def _lz4(stored: memoryview, size: int, out: memoryview) -> memoryview:
    from numcodecs import lz4

    if stored.nbytes <= 4:
        raise DecodeError("the header is cut short")
    (claimed,) = struct.unpack_from("<I", stored)
    if claimed != size:
        raise DecodeError(f"expected {size} bytes, the header says {claimed}")
    lz4.decompress(stored, out)
    return out


_MAGIC = {"bzip2 stream": b"BZh", "LZMA stream": b"\xfd7zXZ\0"}
"""How a further member begins, where several are decoded as one."""


def _members(make: Callable[[], Any], what: str) -> Undo:
    """A stream of one or several members, never undone past the size."""

    def undo(stored: memoryview, size: int, out: memoryview) -> bytes:
        del out
        parts: list[bytes] = []
        left, data = size, bytes(stored)
        while data:
            member = make()
            part = member.decompress(data, left + 1)
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise DecodeError(f"more than {size} bytes come out of it")
            while not member.eof and not left and part:
                part = _rest(member)
                if part:
                    raise DecodeError(f"more than {size} bytes come out of it")
            if not member.eof:
                raise DecodeError(f"the {what} is cut short")
            data = member.unused_data
            if what == "gzip stream":
                data = data.lstrip(b"\0")
            elif not data.startswith(_MAGIC.get(what, b"?")):
                data = b""  # whatever follows is none of ours
        return b"".join(parts)

    return undo


def _rest(member: Any) -> bytes:
    """What a decompressor gives for the input that it holds back."""
    held = getattr(member, "unconsumed_tail", b"")
    rest: bytes = member.decompress(held, 1)
    return rest


def _lzma(options: Mapping[str, Any]) -> Undo:
    form = int(options.get("format", lzma.FORMAT_XZ))
    filters = options.get("filters")

    def make() -> lzma.LZMADecompressor:
        if form == lzma.FORMAT_RAW:
            return lzma.LZMADecompressor(form, filters=filters)
        return lzma.LZMADecompressor(form, memlimit=_DICTIONARY_BYTES)

    return _members(make, "LZMA stream")


_COMPRESSORS: dict[str, Undo] = {
    "zstd": _zstd,
    "blosc": _blosc,
    "lz4": _lz4,
    "gzip": _members(lambda: zlib.decompressobj(31), "gzip stream"),
    "zlib": _members(zlib.decompressobj, "zlib stream"),
    "bz2": _members(bz2.BZ2Decompressor, "bzip2 stream"),
    "lzma": _lzma({}),
}


# ---- compressors, without Python ----


class _Library(NamedTuple):
    """Where a decoder is: its number, an extension module that holds it, names in there."""

    kind: str
    module: str
    function: str
    make: str = ""
    free: str = ""


_NATIVE = {
    "zstd": _Library(
        "ZSTD", "numcodecs.zstd", "ZSTD_decompressDCtx", "ZSTD_createDCtx", "ZSTD_freeDCtx"
    ),
    "lz4": _Library("LZ4", "numcodecs.lz4", "LZ4_decompress_safe"),
    "blosc": _Library("BLOSC", "numcodecs.blosc", "blosc_decompress_ctx"),
    "gzip": _Library(
        "GZIP",
        "deflate._deflate",
        "libdeflate_gzip_decompress_ex",
        "libdeflate_alloc_decompressor",
        "libdeflate_free_decompressor",
    ),
    "zlib": _Library(
        "ZLIB",
        "deflate._deflate",
        "libdeflate_zlib_decompress_ex",
        "libdeflate_alloc_decompressor",
        "libdeflate_free_decompressor",
    ),
}


class NativeDecoder:
    """A decoder that runs without Python and without the GIL, and its state; for one thread.

    Attributes
    ----------
    kind : what :func:`fastcounts.kernels.native.decode_many` calls it.
    function, context : addresses.
    """

    def __init__(self, name: str) -> None:
        from fastcounts.kernels import native

        entry = _NATIVE[name]
        library = _load(entry.module)
        assert library is not None
        self.kind: int = getattr(native, entry.kind)
        self.function = function_address(library, entry.function)
        self.context = 0
        if entry.make:
            make, free = library[entry.make], library[entry.free]
            make.restype, free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
            self.context = make() or 0
            weakref.finalize(self, free, self.context)


def function_address(library: ctypes.CDLL, name: str) -> int:
    """The address of a C function."""
    return ctypes.cast(library[name], ctypes.c_void_p).value or 0


@cache
def _load(module: str) -> ctypes.CDLL | None:
    """The library inside an extension module; None where it is not to be had."""
    from importlib import import_module

    try:
        return ctypes.CDLL(str(import_module(module).__file__))
    except (ImportError, OSError, AttributeError):
        return None


@cache
def has_native(name: str) -> bool:
    """Whether a decoder can be called without Python, shown by calling it.

    Extension modules promise their Python functions and not the C functions inside; where
    those are hidden or do something else, the Python functions serve.
    """
    if name == "raw":
        return True
    try:
        return _tries_well(NativeDecoder(name))
    except (AttributeError, AssertionError, ImportError, OSError):
        return False


def _tries_well(decoder: NativeDecoder) -> bool:
    """Decode one good chunk and one of another size."""
    from numcodecs import get_codec

    from fastcounts.kernels import native

    names = {getattr(native, entry.kind): name for name, entry in _NATIVE.items()}
    content = np.tile(np.arange(64, dtype=np.uint8), 64)
    encoded = bytes(get_codec({"id": names[decoder.kind]}).encode(content))
    stored = np.frombuffer(encoded + bytes(native.SLACK), np.uint8)
    for size, wanted in ((content.size, 1), (content.size - 64, 0), (content.size + 64, 0)):
        room = max(size, content.size) + native.SLACK
        out, good = np.zeros(2 * room, np.uint8), np.zeros(1, np.int64)
        native.decode_many(
            decoder.kind,
            decoder.function,
            decoder.context,
            np.array([stored.ctypes.data]),
            np.array([len(encoded)]),
            out.ctypes.data,
            size,
            np.zeros(2, np.int64),
            good,
        )
        if good[0] != wanted or (wanted and (out[:size] != content).any()) or out[room:].any():
            return False
    return True
