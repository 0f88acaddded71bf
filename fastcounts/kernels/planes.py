"""Counting labels of 8 bits that lie in memory as bit planes, as a bit shuffle leaves them.

Of a block of n labels, plane k holds bit k of every label, in n / 8 bytes. Which bit of a
plane belongs to which label does not matter to a count, as long as it is the same in all
planes. So the labels equal to one are found with an AND over the planes or their
complements, 512 at a time, and counted without being put together.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastcounts.kernels.dense import count8
from fastcounts.kernels.jit import compiled, shared
from fastcounts.kernels.lz4 import BLOSC_LZ4, LEAST_SPLIT, undo_blosc_lz4
from fastcounts.kernels.native import undo_blosc
from fastcounts.kernels.vector import add64, load8, load32, load64, lowest

__all__ = [
    "PADDING",
    "REST_BYTES",
    "count_blosc_planes",
    "count_low_bytes",
    "count_planes",
    "high_bits",
]

PADDING = 64
"""Bytes that may be read, and are not looked at, behind the last plane."""

_VECTOR_BYTES = 64
_TILE_VECTORS = 16
_MOST_LABELS = 64
REST_BYTES = _VECTOR_BYTES * _TILE_VECTORS
"""Scratch memory of ``count_planes``: which labels of a tile are not counted yet."""

_once: Any = cgutils.alloca_once_value
_function: Any = cgutils.get_or_insert_function
_INT32, _INT64 = ir.IntType(32), ir.IntType(64)
_LANES = ir.VectorType(_INT64, 8)


def _spread(builder: Any, value: Any) -> Any:
    """Copy a word into every lane of a vector."""
    unknown = ir.Constant(_LANES, ir.Undefined)
    single = builder.insert_element(unknown, value, ir.Constant(_INT32, 0))
    places = ir.Constant(ir.VectorType(_INT32, 8), [0] * 8)
    return builder.shuffle_vector(single, unknown, places)


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _LANES.as_pointer())


def _build_match(builder: Any, planes: int, arguments: list[Any]) -> Any:
    """Count one label in some vectors of each plane, and take it out of the rest."""
    address, stride, label, rest, vectors = arguments
    flips = []
    for plane in range(planes):
        bit = builder.and_(builder.lshr(label, _INT64(plane)), _INT64(1))
        flips.append(_spread(builder, builder.sub(bit, _INT64(1))))
    total = _once(builder, ir.Constant(_LANES, [0] * 8))
    count = _function(builder.module, ir.FunctionType(_LANES, [_LANES]), "llvm.ctpop.v8i64")
    with cgutils.for_range(builder, vectors) as loop:
        offset = builder.mul(loop.index, _INT64(_VECTOR_BYTES))
        left = _pointer(builder, builder.add(rest, offset))
        uncounted = builder.load(left, align=1)
        same = uncounted
        here = builder.add(address, offset)
        for flip in flips:
            plane = builder.load(_pointer(builder, here), align=1)
            same = builder.and_(same, builder.xor(plane, flip))
            here = builder.add(here, stride)
        builder.store(builder.xor(uncounted, same), left, align=1)
        builder.store(builder.add(builder.load(total), builder.call(count, [same])), total)
    lanes = builder.load(total)
    pixels = _INT64(0)
    for lane in range(8):
        pixels = builder.add(pixels, builder.extract_element(lanes, ir.Constant(_INT32, lane)))
    return pixels


def _matcher(planes: int) -> Any:
    """Make ``match(address, stride, label, rest, vectors)`` for a number of planes."""

    def match(_typing: Any, _a: Any, _b: Any, _c: Any, _d: Any, _e: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, arguments: list[Any]) -> Any:
            return _build_match(builder, planes, arguments)

        return types.int64(*[types.int64] * 5), build

    return intrinsic(match)


_match2, _match4, _match5, _match6, _match8 = (_matcher(planes) for planes in (2, 4, 5, 6, 8))


def _build_fill(builder: Any, arguments: list[Any]) -> Any:
    """Set ``vectors`` vectors at an address to ones."""
    with cgutils.for_range(builder, arguments[1]) as loop:
        here = builder.add(arguments[0], builder.mul(loop.index, _INT64(_VECTOR_BYTES)))
        builder.store(ir.Constant(_LANES, [-1] * 8), _pointer(builder, here), align=1)
    return _INT64(0)


def _build_store(builder: Any, arguments: list[Any]) -> Any:
    """Store a word at an address."""
    place = builder.inttoptr(arguments[0], _INT64.as_pointer())
    builder.store(arguments[1], place, align=1)
    return _INT64(0)


def _build_any(builder: Any, arguments: list[Any]) -> Any:
    """OR all words of ``vectors`` vectors at an address."""
    total = _once(builder, ir.Constant(_LANES, [0] * 8))
    with cgutils.for_range(builder, arguments[1]) as loop:
        here = builder.add(arguments[0], builder.mul(loop.index, _INT64(_VECTOR_BYTES)))
        lanes = builder.load(_pointer(builder, here), align=1)
        builder.store(builder.or_(builder.load(total), lanes), total)
    lanes, found = builder.load(total), _INT64(0)
    for lane in range(8):
        found = builder.or_(found, builder.extract_element(lanes, ir.Constant(_INT32, lane)))
    return found


def _pair(body: Any) -> Any:
    """Make an intrinsic of two words out of what builds it."""

    def instruction(_typing: Any, _first: Any, _second: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, arguments: list[Any]) -> Any:
            return body(builder, arguments)

        return types.int64(types.int64, types.int64), build

    return intrinsic(instruction)


_fill = _pair(_build_fill)
_store64 = _pair(_build_store)
_any = _pair(_build_any)


@compiled
def high_bits(address: int, size: int) -> Any:
    """OR the bytes at an address into a number that is 0 if all of them are."""
    vectors = size // 64
    found = _any(address, vectors)
    for i in range(vectors * 64, size):
        found |= load8(address + i)
    return found


@compiled
def _begin(rest: int, size: int) -> int:
    """Mark the labels of ``size`` bytes of a plane as uncounted; return the vectors they take."""
    vectors = (size + 63) // 64
    _fill(rest, vectors)
    if size % 64:
        for i in range(size // 8, vectors * 8):
            kept = min(max(size - 8 * i, 0), 7)
            word = (1 << (8 * kept)) - 1 if 8 * i < size else 0
            _store64(rest + 8 * i, word)
    return vectors


@compiled
def count_planes(address: int, size: int, bins: int, rest: int) -> bool:
    """Add the labels of 8 planes of ``size`` bytes each, one behind the other, to 256 bins.

    It stops and says False where many labels lie close together: counting them one by one
    would take longer than putting them together.

    Parameters
    ----------
    address : of plane 0; `PADDING` bytes behind the last plane can be read.
    size : bytes of a plane.
    bins : address of 256 int64.
    rest : address of `REST_BYTES` bytes of scratch.
    """
    used = 8
    while used > 1 and high_bits(address + (used - 1) * size, size) == 0:
        used -= 1
    for start in range(0, size, REST_BYTES):
        here = address + start
        length = min(REST_BYTES, size - start)
        vectors = _begin(rest, length)
        labels = 0
        for word in range((length + 7) // 8):
            left = load64(rest + 8 * word)
            while left != 0:
                bit = lowest(left)
                labels += 1
                if labels > _MOST_LABELS:
                    return False
                label = 0
                for plane in range(used):
                    label |= ((load64(here + plane * size + 8 * word) >> bit) & 1) << plane
                first = word // 8
                at, mask, count = here + 64 * first, rest + 64 * first, vectors - first
                if used <= 2:
                    pixels = _match2(at, size, label, mask, count)
                elif used <= 4:
                    pixels = _match4(at, size, label, mask, count)
                elif used == 5:
                    pixels = _match5(at, size, label, mask, count)
                elif used == 6:
                    pixels = _match6(at, size, label, mask, count)
                else:
                    pixels = _match8(at, size, label, mask, count)
                add64(bins + 8 * label, pixels)
                left = load64(rest + 8 * word)
    return True


@compiled
def count_blosc_planes(
    function: int,
    sources: Any,
    lengths: Any,
    into: int,
    size: int,
    width: int,
    bins: int,
    own: int,
    rest: int,
    good: Any,
) -> int:
    """Count bit-shuffled chunks without undoing the shuffle; return how many could be.

    Parameters
    ----------
    function : address of blosc's decoder.
    sources, lengths : address and size of each stored chunk; the headers are changed while
        this runs.
    into : address of room for one decoded chunk and `PADDING` bytes.
    size : bytes of one decoded chunk.
    width : bytes of a label; bits beyond the lowest 8 must be zero for a chunk to be counted.
    bins, rest : as for `count_planes`.
    own : address of 256 int64 that are zero, and are so again afterwards.
    good : (n,), set to 2 for a chunk that has been counted, else to 0.
    """
    found = 0
    for i in range(lengths.size):
        good[i] = 0
        source = sources[i]
        if lengths[i] < 16 or load8(source) != 2 or load8(source + 3) != width:
            continue
        flags, block = load8(source + 2), load32(source + 8)
        last = size % block if block > 0 else 1
        if flags & 7 != 4 or block % (8 * width) != 0 or last % (8 * width) != 0:
            continue
        if not undo_blosc(function, source, lengths[i], into, size, flags & ~5):
            continue
        counted = _high_is_zero(into, size, block, width)
        for start in range(0, size, block):
            length = min(block, size - start)
            if counted:
                counted = count_planes(into + start, length // (8 * width), own, rest)
        good[i] = 2 if counted else 0
        found += 1 if counted else 0
        for label in range(256):
            if counted:
                add64(bins + 8 * label, load64(own + 8 * label))
            _store64(own + 8 * label, 0)
    return found


@compiled
def _high_is_zero(address: int, size: int, block: int, width: int) -> bool:
    """Say whether all planes but the lowest 8 are zero, in all blocks."""
    if width > 1:
        for start in range(0, size, block):
            length = min(block, size - start)
            low = length // width
            if high_bits(address + start + low, length - low) != 0:
                return False
    return True


@shared
def _low_bytes(function: int, source: int, length: int, into: int, size: int, width: int) -> int:
    """Decode a byte-shuffled chunk without undoing the shuffle.

    It returns the size of a block, of which the first ``1 / width`` holds the lowest byte of
    every label; 0 where the chunk is not shuffled so, cannot be decoded, or has labels
    that do not fit into their lowest byte.
    """
    if length < 16 or load8(source) != 2 or load8(source + 3) != width:
        return 0
    flags, block, stored = load8(source + 2), load32(source + 8), load32(source + 12)
    if flags & 7 != 1 or block <= 0 or block % width != 0 or (size % block) % width != 0:
        return 0
    if load32(source + 4) != size or stored > length:
        return 0
    if flags & 0xF0 == BLOSC_LZ4 << 5 and undo_blosc_lz4(source, stored, into, size, flags, True):
        last = size % block if block // width >= LEAST_SPLIT else size
        return block if _high_is_zero(into + size - last, last, block, width) else 0
    if not undo_blosc(function, source, length, into, size, flags & ~5):
        return 0
    return block if _high_is_zero(into, size, block, width) else 0


@compiled
def count_low_bytes(
    function: int,
    sources: Any,
    lengths: Any,
    into: int,
    size: int,
    width: int,
    good: Any,
    bins: int,
    pairs: int,
    scratch: int,
) -> None:
    """Count byte-shuffled chunks of small labels by the lowest byte of each.

    Parameters
    ----------
    function, sources, lengths, into, size, width : as for `count_blosc_planes`.
    good : (n,), set to 1 for a chunk that has been counted; chunks where it is not 0 are passed.
    bins, pairs, scratch : as for :func:`~fastcounts.kernels.dense.count8`.
    """
    for i in range(lengths.size):
        if good[i] != 0:
            continue
        block = _low_bytes(function, sources[i], lengths[i], into, size, width)
        if block == 0:
            continue
        good[i] = 1
        for start in range(0, size, block):
            count8(into + start, min(block, size - start) // width, bins, pairs, scratch)
