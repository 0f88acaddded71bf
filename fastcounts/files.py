"""Output files that are whole or not there at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from fastcounts.errors import OptionError

__all__ = ["write_whole"]


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file by renaming a finished one into place.

    A reader sees the old file or the new one, never a part of either.

    Raises
    ------
    OptionError
        If the place cannot be written to.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        if target.is_dir():
            raise OptionError(f"{target}: is a folder; name a file to write to")
        target.write_bytes(content)  # a device or a pipe, which has no halfway
        return
    target = target.resolve()  # a link keeps pointing where it does
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        Path(temporary).chmod(mode)
        Path(temporary).replace(target)
    except OSError as error:
        raise OptionError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
