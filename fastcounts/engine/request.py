"""What was asked for: the arguments of a count, understood and checked before anything is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastcounts.classes import ITEM_WORDS, Meaning, Options, as_integer
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
    axis : the name of the axis along which items lie, until its number is known.
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
    axis: str = ""

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
            raise OptionError(f"{argument('strict')}: expected True or False, got {strict!r}")
        if not isinstance(every, bool):
            raise OptionError(f"{argument('all_arrays')}: expected True or False, got {every!r}")
        policy = Policy(
            _one_of("missing", missing, MISSING),
            _one_of("on_error", on_error, ON_ERROR),
            strict,
            _one_of("forbidden", forbidden, FORBIDDEN),
            _one_of("nodata", nodata, NODATA),
        )
        axis = ""
        if isinstance(items, str) and items and items not in ITEM_WORDS:
            axis, items = items, "auto"
        return cls(
            target,
            Options.parse(ignore, classes, items),
            policy,
            axis=axis,
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

    def along(self, names: Sequence[str], name: str, rank: int) -> Request:
        """Return the request with the number of the axis that ``items`` names.

        Parts that were counted with the name and with the number can be merged.

        Parameters
        ----------
        names : of the axes; empty if they have none.
        name : of the array, for messages.
        rank : its number of axes.

        Raises
        ------
        OptionError
            If there is no such axis, or there are several; names those that there are.
        """
        if not self.axis:
            return self
        if names.count(self.axis) != 1:
            listed = ", ".join(repr(one) if one else "one without a name" for one in names)
            has = f"has the axes {listed}" if any(names) else "has no named axes"
            numbers = f"a number from 0 to {rank - 1}, " if rank else ""
            raise OptionError(
                f"{argument('items')}: expected the name of an axis, {numbers}'file', 'array' or "
                f"'auto', got {shown(self.axis)}; {name} {has}"
            )
        options = replace(self.options, items=names.index(self.axis))
        return replace(self, options=options, axis="")

    def along_source(self, source: Source) -> Request:
        """Return the request with the number of the axis that ``items`` names in every array.

        Raises
        ------
        OptionError
            If an array has no such axis, or it is another one.
        """
        if not self.axis:
            return self
        found: dict[int | str, tuple[Request, str]] = {}
        for place, info in enumerate(source.arrays):
            named = self.along(source.axis_names(place), info.name, len(info.shape))
            found.setdefault(named.options.items, (named, info.name))
        if len(found) != 1:
            where = " and ".join(f"{number} in {name}" for number, (_, name) in found.items())
            raise OptionError(
                f"{argument('items')}: {self.axis!r} is axis {where}; count them apart"
                if found
                else f"{argument('items')}: there is no array with an axis {shown(self.axis)}"
            )
        ((named, _),) = found.values()
        return named

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
