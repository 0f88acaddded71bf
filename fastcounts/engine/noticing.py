"""Notices of a run: collected, emitted to the listener, and raised under ``strict``.

A source lists in ``Source.notices`` what it found when it was opened.  What only the counts can
show is found here, by the functions in ``_RULES``, when counting is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fastcounts.counts import Counts
from fastcounts.engine.events import Listener
from fastcounts.errors import StrictError
from fastcounts.notices import Notice
from fastcounts.plan import Plan

__all__ = ["find_notices", "report"]

Rule = Callable[[Counts, Plan], Iterable[Notice]]

_RULES: tuple[Rule, ...] = ()
"""Each looks at the counts of a run and its plan, and yields what the user should know."""


def find_notices(counts: Counts, plan: Plan) -> list[Notice]:
    """Return the notices that follow from the counts of a run."""
    return [notice for rule in _RULES for notice in rule(counts, plan)]


def report(notices: Sequence[Notice], emit: Listener, *, strict: bool) -> None:
    """Emit notices to the listener.

    Raises
    ------
    StrictError
        Under ``strict``, if one of them is a warning.
    """
    warnings = [notice for notice in notices if notice.severity == "warning"]
    if strict and warnings:
        more = len(warnings) - 1
        raise StrictError(warnings[0].message + (f" (and {more} more warnings)" if more else ""))
    for notice in notices:
        emit(notice)
