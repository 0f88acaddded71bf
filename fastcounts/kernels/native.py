"""Reading and decoding many small chunks without coming back to Python in between.

What is called are C functions of libraries that are loaded already: the C library's own and
those inside the extension modules of the decoders. They are named by address, so this file
knows no library; who finds the addresses answers for what they do.

A chunk of 64 KiB is decoded in the time that a few calls of Python take, and two threads
that come back for the GIL after each would wait for each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastcounts.kernels.jit import compiled, inlined, shared
from fastcounts.kernels.lz4 import BLOSC_LZ4, SLACK, undo_blosc_lz4, undo_lz4
from fastcounts.kernels.vector import load8, load32, store8

__all__ = [
    "BLOSC",
    "GZIP",
    "LZ4",
    "RAW",
    "SLACK",
    "ZLIB",
    "ZSTD",
    "decode_many",
    "read_files",
    "undo_blosc",
]

RAW, ZSTD, LZ4, BLOSC, GZIP, ZLIB = range(6)
"""What ``decode_many`` can undo."""

_BLOSC_HEADER = 16
_LZ4_HEADER = 4


def _caller(arguments: int, result_bits: int) -> Any:
    """Make the intrinsic that calls the C function at an address with integers."""

    def call(_typing: Any, _address: Any, *_values: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            result = ir.IntType(result_bits)
            kind = ir.FunctionType(result, [ir.IntType(64)] * arguments)
            function = builder.inttoptr(values[0], kind.as_pointer())
            value = builder.call(function, values[1:])
            return value if result_bits == 64 else builder.sext(value, ir.IntType(64))

        return types.int64(*[types.int64] * (arguments + 1)), build

    return call


def _fixed(arguments: int, result_bits: int) -> Any:
    """Give the intrinsic the exact number of parameters that numba asks for."""
    call = _caller(arguments, result_bits)
    names = ", ".join(f"_{n}" for n in range(arguments + 2))
    return intrinsic(eval(f"lambda {names}: call({names})", {"call": call}))  # noqa: S307


_call0 = _fixed(0, 64)
_call1 = _fixed(1, 32)
_call3 = _fixed(3, 32)
_call3_long = _fixed(3, 64)
_call4 = _fixed(4, 32)
_call5_long = _fixed(5, 64)
_call7 = _fixed(7, 32)


@inlined
def _error_of(errno_address: int) -> Any:
    """What the last call of the C library went wrong with, negative."""
    number = load32(_call0(errno_address))
    return -number if number > 0 else np.int64(-1)


@inlined
def _read_all(
    read_address: int, errno_address: int, descriptor: int, into: int, capacity: int
) -> Any:
    """Read a file to its end; ``capacity`` where it has no end before that."""
    done = np.int64(0)
    while done < capacity:
        step = _call3_long(read_address, descriptor, into + done, capacity - done)
        if step < 0:
            error = _error_of(errno_address)
            if error == -4:  # interrupted by a signal
                continue
            return error
        if step == 0:
            return done
        done += step
    return capacity


@compiled
def read_files(
    functions: Any,
    folder: int,
    names: int,
    flags: int,
    limit: int,
    into: int,
    capacity: int,
    offsets: Any,
    lengths: Any,
) -> Any:
    """Read whole files, one behind the other, and return how many.

    It stops where less than ``limit + 1`` bytes of the buffer are left.

    Parameters
    ----------
    functions : (4,), the addresses of ``openat``, ``read``, ``close`` and of the function that
        gives the address of ``errno``.
    folder : a descriptor of the folder that names are relative to.
    names : address of the names, each ended by a zero byte, as many as ``lengths`` has places.
    flags : to open files with.
    limit : the longest file that is accepted; of longer ones ``limit + 1`` bytes are read.
    into, capacity : address and size of the buffer.
    offsets, lengths : where each file begins in the buffer, and how long it is; a negative
        length is the number of an error.
    """
    used = np.int64(0)
    for i in range(lengths.size):
        if capacity - used < limit + 1:
            return i
        descriptor = _call3(functions[0], folder, names, flags)
        while load8(names) != 0:
            names += 1
        names += 1
        offsets[i] = used
        if descriptor < 0:
            lengths[i] = _error_of(functions[3])
            continue
        lengths[i] = _read_all(functions[1], functions[3], descriptor, into + used, limit + 1)
        _call1(functions[2], descriptor)
        if lengths[i] > 0:
            used += lengths[i]
    return lengths.size


@shared
def _blosc(function: int, source: int, length: int, into: int, size: int, flags: int) -> Any:
    """Undo blosc where the header says what is known of the chunk, as if it had such flags."""
    if length < _BLOSC_HEADER:
        return False
    stored = load32(source + 12)
    if load32(source + 4) != size or stored > length:
        return False
    ordered = flags & 6 == 0 and (flags & 1 == 0 or load8(source + 3) == 1)
    if (
        flags >> 5 == BLOSC_LZ4
        and ordered
        and undo_blosc_lz4(source, stored, into, size, flags, False)
    ):
        return True
    before = load8(source + 2)
    store8(source + 2, flags)
    done = _call4(function, source, into, size, 1) == size
    store8(source + 2, before)
    return done


@compiled
def undo_blosc(function: int, source: int, length: int, into: int, size: int, flags: int) -> Any:
    """Decode a chunk as if its header had other flags, and leave the header as it was."""
    return _blosc(function, source, length, into, size, flags)


@inlined
def _lz4(function: int, source: int, length: int, into: int, size: int) -> Any:
    """Undo LZ4 behind the size of what comes of it."""
    if length <= _LZ4_HEADER or load32(source) != size:
        return False
    if undo_lz4(source + _LZ4_HEADER, length - _LZ4_HEADER, into, size):
        return True
    return _call4(function, source + _LZ4_HEADER, into, length - _LZ4_HEADER, size) == size


@inlined
def _deflated(
    function: int, context: int, source: int, length: int, into: int, size: int, sizes: Any
) -> Any:
    """Undo a stream of one or several members that are ``size`` bytes together."""
    address = sizes.ctypes.data
    used, made = np.int64(0), np.int64(0)
    while used < length:
        failed = _call7(
            function,
            context,
            source + used,
            length - used,
            into + made,
            size - made,
            address,
            address + 8,
        )
        if failed != 0:
            return False
        used += sizes[0]
        made += sizes[1]
    return made == size


@compiled
def decode_many(
    kind: int,
    function: int,
    context: int,
    sources: Any,
    lengths: Any,
    into: int,
    size: int,
    sizes: Any,
    good: Any,
) -> Any:
    """Decode chunks of one size, one behind the other, and return how many could be.

    A chunk that decodes to another number of bytes is not good. Up to `SLACK` bytes behind a
    chunk may be written, and behind a stored chunk be read.

    Parameters
    ----------
    kind : what to undo, such as `ZSTD`.
    function, context : addresses of the decoder and, where it has one, of its state.
    sources, lengths : address and size of each stored chunk.
    into : address of the first decoded chunk.
    size : bytes of one decoded chunk.
    sizes : (2,) int64, scratch.
    good : (n,), set to 1 for a chunk that could be decoded, else to 0.
    """
    found = 0
    for i in range(lengths.size):
        source, length, target = sources[i], lengths[i], into + i * size
        done = False
        if length < 0:
            done = False
        elif kind == ZSTD:
            done = _call5_long(function, context, target, size, source, length) == size
        elif kind == LZ4:
            done = _lz4(function, source, length, target, size)
        elif kind == BLOSC and length >= _BLOSC_HEADER:
            done = _blosc(function, source, length, target, size, load8(source + 2))
        elif kind in (GZIP, ZLIB):
            done = _deflated(function, context, source, length, target, size, sizes)
        good[i] = 1 if done else 0
        found += good[i]
    return found
