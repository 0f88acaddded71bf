"""Tables and progress for people, with rich."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcounts.columns import Column, fits, print_columns, print_lines, unbroken
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

    from fastcounts.demo import Demonstration
    from fastcounts.engine.planning import ArrayPreview

__all__ = [
    "amount",
    "bench_columns",
    "bench_lines",
    "counts_columns",
    "demo_columns",
    "demo_lines",
    "ledger_lines",
    "out",
    "plan_columns",
    "plan_lines",
    "predictor_lines",
    "print_schemes",
    "progress_bar",
    "weights_columns",
]

_NODATA_LINES = 5
_NOT_KNOWN = "not known without reading"


def out(*, stderr: bool = False) -> Console:
    """Return a console that adds nothing to the text: no emoji, markup or highlighting."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout

    class Printer(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # and not the exit code of a gate that failed

    return Printer(file=stream, highlight=False, markup=False, emoji=False)


def amount(number: float) -> str:
    """A number of pixels in a form that is read at a glance: ``268.4 M``."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return f"{number:,.0f}"


def _called(names: Mapping[int, str], label: int) -> str:
    """Return a label with its name."""
    name = names.get(label)
    return f"{label} {name}" if name else str(label)


def counts_columns(counts: Counts) -> list[Column]:
    """Return one row per class: its pixels, their share, and the images that contain it."""
    labels = counts.labels.tolist()
    columns = [
        Column("label", [_called(counts.names, label) for label in labels], left=True),
        Column("pixels", [f"{pixels:,}" for pixels in counts.pixels.tolist()]),
    ]
    if counts.ledger.counted:
        columns.append(Column("share", [f"{share:.4%}" for share in counts.frequencies()], 2))
    if counts.items:
        columns.append(Column("images", [f"{images:,}" for images in counts.presence.tolist()], 1))
    return columns


def ledger_lines(counts: Counts) -> list[str]:
    """Return what became of every pixel; what is zero is left out."""
    ledger: Ledger = counts.ledger
    lines = [
        f"{ledger.total:,} pixels: {ledger.counted:,} of {counts.labels.size} classes"
        + (f", in {_images(counts.items)}" if counts.items else "")
    ]
    if ledger.filled or _has_chunks(counts):
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
        lines.append(unbroken(f"incomplete: {counts.incomplete}"))
    return lines


def _has_chunks(counts: Counts) -> bool:
    """Return whether a source was made of chunks that may be missing."""
    return any(run.get("chunks") for run in counts.provenance.get("runs", []))


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
            where = f", first at {at} of {unbroken(source) + ' ' if source else ''}item {item}"
        lines.append(f"{entry.pixels:,} unexpected: label {label} belongs to no class{where}")
    more = len(ledger.unexpected) - 5
    if more > 0:
        lines.append(f"{ledger.unexpected_pixels:,} unexpected in all, of {more} more labels")
    return lines


def weights_columns(weights: Weights, counts: Counts) -> list[Column]:
    """Return one row per class: share, images and weight; then the costs of constant answers."""
    labels, pixels = weights.labels.tolist(), weights.pixels.tolist()
    total = sum(pixels)
    of_items = weights.kind == "item"
    columns = [
        Column(
            "image" if of_items else "class",
            [_called(weights.names, label) for label in labels],
            left=True,
        ),
        Column("share", [f"{number / total:.4%}" if total else "" for number in pixels], 1),
    ]
    if counts.items and not of_items:
        images = dict(zip(counts.labels.tolist(), counts.presence.tolist(), strict=True))
        columns.append(Column("images", [f"{images.get(label, 0):,}" for label in labels], 2))
    columns += [
        Column(weights.kind, [f"{value:.6g}" for value in weights.values]),
        Column("pixels", [f"{number:,}" for number in pixels], 3),
    ]
    places = range(len(labels))
    costs = _costs(weights).items()
    return columns + [Column(name, [_cost(cost, at) for at in places], 4) for name, cost in costs]


def _costs(weights: Weights) -> dict[str, Any]:
    """The columns of what constant answers cost: under the costs that were stated, if any were."""
    if stated := weights.diagnostics.get("stated_costs"):
        return {"cost before": stated["before"], "cost after": stated["after"]}
    if predictors := weights.diagnostics.get("constant_predictors"):
        return {
            "cost before": predictors[0]["before"],
            "after (by pixels)": predictors[0]["by_pixels"],
            "after (by weights)": predictors[0]["by_weights"],
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
            f"pixel mean {found['pixel_mean']:.6g}: the mean weight of a pixel; a loss that "
            "divides by the number of pixels is multiplied by it on average"
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


def print_schemes(printer: Console, schemes: Sequence[Scheme]) -> None:
    """Print one line per scheme, or a paragraph for each if the terminal is too narrow."""
    fields = [
        {
            "scheme": scheme.name,
            "formula": scheme.formula,
            "options": ", ".join(f"{option.name}={option.default}" for option in scheme.options),
            "gives": scheme.kind,
            "source": scheme.source,
        }
        for scheme in schemes
    ]
    columns = [Column(name, [row[name] for row in fields], left=True) for name in fields[0]]
    if fits(printer, columns):
        print_columns(printer, columns)
        return
    for row in fields:
        lines = [f"  {name}: {text}" for name, text in list(row.items())[1:] if text]
        print_lines(printer, [row["scheme"], *lines, ""])


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
                where = "" if event.box else f"{event.name}: "  # with a box, the reason names it
                progress.console.print(
                    f"failed: {where}{event.reason}", markup=False, soft_wrap=True
                )
            elif isinstance(event, Finished):
                progress.update(task, completed=event.pixels)

        yield listen
    finally:
        progress.stop()


def demo_columns(found: Demonstration) -> list[Column]:
    """Return one row per class: its pixels, its weights, and the cost of always answering it."""
    counts, costs = found.counts, found.equal_cost.diagnostics["constant_predictors"][0]
    return [
        Column("label", [str(label) for label in counts.labels.tolist()], left=True),
        Column("pixels", [f"{pixels:,}" for pixels in counts.pixels.tolist()]),
        Column("share", [f"{share:.3%}" for share in counts.frequencies()], 6),
        Column("images", [f"{images:,}" for images in counts.presence.tolist()], 5),
        Column("max/count", [f"{weight:.2f}" for weight in found.inverse.values], 2),
        Column("equal cost", [f"{weight:.4f}" for weight in found.equal_cost.values]),
        Column("cost before", [f"{cost:.6f}" for cost in costs["before"]], 3),
        Column("after (Keras)", [f"{cost:.6f}" for cost in costs["by_pixels"]], 1),
        Column("after (torch mean)", [f"{cost:.6f}" for cost in costs["by_weights"]], 4),
    ]


def demo_lines(found: Demonstration, kept: Path | None = None) -> list[str]:
    """Return the answer to the question in words, and the commands to try on what was kept."""
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
        *(() if kept is None else _next_commands(kept)),
    ]


def _next_commands(kept: Path) -> list[str]:
    counts = shlex.quote(str(kept / "counts.json"))
    return [
        f"Kept in {kept}: masks.zarr, masks/ (PNG) and counts.json. Try:",
        f"fastcounts count {shlex.quote(str(kept / 'masks'))}",
        f"fastcounts solve {counts} --scheme equal_cost --cap 10 --format torch",
    ]


# ---- what a count would do ----


def plan_columns(found: Preview) -> list[Column]:
    """Return one row per group of arrays that are alike."""
    alike: dict[Any, list[ArrayPreview]] = {}
    for array in found.arrays:
        info = array.info
        key = (info.shape, info.dtype, info.chunks, info.inner, array.way)
        alike.setdefault(key, []).append(array)
    groups = list(alike.values())
    infos = [arrays[0].info for arrays in groups]
    more = [f" and {len(arrays) - 1:,} like it" if arrays[1:] else "" for arrays in groups]
    names = [f"{info.name}{others}" for info, others in zip(infos, more, strict=True)]
    inner = ["" if info.inner is None else _shape(info.inner) for info in infos]
    pixels = [f"{sum(array.pixels for array in arrays):,}" for arrays in groups]
    return [
        Column("array", names, left=True),
        Column("shape", [_shape(info.shape) for info in infos], 1, left=True),
        Column("type", [info.dtype.name for info in infos], 2, left=True),
        Column("chunks", [_shape(info.chunks) for info in infos], 3),
        *([Column("inner chunks", inner, 4)] if any(inner) else []),
        Column("pixels", pixels),
    ]


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


def bench_columns(found: Measured) -> list[Column]:
    """Return one row per stage."""
    kinds = {way.kind for way in found.ways}
    apart = "not told apart from decoding"
    what = {
        "fetch": "the stored bytes alone",
        "decode": "fetched, decoded and thrown away",
        "count": "fetched, decoded and counted",
    }
    if kinds == {"mapped"}:
        apart, what["count"] = "mapped into memory: read where it is counted", "read and counted"
    rows: list[tuple[str, ...]] = []
    for name in what:
        if (stage := found.stages[name]) is None:
            rows.append((name, apart, "-", "-", "-", "-"))
            continue
        stored, share = found.gigabytes(stage), found.shares[name]
        rows.append(
            (
                name,
                what[name],
                "" if stored is None else f"{stored:.3g}",
                f"{found.gigapixels(stage):.3g}",
                "" if share is None else f"{share:.0%}",
                f"{stage.idle:.0%}",
            )
        )
    limit = f"{found.gigapixels(found.limit):.3g}"
    rows.append(("read limit", "as many decoded bytes from memory", "", limit, "", ""))
    stages, meanings, stored_rates, rates, shares, idle = zip(*rows, strict=True)
    return [
        Column("stage", stages, left=True),
        Column("what it is", meanings, 4, left=True),
        Column("GB/s stored", stored_rates, 2),
        Column("Gpx/s", rates),
        Column("share of the time", shares, 1),
        Column("threads wait", idle, 3),
    ]


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
