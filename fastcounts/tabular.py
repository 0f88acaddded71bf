"""Counts and weights as text for other programs: CSV for spreadsheets, HTML for notebooks.

The HTML needs no style sheet, script or image from elsewhere, and all names in it are escaped.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastcounts.counts import Counts
    from fastcounts.items import ItemTable
    from fastcounts.weights import Weights

__all__ = ["classes_csv", "column_names", "counts_html", "items_csv", "weights_html"]

_MAX_ROWS = 64
"""Rows of a table in a notebook, so that a page with many tables stays fast and readable."""

_PRESENCE = ("presence", "presence_pixels", "presence_pixels_total")


# ---- CSV ----


def _csv(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def classes_csv(counts: Counts) -> str:
    """Return a row per class: label, name, pixels, share of the pixels, presence.

    The share is empty if nothing was counted.  ``fastcounts solve`` reads the text.
    """
    shares = ["" if np.isnan(share) else share for share in counts.frequencies().tolist()]
    columns = [getattr(counts, name).tolist() for name in _PRESENCE]
    names = counts.names
    rows = zip(counts.labels.tolist(), counts.pixels.tolist(), shares, *columns, strict=True)
    return _csv(
        ("label", "name", "pixels", "share", *_PRESENCE),
        ((label, names.get(label, ""), *numbers) for label, *numbers in rows),
    )


def column_names(counts: Counts) -> list[str | int]:
    """Return a heading per class: its name, or its label if the name is not there or not unique."""
    names = counts.names
    times = Counter(names.values())
    return [
        names[label] if times[names.get(label, "")] == 1 else label
        for label in counts.labels.tolist()
    ]


def items_csv(counts: Counts, table: ItemTable) -> str:
    """Return a row per image: its source, its number there, and its pixels of each class."""
    pixels = table.dense(counts.labels.tolist())
    return _csv(
        ("source", "item", *column_names(counts)),
        ((*key, *row.tolist()) for key, row in zip(table.keys, pixels, strict=True)),
    )


# ---- HTML ----


def _table(header: Sequence[str], rows: Sequence[Sequence[object]], left: int) -> str:
    """Return a table of text, the first ``left`` columns aligned to the left."""

    def row(tag: str, cells: Sequence[object]) -> str:
        sides = ("left" if place < left else "right" for place in range(len(cells)))
        inside = "".join(
            f'<{tag} style="text-align: {side}">{escape(str(cell))}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{inside}</tr>"

    body = "".join(row("td", cells) for cells in rows[:_MAX_ROWS])
    if (more := len(rows) - _MAX_ROWS) > 0:
        body += f'<tr><td colspan="{len(header)}">and {more:,} more</td></tr>'
    return f"<table><thead>{row('th', header)}</thead><tbody>{body}</tbody></table>"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4%}" if whole else ""


def counts_html(counts: Counts) -> str:
    """Return what a notebook shows of counts: the classes, and what became of every pixel."""
    ledger, names = counts.ledger, counts.names
    header = ["label", "name", "pixels", "share"] + (["images"] if counts.items else [])
    rows = [
        [label, names.get(label, ""), f"{pixels:,}", _share(pixels, ledger.counted)]
        + ([f"{images:,}"] if counts.items else [])
        for label, pixels, images in zip(
            counts.labels.tolist(), counts.pixels.tolist(), counts.presence.tolist(), strict=True
        )
    ]
    fates: list[tuple[str, int]] = [
        ("counted", ledger.counted),
        ("of these, from the fill value of missing chunks", ledger.filled),
        *((f"ignored, label {label}", one.pixels) for label, one in ledger.ignored.items()),
        ("nodata", ledger.nodata),
        *((f"unexpected, label {label}", one.pixels) for label, one in ledger.unexpected.items()),
        ("missing", ledger.missing),
        ("failed", ledger.failed),
    ]
    kept = [(what, number) for place, (what, number) in enumerate(fates) if number or not place]
    ledger_rows = [
        (what, f"{number:,}", _share(number, ledger.total))
        for what, number in [("total", ledger.total), *kept]
    ]
    images = f" in {counts.items:,} {'image' if counts.items == 1 else 'images'}"
    title = (
        f"Counts of {ledger.total:,} pixels{images if counts.items else ''}, "
        f"{len(counts):,} {'class' if len(counts) == 1 else 'classes'}"
    )
    incomplete = f"<p>incomplete: {escape(counts.incomplete)}</p>" if counts.incomplete else ""
    return (
        f"<div><p><strong>{title}</strong></p>{incomplete}"
        f"{_table(header, rows, 2)}{_table(('pixels', 'number', 'share'), ledger_rows, 1)}</div>"
    )


def weights_html(weights: Weights) -> str:
    """Return what a notebook shows of weights: their convention, and a row per class or image."""
    labels: list[Any] = weights.labels.tolist()
    pixels = weights.pixels.tolist()
    total = sum(pixels)
    what = "image" if weights.kind == "item" else "label"
    rows = [
        (label, weights.names.get(label, ""), f"{number:,}", _share(number, total), f"{value:.6g}")
        for label, number, value in zip(labels, pixels, weights.values.tolist(), strict=True)
    ]
    return (
        f"<div><p><strong>{escape(weights.convention())}</strong></p>"
        f"{_table((what, 'name', 'pixels', 'share', weights.kind), rows, 2)}</div>"
    )
