"""Messages name what the reader types: arguments in Python, options in the shell."""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts import cli, commands
from fastcounts.demo import demonstrate
from fastcounts.errors import FastcountsError, MissingExtra, OptionError
from fastcounts.kernels import jit
from fastcounts.messages import argument, in_python, in_shell, shown, variants

PACKAGE = Path(fc.__file__).parent
DIGITS = "9" * 5000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("m.npy", np.zeros((4, 5), np.uint8))
    fc.Counts.from_pixels({2: 3, 5: 1}).save("gaps.json")
    fc.Counts.from_pixels({0: 3, 1: 0}, classes=2).save("absent.json")
    group = zarr.create_group("g.zarr")
    for name in "ab":
        group.create_array(name, shape=(4,), chunks=(4,), dtype="u1")[...] = 1
    return tmp_path


def test_an_argument_has_two_spellings() -> None:
    for message, python, shell in (
        (argument("on_error"), "on_error", "--on-error"),
        (argument("scheduler"), "scheduler", "--dask"),
        (argument("all_arrays", True), "all_arrays=True", "--all"),
        (argument("label_smoothing", 0.5), "label_smoothing=0.5", "--label-smoothing 0.5"),
        (argument("per_image", True), "per_image=True", "--per-image true"),
        (argument("classes", "a b.csv"), "classes='a b.csv'", "--classes 'a b.csv'"),
        (argument("order", ...), "order=[...]", "--order LABEL,LABEL,..."),
        (argument("x", "\x02\x1f\x03"), "x='\\x02\\x1f\\x03'", "--x '???'"),
        (variants("here", ""), "here", ""),
    ):
        assert in_python(f"a {message} b") == f"a {python} b"
        assert in_shell(f"a {message} b") == f"a {shell} b"


def test_errors_keep_both_spellings_wherever_they_go() -> None:
    error = OptionError(f"{argument('cap', 0.5)}: too small")
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert str(one) == "cap=0.5: too small"
        assert one.shell_message() == "--cap 0.5: too small"
        assert "\x02" not in repr(one)


@pytest.mark.parametrize(
    ("words", "says", "python"),
    [
        ("solve absent.json --scheme inverse", "--absent max, ", "absent='max'"),
        ("solve gaps.json --scheme inverse --format torch", "--order LABEL", "order=[...]"),
        ("solve gaps.json --scheme inverse --format torch", "--num-classes 6", "num_classes=6"),
        ("solve gaps.json --scheme inverse --cap 0.5", "--cap 0.5", "cap=0.5"),
        ("solve gaps.json --scheme enet --c 0.5", "--c 0.5", "c=0.5"),
        ("solve gaps.json --scheme rare_class", "--items and --keep-items", "keep_items"),
        ("count g.zarr", "--all: ", "all_arrays"),
        ("count m.npy --items banana", "--items: ", "items: "),
        ("count m.npy --region 0:9", "--region: ", "region: "),
        ("count m.npy --memory many", "--memory: ", " memory: "),
        ("count m.npy --part 5/3", "--part: ", " part: "),
        ("count m.npy --missing raise", "--missing: ", " missing: "),
        ("count m.npy --classes 2 --ignore 0 --ignore 1", "--classes: ", " classes: "),
        ("count m.npy --dask 127.0.0.1:1", "--dask: ", "scheduler: "),
    ],
)
def test_the_shell_is_told_of_options(
    run: Run, place: Path, words: str, says: str, python: str
) -> None:
    code, out, err = run(*words.split())
    assert code in (2, 3)
    assert out == ""
    assert says in err
    assert f" {python.strip()}" not in err.replace(f"--{python.strip()}", "")


def test_python_is_told_of_arguments(place: Path) -> None:
    for call, says in (
        (lambda: fc.solve(fc.load("absent.json"), "inverse"), "absent='max'"),
        (lambda: fc.solve(fc.load("gaps.json"), "inverse").dense(), "order=[...]"),
        (lambda: fc.solve(fc.load("gaps.json"), "inverse", cap=0.5), "cap=0.5"),
        (lambda: fc.count("g.zarr"), "all_arrays=True"),
        (lambda: fc.count("m.npy", items="banana"), "items: expected"),
        (lambda: fc.count("m.npy", workers=0), "workers: expected"),
    ):
        with pytest.raises(FastcountsError) as caught:
            call()
        assert says in str(caught.value)
        assert "--" not in str(caught.value)


def raised_text() -> Iterator[tuple[str, str]]:
    """Yield (place, text) of every literal within a raise statement of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and node.exc is not None:
                for part in ast.walk(node.exc):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield f"{path.relative_to(PACKAGE)}:{part.lineno}", part.value


def test_no_error_spells_an_option_as_an_argument() -> None:
    """An option of the shell is named by ``argument``, for its message reaches both readers."""
    options = {
        option.name
        for command in (commands.count, commands.solve)
        for option in command.params
        if option.name not in ("sources", "counts", "output", "as_json", "form", "part")
    }
    assert {"absent", "order", "items", "missing", "cap"} <= options
    spelled = re.compile(rf"\b({'|'.join(sorted(options))})=|^({'|'.join(sorted(options))}):")
    found = [f"{place}: {text}" for place, text in raised_text() if spelled.search(text)]
    file_format = (
        "classes.py",
        "covers.py",
        "ledger.py",
        "consistency.py",
        "counts.py",
        "items.py",
    )  # names of fields
    assert [one for one in found if not one.startswith(file_format)] == []


@pytest.mark.parametrize(
    "words",
    [
        f"count m.npy --items {DIGITS}",
        f"count m.npy --part {DIGITS}/8",
        f"count m.npy --part 0/{DIGITS}",
        f"count m.npy --classes {DIGITS}",
        f"count m.npy --region {DIGITS}",
        f"count m.npy --workers {DIGITS}",
        f"count m.npy --ignore {DIGITS}",
        f"count m.npy --memory {DIGITS}",
        f"solve gaps.json --scheme inverse --num-classes {DIGITS}",
        f"solve gaps.json --scheme inverse --format torch --order {DIGITS}",
        f"solve gaps.json --scheme enet --c {DIGITS}",
        f"solve gaps.json --scheme enet --c {DIGITS[:400]}",
    ],
)
def test_numbers_of_thousands_of_digits_are_refused(run: Run, place: Path, words: str) -> None:
    code, out, err = run(*words.split())
    assert (code, out) == (2, ""), err[-300:]
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "given",
    [
        {"items": 10**5000},
        {"part": (10**5000, 8)},
        {"part": (0.5, 10**5000)},
        {"classes": 10**5000},
        {"classes": {10**5000: "road"}},
        {"ignore": 10**5000},
        {"region": (slice(0, 10**5000),)},
        {"workers": -(10**5000)},
        {"memory": -(10**5000)},
    ],
)
def test_numbers_of_thousands_of_digits_are_refused_in_python(
    place: Path, given: dict[str, object]
) -> None:
    with pytest.raises(FastcountsError) as caught:
        fc.count("m.npy", **given)
    assert len(str(caught.value)) < 500


def test_values_are_shown_in_bounded_length() -> None:
    assert shown("a") == "'a'"
    assert len(shown("a" * 10_000)) < 200
    assert len(shown([10**5000])) < 200


def test_a_missing_extra_ends_with_3() -> None:
    assert MissingExtra("reading TIFF masks needs tifffile", "images").exit_code == 3


def test_the_order_of_channels_is_given_in_the_shell(run: Run, place: Path) -> None:
    words = ["solve", "gaps.json", "--scheme", "inverse"]
    code, out, err = run(*words, "--format", "torch", "--order", "5,2")
    assert (code, err) == (0, "")
    assert "[3.0, 1.0]" in out
    for more in (
        ["--order", "5,2"],
        ["--format", "csv", "--order", "5,2"],
        ["--format", "torch", "--order", "5"],
        ["--format", "torch", "--order", "5,x"],
        ["--format", "torch", "--order", "5,2", "--num-classes", "6", "--absent", "max"],
    ):
        code, out, err = run(*words, *more)
        assert (code, out) == (2, ""), more
        assert "--order" in err


def test_the_fill_value_is_mentioned_where_there_are_chunks(run: Run, place: Path) -> None:
    assert "fill value" not in run("count", "m.npy")[1]
    assert "0 of them are the fill value" in run("count", "g.zarr/a")[1]


# ---- help and completion ----


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_help_has_examples_on_lines_of_their_own(run: Run, name: str) -> None:
    lines = run(name, "--help")[1].partition("Examples:\n")[2].splitlines()
    examples = [line for line in lines if line.strip()]
    assert examples
    assert all(line.strip().startswith(f"fastcounts {name}") for line in examples)


def test_help_states_the_exit_codes(run: Run) -> None:
    assert "5 internal error (please report)" in run("--help")[1]


def completed(words: str, shell: str = "bash") -> list[str]:
    """Return what a shell is offered for the last word of a command line."""
    environment = os.environ | {
        "_FASTCOUNTS_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "fastcounts"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_shells_complete() -> None:
    assert completed("fastcounts so") == ["plain,solve"]
    assert "plain,--on-error" in completed("fastcounts count --on-")
    assert completed("fastcounts solve c.json --scheme enet --format t") == ["plain,torch"]
    assert completed("fastcounts solve c.json --scheme enet")[0].startswith("plain,enet")
    assert completed("fastcounts count lab") == ["file,lab"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_completion_is_printed(run: Run, shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastcounts"],
        env=os.environ | {"_FASTCOUNTS_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"_FASTCOUNTS_COMPLETE={shell}_complete" in done.stdout


# ---- the demonstration ----


def test_compiling_is_mentioned_only_if_it_happens(tmp_path: Path) -> None:
    said: list[str] = []
    demonstrate(tmp_path / "a", 1, say=said.append)
    said.clear()
    demonstrate(tmp_path / "b", 1, say=said.append)  # in this process all is compiled by now
    assert [line.split()[0] for line in said] == ["drawing"]
    told: list[str] = []
    function = jit.numba.njit(lambda number: number + 1)
    with jit.on_compiling(lambda: told.append("compiling")):
        assert function(1) == 2
        assert function(1.5) == 2.5
    assert told == ["compiling"]
    with jit.on_compiling(lambda: told.append("again")):
        assert function(2) == 3
    assert told == ["compiling"]


def test_masks_that_are_not_complete_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastcounts.demo.draw_mask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demonstrate(tmp_path, 4)
    assert list(tmp_path.iterdir()) == []
