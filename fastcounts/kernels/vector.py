"""Instructions that numba does not offer, as intrinsics in LLVM's own language.

Memory is named by address, an int64. So arrays of any flags share one signature, and
nothing here needs alignment.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = ["load8", "load16", "load32", "load64"]


def _loader(bits: int) -> Any:
    """Make the intrinsic that reads one pattern of so many bits as an int64."""

    def load(_typing: Any, _address: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            kind = ir.IntType(bits)
            pointer = builder.inttoptr(arguments[0], kind.as_pointer())
            value = builder.load(pointer, align=1)
            return value if bits == 64 else builder.zext(value, ir.IntType(64))

        return types.int64(types.int64), build

    return intrinsic(load)


load8 = _loader(8)
load16 = _loader(16)
load32 = _loader(32)
load64 = _loader(64)
