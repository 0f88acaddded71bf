"""Parts that are missing are named by their number, and counts come in plain tables as well."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from strategies import units

import fastcounts as fc
from fastcounts.errors import FormatError
from fastcounts.export import render
from fastcounts.inputs import read_counts

STACK = np.arange(96, dtype=np.uint8).reshape(8, 12) % 7


def parts(number: int, source_id: str = "s") -> list[fc.Counts]:
    with units(3):
        return [
            fc.count(STACK, part=(n, number), source_id=source_id, workers=1) for n in range(number)
        ]


def test_lost__one_part() -> None:
    found = parts(8)
    merged = sum(found[:3] + found[4:])
    assert merged.incomplete == (
        "part 3/8 (numbered from 0) is missing, 4 of 32 blocks; count with part=(3, 8) "
        "(--part 3/8), and add what is missing"
    )
    assert (merged + found[3]).incomplete is None
    assert fc.Counts.from_dict(json.loads(json.dumps(merged.to_dict()))).incomplete


def test_lost__several_parts() -> None:
    found = parts(12)
    assert str((found[1] + found[4]).incomplete).startswith(
        "parts 0/12, 2/12, 3/12, 5/12, 6/12, 7/12, 8/12, 9/12 and 2 more (numbered from 0) are"
    )


def test_lost__parts_of_two_runs() -> None:
    both = parts(2, "a")[0] + parts(3, "b")[1]
    assert "parts 1/2, 0/3, 2/3 (numbered from 0) are missing" in str(both.incomplete)


def test_lost__parts_that_were_cut_again_are_blocks() -> None:
    with units(3):
        finer = fc.count(STACK, part=(2, 4), source_id="s", workers=1)
    assert "8 of 32 blocks have not been counted" in str((parts(2)[0] + finer).incomplete)


def test_lost__what_was_taken_away_is_blocks() -> None:
    with units(3):
        options = {"items": 0, "source_id": "s", "workers": 1}
        halves = [fc.count(STACK, part=(n, 2), **options) for n in range(2)]  # type: ignore[arg-type]
    left = sum(halves) - halves[0]
    assert "blocks have not been counted" in str(left.incomplete)


def test_lost__is_said_in_the_shell(tmp_path: Path) -> None:
    for number, counts in enumerate(parts(3)):
        counts.save(tmp_path / f"{number}.json")
    command = [sys.executable, "-m", "fastcounts", "merge", "0.json", "2.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "part 1/3 (numbered from 0) is missing" in done.stderr
    assert "--part 1/3" in done.stderr


@pytest.mark.parametrize("part", [None, [1], ["a", 2], [3, 2], [0, 10**9], "1/2", [1.5, 2]])
def test_lost__whatever_the_provenance_says(part: object) -> None:
    data = json.loads(json.dumps(parts(2)[0].to_dict()))
    data["provenance"]["runs"][0]["part"] = part
    assert "16 of 32 blocks have not been counted" in str(fc.Counts.from_dict(data).incomplete)


# ---- plain tables ----


def write(tmp_path: Path, text: str, name: str = "c.csv") -> str:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)


def test_tables__the_csv_of_solve_is_read(tmp_path: Path) -> None:
    names = {0: "road, paved", 3: "car", 7: None}
    counts = fc.Counts.from_pixels({0: 100, 3: 5, 7: 9}, classes=names)
    weights = fc.solve(counts, "inverse")
    again = read_counts(write(tmp_path, render(weights, "csv")))
    assert again == counts
    assert again.names == {0: "road, paved", 3: "car"}
    assert fc.solve(again, "inverse").values.tolist() == weights.values.tolist()


@pytest.mark.parametrize(
    ("name", "text", "pixels", "names"),
    [
        ("c.json", '{"0": 100, "7": 5}', {0: 100, 7: 5}, {}),
        ("c.json", '{"road": 100, "car": 5}', {0: 100, 1: 5}, {0: "road", 1: "car"}),
        ("c.json", '\ufeff {"0": 0, "1": 5}', {0: 0, 1: 5}, {}),
        ("c.csv", "name,Pixels,label\na,100,0\nb,5,7\n", {0: 100, 7: 5}, {0: "a", 7: "b"}),
        ("c.csv", "label,presence,pixels\n0,3,100\n7,1,5\n", {0: 100, 7: 5}, {}),
    ],
)  # fmt: skip
def test_tables__are_read(
    tmp_path: Path, name: str, text: str, pixels: dict[int, int], names: dict[int, str]
) -> None:
    counts = read_counts(write(tmp_path, text, name))
    assert dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True)) == pixels
    assert counts.names == names


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("c.json", '{"0": 1.5}', "0: expected pixels as a whole number, got 1.5"),
        ("c.json", '{"road": true}', "road: expected pixels as a whole number"),
        ("c.json", '{"0": 1, "road": 2}', "'0' is a label and 'road' is a name"),
        ("c.json", '{"0": 1, "00": 2}', "a label stands twice"),
        ("c.json", '{"0": 1, "0": 2}', "0: it stands twice"),
        ("c.json", '{"0": -1}', "label 0"),
        ("c.json", '{"0": {"pixels": 3}}', "no counts file"),
        ("c.csv", "label,name,pixels\n0,car,1\n1,car,2\n", "two labels are called 'car'"),
        ("c.csv", "label,name,pixels\n0,car,1\n1,2\n", "line 3: expected 'label,pixels'"),
        ("c.csv", "label,name,pixels,item\n0,,81,1.0\n", "its rows are images"),
        ("c.csv", "label,name,pixels\n0,car,1.5\n", "line 2: expected 'label,pixels'"),
    ],
)
def test_tables__refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(FormatError, match=says) as caught:
        read_counts(write(tmp_path, text, name))
    assert name in str(caught.value)


def test_tables__are_solved_in_the_shell(tmp_path: Path) -> None:
    write(tmp_path, '{"road": 180, "car": 20}', "c.json")
    command = [sys.executable, "-m", "fastcounts", "solve", "--scheme", "inverse"]
    first = subprocess.run(
        [*command, "c.json", "--format", "csv", "-o", "w.csv"], check=True, cwd=tmp_path
    )
    again = subprocess.run(
        [*command, "w.csv", "--format", "csv"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert first.returncode == 0
    assert again.stdout == (tmp_path / "w.csv").read_text()
