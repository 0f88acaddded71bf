"""Notices of a run: collected, emitted to the listener, and raised under ``strict``.

A source lists in ``Source.notices`` what it found when it was opened.  What only the counts can
show is found here, by the functions in ``_RULES``, when counting is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fastcounts.classes import spell_names
from fastcounts.counts import Counts
from fastcounts.engine.events import Listener
from fastcounts.errors import StrictError
from fastcounts.messages import argument, variants
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
        keep = argument("nodata", "none")
        if is_implicit:
            yield warning(
                "metadata-nodata",
                f"{what}, because xarray reads the {attribute} of Zarr format 2 arrays with "
                f"_ARRAY_DIMENSIONS as nodata; if it is a class, count it with {keep}, and if it "
                f"is nodata, confirm it with {argument('nodata', 'metadata')}",
            )
        elif is_masked:
            yield note(
                "metadata-nodata",
                f"{what}: xarray has masked it, as its {attribute} says; to count it as a label, "
                f"open the array with mask_and_scale=False and use {keep}",
            )
        else:
            yield note(
                "metadata-nodata",
                f"{what}, as its {attribute} says; to count it as a label, use {keep}",
            )


def _different_names(counts: Counts, plan: Plan) -> Iterator[Notice]:
    """Yield a warning if labels that were added up are different classes in different arrays.

    An array of a group that was counted as a whole has to name the labels that the others name:
    its pixels would be reported under a name that they do not have.
    """
    if counts.options.classes is not None or len(plan.arrays) < 2:
        return
    counted = set(counts.labels.tolist())
    vocabularies: dict[tuple[str, tuple[tuple[int, tuple[str, ...]], ...]], str] = {}
    for info in plan.arrays:
        vocabularies.setdefault((info.group, tuple(info.meaning.names.items())), info.name)
    variants: dict[int, dict[tuple[str, ...], str]] = {}
    named: dict[str, set[int]] = {}
    for (group, items), name in vocabularies.items():
        for label, called in items:
            if label in counted:
                variants.setdefault(label, {}).setdefault(called, name)
                named.setdefault(group, set()).add(label)
    for (group, items), name in vocabularies.items():
        if group:
            for label in named.get(group, set()) - dict(items).keys():
                variants[label].setdefault((), name)
    found = [(label, one) for label, one in sorted(variants.items()) if len(one) > 1]
    if found:
        label, variant = found[0]
        meanings = [
            (f"{spell_names(called)!r}" if called else "without a name") + f" in {name}"
            for called, name in variant.items()
        ]
        more = f" (and {len(found) - 1} more labels)" if len(found) > 1 else ""
        yield warning(
            "different-names",
            f"label {label} is {_list(meanings)}{more}, and their pixels were added up; if the "
            "labels are different classes, count each array by its name, else give the names of "
            f"the classes with {argument('classes')}",
        )


def _list(words: Sequence[str]) -> str:
    """Return the first few words as a list, and the number of the others."""
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


_ONE_HOT_PIXELS = 64
"""Pixels of one layer, at least.  If half of the pixels of two binary masks are 1 at random,
exactly half are in 7 % of the pairs at this size, and in 0.06 % of those of a megapixel."""

_MAX_ONE_HOT = 1024
"""Classes of a one-hot stack, at most; a longer axis is one of space or of images."""


def _one_hot(counts: Counts, plan: Plan) -> Iterator[Notice]:
    """Yield a warning for a stack that is 1 in one class per pixel, and 0 in all others.

    The labels are 0 and 1, every pixel is counted, and exactly one in K of them is 1, with K the
    length of the first, second or last axis.  That the ones lie in different places cannot be
    seen in counts.  A stack of K binary masks may match by chance, so the message says what it is.
    """
    ones = dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))
    found = {label for label, pixels in ones.items() if pixels}
    total = counts.ledger.total
    if found != {0, 1} or counts.ledger.counted != total:
        return
    for axis in (-1, 0, 1):
        lengths = {
            stop - start
            for grid in plan.grids
            if len(grid.bounds) > max(2, axis + 1)
            for place, (start, stop) in enumerate(grid.bounds)
            if place == axis % len(grid.bounds) and place != plan.items
        }
        if len(lengths) != 1 or any(len(grid.bounds) < 3 for grid in plan.grids):
            continue
        (classes,) = lengths
        if 2 <= classes <= _MAX_ONE_HOT and ones[1] * classes == total >= _ONE_HOT_PIXELS * classes:
            where = "last axis" if axis < 0 else f"axis {axis}"
            first = plan.arrays[0]
            labels_of_it = f"masks.argmax(axis={axis})"
            remedy = variants(
                f"count {labels_of_it} instead", f"save {labels_of_it} with NumPy and count that"
            )
            yield warning(
                "one-hot",
                f"{first.name}: the labels are 0 and 1, and exactly one in {classes} pixels is 1, "
                f"as in a one-hot stack of {classes} classes along the {where} of the shape "
                f"{first.shape}; if it is one, {remedy}, and if its layers are binary masks of "
                "their own, nothing is wrong",
            )
            return


_USUAL_IGNORE = (255, 65535, 2**31 - 1, 2**32 - 1)
"""Labels that data sets use for pixels that the loss ignores, beside negative ones."""


def _likely_ignored(counts: Counts, plan: Plan) -> Iterator[Notice]:
    """Yield a note for a label that looks like one to ignore, if no label is.

    It is alone: all other labels are close together from 0 on, as classes are, and it is negative,
    or usual for the purpose, or far above them.  Two labels are a binary mask, whatever they are.
    """
    del plan
    if counts.options.ignore or counts.options.classes is not None or counts.labels.size < 3:
        return
    labels = counts.labels.tolist()
    for alone, rest in ((labels[-1], labels[:-1]), (labels[0], labels[1:])):
        low, high = rest[0], rest[-1]
        if low < 0 or high >= 4 * len(rest):
            continue
        far = alone > 4 * (high + 1) + 16 or (alone in _USUAL_IGNORE and alone > high + 16)
        if far or alone < 0:
            pixels = int(counts.pixels[labels.index(alone)])
            yield note(
                "likely-ignored",
                f"label {alone} ({pixels:,} pixels) stands apart from the labels {low} to {high}; "
                f"if it marks pixels to ignore, count with {argument('ignore', alone)}",
            )
            return


_RULES: tuple[Rule, ...] = (_declared_nodata, _different_names, _one_hot, _likely_ignored)
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
        raise StrictError(warnings[0].text + (f" (and {more} more warnings)" if more else ""))
    for notice in notices:
        emit(notice)
