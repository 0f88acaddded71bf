"""The commands of the command line: parse, call, print."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import reduce
from math import isnan
from operator import add
from pathlib import Path
from typing import Any

import click

from fastcounts import console
from fastcounts.counts import Counts
from fastcounts.diagnostics import flags_of_unexpected
from fastcounts.engine import FORBIDDEN, MISSING, NODATA, ON_ERROR, Request, advise, run
from fastcounts.engine import bench as measure
from fastcounts.engine import preview as foresee
from fastcounts.errors import IncompleteCounts, OptionError, StrictError
from fastcounts.export import FORMATS, render
from fastcounts.files import write_whole
from fastcounts.inputs import read_classes, read_counts, read_part, read_region
from fastcounts.solvers import read_option
from fastcounts.solvers import schemes as known_schemes
from fastcounts.solvers import solve as solve_counts
from fastcounts.weights import ABSENT_POLICIES, NORMALIZATIONS, plain

__all__ = ["bench", "count", "demo", "merge", "plan", "schemes", "solve"]

_UNREADABLE = 3

_SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that every command has."""
    function = click.option("--debug", is_flag=True, hidden=True, expose_value=False)(function)
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(
        function
    )


def _as_for_count(*names: str) -> Callable[[click.Command], click.Command]:
    """Give a command options that counting has."""

    def add(command: click.Command) -> click.Command:
        command.params[1:1] = [option for option in count.params if option.name in names]
        return command

    return add


def _request(sources: Sequence[str], given: dict[str, Any]) -> Request:
    """What is asked for by options that counting has."""
    items = given.pop("items", "auto")
    reading = {"classes": read_classes, "region": read_region, "part": read_part}
    return Request.parse(
        sources[0] if len(sources) == 1 else list(sources),
        items=int(items) if items.isdecimal() else items,
        **{name: reading.get(name, _as_it_is)(value) for name, value in given.items()},
    )


def _as_it_is(value: Any) -> Any:
    return value


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=1))


@click.command(context_settings=_SETTINGS)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--ignore", multiple=True, type=int, help="A label of no class; may be repeated.")
@click.option("--classes", metavar="FILE|K", help="Names by label (CSV, JSON, YAML), or a number.")
@click.option("--items", default="auto", metavar="AXIS|file|array", help="What one image is.")
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
@click.option("-o", "--output", metavar="counts.json", help="Write the counts (.json or .npz).")
@_common
def count(sources: tuple[str, ...], as_json: bool, output: str | None, **given: Any) -> int:
    """Count the pixels of every class in SOURCE...: files, folders, globs, Zarr arrays."""
    request = _request(sources, given)
    _check_output(output)
    with console.progress_bar(quiet=as_json) as progress:
        counts = run(request, progress)
    if output:
        counts.save(output)
    _show_counts(counts, as_json)
    for notice in counts.provenance["runs"][0].get("notices", []):
        prefix = "warning: " if notice["severity"] == "warning" else ""
        _note(prefix + notice["message"])
    if (forbidden := counts.provenance["runs"][0].get("forbidden")) and not as_json:
        _note(f"{forbidden} chunks are forbidden (403) and were taken for missing")
    return _failures(counts)


def _check_output(output: str | None) -> None:
    if output and Path(output).suffix.lower() not in (".json", ".npz"):
        raise OptionError(f"{output}: counts are saved as .json or .npz")
    try:
        if output and not Path(output).parent.is_dir():
            raise OptionError(f"{output}: its folder does not exist")
        if output:
            Path(output).exists()
    except OSError as error:
        raise OptionError(f"{output}: cannot be written: {error.strerror}") from None


def _show_counts(counts: Counts, as_json: bool) -> None:
    if as_json:
        _print_json(counts.to_dict())
        return
    printer = console.out()
    printer.print(console.counts_table(counts))
    for line in console.ledger_lines(counts):
        printer.print(line, markup=False)


def _note(message: str) -> None:
    click.echo(f"fastcounts: {message}", err=True)


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
@click.command(context_settings=_SETTINGS)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@_common
def plan(sources: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Say what counting SOURCE... would do: what it reads, how, and in how much memory.

    Metadata and listings are read, and no pixel.
    """
    found = foresee(_request(sources, given))
    for notice in found.notices:
        _note(notice.message)
    if as_json:
        _print_json(found.to_dict())
        return
    printer = console.out()
    printer.print(console.plan_table(found))
    for line in console.plan_lines(found):
        printer.print(line, markup=False)


@_as_for_count("region", "every", "include", "exclude", "workers")
@click.command(context_settings=_SETTINGS)
@click.argument("source", metavar="SOURCE")
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
    found = measure(_request([source], given), seconds)
    advice = advise(found)
    if as_json:
        _print_json(found.to_dict() | {"advice": [one._asdict() for one in advice]})
        return
    printer = console.out()
    printer.print(console.bench_table(found))
    for line in console.bench_lines(found, advice):
        printer.print(line, markup=False)


@click.command("solve", context_settings=_SETTINGS | {"ignore_unknown_options": True})
@click.argument("counts", metavar="COUNTS")
@click.option("--scheme", required=True, metavar="NAME", help="See 'fastcounts schemes'.")
@click.option("--normalize", type=click.Choice(list(NORMALIZATIONS)), help="What is made 1.")
@click.option("--cap", type=float, metavar="R", help="Largest over smallest weight.")
@click.option(
    "--absent",
    default="raise",
    metavar="|".join(ABSENT_POLICIES),
    help="What a class without pixels gets.",
)
@click.option("--num-classes", type=int, metavar="K", help="The classes are 0 to K-1.")
@click.option("--format", "form", type=click.Choice(list(FORMATS)), help="Text to paste.")
@click.option("--partial", is_flag=True, help="Accept counts of which parts are not there.")
@click.option("--strict", is_flag=True, help="Labels of no class are an error (exit code 1).")
@click.option("-o", "--output", metavar="FILE", help="Write it to a file.")
@_common
@click.argument("scheme_options", nargs=-1, type=click.UNPROCESSED, metavar="[--OPTION VALUE]...")
def solve(
    counts: str,
    scheme: str,
    form: str | None,
    partial: bool,
    strict: bool,
    output: str | None,
    as_json: bool,
    scheme_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Solve for the weights of COUNTS: a counts file, or CSV with a label and its pixels a line.

    Options of the scheme are given by name, such as --c 1.10.
    """
    read = read_counts(counts)
    if read.incomplete and not partial:
        raise IncompleteCounts(f"{counts}: {read.incomplete}; --partial solves all the same")
    unexpected = flags_of_unexpected(read)
    if unexpected and strict:
        raise StrictError(f"{counts}: {unexpected[0]['message']}")
    weights = solve_counts(read, scheme, **given, **_scheme_options(scheme_options))
    for flag in unexpected:
        _note(f"warning: {counts}: {flag['message']}")
    if form is None and as_json:
        form = "json"
    if form is None and output is not None:
        form = {".csv": "csv", ".py": "python"}.get(Path(output).suffix.lower(), "json")
    if form is None:
        printer = console.out()
        printer.print(console.weights_table(weights))
        for line in console.predictor_lines(weights):
            printer.print(line, markup=False)
        return
    text = render(weights, form, num_classes=given["num_classes"])
    if output is None:
        click.echo(text, nl=False)
    else:
        write_whole(output, text.encode())


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


@click.command(context_settings=_SETTINGS)
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
    console.out().print(console.schemes_table(known_schemes()))


@click.command(context_settings=_SETTINGS)
@click.argument("counts", nargs=-1, required=True, metavar="COUNTS...")
@click.option("-o", "--output", metavar="counts.json", help="Write the counts (.json or .npz).")
@click.option("--partial", is_flag=True, help="Accept that parts are not there yet.")
@_common
def merge(counts: tuple[str, ...], output: str | None, partial: bool, as_json: bool) -> int:
    """Add up COUNTS...: parts of one run, or counts of different sources."""
    _check_output(output)
    merged: Counts = reduce(add, map(read_counts, counts))
    if merged.incomplete and not partial:
        raise IncompleteCounts(
            f"{merged.incomplete}; --partial accepts that they are not there yet"
        )
    if output:
        merged.save(output)
    _show_counts(merged, as_json)
    return _failures(merged)


def _check_free(folder: Path) -> None:
    """Refuse a folder that cannot take the masks, before any is drawn."""
    path = folder / "masks.zarr"
    try:
        if path.exists():
            raise OptionError(f"--keep: {path} exists already")
        path.mkdir(parents=True)
        path.rmdir()
    except OSError as error:
        raise OptionError(f"--keep: {path}: cannot be written: {error.strerror}") from None


@click.command(context_settings=_SETTINGS)
@click.option("--images", default=64, type=click.IntRange(1, 4096), help="Masks of 4 Mpx each.")
@click.option("--keep", metavar="FOLDER", help="Keep the masks there.")
@click.option(
    "--workers", type=click.IntRange(1), help="Threads; by default one for each processor."
)
@_common
def demo(images: int, keep: str | None, workers: int | None, as_json: bool) -> None:
    """Make an example of 31 classes, count it, solve it, and show what the weights do."""
    from fastcounts.demo import demonstrate

    with tempfile.TemporaryDirectory(prefix="fastcounts-") as temporary:
        folder = Path(keep) if keep else Path(temporary)
        if keep:
            _check_free(folder)
        say = None if as_json else click.echo
        with console.progress_bar(quiet=as_json) as progress:
            found = demonstrate(folder, images, workers=workers, progress=progress, say=say)
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
    printer.print(console.demo_table(found, printer.width))
    for line in console.demo_lines(found):
        printer.print(line, markup=False)
