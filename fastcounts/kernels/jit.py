"""The one place that says how functions are compiled and where the result is kept.

A compiled function is kept in a file whose name is a digest of everything it depends on:
the source of this package, the signature, the processor, and the versions of Python,
NumPy, numba and llvmlite. A file is written whole and then renamed, and never changed
after that. So processes that start together cannot harm each other, intrinsics in another
file are not forgotten, and a directory that is missing, full or read-only costs time only.

What a file holds may come from another process than the next file. Functions that both hold
are told apart by name alone: one that a factory makes has to be given a name of its own.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
import platform
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastcounts.errors import OptionError
from fastcounts.limits import require_address_space

require_address_space(272 << 20, "numba's compiler and the kernels")  # measured: 262 MiB

import llvmlite  # noqa: E402  after the check: LLVM aborts the process if its memory runs out
import numba  # noqa: E402
from numba.core import event, serialize  # noqa: E402
from numba.core.caching import FunctionCache  # noqa: E402

__all__ = ["NAMES", "compiled", "inlined", "named", "on_compiling", "shared"]

NAMES: list[tuple[str, str]] = []
"""Module and qualified name of every function that is compiled; none may come twice."""

config: Any = numba.core.config
_dumps: Callable[[Any], bytes] = serialize.dumps


@functools.cache
def _digest_of_sources() -> str:
    """Digest the source of every kernel and the versions that compile it."""
    digest = hashlib.sha256()
    for version in (
        platform.python_implementation(),
        platform.python_version(),
        np.__version__,
        numba.__version__,
        llvmlite.__version__,
    ):
        digest.update(f"{version}\n".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):
    """A cache of compiled functions in which no file is ever changed."""

    def _file(self, signature: Any, codegen: Any) -> Path:
        name = self._py_func.__qualname__
        parts = (name, _digest_of_sources(), str(signature), repr(codegen.magic_tuple()))
        name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
        return Path(self._cache_path) / f"{self._impl.filename_base}.{name}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function of a signature, or None where it is not kept."""
        target_context.refresh()
        try:
            payload = pickle.loads(self._file(sig, target_context.codegen()).read_bytes())  # noqa: S301
            return self._impl.rebuild(target_context, payload)
        except Exception:  # noqa: BLE001  a file that cannot be used is one that is not there
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled function where that is possible."""
        if not self._impl.check_cachable(data):
            return
        path = self._file(sig, data.codegen)
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(_dumps(self._impl.reduce(data)))
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()


def _njit(function: Callable[..., Any], **options: Any) -> Any:
    """Decorate a function with ``numba.njit``.

    Raises
    ------
    OptionError
        If ``NUMBA_DISABLE_JIT`` is set: the kernels are made of LLVM instructions and cannot run
        as Python.
    """
    if config.DISABLE_JIT:
        raise OptionError(
            "NUMBA_DISABLE_JIT is set: the kernels of fastcounts exist as compiled code only; "
            "unset it for the process that counts"
        )
    return numba.njit(boundscheck=False, error_model="numpy", **options)(function)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called, without the GIL, cached on disk.

    The function is known by its qualified name: a factory gives each that it makes its own.
    """
    NAMES.append((function.__module__, function.__qualname__))
    dispatcher = _njit(function, nogil=True)
    cache: Callable[..., Any] = _Cache
    with contextlib.suppress(RuntimeError):  # no directory can be written: compile every time
        dispatcher._cache = cache(function)
    return dispatcher


@contextlib.contextmanager
def on_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Call ``tell`` once if a function is compiled in this block, and not read from the disk."""

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            del event
            if pending:
                pending.pop()()

        def on_end(self, event: Any) -> None:
            del event

    pending = [tell]
    with event.install_listener("numba:compile", Listener()):
        yield


def named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Give a function that a factory makes a qualified name of its own."""
    function.__qualname__ = function.__name__ = name
    return function


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function as a part of the functions that call it."""
    return _njit(function, inline="always")


def shared(function: Callable[..., Any]) -> Any:
    """Compile a function that others call; it is kept on disk within those.

    A factory gives each that it makes a qualified name of its own.
    """
    NAMES.append((function.__module__, function.__qualname__))
    return _njit(function)
