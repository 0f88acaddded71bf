"""Files: written whole or not at all, and the numbers in them read without rounding."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts.errors import FormatError, OptionError, OutputError

__all__ = ["once", "text", "whole_number", "whole_numbers", "write_whole"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a place that could be written to, had there been room."""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON in which no name stands twice, where Python would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise FormatError(f"{twice}: it stands twice")
    return found


def text(value: Any, field: str) -> str:
    """Text from a file; raises FormatError that names the field."""
    if not isinstance(value, str):
        raise FormatError(f"{field}: expected text, got {value!r}")
    return value


def whole_number(value: Any, field: str) -> int:
    """A number from a file, which must be whole; raises FormatError that names the field."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise FormatError(f"{field}: expected a whole number, got {value!r}")
    return value


def whole_numbers(values: Any, field: str) -> NDArray[np.int64]:
    """A column of numbers from a file: a list, or an array of an archive."""
    if isinstance(values, np.ndarray):
        if values.dtype != np.int64 or values.ndim != 1:
            raise FormatError(f"{field}: expected a column of int64, got {values.dtype}")
        return values
    if not isinstance(values, list):
        raise FormatError(f"{field}: expected a list of whole numbers, got {type(values).__name__}")
    try:
        return np.array([whole_number(value, field) for value in values], np.int64)
    except OverflowError:
        raise FormatError(f"{field}: a number is more than int64 holds") from None


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file by renaming a finished one into place.

    A reader sees the old file or the new one, never a part of either.

    Raises
    ------
    OptionError
        If the place cannot be written to.
    OutputError
        If it is full.
    """
    target = Path(path)
    temporary = None
    try:
        if target.is_dir():
            raise OptionError(f"{target}: is a folder; name a file to write to")
        if target.exists() and not target.is_file():
            target.write_bytes(content)  # a device or a pipe, which has no halfway
            return
        target = target.resolve()  # a link keeps pointing where it does
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        Path(temporary).chmod(mode)
        Path(temporary).replace(target)
    except BrokenPipeError:
        raise
    except OSError as error:
        kind = OutputError if error.errno in _FULL else OptionError
        raise kind(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
