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


class DecodeError(ValueError):
    """Stored bytes that are not what the metadata says."""


class UnknownChain(Exception):
    """Codecs that cannot be undone one chunk at a time."""


class Step(NamedTuple):
    """One codec undone.

    Attributes
    ----------
    name : what messages call it.
    undo : gives the bytes that were encoded.
    size : how many those are; -1 if the metadata does not determine it.
    native : the decoder that does the same without Python, or an empty text.
    most : if ``size`` is -1, the largest number of bytes that is accepted.
    """

    name: str
    undo: Undo
    size: int
    native: str = ""
    most: int = 0


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
    most : stored bytes that a chunk may have if the codecs do not determine it; see `limit`.
    stored : stored bytes that every chunk has; None if the codecs do not determine it.
    array_codecs : undoes the codecs between elements and bytes where zarr-python has to; gives
        the chunk as it is stored.  The last step gives what it takes.
    foreign : names of the codecs that zarr-python or numcodecs undoes, which are slower and whose
        memory is not bounded.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None
    steps: tuple[Step, ...]
    native: str
    checked: bool
    most: int = 0
    stored: int | None = None
    array_codecs: Callable[[memoryview], NDArray[Any]] | None = None
    foreign: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of one decoded chunk."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def limit(self) -> int:
        """The most bytes that a stored chunk may have; one that has more is refused unread."""
        if not self.steps and self.array_codecs is None:
            return self.size
        known = (step.size for step in self.steps)
        return max(2 * max(self.size, *known, 0) + _SLACK, self.most)

    def decode(self, stored: Any, out: memoryview) -> None:
        """Decode one chunk into a buffer of exactly its size.

        Raises
        ------
        DecodeError
            If the bytes are not those of such a chunk.
        """
        data = _undo_steps(self.steps, memoryview(stored), out)
        if self.array_codecs is not None:
            pixels = self._as_announced(self.array_codecs(data))
            data = memoryview(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data)
        if data.nbytes != self.size:
            raise DecodeError(f"expected {self.size} bytes, got {data.nbytes}")
        if self.size and _begin(data) != _begin(out):
            out[:] = data

    def _as_announced(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the elements in the type of the array, as zarr-python does, if none is changed.

        Raises
        ------
        DecodeError
            If they have another shape, or a type that is not just another name of theirs.
        """
        cast = pixels.astype(self.dtype, copy=False)
        if pixels.shape != self.shape or not (cast.astype(pixels.dtype) == pixels).all():
            raise DecodeError(
                f"expected {self.shape} {self.dtype}, got {pixels.shape} {pixels.dtype}"
            )
        return cast

    def view(self, decoded: NDArray[np.uint8], chunks: int) -> NDArray[Any]:
        """Chunks that lie one behind the other, as (chunks, *chunk shape), without a copy."""
        stored = decoded.view(self.dtype).reshape(chunks, *self.shape)
        if self.axes is None:
            return stored
        return stored.transpose(0, *(axis + 1 for axis in self.axes))


def _undo_steps(steps: Sequence[Step], data: memoryview, out: memoryview) -> memoryview:
    """Undo codecs between bytes, in the buffer where that is possible.

    Raises
    ------
    DecodeError
        If one fails, or gives another number of bytes than the metadata allows.
    """
    for name, undo, size, _, most in steps:
        try:
            room = out[:size] if 0 <= size <= out.nbytes else memoryview(bytearray(max(size, 0)))
            made = memoryview(undo(data, most if size < 0 else size, room)).cast("B")
        except Exception as error:  # noqa: BLE001  decoders have errors of many kinds
            reason = str(error) or type(error).__name__
            raise DecodeError(f"{name}: {reason}") from None
        if size not in (-1, made.nbytes):
            raise DecodeError(f"{name}: expected {size} bytes, got {made.nbytes}")
        if size < 0 and made.nbytes > most:
            raise DecodeError(f"{name}: expected at most {most} bytes, got {made.nbytes}")
        data = made
    return data


def _begin(view: memoryview) -> int:
    """Where a buffer begins."""
    return int(np.frombuffer(view, np.uint8).ctypes.data)


# ---- from metadata to chains ----


def chain_v3(
    codecs: Iterable[Any],
    shape: Sequence[int],
    dtype: np.dtype[Any],
    *,
    outer: Sequence[int] | None = None,
    metadata: Any = None,
) -> Chain:
    """Return the chain of the codecs of a Zarr v3 array, or of a shard's inner chunks.

    Parameters
    ----------
    codecs : in the order of encoding.
    shape : of a chunk, along the axes of the array.
    dtype : of the array.
    outer : the array's axis of each axis of the shard, if codecs around it transpose it.
    metadata : of the array, by which zarr-python undoes codecs that are not known here.

    Raises
    ------
    UnknownChain
        If one of them cannot be undone for one chunk.
    """
    codecs = list(codecs)
    order = tuple(range(len(shape))) if outer is None else tuple(outer)
    first = next((n for n, codec in enumerate(codecs) if _maps_bytes(codec)), len(codecs))
    arrays, rest = codecs[:first], codecs[first:]
    names = [str(codec.to_dict()["name"]) for codec in arrays]
    if "sharding_indexed" in names:
        raise UnknownChain(f"{names[0]} around sharding_indexed")
    if not names:
        raise UnknownChain("no bytes codec")
    if names[-1] == "bytes" and set(names[:-1]) <= {"transpose"}:
        for codec in arrays[:-1]:
            order = tuple(order[axis] for axis in codec.to_dict()["configuration"]["order"])
        options = dict(arrays[-1].to_dict().get("configuration") or {})
        dtype = _in_order(dtype, options.get("endian"))
        encoding = _Encoding(prod(shape) * dtype.itemsize)
        decode, known = None, True
    elif metadata is None:
        raise UnknownChain(next(name for name in names if name not in ("transpose", "bytes")))
    else:
        spec = spec_of(metadata, tuple(shape[axis] for axis in order))
        size, decode = _array_codecs(arrays, spec)
        dtype, known = dtype.newbyteorder("="), False
        text = prod(shape) * _ELEMENT_BYTES + _SLACK
        encoding = _Encoding(size, text if size is None else size)
        encoding.foreign += [name for name in names if name not in ("transpose", "bytes")]
    for codec in rest:
        spec = codec.to_dict()
        name, options = str(spec["name"]), dict(spec.get("configuration") or {})
        encoding.add_v3(name.removeprefix("numcodecs."), options, codec, metadata, shape)
    return _chain(dtype, shape, order, encoding, None if known else decode)


def _maps_bytes(codec: Any) -> bool:
    """Return whether a codec turns bytes into bytes."""
    from zarr.abc.codec import BytesBytesCodec

    return isinstance(codec, BytesBytesCodec)


def chain_v2(
    filters: Iterable[Any],
    compressor: Any,
    order: str,
    shape: Sequence[int],
    dtype: np.dtype[Any],
) -> Chain:
    """Return the chain of a Zarr v2 array's filters and compressor."""
    encoding = _Encoding(prod(shape) * dtype.itemsize)
    for codec in [*filters, *([] if compressor is None else [compressor])]:
        options = dict(codec.get_config())
        encoding.add_v2(str(options.pop("id")), options, codec, dtype)
    axes = tuple(range(len(shape)))
    return _chain(dtype, shape, axes[::-1] if order == "F" else axes, encoding)


class Around(NamedTuple):
    """What undoes the codecs around whole shards.

    Attributes
    ----------
    steps : in the order of decoding.
    limit : stored bytes that such a shard may have.
    """

    steps: Sequence[Step]
    limit: int

    def undo(self, stored: bytes) -> memoryview:
        """Return the bytes of a shard.

        Raises
        ------
        DecodeError
            If they cannot be decoded, or are more than the chunks of a shard can have.
        """
        return _undo_steps(self.steps, memoryview(stored), memoryview(b""))


def around_shards(
    codecs: Sequence[Any], most: int, shape: Sequence[int], metadata: Any
) -> tuple[Around | None, tuple[str, ...]]:
    """Return what undoes codecs around shards of at most so many bytes, and which are foreign."""
    if not codecs:
        return None, ()
    encoding = _Encoding(None, most)
    for codec in codecs:
        spec = codec.to_dict()
        name, options = str(spec["name"]), dict(spec.get("configuration") or {})
        encoding.add_v3(name.removeprefix("numcodecs."), options, codec, metadata, shape)
    return Around(encoding.steps, encoding.most), tuple(encoding.foreign)


def _in_order(dtype: np.dtype[Any], endian: Any) -> np.dtype[Any]:
    if dtype.itemsize == 1:
        return dtype
    return dtype.newbyteorder(">" if getattr(endian, "value", endian) == "big" else "<")


def _chain(
    dtype: np.dtype[Any],
    shape: Sequence[int],
    order: tuple[int, ...],
    encoding: _Encoding,
    array_codecs: Callable[[memoryview], NDArray[Any]] | None = None,
) -> Chain:
    """Put a chain together; ``order`` names the array's axis of each stored axis."""
    stored = tuple(shape[axis] for axis in order)
    axes = None if order == tuple(sorted(order)) else tuple(int(n) for n in np.argsort(order))
    rest = steps = encoding.steps
    checked = bool(steps) and steps[0].name == "crc32c" and steps[0].native == "crc32c"
    if checked:
        rest = steps[1:]
    native = "" if rest or array_codecs else "raw"
    if len(rest) == 1 and rest[0].native in _NATIVE and array_codecs is None:
        native = rest[0].native
    return Chain(
        dtype,
        stored,
        axes,
        tuple(steps),
        native,
        checked and array_codecs is None,
        encoding.most,
        encoding.size,
        array_codecs,
        tuple(encoding.foreign),
    )


class _Encoding:
    """The codecs of a chain, and how many bytes a chunk has after each.

    Attributes
    ----------
    steps : what undoes them, in the order of decoding.
    size : bytes after the codecs so far; None if they do not determine it.
    most : the largest number of bytes that is accepted there.
    foreign : names of codecs that are not known here.
    """

    def __init__(self, size: int | None, most: int = 0) -> None:
        self.steps: list[Step] = []
        self.size = size
        self.most = most if size is None else size
        self.foreign: list[str] = []

    def add_v3(
        self,
        name: str,
        options: Mapping[str, Any],
        codec: Any,
        metadata: Any,
        shape: Sequence[int],
    ) -> None:
        """Add a codec between bytes of an array of format 3."""
        if not self._add(name, options):
            if metadata is None:
                raise UnknownChain(name)
            undo = _undo_with_zarr([codec], spec_of(metadata, tuple(shape)))
            self._add_foreign(name, lambda stored, *_: undo(stored), 0)

    def add_v2(
        self, name: str, options: Mapping[str, Any], codec: Any, dtype: np.dtype[Any]
    ) -> None:
        """Add a filter or a compressor of an array of format 2."""
        if not self._add(name, options):
            elements = 0 if self.steps else self.most // dtype.itemsize
            undo = _undo_with_numcodecs(codec, None if self.steps else dtype)
            self._add_foreign(name, undo, elements)

    def _add(self, name: str, options: Mapping[str, Any]) -> bool:
        """Add a codec; return whether it is known."""
        if name in _CHECKSUMS:
            native = "crc32c" if name == "crc32c" and not options else ""
            self._step(name, _checksum(name, options), native)
            self.size = None if self.size is None else self.size + 4
            self.most += 4
        elif name in _COMPRESSORS:
            undo = _COMPRESSORS[name]
            if name == "lzma":
                undo = _lzma(options)
            native = name if name in _NATIVE and self.size is not None else ""
            self._step(name, undo, native)
            self.size, self.most = None, 2 * self.most + _SLACK
        elif (most := _filtered_size(name, options, self.most)) is not None:
            self._step(name, _filter(name, options))
            self.size = None if self.size is None else most
            self.most = most
        else:
            return False
        return True

    def _add_foreign(self, name: str, undo: Undo, elements: int) -> None:
        """Add a codec that is not known here; ``elements`` is 0 if it is given bytes."""
        self._step(name, undo)
        self.foreign.append(name)
        self.size = None
        self.most = max(_GROWTH * self.most, _ELEMENT_BYTES * elements) + _SLACK

    def _step(self, name: str, undo: Undo, native: str = "") -> None:
        if self.size is None and name in _AT_MOST:
            undo = _AT_MOST[name]
        known = -1 if self.size is None else self.size
        self.steps.insert(0, Step(name, undo, known, native, self.most))


# ---- codecs that zarr-python undoes ----

_ELEMENT_BYTES = 24
"""More than codecs that are not known here make of an element: as text it has 21."""

_GROWTH = 4
"""How many times as many bytes as it is given such a codec may make; in hexadecimal it is 2."""


def spec_of(metadata: Any, shape: tuple[int, ...]) -> Any:
    """Return how zarr-python describes a chunk of an array."""
    from zarr.core.array_spec import ArrayConfig, ArraySpec
    from zarr.core.buffer import default_buffer_prototype

    return ArraySpec(
        shape,
        metadata.data_type,
        metadata.fill_value,
        ArrayConfig(order="C", write_empty_chunks=False),
        default_buffer_prototype(),
    )


def _array_codecs(
    codecs: Sequence[Any], spec: Any
) -> tuple[int | None, Callable[[memoryview], NDArray[Any]]]:
    """Return the bytes that codecs make of a chunk, if fixed, and what undoes them.

    Raises
    ------
    UnknownChain
        If zarr-python does not know what they make of it.
    """
    encoded = spec
    try:
        for codec in codecs[:-1]:
            encoded = codec.resolve_metadata(encoded)
        size = prod(encoded.shape) * encoded.dtype.to_native_dtype().itemsize
    except Exception as error:  # noqa: BLE001  codecs have errors of many kinds
        raise UnknownChain(f"{codecs[0].to_dict()['name']}: {error}") from None
    undo = _undo_with_zarr(codecs, spec)
    name = codecs[0].to_dict()["name"]

    def decode(data: memoryview) -> NDArray[Any]:
        try:
            pixels: NDArray[Any] = undo(data)
        except Exception as error:  # noqa: BLE001  codecs have errors of many kinds
            raise DecodeError(f"{name}: {str(error) or type(error).__name__}") from None
        return pixels

    return (size if codecs[-1].to_dict()["name"] == "bytes" else None), decode


def _undo_with_zarr(codecs: Sequence[Any], spec: Any) -> Callable[[memoryview], Any]:
    """Return what undoes codecs with zarr-python's own pipeline, one chunk at a time."""
    from zarr.abc.codec import BytesBytesCodec
    from zarr.core.sync import sync
    from zarr.registry import get_pipeline_class

    alone = isinstance(codecs[0], BytesBytesCodec)
    pipeline = codecs[0] if alone else get_pipeline_class().from_codecs(codecs)

    async def decode(data: memoryview) -> Any:
        (found,) = await pipeline.decode([(spec.prototype.buffer.from_bytes(bytes(data)), spec)])
        return found

    def undo(data: memoryview) -> Any:
        found = sync(decode(data))
        if found is None:
            raise DecodeError("there is nothing in it")
        return found.as_numpy_array().view("u1").data if alone else found.as_numpy_array()

    return undo


def _undo_with_numcodecs(codec: Any, dtype: np.dtype[Any] | None) -> Undo:
    """Return what undoes a filter or compressor of format 2.

    Parameters
    ----------
    codec : one of numcodecs, or of any library that registers codecs there.
    dtype : of the array if nothing is undone after it: such filters may give objects.
    """

    def undo(stored: memoryview, size: int, out: memoryview) -> Any:
        del size, out
        made = np.asarray(codec.decode(np.frombuffer(stored, np.uint8)))
        if made.dtype.kind in "SV" and not made.ndim:
            return made.tobytes()
        if made.dtype.kind in "OUT" and dtype is not None:
            made = made.astype(dtype)
        return np.ascontiguousarray(made).reshape(-1).view(np.uint8)

    return undo


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


def _zstd_at_most(stored: memoryview, most: int, out: memoryview) -> Any:
    del out
    claimed = zstd_content_size(stored)
    if claimed is None:
        return _zstd_of_unknown_size(stored, most)
    if claimed > most:
        raise DecodeError(f"expected at most {most} bytes, the frame says {claimed}")
    return _zstd(stored, claimed, memoryview(bytearray(claimed)))


def _zstd_of_unknown_size(stored: memoryview, most: int) -> memoryview:
    """Decode frames that do not say how much comes out of them, and no more than ``most`` bytes.

    numcodecs would decode all of it, whatever the size.
    """
    if not has_native("zstd"):
        raise DecodeError("the frame does not say how many bytes come out of it")
    library = _load("numcodecs.zstd")
    assert library is not None
    decompress = library["ZSTD_decompress"]
    decompress.restype = ctypes.c_size_t
    decompress.argtypes = (ctypes.c_void_p, ctypes.c_size_t) * 2
    library["ZSTD_isError"].argtypes = (ctypes.c_size_t,)
    room = np.empty(most + 1, np.uint8)
    source = np.frombuffer(stored, np.uint8)
    length = decompress(room.ctypes.data, room.nbytes, source.ctypes.data, source.nbytes)
    if library["ZSTD_isError"](length) or length > most:
        raise DecodeError(f"the frames are broken, or more than {most} bytes come out of them")
    return room[:length].data


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


def _blosc_at_most(stored: memoryview, most: int, out: memoryview) -> memoryview:
    del out
    if stored.nbytes < 16:
        raise DecodeError("the header is cut short")
    (claimed,) = struct.unpack_from("<I", stored, 4)
    if claimed > most:
        raise DecodeError(f"expected at most {most} bytes, the header says {claimed}")
    return _blosc(stored, claimed, memoryview(bytearray(claimed)))


def _lz4(stored: memoryview, size: int, out: memoryview) -> memoryview:
    from numcodecs import lz4

    if stored.nbytes <= 4:
        raise DecodeError("the header is cut short")
    (claimed,) = struct.unpack_from("<I", stored)
    if claimed != size:
        raise DecodeError(f"expected {size} bytes, the header says {claimed}")
    lz4.decompress(stored, out)
    return out


def _lz4_at_most(stored: memoryview, most: int, out: memoryview) -> memoryview:
    del out
    if stored.nbytes <= 4:
        raise DecodeError("the header is cut short")
    (claimed,) = struct.unpack_from("<I", stored)
    if claimed > most:
        raise DecodeError(f"expected at most {most} bytes, the header says {claimed}")
    return _lz4(stored, claimed, memoryview(bytearray(claimed)))


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


_AT_MOST: dict[str, Undo] = {"zstd": _zstd_at_most, "blosc": _blosc_at_most, "lz4": _lz4_at_most}
"""Compressors whose functions want to know how many bytes come out, for when nobody knows.

The others stop at the number of bytes that they are given.
"""

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
