"""Instructions that numba does not offer, as intrinsics in LLVM's own language.

Memory is named by address, an int64. So arrays of any flags share one signature, and
nothing here needs alignment. Numbers wrap around: numba's own integer arithmetic promises
LLVM that it never overflows, which hashing and bit tricks cannot keep.

A vector is 64 bytes. LLVM turns it into one register of AVX-512, two of AVX2 or four of
NEON; nothing here names a processor but `POPCOUNTS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

__all__ = [
    "POPCOUNTS",
    "add64",
    "clear_lowest",
    "copy16",
    "copy64",
    "cover",
    "increment32",
    "increment64",
    "load8",
    "load16",
    "load32",
    "load64",
    "lowest",
    "narrow16",
    "narrow32",
    "narrow64",
    "nonzero_bytes",
    "place16",
    "popcount",
    "prefetch",
    "run_ends8",
    "run_ends16",
    "run_ends32",
    "run_ends64",
    "start_match",
    "store8",
    "store32",
    "store64",
    "subtract",
]

_BYTES = 64
_MIX = 0x9E37_79B9_7F4A_7C15
_BIT = ir.IntType(1)
_INT8 = ir.IntType(8)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)

Build = Callable[[Any, list[Any]], Any]


def _features() -> str:
    """Return the features of the processor that numba compiles for."""
    chosen = getattr(config, "CPU_FEATURES", None)
    if chosen is not None:
        return str(chosen)
    return str(llvmlite.binding.get_host_cpu_features().flatten())


POPCOUNTS = "+avx512bw" in _features()
"""Whether a comparison makes a mask in a register of its own, whose bits are best counted
one by one; elsewhere it makes a vector of -1 and 0, which is best subtracted."""


def _constant(value: int) -> Any:
    return ir.Constant(_INT64, value)


def _lanes(bits: int) -> Any:
    """Return the type of a vector of labels of so many bits."""
    return ir.VectorType(ir.IntType(bits), 8 * _BYTES // bits)


def _filled(kind: Any, value: int) -> Any:
    """Return a constant vector of one value."""
    return ir.Constant(kind, [value] * kind.count)


def _spread(builder: Any, value: Any, kind: Any) -> Any:
    """Copy a scalar into every lane of a vector."""
    unknown = ir.Constant(kind, ir.Undefined)
    single = builder.insert_element(unknown, value, ir.Constant(_INT32, 0))
    places = ir.Constant(ir.VectorType(_INT32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(single, unknown, places)


def _narrow(builder: Any, value: Any, bits: int) -> Any:
    return value if bits == 64 else builder.trunc(value, ir.IntType(bits))


def _widen(builder: Any, value: Any) -> Any:
    return value if value.type.width == 64 else builder.zext(value, _INT64)


def _pointer(builder: Any, address: Any, kind: Any, offset: int = 0) -> Any:
    if offset:
        address = builder.add(address, _constant(offset))
    return builder.inttoptr(address, kind.as_pointer())


def _read(builder: Any, address: Any, kind: Any, offset: int = 0) -> Any:
    return builder.load(_pointer(builder, address, kind, offset), align=1)


def _write(builder: Any, value: Any, address: Any, offset: int = 0) -> None:
    builder.store(value, _pointer(builder, address, value.type, offset), align=1)


def _mask(builder: Any, comparison: Any) -> Any:
    """Turn a vector of truth values into the bits of an int64."""
    return _widen(builder, builder.bitcast(comparison, ir.IntType(comparison.type.count)))


def _ones(builder: Any, word: Any) -> Any:
    """Count the bits that are set."""
    return builder.call(builder.module.declare_intrinsic("llvm.ctpop", [_INT64]), [word])


def _intrinsic(count: int, build: Build) -> Any:
    """Make a function of ``count`` int64 arguments, and of one int64 result, from a builder."""
    signature = types.int64(*[types.int64] * count)

    def generate(_context: Any, builder: Any, _signature: Any, arguments: list[Any]) -> Any:
        result = build(builder, arguments)
        return _constant(0) if result is None else result

    if count == 1:
        return intrinsic(lambda _typing, _first: (signature, generate))
    if count == 2:
        return intrinsic(lambda _typing, _first, _second: (signature, generate))
    if count == 3:
        return intrinsic(lambda _typing, _first, _second, _third: (signature, generate))
    return intrinsic(lambda _typing, _first, _second, _third, _fourth: (signature, generate))


def _loader(bits: int) -> Any:
    """Make ``load(address)``: the pattern there as an int64."""
    kind = ir.IntType(bits)
    return _intrinsic(1, lambda builder, args: _widen(builder, _read(builder, args[0], kind)))


def _storer(bits: int) -> Any:
    """Make ``store(address, value)``."""
    return _intrinsic(
        2, lambda builder, args: _write(builder, _narrow(builder, args[1], bits), args[0])
    )


def _incrementer(bits: int) -> Any:
    """Make ``increment(address)``: add 1 to the number there."""

    def build(builder: Any, arguments: list[Any]) -> None:
        old = _read(builder, arguments[0], ir.IntType(bits))
        _write(builder, builder.add(old, ir.Constant(old.type, 1)), arguments[0])

    return _intrinsic(1, build)


def _run_ends(bits: int) -> Any:
    """Make ``run_ends(address)``: which lanes of a vector differ from the pixel after them.

    The pixel after the vector is read as well.
    """
    kind = _lanes(bits)

    def build(builder: Any, arguments: list[Any]) -> Any:
        here = _read(builder, arguments[0], kind)
        after = _read(builder, arguments[0], kind, bits // 8)
        return _mask(builder, builder.icmp_unsigned("!=", here, after))

    return _intrinsic(1, build)


def _narrower(bits: int) -> Any:
    """Make ``narrow(address, base, bytes)``: 64 labels of so many bits less a base, as bytes.

    It returns which of them lie outside of ``base`` to ``base + 255``.
    """
    wide = ir.VectorType(ir.IntType(bits), 64)

    def build(builder: Any, arguments: list[Any]) -> Any:
        address, base, out = arguments
        labels = _read(builder, address, wide)
        labels = builder.sub(labels, _spread(builder, _narrow(builder, base, bits), wide))
        _write(builder, builder.trunc(labels, ir.VectorType(_INT8, 64)), out)
        return _mask(builder, builder.icmp_unsigned(">", labels, _filled(wide, 255)))

    return _intrinsic(3, build)


def _build_add64(builder: Any, arguments: list[Any]) -> None:
    old = _read(builder, arguments[0], _INT64)
    _write(builder, builder.add(old, arguments[1]), arguments[0])


def _build_lowest(builder: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(_INT64, [_INT64, _BIT])
    function = builder.module.declare_intrinsic("llvm.cttz", [_INT64], kind)
    return builder.call(function, [arguments[0], ir.Constant(_BIT, 0)])


def _build_place16(builder: Any, arguments: list[Any]) -> Any:
    mixed = builder.mul(arguments[0], _constant(_MIX))
    return builder.and_(builder.lshr(mixed, arguments[1]), _constant(-16))


def _build_clear_lowest(builder: Any, arguments: list[Any]) -> Any:
    return builder.and_(arguments[0], builder.sub(arguments[0], _constant(1)))


def _build_prefetch(builder: Any, arguments: list[Any]) -> None:
    pointer = _INT8.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, _INT32, _INT32, _INT32])
    function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
    hints = [ir.Constant(_INT32, hint) for hint in (0, 3, 1)]
    builder.call(function, [builder.inttoptr(arguments[0], pointer), *hints])


def _copier(size: int) -> Any:
    """Make ``copy(into, source)``: so many bytes, read before they are written."""
    kind = ir.VectorType(_INT8, size)
    return _intrinsic(
        2, lambda builder, args: _write(builder, _read(builder, args[1], kind), args[0])
    )


def _build_start_match(builder: Any, arguments: list[Any]) -> None:
    """Write 64 bytes: those that lie ``offset`` before, or a word of them again and again.

    ``start_match(out, offset, kept, repeat)``; the word is what ``kept`` leaves of the 8 bytes
    at ``out - offset``, times ``repeat``, unless that is 0.
    """
    out, offset, kept, repeat = arguments
    source = builder.sub(out, offset)
    word = builder.mul(builder.and_(_read(builder, source, _INT64), kept), repeat)
    kind = _lanes(64)
    is_copy = builder.sext(builder.icmp_unsigned("==", repeat, _constant(0)), _INT64)
    copied = builder.and_(_read(builder, source, kind), _spread(builder, is_copy, kind))
    _write(builder, builder.or_(copied, _spread(builder, word, kind)), out)


def _build_nonzero_bytes(builder: Any, arguments: list[Any]) -> Any:
    lanes = _read(builder, arguments[0], _lanes(8))
    return _ones(
        builder, _mask(builder, builder.icmp_unsigned("!=", lanes, _filled(lanes.type, 0)))
    )


def _add_lanes(builder: Any, lanes: Any) -> Any:
    """Add the unsigned lanes of a vector."""
    bits = lanes.type.element.width
    while bits < 64:
        bits *= 2
        wide = builder.bitcast(lanes, _lanes(bits))
        low = builder.and_(wide, _filled(wide.type, (1 << (bits // 2)) - 1))
        lanes = builder.add(low, builder.lshr(wide, _filled(wide.type, bits // 2)))
    total = _constant(0)
    for lane in range(lanes.type.count):
        total = builder.add(total, builder.extract_element(lanes, ir.Constant(_INT32, lane)))
    return total


def _tally(builder: Any, old: Any, same: Any) -> Any:
    """Add the true lanes of a comparison to a running count."""
    if POPCOUNTS:
        return builder.add(old, _ones(builder, _mask(builder, same)))
    return builder.sub(old, builder.sext(same, old.type))


def _variable(builder: Any, value: Any) -> Any:
    """Make a variable of the function that is being built."""
    allocate: Callable[..., Any] = cgutils.alloca_once
    place = allocate(builder, value.type)
    builder.store(value, place)
    return place


def _coverer(labels: int) -> Any:
    """Make ``cover(address, vectors, candidates, pixels)`` for a fixed number of labels.

    It counts each of the candidates, int64 at an address, in at most 255 vectors of 8-bit
    labels, writes their pixels, int64 as well, and returns the sum of them.
    """
    kind = _lanes(8)

    def build(builder: Any, arguments: list[Any]) -> Any:
        address, vectors, candidates, pixels = arguments
        wanted = [
            _spread(builder, _narrow(builder, _read(builder, candidates, _INT64, 8 * i), 8), kind)
            for i in range(labels)
        ]
        zero = _constant(0) if POPCOUNTS else _filled(kind, 0)
        counts = [_variable(builder, zero) for _ in wanted]
        with cgutils.for_range(builder, vectors) as loop:
            here = builder.add(address, builder.mul(loop.index, _constant(_BYTES)))
            lanes = _read(builder, here, kind)
            for label, count in zip(wanted, counts, strict=True):
                same = builder.icmp_unsigned("==", lanes, label)
                builder.store(_tally(builder, builder.load(count), same), count)
        total = _constant(0)
        for i, count in enumerate(counts):
            number = builder.load(count)
            if not POPCOUNTS:
                number = _add_lanes(builder, number)
            _write(builder, number, pixels, 8 * i)
            total = builder.add(total, number)
        return total

    return _intrinsic(4, build)


load8, load16, load32, load64 = (_loader(bits) for bits in (8, 16, 32, 64))
store8, store32, store64 = (_storer(bits) for bits in (8, 32, 64))
copy16, copy64 = (_copier(size) for size in (16, 64))
start_match = _intrinsic(4, _build_start_match)
increment32, increment64 = (_incrementer(bits) for bits in (32, 64))
run_ends8, run_ends16, run_ends32, run_ends64 = (_run_ends(bits) for bits in (8, 16, 32, 64))
narrow16, narrow32, narrow64 = (_narrower(bits) for bits in (16, 32, 64))
subtract = _intrinsic(2, lambda builder, args: builder.sub(*args))
place16 = _intrinsic(2, _build_place16)
add64 = _intrinsic(2, _build_add64)
popcount = _intrinsic(1, lambda builder, args: _ones(builder, args[0]))
lowest = _intrinsic(1, _build_lowest)
clear_lowest = _intrinsic(1, _build_clear_lowest)
prefetch = _intrinsic(1, _build_prefetch)
nonzero_bytes = _intrinsic(1, _build_nonzero_bytes)
cover = tuple(_coverer(labels) for labels in range(1, 9))
