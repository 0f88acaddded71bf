"""Tables and progress for people, with rich."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastcounts.counts import Counts
from fastcounts.engine import (
    Advanced,
    Advice,
    BlockFailed,
    Event,
    Finished,
    Measured,
    Preview,
    Started,
)
from fastcounts.engine.events import Listener
from fastcounts.ledger import Ledger
from fastcounts.solvers import Scheme
from fastcounts.sources import Way
from fastcounts.weights import Weights

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from fastcounts.demo import Demonstration
    from fastcounts.engine.planning import ArrayPreview

__all__ = [
    "amount",
    "bench_lines",
    "bench_table",
    "counts_table",
    "demo_lines",
    "demo_table",
    "ledger_lines",
    "out",
    "plan_lines",
    "plan_table",
    "predictor_lines",
    "progress_bar",
    "schemes_table",
    "weights_table",
]

_PLAIN_WIDTH = 120
_NODATA_LINES = 5
_DEMO_WIDTH = 118
_NOT_KNOWN = "not known without reading"


def out(*, stderr: bool = False) -> Console:
    """The console; where it is no terminal, plain text of a width that does not depend on one."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    width = None if terminal else _PLAIN_WIDTH

    class Printer(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # and not the exit code of a gate that failed

    return Printer(file=stream, width=width, highlight=False, soft_wrap=not terminal)


def amount(number: float) -> str:
    """A number of pixels in a form that is read at a glance: ``268.4 M``."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return f"{number:,.0f}"


def _table(title: str | None, columns: Sequence[str], left: int = 0) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < left else "right", no_wrap=True)
    return table


def _called(names: Any, label: int) -> str:
    """A label with its name, which may come from a file and is no markup."""
    from rich.markup import escape

    name = names.get(label)
    return f"{label} {escape(name)}" if name else str(label)


def counts_table(counts: Counts) -> Table:
    """One line a class."""
    with_presence = counts.items > 0
    table = _table(None, ["label", "pixels", "share", *(["images"] if with_presence else [])], 1)
    names = counts.names
    for place, label in enumerate(counts.labels.tolist()):
        row = [
            _called(names, label),
            f"{int(counts.pixels[place]):,}",
            f"{counts.frequencies()[place]:.4%}" if counts.ledger.counted else "",
        ]
        table.add_row(*row, *([f"{int(counts.presence[place]):,}"] if with_presence else []))
    return table


def ledger_lines(counts: Counts) -> list[str]:
    """What became of every pixel, in words; what is zero is left out, but for the fill value."""
    ledger: Ledger = counts.ledger
    lines = [
        f"{ledger.total:,} pixels: {ledger.counted:,} of {counts.labels.size} classes"
        + (f", in {_images(counts.items)}" if counts.items else "")
    ]
    lines.append(f"{ledger.filled:,} of them are the fill value of chunks that do not exist")
    lines += [
        f"{entry.pixels:,} ignored as {label}"
        for label, entry in ledger.ignored.items()
        if entry.pixels
    ]
    lines += _nodata_lines(counts)
    for number, what in (
        (ledger.missing, "missing: their chunks do not exist"),
        (ledger.failed, "failed: they could not be read"),
    ):
        if number:
            lines.append(f"{number:,} {what}")
    lines += _unexpected_lines(ledger)
    if counts.incomplete:
        lines.append(f"incomplete: {counts.incomplete}")
    return lines


def _images(items: int) -> str:
    return "1 image" if items == 1 else f"{items:,} images"


def _nodata_lines(counts: Counts) -> list[str]:
    """Return the pixels of each label that metadata made nodata, and of all other nodata."""
    pixels: dict[tuple[int, str], int] = {}
    arrays: dict[tuple[int, str], set[str]] = {}
    for run in counts.provenance.get("runs", []):
        for entry in run.get("nodata", []):
            key = entry["label"], entry["attribute"]
            pixels[key] = pixels.get(key, 0) + entry["pixels"]
            names = {entry["array"]} if entry["arrays"] == 1 else {entry["array"], ""}
            arrays.setdefault(key, set()).update(names)
    total, left = counts.ledger.nodata, counts.ledger.nodata - sum(pixels.values())
    if not total or left < 0:  # after a subtraction the runs say more than the ledger
        return [f"{total:,} nodata"] if total else []
    shown = list(pixels.items())[:_NODATA_LINES]
    lines = []
    for (label, attribute), number in shown:
        first = max(arrays[label, attribute])
        others = " and others" if len(arrays[label, attribute]) > 1 else ""
        lines.append(f"{number:,} nodata: label {label}, from {attribute} of {first}{others}")
    if more := len(pixels) - len(shown):
        rest = sum(list(pixels.values())[_NODATA_LINES:])
        lines.append(f"{rest:,} nodata: {more} more labels, from metadata")
    if left:
        lines.append(f"{left:,} nodata" + (": masked or NaN" if lines else ""))
    return lines


def _unexpected_lines(ledger: Ledger) -> list[str]:
    lines = []
    for label, entry in list(ledger.unexpected.items())[:5]:
        where = ""
        if entry.places:
            source, item, at = entry.places[0]
            where = f", first at {at} of {source + ' ' if source else ''}item {item}"
        lines.append(f"{entry.pixels:,} unexpected: label {label} belongs to no class{where}")
    more = len(ledger.unexpected) - 5
    if more > 0:
        lines.append(f"{ledger.unexpected_pixels:,} unexpected in all, of {more} more labels")
    return lines


def weights_table(weights: Weights) -> Table:
    """One line a class, with what it costs to always answer it."""
    costs = _costs(weights)
    table = _table(weights.convention(), ["label", "pixels", weights.kind, *costs], 1)
    for place, label in enumerate(weights.labels.tolist()):
        table.add_row(
            _called(weights.names, label),
            f"{int(weights.pixels[place]):,}",
            f"{weights.values[place]:.6g}",
            *(_cost(column, place) for column in costs.values()),
        )
    return table


def _costs(weights: Weights) -> dict[str, Any]:
    """The columns of what constant answers cost: under the costs that were stated, if any were."""
    if stated := weights.diagnostics.get("stated_costs"):
        return {"cost before": stated["before"], "cost after": stated["after"]}
    if predictors := weights.diagnostics.get("constant_predictors"):
        return {
            "cost before": predictors[0]["before"],
            "after, by pixels": predictors[0]["by_pixels"],
            "after, by weights": predictors[0]["by_weights"],
        }
    return {}


def _cost(column: Sequence[float | None], place: int) -> str:
    value = column[place] if place < len(column) else None
    return "" if value is None else f"{value:.6f}"


def predictor_lines(weights: Weights) -> list[str]:
    """What the weights do, in words."""
    found = weights.diagnostics
    lines = []
    if found.get("stated_costs"):
        lines.append(
            "costs: of always answering that class, as the options of the scheme state them"
        )
    elif predictors := found.get("constant_predictors"):
        lines.append(
            f"costs: of always answering that class ({predictors[0]['predictor']}), mean over all "
            "pixels; by pixels: Keras, and torch reduction='sum' over pixels; by weights: torch "
            "reduction='mean'"
        )
    if "pixel_mean" in found:
        lines.append(
            f"pixel mean {found['pixel_mean']:.6g}: by so much the loss, and under Keras the step "
            "of gradient descent, grows"
        )
    if "ratio" in found and "effective_share" in found:
        lines.append(f"largest over smallest weight {found['ratio']:.6g}; {_noise(found)}")
    lines += [f"note: {flag['message']}" for flag in found.get("flags", [])]
    return lines


def _noise(found: Mapping[str, Any]) -> str:
    """Say how noisy the gradient gets, from the images if their counts were kept."""
    if (factor := found["images"].get("gradient_noise")) is not None:
        return f"the gradient varies {factor:.4g} times as much between images as without weights"
    return (
        f"effective sample size {found['effective_share']:.2%} of the pixels, if pixels were "
        "independent"
    )


def schemes_table(schemes: Sequence[Scheme]) -> Table:
    """One line a scheme."""
    table = _table(None, ["scheme", "formula", "options", "gives", "source"], 5)
    for column in table.columns[1:]:
        column.no_wrap = False
        column.overflow = "fold"
    for scheme in schemes:
        options = ", ".join(f"{option.name}={option.default}" for option in scheme.options)
        table.add_row(scheme.name, scheme.formula, options, scheme.kind, scheme.source)
    return table


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Listener | None]:
    """A listener that draws a bar on standard error, where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("counting"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=out(stderr=True), transient=True)
    task = progress.add_task("count", total=None, rate="")
    try:

        def listen(event: Event) -> None:
            if isinstance(event, Started):
                progress.update(task, total=event.pixels)
                progress.start()  # not before, so that what is printed until then stays whole
            elif isinstance(event, Advanced):
                speed = progress.tasks[0].speed
                rate = f"{amount(speed)}px/s" if speed else ""
                progress.update(task, advance=event.pixels, rate=rate)
            elif isinstance(event, BlockFailed):
                progress.console.print(f"failed: {event.reason}", markup=False)
            elif isinstance(event, Finished):
                progress.update(task, completed=event.pixels)

        yield listen
    finally:
        progress.stop()


def demo_table(found: Demonstration, width: int = _PLAIN_WIDTH) -> Table:
    """One line a class: its pixels, its weights, and the cost of always answering it.

    In a narrow terminal without what can be read off the rest.
    """
    counts, costs = found.counts, found.equal_cost.diagnostics["constant_predictors"][0]
    columns = {
        "label": [str(label) for label in counts.labels.tolist()],
        "pixels": [f"{pixels:,}" for pixels in counts.pixels.tolist()],
        "share": [f"{share:.3%}" for share in counts.frequencies()],
        "images": [str(images) for images in counts.presence.tolist()],
        "max/count": [f"{weight:.2f}" for weight in found.inverse.values],
        "equal cost": [f"{weight:.4f}" for weight in found.equal_cost.values],
        "cost before": [f"{cost:.6f}" for cost in costs["before"]],
        "after (Keras)": [f"{cost:.6f}" for cost in costs["by_pixels"]],
        "after (torch mean)": [f"{cost:.6f}" for cost in costs["by_weights"]],
    }
    if width < _DEMO_WIDTH:
        for left_out in ("share", "images", "after (torch mean)"):
            del columns[left_out]
    table = _table(None, list(columns), 1)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def demo_lines(found: Demonstration) -> list[str]:
    """The answer to the question, in words."""
    costs = found.equal_cost.diagnostics["constant_predictors"][0]
    before, after = costs["before"], costs["by_pixels"]
    inverse, equal = found.inverse.diagnostics, found.equal_cost.diagnostics
    pixels = found.counts.ledger.total
    return [
        f"cost: of a model that always answers that class with probability 0.99, mean over all "
        f"pixels. Without weights from {min(before):.4f} to {max(before):.4f}; with them "
        f"{min(after):.4f} for each.",
        f"max/count gives equal costs as well, {inverse['pixel_mean']:.4g} times as large: equal "
        "cost is the same family, scaled so that the mean over the pixels is 1.",
        f"The price: {_noise(equal)}.",
        f"Counted {amount(pixels)}px in {found.seconds:.2f} s: "
        f"{amount(pixels / found.seconds)}px/s, decompression included.",
    ]


# ---- what a count would do ----


def plan_table(found: Preview) -> Table:
    """One line for all arrays that are alike."""
    alike: dict[Any, list[ArrayPreview]] = {}
    for array in found.arrays:
        info = array.info
        key = (info.shape, info.dtype, info.chunks, info.inner, array.way)
        alike.setdefault(key, []).append(array)
    table = _table(None, ["array", "shape", "type", "chunks", "inner chunks", "pixels"], 3)
    table.columns[0].no_wrap = False
    table.columns[0].overflow = "fold"
    for arrays in alike.values():
        info, more = arrays[0].info, len(arrays) - 1
        table.add_row(
            info.name + (f" and {more:,} like it" if more else ""),
            _shape(info.shape),
            info.dtype.name,
            _shape(info.chunks),
            "" if info.inner is None else _shape(info.inner),
            f"{sum(array.pixels for array in arrays):,}",
        )
    return table


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one"


def plan_lines(found: Preview) -> list[str]:
    """What would be read, from where, and within which memory, in words."""
    plan, units = found.plan, _units(found)
    blocks = sum(array.blocks for array in found.arrays)
    lines = [
        f"{plan.pixels:,} pixels in {found.units:,} {units}"
        + (f", read as {blocks:,} blocks" if blocks != found.units else "")
    ]
    if found.part is not None:
        number, parts = found.part
        lines.append(
            f"part {number} of {parts}: {units} {plan.share[0]:,} to {plan.share[1]:,} of "
            f"{plan.units:,}, {_ratio(plan.pixels, found.run_pixels):.2%} of "
            f"{found.run_pixels:,} pixels"
        )
    stored = _NOT_KNOWN if found.stored_bytes is None else _bytes(found.stored_bytes)
    if found.stored_bytes and found.missing == 0 and found.stored_bytes != found.decoded_bytes:
        stored += f", {found.decoded_bytes / found.stored_bytes:.3g} times fewer"
    lines.append(f"decoded: {_bytes(found.decoded_bytes)}; stored: {stored}")
    if any(array.way.kind in ("chunks", "zarr-python") for array in found.arrays):
        lines.append(
            f"missing {units}: {_NOT_KNOWN}"
            if found.missing is None
            else f"missing {units}: {found.missing:,}, {_ratio(found.missing, found.units):.2%}"
        )
    lines += [f"read: {words}" for words in dict.fromkeys(_way(a.way) for a in found.arrays)]
    lines.append(
        f"memory: {_bytes(plan.peak_bytes)} at most, beside the interpreter, with {plan.workers} "
        f"{'worker' if plan.workers == 1 else 'workers'}"
    )
    return lines


def _bytes(number: int) -> str:
    return _of(number, "B")


def _of(number: int, unit: str) -> str:
    text = amount(number)
    return f"{text}{unit}" if text[-1].isalpha() else f"{text} {unit}"


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _units(found: Preview) -> str:
    """What the units of all arrays are called."""
    names = {
        ("shards" if array.info.inner else "chunks")
        if array.way.kind in ("chunks", "zarr-python")
        else "units"
        for array in found.arrays
    }
    return names.pop() if len(names) == 1 else "units"


def _way(way: Way) -> str:
    """How blocks are read, in words."""
    if way.kind == "mapped":
        return "mapped into memory"
    if way.kind == "file":
        return "file by file, by the library that decodes them"
    codecs = ", ".join(way.codecs) or "not compressed"
    requests = f"; {way.requests} requests at once" if way.requests else ""
    if way.kind == "zarr-python":
        return f"through zarr-python, more slowly ({way.obstacle}): {codecs}{requests}"
    python = "" if way.native or not way.codecs else ", decoded in Python"
    return f"straight from the store: {codecs}{python}{requests}"


# ---- where the time goes ----


def bench_table(found: Measured) -> Table:
    """One line a stage."""
    table = _table(
        None,
        ["stage", "what it is", "GB/s stored", "Gpx/s", "share of the time", "threads wait"],
        2,
    )
    kinds = {way.kind for way in found.ways}
    apart = "not told apart from decoding"
    rows = {
        "fetch": "the stored bytes alone",
        "decode": "fetched, decoded and thrown away",
        "count": "fetched, decoded and counted",
    }
    if kinds == {"mapped"}:
        apart, rows["count"] = "mapped into memory: read where it is counted", "read and counted"
    for name, what in rows.items():
        if (stage := found.stages[name]) is None:
            table.add_row(name, apart, "", "", "", "")
            continue
        stored, share = found.gigabytes(stage), found.shares[name]
        table.add_row(
            name,
            what,
            "" if stored is None else f"{stored:.3g}",
            f"{found.gigapixels(stage):.3g}",
            "" if share is None else f"{share:.0%}",
            f"{stage.idle:.0%}",
        )
    limit = f"{found.gigapixels(found.limit):.3g}"
    table.add_row("read limit", "as many decoded bytes from memory", "", limit, "", "")
    return table


def bench_lines(found: Measured, advice: Sequence[Advice]) -> list[str]:
    """What was measured, and what to change, in words."""
    chunks = f"{found.chunks:,} {'chunks' if found.fetch else 'blocks'}"
    absent = f", and {found.missing:,} chunks that do not exist" if found.missing else ""
    lines = [
        f"sample: {_of(found.pixels, 'px')} in {chunks}{absent}; medians of {found.rounds} rounds "
        f"with {found.workers} {'worker' if found.workers == 1 else 'workers'}, once it had been "
        "read",
        *(f"read: {words}" for words in dict.fromkeys(map(_way, found.ways))),
        "share of the time: what a stage adds to a count, on top of the stage above it",
    ]
    if found.decode is not None and found.count.seconds < found.decode.seconds:
        lines.append("counting takes less time than decoding: it need not decode everything")
    if found.repeated:
        lines.append(f"{found.repeated:,} chunks were the same bytes as one seen before")
    if not advice:
        return [*lines, "what to change: nothing that was measured"]
    return [*lines, "what to change:", *(f"- {one.message}" for one in advice)]
