"""Tables in terminals of any width: numbers, names and paths are whole, or a column is left out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from terminals import run_in_terminal, terminal, text_of

import fastcounts as fc
from fastcounts.columns import Column, print_columns, print_lines, unbroken
from fastcounts.console import out
from fastcounts.solvers import schemes

WIDTHS = (20, 40, 60, 80, 100, 200)
NAMES = {
    0: "the road, with its kerbs, its lane markings and everything else that is painted on it",
    1: "\u6b69\u884c\u8005\u3068\u81ea\u8ee2\u8eca\u306b\u4e57\u308b\u4eba",
    2: "[bold]:car:[/bold]",
    7: "a\tb\x1b[31mc",
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Masks in a folder of a long name with spaces."""
    folder = tmp_path / ("a folder with a name of many words " * 4).strip() / "deep" / "er"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(1).choice([0, 1, 2, 7, 255], (6, 30, 40))
    array = zarr.create_array(folder / "m.zarr", shape=(6, 30, 40), chunks=(1, 16, 40), dtype="u1")
    array[...] = pixels
    return folder / "m.zarr"


def huge() -> fc.Counts:
    """Counts of a hundred quadrillion pixels with long names."""
    pixels = {0: 123_456_789_012_345_678, 1: 9_876_543_210_987, 2: 25, 7: 5_000_001}
    images = {0: 1_234_560, 1: 76_543, 2: 1, 7: 3}
    return fc.Counts.from_pixels(
        pixels,
        items=1_234_567,
        presence=images,
        presence_pixels=pixels,
        classes=NAMES,
    )


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    path = tmp_path / "counts.json"
    huge().save(path)
    return path


def check_whole(text: str, wanted: list[str]) -> None:
    """Assert that no text is cut, and that all that is wanted stands there in one piece."""
    assert "\u2026" not in text
    for one in wanted:
        assert re.search(rf"(?<![\d,]){re.escape(one)}(?![\d,])", text), one


@pytest.mark.parametrize("width", WIDTHS)
def test_counts_are_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch, counts: Path, width: int
) -> None:
    code, text = run_in_terminal(monkeypatch, width, ["merge", str(counts)])
    assert code == 0
    found = json.loads(run("merge", counts, "--json")[1])
    wanted = [f"{pixels:,}" for pixels in found["pixels"]]
    wanted += [f"0 {NAMES[0]}", f"1 {NAMES[1]}", f"2 {NAMES[2]}", "7 a\\tb\\x1b[31mc"]
    if "not shown" not in text:
        wanted += [f"{images:,}" for images in found["presence"]]
    check_whole(text, wanted)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["inverse", "equal_cost", "image_balance"])
def test_weights_are_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int, scheme: str
) -> None:
    masks = np.random.default_rng(0).choice([0, 1, 2], (3, 100, 100), p=[0.9, 0.0999, 0.0001])
    names = {0: "road", 1: NAMES[1], 2: "c" * 50}
    path = tmp_path / "counts.json"
    fc.count(masks.astype("u1"), items=0, keep_items=True, classes=names).save(path)
    schemes_there = {scheme.name for scheme in schemes()}
    if scheme not in schemes_there:
        scheme = "rare_class" if "rare_class" in schemes_there else "inverse"
    words = ["solve", str(path), "--scheme", scheme]
    words += ["--min-pixels", "0"] if scheme == "rare_class" else []
    code, text = run_in_terminal(monkeypatch, width, words)
    assert code == 0, text
    found = json.loads(run(*words, "--json")[1])
    check_whole(text, [f"{weight:.6g}" for weight in found["weights"]])


def test_weights_lead_with_class_share_images_and_weight(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "counts.json"
    fc.count(np.array([[[0, 1]], [[0, 0]]], "u1"), items=0, classes=["road", "car"]).save(path)
    words = ["solve", str(path), "--scheme", "inverse"]
    header = "class share images weight pixels cost before"
    _, wide = run_in_terminal(monkeypatch, 200, words)
    assert header in " ".join(wide.split())
    assert "not shown" not in wide
    seen = ["pixels", "images", "share", "weight"]
    for width in range(100, 10, -1):
        _, text = run_in_terminal(monkeypatch, width, words)
        table = text.partition("class")[2].partition("not shown")[0].split("\n")[0]
        shown = [name for name in seen if name in table]
        assert "weight" in shown
        seen = shown  # what was left out does not come back in a narrower terminal
    assert seen == ["weight"]


@pytest.mark.parametrize("width", WIDTHS)
def test_plans_show_whole_paths(
    run: Run, monkeypatch: pytest.MonkeyPatch, masks: Path, width: int
) -> None:
    code, text = run_in_terminal(monkeypatch, width, ["plan", str(masks), "--items", "0"])
    assert code == 0
    found = json.loads(run("plan", masks, "--items", 0, "--json")[1])
    check_whole(text, [f"{found['pixels']:,}", found["arrays"][0]["name"]])
    assert found["arrays"][0]["name"] == str(masks)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_ledger_shows_whole_paths(
    monkeypatch: pytest.MonkeyPatch, masks: Path, width: int
) -> None:
    _, text = run_in_terminal(monkeypatch, width, ["count", str(masks), "--classes", "3"])
    found = fc.count(masks, classes=3).ledger.unexpected
    check_whole(text, [entry.places[0][0] for entry in found.values()])


@pytest.mark.parametrize("width", WIDTHS)
def test_schemes_break_no_word(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    code, text = run_in_terminal(monkeypatch, width, ["schemes"])
    assert code == 0
    words = set(text.split())
    for scheme in schemes():
        assert scheme.name in words
        for field in (scheme.formula, scheme.source):
            assert not set(field.split()) - words


@pytest.mark.parametrize("width", WIDTHS)
def test_bench_shows_whole_rates(monkeypatch: pytest.MonkeyPatch, masks: Path, width: int) -> None:
    words = ["bench", str(masks), "--seconds", "0.05"]
    code, text = run_in_terminal(monkeypatch, width, words)
    assert code == 0
    assert "\u2026" not in text
    rows = [line.split() for line in text.splitlines()]
    for stage in ("fetch", "decode", "count"):
        (row,) = [row for row in rows if row and row[0] == stage]
        assert any(re.fullmatch(r"[\d.]+(e[-+]\d+)?", word) for word in row), row


@pytest.mark.parametrize("width", WIDTHS)
def test_the_demonstration_is_whole(run: Run, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    code, text = run_in_terminal(monkeypatch, width, ["demo", "--images", "1"])
    assert code == 0
    found = json.loads(run("demo", "--images", "1", "--json")[1])
    wanted = [f"{pixels:,}" for pixels in found["counts"]["pixels"]]
    check_whole(text, [*wanted, *(f"{weight:.4f}" for weight in found["equal_cost"]["weights"])])


def test_no_terminal_gets_the_full_width(
    run: Run, monkeypatch: pytest.MonkeyPatch, counts: Path, masks: Path
) -> None:
    for width in ("1", "40", "200"):
        monkeypatch.setenv("COLUMNS", width)
        for words in (
            ["solve", counts, "--scheme", "inverse"],
            ["plan", masks],
            ["schemes"],
            ["count", masks, "--classes", "3"],
        ):
            text = run(*words)[1]
            assert "not shown" not in text
            assert "\u2026" not in text
        assert masks.as_uri() in text
    for scheme, line in zip(schemes(), run("schemes")[1].splitlines()[3:], strict=False):
        assert line.split()[0] == scheme.name
        assert scheme.source in line


def test_lines_of_a_table_are_ascii_where_the_output_is(counts: Path) -> None:
    for encoding, line in (("ascii", "-" * 20), ("utf-8", "\u2500" * 20)):
        done = subprocess.run(
            [sys.executable, "-m", "fastcounts", "merge", str(counts)],
            env=os.environ | {"PYTHONIOENCODING": encoding},
            capture_output=True,
            check=True,
        )
        assert line in done.stdout.decode(encoding)
        assert b"\\u2500" not in done.stdout


@pytest.mark.parametrize("width", [30, 300])
def test_the_width_of_a_terminal_is_asked_for(counts: Path, width: int) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    with terminal(width) as (child, printed):
        subprocess.run(
            [sys.executable, "-m", "fastcounts", "solve", str(counts), "--scheme", "inverse"],
            stdin=child,
            stdout=child,
            env=environment | {"TERM": "xterm"},
            check=True,
        )
    text = text_of(printed)
    assert ("not shown for lack of width" in text) == (width == 30)
    assert str(fc.solve(fc.load(counts), "inverse").values[2])[:6] in text


def test_what_is_left_out_is_named_least_important_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = [
        Column("name", ["a" * 10], left=True),
        Column("number", ["1" * 10]),
        Column("some", ["2" * 10], 1),
        Column("more", ["3" * 10], 2),
    ]
    texts = {}
    for width in (12, 30, 38, 60):
        with terminal(width) as (child, printed), monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(width))
            patch.setenv("TERM", "xterm")
            with os.fdopen(os.dup(child), "w", encoding="utf-8") as stream:
                patch.setattr(sys, "stdout", stream)
                print_columns(out(), columns)
                print_lines(out(), [f"path: {unbroken('one two three four five six')}"])
        texts[width] = text_of(printed)
    for width, text in texts.items():
        assert "a" * 10 in text
        assert "1" * 10 in text
        assert "one two three four five six" in text
        assert ("2" * 10 in text) == (width >= 38)
        assert ("3" * 10 in text) == (width >= 60)
    assert "some, more" in " ".join(texts[30].split())
    assert "not shown" not in texts[60]
