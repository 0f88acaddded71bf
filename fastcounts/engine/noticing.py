"""Notices of a run: collected, emitted to the listener, and raised under ``strict``.

A source lists in ``Source.notices`` what it found when it was opened.  What only the counts can
show is found here, by the functions in ``_RULES``, when counting is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fastcounts.counts import Counts
from fastcounts.engine.events import Listener
from fastcounts.errors import StrictError
from fastcounts.notices import Notice, note, warning
from fastcounts.plan import Plan

__all__ = ["find_notices", "report"]

Rule = Callable[[Counts, Plan], Iterable[Notice]]

_SHOWN = 4
"""Labels, or names, that one message lists."""


def _declared_nodata(counts: Counts, plan: Plan) -> Iterator[Notice]:
    """Yield a notice for each attribute that turned labels of pixels into nodata."""
    del plan
    groups: dict[tuple[str, bool, bool], list[dict[str, Any]]] = {}
    for entry in counts.provenance["runs"][0].get("nodata", ()):
        group = entry["attribute"], entry["implicit"], entry["masked"]
        groups.setdefault(group, []).append(entry)
    for (attribute, is_implicit, is_masked), entries in sorted(groups.items()):
        first, most = entries[0]["array"], max(entry["arrays"] for entry in entries)
        where = first if most == 1 else f"{first} and {most - 1:,} more arrays"
        labels = [f"label {entry['label']} ({entry['pixels']:,} pixels)" for entry in entries]
        what = f"{where}: {_list(labels)} became nodata"
        if is_implicit:
            yield warning(
                "metadata-nodata",
                f"{what}, because xarray reads the {attribute} of Zarr format 2 arrays with "
                "_ARRAY_DIMENSIONS as nodata; if it is a class, count it with nodata='none' "
                "(--nodata none), and if it is nodata, confirm it with nodata='metadata' "
                "(--nodata metadata)",
            )
        elif is_masked:
            yield note(
                "metadata-nodata",
                f"{what}: xarray has masked it, as its {attribute} says; to count it as a label, "
                "open the array with mask_and_scale=False and use nodata='none'",
            )
        else:
            yield note(
                "metadata-nodata",
                f"{what}, as its {attribute} says; to count it as a label, use nodata='none' "
                "(--nodata none)",
            )


def _list(words: Sequence[str]) -> str:
    """Return the first few words as a list, and the number of the others."""
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


_RULES: tuple[Rule, ...] = (_declared_nodata,)
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
