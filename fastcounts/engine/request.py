"""What was asked for: the arguments of a count, understood and checked before anything is read."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from fastcounts.classes import Meaning, Options, as_integer
from fastcounts.engine.tallying import Policy
from fastcounts.errors import OptionError
from fastcounts.messages import argument, shown
from fastcounts.sources import Source, open_source
from fastcounts.sources.selection import read_patterns

__all__ = ["FORBIDDEN", "MISSING", "NODATA", "ON_ERROR", "Request", "processors"]

MISSING = ("fill", "zero", "separate", "raise")
FORBIDDEN = ("raise", "missing")
ON_ERROR = ("raise", "record")
NODATA = ("auto", "metadata", "none")


@dataclass(frozen=True)
class Request:
    """The arguments of :func:`fastcounts.count`.

    Attributes
    ----------
    target : what holds the masks.
    options : what decides the meaning of the counts.
    policy : what to do with what is missing, broken or unexpected.
    workers, memory : as given, or None.
    every : take all label arrays of a Zarr group or .npz archive.
    include, exclude : patterns that files of a folder or glob have to match, or must not match.
    meaning : what is known of the labels beside what the target says itself.
    """

    target: Any
    options: Options
    policy: Policy
    keep_items: bool = False
    region: Any = None
    part: tuple[int, int] | None = None
    source_id: str | None = None
    every: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    workers: int | None = None
    memory: int | None = None
    scheduler: Any = None
    meaning: Meaning | None = None

    @classmethod
    def parse(
        cls,
        target: Any,
        *,
        ignore: Any = None,
        classes: Any = None,
        items: Any = "auto",
        missing: str = "fill",
        forbidden: str = "raise",
        on_error: str = "raise",
        nodata: str = "auto",
        strict: bool = False,
        every: bool = False,
        include: Any = None,
        exclude: Any = None,
        workers: int | None = None,
        memory: int | str | None = None,
        **given: Any,
    ) -> Request:
        """Understand the arguments.

        Raises
        ------
        OptionError
            Naming the argument and what it should be.
        """
        if not isinstance(strict, bool):
            raise OptionError(f"strict: expected True or False, got {strict!r}")
        if not isinstance(every, bool):
            raise OptionError(f"all_arrays: expected True or False, got {every!r}")
        policy = Policy(
            _one_of("missing", missing, MISSING),
            _one_of("on_error", on_error, ON_ERROR),
            strict,
            _one_of("forbidden", forbidden, FORBIDDEN),
            _one_of("nodata", nodata, NODATA),
        )
        return cls(
            target,
            Options.parse(ignore, classes, items),
            policy,
            every=every,
            include=read_patterns("include", include),
            exclude=read_patterns("exclude", exclude),
            workers=None if workers is None else _at_least_one("workers", workers),
            memory=_bytes(memory),
            **given,
        )

    @property
    def threads(self) -> int:
        """How many threads: what was asked for, or one for each processor that may be used."""
        return processors() if self.workers is None else self.workers

    def open(self) -> Source:
        """Open the source that was asked for."""
        return open_source(
            self.target,
            source_id=self.source_id,
            every=self.every,
            meaning=self.meaning,
            include=self.include,
            exclude=self.exclude,
        )

    def open_as(self, target: Any) -> Source:
        """Open something else with the same choices."""
        return self.about(target).open()

    def about(self, target: Any, **changes: Any) -> Request:
        """The same request about something else."""
        return replace(self, target=target, **changes)


def processors() -> int:
    """How many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise OptionError(
            f"{argument(name)}: expected {' or '.join(map(repr, allowed))}, got {shown(value)}"
        )
    return value


def _at_least_one(name: str, value: int) -> int:
    number = as_integer(value, argument(name))
    if number < 1:
        raise OptionError(f"{argument(name)}: expected at least 1, got {shown(number)}")
    return number


def _bytes(memory: int | str | None) -> int | None:
    if memory is None:
        return None
    if isinstance(memory, str):
        from dask.utils import parse_bytes

        try:
            memory = int(parse_bytes(memory))
        except (ValueError, OverflowError):
            raise OptionError(
                f"{argument('memory')}: expected bytes, or text such as '512MB', got "
                f"{shown(memory)}"
            ) from None
    return _at_least_one("memory", memory)
