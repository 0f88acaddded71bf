"""The commands of the command line: parse, call, print."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from math import isnan
from operator import add
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from fastcounts import console
from fastcounts.columns import print_columns, print_lines
from fastcounts.counts import Counts
from fastcounts.diagnostics import flags_of_unexpected
from fastcounts.engine import FORBIDDEN, MISSING, NODATA, ON_ERROR, Request, advise, run
from fastcounts.engine import bench as measure
from fastcounts.engine import preview as foresee
from fastcounts.engine.events import Event, Notice
from fastcounts.errors import IncompleteCounts, OptionError, OutputError, StrictError
from fastcounts.export import FORMATS, render
from fastcounts.files import write_whole
from fastcounts.inputs import (
    read_classes,
    read_counts,
    read_items,
    read_order,
    read_part,
    read_region,
)
from fastcounts.outputs import (
    COUNTS_SUFFIXES,
    Output,
    check_not_a_source,
    check_stdout,
    is_within_zarr,
)
from fastcounts.solvers import read_option
from fastcounts.solvers import schemes as known_schemes
from fastcounts.solvers import solve as solve_counts
from fastcounts.weights import ABSENT_POLICIES, NORMALIZATIONS, plain

__all__ = ["bench", "count", "demo", "merge", "plan", "schemes", "solve"]

_UNREADABLE = 3

_TEXT_SUFFIXES = {"json": ".json", "csv": ".csv"}
"""Suffix of each format of weights; of every other it is that of Python."""

_SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}


def _examples(*lines: str) -> str:
    """Return the end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _complete_files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete the name of a file."""
    del context, parameter
    return [CompletionItem(incomplete, type="file")]


def _complete_schemes(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a scheme."""
    del context, parameter
    names = [scheme.name for scheme in known_schemes()]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _output(path: str | None) -> Output:
    """Check where a command writes, and note it: if interrupted, it says what was written."""
    output = Output(path)
    click.get_current_context().meta.setdefault("outputs", []).append(output)
    if not output.is_file:
        check_stdout()
    return output


def _counts_outputs(output: str | None, item_table: str | None) -> tuple[Output, Output | None]:
    """Check where counts and the table of their images are written."""
    place = _output(output)
    place.check_suffix((*COUNTS_SUFFIXES, ".csv"), "counts")
    if item_table is None:
        return place, None
    table = Output(item_table, "--item-table")
    if not table.is_file:
        raise OptionError("--item-table: give a file; standard output shows the counts")
    table.check_suffix((".csv",), "tables of images")
    if place.is_file and place.real == table.real:
        raise OptionError(f"--item-table {item_table}: is the file of -o; name another")
    click.get_current_context().meta["outputs"].append(table)
    return place, table


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that every command has."""
    function = click.option("--debug", is_flag=True, hidden=True, expose_value=False)(function)
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(
        function
    )


_SOURCES = click.argument(
    "sources", nargs=-1, required=True, metavar="SOURCE...", shell_complete=_complete_files
)
_OUTPUT = click.option(
    "-o",
    "--output",
    metavar="FILE|-",
    help="Write the counts (.json, .npz), or a table with a row per class (.csv); - is JSON on "
    "standard output.",
    shell_complete=_complete_files,
)
_ITEM_TABLE = click.option(
    "--item-table",
    metavar="FILE",
    help="Write a table with a row per image and a column per class (.csv).",
    shell_complete=_complete_files,
)


def _as_for_count(*names: str) -> Callable[[click.Command], click.Command]:
    """Give a command options that counting has."""

    def add(command: click.Command) -> click.Command:
        command.params[1:1] = [option for option in count.params if option.name in names]
        return command

    return add


def _request(sources: Sequence[str], given: dict[str, Any]) -> Request:
    """What is asked for by options that counting has."""
    reading = {
        "classes": read_classes,
        "items": read_items,
        "region": read_region,
        "part": read_part,
    }
    return Request.parse(
        sources[0] if len(sources) == 1 else list(sources),
        **{name: reading.get(name, _as_it_is)(value) for name, value in given.items()},
    )


def _as_it_is(value: Any) -> Any:
    return value


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=1))


@click.command(
    context_settings=_SETTINGS,
    epilog=_examples(
        "fastcounts count masks/ --ignore 255 --classes names.csv -o counts.json",
        "fastcounts count 'masks/*.png' --ignore 255 -o classes.csv --item-table images.csv",
        "fastcounts count labels.zarr --items 0 --part 0/8 -o part0.json",
        "fastcounts count labels.zarr -o - | fastcounts solve - --scheme equal_cost",
    ),
)
@_SOURCES
@click.option("--ignore", multiple=True, type=int, help="A label of no class; may be repeated.")
@click.option(
    "--classes",
    metavar="FILE|K",
    help="Names by label (CSV, JSON, YAML), or a number.",
    shell_complete=_complete_files,
)
@click.option("--items", default="auto", metavar="AXIS|NAME|file|array", help="What one image is.")
@click.option("--keep-items", is_flag=True, help="Keep the pixels of every image and label.")
@click.option("--region", metavar="0:10,:,0:512", help="The part of each array to count.")
@click.option("--all", "every", is_flag=True, help="All label arrays of a Zarr group or .npz.")
@click.option(
    "--include", multiple=True, metavar="GLOB", help="Files to count, such as '*_labelIds.png'."
)
@click.option("--exclude", multiple=True, metavar="GLOB", help="Files and folders to leave out.")
@click.option(
    "--missing",
    type=click.Choice(MISSING),
    default="fill",
    help="Zarr chunks, or blocks of a sparse TIFF, that are not stored.",
)
@click.option(
    "--forbidden", type=click.Choice(FORBIDDEN), default="raise", help="Chunks that answer 403."
)
@click.option("--on-error", type=click.Choice(ON_ERROR), default="raise", help="Unreadable blocks.")
@click.option(
    "--nodata",
    type=click.Choice(NODATA),
    default="auto",
    help="Labels that the metadata declares nodata: auto warns if only a fill value says so, none "
    "counts them as labels.",
)
@click.option("--strict", is_flag=True, help="A label of no class is an error (exit code 1).")
@click.option(
    "--workers", type=click.IntRange(1), help="Threads; by default one for each processor."
)
@click.option("--memory", metavar="512MB", help="The memory budget.")
@click.option("--dask", "scheduler", metavar="ADDRESS|local", help="Count on a Dask cluster.")
@click.option("--part", metavar="i/N", help="Count the i-th of N shares, from 0.")
@click.option("--source-id", metavar="NAME", help="The data's name wherever it lies.")
@_OUTPUT
@_ITEM_TABLE
@_common
def count(
    sources: tuple[str, ...],
    as_json: bool,
    output: str | None,
    item_table: str | None,
    **given: Any,
) -> int:
    """Count the pixels of every class in SOURCE...: files, folders, globs, Zarr arrays."""
    place, table = _counts_outputs(output, item_table)
    if place.suffix == ".csv" and given["keep_items"] and table is None:
        raise OptionError(
            f"-o {output}: has a row per class, and would lose the images of --keep-items; save "
            "the counts as .json or .npz, or write the images with --item-table FILE"
        )
    request = _request(sources, given | {"keep_items": given["keep_items"] or table is not None})
    check_not_a_source(place, sources)
    if table is not None:
        check_not_a_source(table, sources, "--item-table")
    notices: list[Notice] = []
    with console.progress_bar(quiet=as_json) as progress:

        def listen(event: Event) -> None:
            if isinstance(event, Notice):
                notices.append(event)
            elif progress is not None:
                progress(event)

        counts = run(request, listen)
    _write_counts(counts, place, as_json, table)
    _show_notices(notices)
    if (forbidden := counts.provenance["runs"][0].get("forbidden")) and not as_json:
        _note(f"{forbidden} chunks are forbidden (403) and were taken for missing")
    return _failures(counts)


def _write_counts(
    counts: Counts, output: Output, as_json: bool, item_table: Output | None = None
) -> None:
    """Save counts and print them; those that cannot be saved are printed before the error."""
    try:
        if output.path is not None and output.suffix == ".csv":
            write_whole(output.path, counts.to_csv().encode())
        elif output.path is not None and output.is_file:
            counts.save(output.path)
        if item_table is not None and item_table.path is not None:
            write_whole(item_table.path, counts.to_csv(items=True).encode())
    except OutputError:
        if sys.stdout.writable():
            _show_counts(counts, as_json or output.is_stdout)
        raise
    if not output.is_file or sys.stdout.writable():
        _show_counts(counts, as_json or output.is_stdout)


def _show_counts(counts: Counts, as_json: bool) -> None:
    if as_json:
        _print_json(counts.to_dict())
        return
    printer = console.out()
    print_columns(printer, console.counts_columns(counts))
    print_lines(printer, console.ledger_lines(counts))


def _note(message: str) -> None:
    click.echo(f"fastcounts: {message}", err=True)


def _show_notices(notices: Iterable[Notice]) -> None:
    for notice in notices:
        prefix = "warning: " if notice.severity == "warning" else ""
        _note(prefix + notice.shell_message())


def _failures(counts: Counts) -> int:
    """Name what could not be read; the exit code says so as well."""
    runs = counts.provenance.get("runs", [])
    failures = [failure for run in runs for failure in run.get("failures", [])]
    failures.sort(key=lambda failure: (failure["name"], failure["box"] or []))
    for failure in failures[:10]:
        _note(
            f"failed: {failure['reason']}"
            if failure["box"]
            else f"failed: {failure['name']}: {failure['reason']}"
        )
    if len(failures) > 10:
        _note(f"and {len(failures) - 10} more blocks failed; --json lists them all")
    return _UNREADABLE if failures else 0


@_as_for_count("items", "region", "every", "include", "exclude", "workers", "memory", "part")
@click.command(
    context_settings=_SETTINGS,
    epilog=_examples(
        "fastcounts plan labels.zarr --items 0",
        "fastcounts plan labels.zarr --items 0 --part 0/8 --memory 2GB",
    ),
)
@_SOURCES
@_common
def plan(sources: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Say what counting SOURCE... would do: what it reads, how, and in how much memory.

    Metadata and listings are read, and no pixel.
    """
    check_stdout()
    found = foresee(_request(sources, given))
    _show_notices(found.notices)
    if as_json:
        _print_json(found.to_dict())
        return
    printer = console.out()
    print_columns(printer, console.plan_columns(found))
    print_lines(printer, console.plan_lines(found))


@_as_for_count("region", "every", "include", "exclude", "workers")
@click.command(
    context_settings=_SETTINGS, epilog=_examples("fastcounts bench labels.zarr --seconds 10")
)
@click.argument("source", metavar="SOURCE", shell_complete=_complete_files)
@click.option(
    "--seconds",
    default=5.0,
    type=click.FloatRange(0, 3600, min_open=True),
    help="How long to measure, about.",
)
@_common
def bench(source: str, seconds: float, as_json: bool, **given: Any) -> None:
    """Measure where the time goes when SOURCE is counted, on a sample, and say what to change."""
    if isnan(seconds):
        raise OptionError("--seconds: nan is no time")
    check_stdout()
    found = measure(_request([source], given), seconds)
    advice = advise(found)
    if as_json:
        _print_json(found.to_dict() | {"advice": [one._asdict() for one in advice]})
        return
    printer = console.out()
    print_columns(printer, console.bench_columns(found))
    print_lines(printer, console.bench_lines(found, advice))


@click.command(
    "solve",
    context_settings=_SETTINGS | {"ignore_unknown_options": True},
    epilog=_examples(
        "fastcounts solve counts.json --scheme equal_cost --normalize pixel_mean --cap 10",
        "fastcounts solve counts.json --scheme enet --c 1.10 --format torch",
        "fastcounts solve counts.json --scheme inverse --order 3,0,7 --format torch -o weights.py",
        "fastcounts solve counts.json --scheme median_frequency -o weights.csv",
    ),
)
@click.argument("counts", metavar="COUNTS", shell_complete=_complete_files)
@click.option(
    "--scheme",
    required=True,
    metavar="NAME",
    help="See 'fastcounts schemes'.",
    shell_complete=_complete_schemes,
)
@click.option("--normalize", type=click.Choice(list(NORMALIZATIONS)), help="What is made 1.")
@click.option("--cap", type=float, metavar="R", help="Largest over smallest weight.")
@click.option(
    "--absent",
    default="raise",
    metavar="|".join(ABSENT_POLICIES),
    help="What a class without pixels gets.",
)
@click.option("--num-classes", type=int, metavar="K", help="The classes are 0 to K-1.")
@click.option(
    "--order",
    metavar="LABEL,LABEL,...",
    help="The label of each channel, for formats that are indexed by label.",
)
@click.option("--format", "form", type=click.Choice(list(FORMATS)), help="Text to paste.")
@click.option("--partial", is_flag=True, help="Accept counts of which parts are not there.")
@click.option("--strict", is_flag=True, help="Labels of no class are an error (exit code 1).")
@click.option(
    "-o",
    "--output",
    metavar="FILE|-",
    help="Write it to a file; - is standard output.",
    shell_complete=_complete_files,
)
@_common
@click.argument("scheme_options", nargs=-1, type=click.UNPROCESSED, metavar="[--OPTION VALUE]...")
def solve(
    counts: str,
    scheme: str,
    order: str | None,
    form: str | None,
    partial: bool,
    strict: bool,
    output: str | None,
    as_json: bool,
    scheme_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Solve for the weights of COUNTS.

    COUNTS is a counts file, CSV with a label and its pixels per line or with a header, such as
    the CSV that this command prints, or JSON such as {"0": 180, "1": 90}.

    Options of the scheme are given by name, such as --c 1.10.
    """
    place = _output(output)
    check_not_a_source(place, [counts] if counts != "-" else [])
    form = _weights_format(form or ("json" if as_json else None), place)
    channels = read_order(order)
    if channels is not None and form is None:
        raise OptionError("--order is for the formats that are indexed by label: give --format")
    read = read_counts(counts)
    if read.incomplete and not partial:
        raise IncompleteCounts(f"{counts}: {read.incomplete}; --partial solves all the same")
    unexpected = flags_of_unexpected(read)
    if unexpected and strict:
        raise StrictError(f"{counts}: {unexpected[0]['message']}")
    weights = solve_counts(read, scheme, **given, **_scheme_options(scheme_options))
    for flag in unexpected:
        _note(f"warning: {counts}: {flag['message']}")
    if form is None:
        printer = console.out()
        print_lines(printer, [weights.convention()])
        print_columns(printer, console.weights_columns(weights, read))
        print_lines(printer, console.predictor_lines(weights))
        return
    text = render(weights, form, num_classes=given["num_classes"], order=channels)
    if place.path is None or place.is_stdout:
        click.echo(text, nl=False)
    else:
        write_whole(place.path, text.encode())


def _weights_format(form: str | None, output: Output) -> str | None:
    """Return the format of weights: the one that was named, or that of the suffix.

    Raises
    ------
    OptionError
        If the suffix is that of something else, or of nothing that is known.
    """
    if output.is_stdout:
        return form or "json"
    if not output.is_file:
        return form
    if form is not None:
        suffix = _TEXT_SUFFIXES.get(form, ".py")
        output.check_suffix((suffix, ".txt", ""), f"weights in the format {form}")
        return form
    known = {".json": "json", ".csv": "csv", ".py": "python"}
    if output.suffix not in known:
        raise OptionError(
            f"-o {output.path}: its suffix is not that of a format: give --format "
            f"({', '.join(FORMATS)}), or a file that ends in {', '.join(known)}"
        )
    return known[output.suffix]


def _scheme_options(words: Sequence[str]) -> dict[str, Any]:
    """Options of a scheme, from ``--name value`` and ``--name=value``."""
    options: dict[str, Any] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            raise click.UsageError(f"got {word!r} where an option of the scheme was expected")
        name, equals, value = word[2:].partition("=")
        if not equals:
            if not waiting:
                raise click.UsageError(f"option {word} has no value")
            value = waiting.pop(0)
        options[name.replace("-", "_")] = read_option(value)
    return options


@click.command(context_settings=_SETTINGS, epilog=_examples("fastcounts schemes --json"))
@_common
def schemes(as_json: bool) -> None:
    """List every scheme: formula, options, source."""
    if as_json:
        _print_json(
            [
                {
                    "name": scheme.name,
                    "summary": scheme.summary,
                    "formula": scheme.formula,
                    "kind": scheme.kind,
                    "presence": scheme.presence,
                    "absent": scheme.absent,
                    "source": scheme.source,
                    "options": [
                        {
                            "name": option.name,
                            "default": plain(option.default),
                            "meaning": option.meaning,
                        }
                        for option in scheme.options
                    ],
                }
                for scheme in known_schemes()
            ]
        )
        return
    console.print_schemes(console.out(), known_schemes())


@click.command(
    context_settings=_SETTINGS,
    epilog=_examples(
        "fastcounts merge part0.json part1.json -o counts.json",
        "fastcounts merge total.json new.json -o total.json",
    ),
)
@click.argument(
    "counts", nargs=-1, required=True, metavar="COUNTS...", shell_complete=_complete_files
)
@_OUTPUT
@_ITEM_TABLE
@click.option("--partial", is_flag=True, help="Accept that parts are not there yet.")
@_common
def merge(
    counts: tuple[str, ...],
    output: str | None,
    item_table: str | None,
    partial: bool,
    as_json: bool,
) -> int:
    """Add up COUNTS...: parts of one run, or counts of different sources.

    The output may be one of COUNTS: all are read before it is written.
    """
    place, table = _counts_outputs(output, item_table)
    for one in (place, table):
        if one is not None:
            check_not_a_source(one, [], "-o" if one is place else "--item-table")
    merged: Counts = reduce(add, map(read_counts, counts))
    if table is not None and merged.item_table is None:
        raise OptionError(
            "--item-table: the counts have no table of images; count each part with --keep-items"
        )
    if merged.incomplete and not partial:
        raise IncompleteCounts(
            f"{merged.incomplete}; --partial accepts that they are not there yet"
        )
    _write_counts(merged, place, as_json, table)
    return _failures(merged)


def _check_free(folder: Path) -> None:
    """Refuse a folder that cannot take what is kept, before any mask is drawn."""
    from fastcounts.demo import KEPT

    path = folder / KEPT[0]
    if (array := is_within_zarr(path.resolve())) is not None:
        raise OptionError(f"--keep: {path} lies in the Zarr array or group {array}")
    try:
        for name in KEPT:
            path = folder / name
            if os.path.lexists(path):
                raise OptionError(f"--keep: {path} exists already; name another folder")
        path = folder / KEPT[0]
        path.mkdir(parents=True)
        path.rmdir()
    except OSError as error:
        raise OptionError(f"--keep: {path}: cannot be written: {error.strerror}") from None


@click.command(
    context_settings=_SETTINGS, epilog=_examples("fastcounts demo --images 16 --keep demo")
)
@click.option("--images", default=64, type=click.IntRange(1, 4096), help="Masks of 4 Mpx each.")
@click.option(
    "--keep",
    metavar="FOLDER",
    help="Write masks.zarr, masks/ (PNG) and counts.json there, and keep them.",
    shell_complete=_complete_files,
)
@click.option(
    "--workers", type=click.IntRange(1), help="Threads; by default one for each processor."
)
@_common
def demo(images: int, keep: str | None, workers: int | None, as_json: bool) -> None:
    """Make an example of 31 classes, count it, solve it, and show what the weights do."""
    from fastcounts.demo import KEPT, demonstrate

    check_stdout()
    with tempfile.TemporaryDirectory(prefix="fastcounts-") as temporary:
        folder = Path(keep) if keep else Path(temporary)
        if keep:
            _check_free(folder)
            for name in KEPT:
                _output(str(folder / name))
        say = None if as_json else click.echo
        with console.progress_bar(quiet=as_json) as progress:
            found = demonstrate(
                folder, images, workers=workers, progress=progress, say=say, keep=bool(keep)
            )
    if as_json:
        _print_json(
            {
                "counts": found.counts.to_dict(),
                "inverse": found.inverse.to_dict(),
                "equal_cost": found.equal_cost.to_dict(),
                "seconds": found.seconds,
            }
        )
        return
    printer = console.out()
    print_columns(printer, console.demo_columns(found))
    print_lines(printer, console.demo_lines(found, Path(keep) if keep else None))
