"""Limits that the operating system sets to this process."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from fastcounts.errors import MemoryBudgetError

__all__ = ["address_space_limit", "require_address_space"]


def address_space_limit() -> int | None:
    """Return the limit of the address space in bytes, or None if there is none."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def require_address_space(size: int, what: str) -> None:
    """Check that this much address space is left, if it is limited.

    Parameters
    ----------
    size : bytes.
    what : what needs them, for the message.

    Raises
    ------
    MemoryBudgetError
        If less is left.
    """
    if (limit := address_space_limit()) is None:
        return
    used = 0
    with suppress(OSError):  # without /proc nothing is known of what is used
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    if limit - used < size:
        raise MemoryBudgetError(
            f"{what} need {size >> 20} MiB, and of the {limit >> 20} MiB of address space that "
            f"this process is limited to (ulimit -v) {max(0, limit - used) >> 20} MiB are left; "
            "raise the limit to 1 GiB or more"
        )
