"""Text and files of the command line become values, or errors that say where."""

from __future__ import annotations

import io
import json
import sys

import pytest

from fastcounts.counts import Counts
from fastcounts.errors import FormatError, OptionError, SourceNotFound
from fastcounts.inputs import read_classes, read_counts, read_part, read_region


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_classes_from_a_number():
    assert read_classes("31") == 31
    assert read_classes(None) is None


@pytest.mark.parametrize(
    ("name", "text", "classes"),
    [
        ("names.txt", "road\ncar\n\n", ["road", "car"]),
        ("names.json", '["road", "car"]', ["road", "car"]),
        ("map.json", '{"0": "road", "7": "car"}', {0: "road", 7: "car"}),
        ("map.csv", "label,name\n0,road\n-1,car\n", {0: "road", -1: "car"}),
        ("map.csv", "0,road\n7,car", {0: "road", 7: "car"}),
        ("bom.csv", "\ufeff0,road", {0: "road"}),
    ],
)
def test_classes_from_a_file(tmp_path, name, text, classes):
    assert read_classes(write(tmp_path, name, text)) == classes


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("names.txt", "\n", "names no class"),
        ("map.csv", "0,road\nx,car", "line 2"),
        ("map.csv", "0,road\n0,car", "line 2: label 0 stands twice"),
        ("map.csv", "0,road,1", "line 1"),
        ("map.json", "{", "no JSON"),
        ("map.json", "[" * 100_000, "no JSON"),
        ("map.json", '{"0": "road", "0": "car"}', "0: it stands twice"),
        ("map.json", '{"0": "road", "00": "car"}', "stands twice"),
        ("map.csv", "0.0,road\n1,car", "line 1"),
        ("map.csv", "x" * 200_000 + ",1", "no CSV"),
        ("map.json", '{"road": "car"}', "expected a list of names, or a mapping"),
        ("map.json", "3", "expected a list"),
    ],
)
def test_classes_refused(tmp_path, name, text, says):
    with pytest.raises(OptionError, match=says):
        read_classes(write(tmp_path, name, text))


def test_classes_of_a_file_that_is_not_there():
    with pytest.raises(OptionError, match=r"nope\.csv.*neither a number nor a file"):
        read_classes("nope.csv")


def test_regions():
    assert read_region(None) is None
    assert read_region("0:10,:,3") == (slice(0, 10), slice(None), 3)
    assert read_region("..., -5:") == (Ellipsis, slice(-5, None))
    for text in ("a", "1:2:3:4", "1;2", ""):
        with pytest.raises(OptionError, match="expected ranges"):
            read_region(text)


def test_parts():
    assert read_part(None) is None
    assert read_part("2/8") == (2, 8)
    for text in ("2", "a/b", "-1/3", "1/"):
        with pytest.raises(OptionError, match="i/N"):
            read_part(text)


def test_counts_from_csv(tmp_path):
    for text in ("label,pixels\n0,180\n7,90\n", "0, 180\n7, 90", "\n0,180\n\n7,90\n"):
        counts = read_counts(write(tmp_path, "c.csv", text))
        assert counts == Counts.from_pixels({0: 180, 7: 90})


def test_counts_from_standard_input(monkeypatch):
    counts = Counts.from_pixels({0: 180, 7: 90}, ignored={255: 3})
    content = json.dumps(counts.to_dict()).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert read_counts("-") == counts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0,1\n0,2", "line 2: label 0 stands twice"),
        ("0,1\nx,2", "line 2"),
        ("0,1.5\n", "line 1"),
        ("0,180.0\n1,90\n", "line 1"),
        ("0,1e9\n1,90\n", "line 1"),
        ('0,"1,000"\n1,90\n', "line 1"),
        ("0," + "9" * 5000, "line 1"),
        (f"0,{2**63}", "int64"),
        (f"{2**64},1", "does not fit"),
        ("x" * 200_000 + ",1", "no CSV"),
        ("0,1\n1,1.5\n", "line 2"),
        ("", "holds no counts"),
        ("{", "no counts file"),
        ("[]", "no counts file"),
    ],
)
def test_counts_refused(tmp_path, text, says):
    with pytest.raises(FormatError, match=says):
        read_counts(write(tmp_path, "c.csv", text))


def test_counts_of_a_file_that_is_not_there():
    with pytest.raises(SourceNotFound, match=r"nope\.json: there is no such file"):
        read_counts("nope.json")
