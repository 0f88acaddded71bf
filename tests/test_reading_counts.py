"""Reading counts: like a mapping, as tables, as CSV, and in a notebook."""

from __future__ import annotations

import csv
import io
import json
import pickle
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import fastcounts as fc
from fastcounts import cli
from fastcounts.errors import (
    MissingExtra,
    OptionError,
    SourceNotFound,
    UnknownClass,
    UnsupportedSource,
)

pd = pytest.importorskip("pandas")

STACK = np.array([[0, 0, 1, 2], [2, 2, 255, 9]], np.uint8)


def street(keep_items: bool = True) -> fc.Counts:
    """Counts of two images: 1 and 2 are cars, 255 is ignored, 9 is unexpected."""
    return fc.count(
        STACK,
        classes={0: "road", 1: "car", 2: "car", 5: "bus"},
        ignore=255,
        items=0,
        keep_items=keep_items,
    )


def twins() -> fc.Counts:
    """Counts of one image with two classes that the data calls the same."""
    counts = fc.count(np.array([[3, 5, 7]], np.uint8), items=0, keep_items=True)
    return replace(counts, data_names={3: ("a",), 5: ("a",), 7: ("b",)})


# ---- like a mapping ----


def test_counts__are_read_by_label_and_by_name() -> None:
    counts = street()
    assert (counts[0], counts["road"], counts["car"], counts["bus"]) == (2, 2, 4, 0)
    assert counts[np.int64(1)] == counts[1] == counts[2] == 4, "a folded label is its class"
    assert type(counts[0]) is int
    assert len(counts) == 3
    assert list(counts) == [0, 1, 5]
    assert [label in counts for label in (0, 2, 5, 9, 255, "car", "tram", None, [1])] == [
        *(True, True, True, False, False, True, False, False, False)
    ]
    large = fc.Counts.from_pixels({2**63: 4, 0: 1})
    assert (large[2**63], -1 in large, large.as_dict()) == (4, False, {0: 1, 2**63: 4})


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("tram", "no class is called 'tram'; the names are 'road', 'car', 'bus'"),
        (255, r"ignored and not a class; .*counts.ledger.ignored\[255\].pixels"),
        (9, r"unexpected and not a class; .*counts.ledger.unexpected\[9\].pixels"),
        (7, "label 7 is not a class; the labels are 0, 1, 5"),
        (True, "expected the label or the name of a class, got True"),
        (1.0, "expected the label or the name of a class, got 1.0"),
        (slice(2), "expected the label or the name of a class"),
    ],
)
def test_counts__name_what_exists_for_another_key(key: object, expected: str) -> None:
    with pytest.raises(UnknownClass, match=expected) as caught:
        street()[key]  # type: ignore[index]
    assert isinstance(caught.value, KeyError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert key not in street()


def test_counts__refuse_a_name_of_two_classes() -> None:
    counts = twins()
    assert "a" in counts
    assert counts["b"] == 1
    with pytest.raises(UnknownClass, match="labels 3, 5 are all called 'a'; use one of the labels"):
        counts["a"]
    with pytest.raises(OptionError, match="labels 3 and 5 are both called 'a'"):
        counts.as_dict(names=True)


def test_counts__are_a_dict_of_python_integers() -> None:
    counts = street()
    assert counts.as_dict() == {0: 2, 1: 4, 5: 0}
    assert {type(one) for pair in counts.as_dict().items() for one in pair} == {int}
    assert counts.as_dict(names=True) == {"road": 2, "car": 4, "bus": 0}
    partly = fc.Counts.from_pixels({0: 1, 1: 2}, classes={0: "road", 1: None})
    assert partly.as_dict(names=True) == {"road": 1, 1: 2}


def test_counts__are_true_and_add_up_as_before() -> None:
    nothing = fc.count(np.full(3, 255, np.uint8), ignore=255)
    assert len(nothing) == 0
    assert nothing
    assert fc.Counts()
    parts = [street(), street()]
    assert sum(parts) == parts[0] + parts[1]
    assert np.int64(0) + parts[0] == parts[0]
    assert sum(parts)["car"] == 8
    assert pickle.loads(pickle.dumps(parts[0]))["car"] == 4


def test_count__refuses_counts() -> None:
    with pytest.raises(UnsupportedSource, match=r"these are counts already; add them .* with \+"):
        fc.count(street())


# ---- tables ----


def test_to_pandas__has_a_row_per_image() -> None:
    frame = street().to_pandas(items=True)
    assert frame.index.names == ["source", "item"]
    assert frame.index.tolist() == [("", 0), ("", 1)]
    assert frame["car"].tolist() == [2, 2]
    assert frame["road"].tolist() == [2, 0]
    assert frame.index[frame["road"] > 0].tolist() == [("", 0)]
    assert frame.dtypes.unique().tolist() == [np.int64]
    assert twins().to_pandas()["name"].tolist() == ["a", "a", "b"]
    with pytest.raises(OptionError, match="no table of items; count with keep_items=True"):
        street(keep_items=False).to_pandas(items=True)
    with pytest.raises(OptionError, match="no table of items"):
        street(keep_items=False).to_csv(items=True)


def test_to_pandas__calls_columns_by_label_where_names_are_not_unique() -> None:
    assert twins().to_pandas(items=True).columns.tolist() == [3, 5, "b"]
    assert twins().to_csv(items=True).splitlines() == ["source,item,3,5,b", ",0,1,1,1"]


def test_to_csv__quotes_names_and_leaves_unknown_shares_empty() -> None:
    counts = fc.Counts.from_pixels({0: 0, 1: 0}, classes=['a "b", c', "d"])
    rows = list(csv.DictReader(io.StringIO(counts.to_csv())))
    assert [row["name"] for row in rows] == ['a "b", c', "d"]
    assert [row["share"] for row in rows] == ["", ""]


def test_weights__are_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = fc.solve(street(), "inverse", absent="zero")
    frame = weights.to_pandas()
    assert frame["name"].tolist() == ["road", "car", "bus"]
    assert frame["weight"].tolist() == [2.0, 1.0, 0.0]
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtra, match="report"):
        weights.to_pandas()


# ---- mappings in place of counts ----


def test_solve__takes_mappings() -> None:
    expected = fc.solve(fc.Counts.from_pixels({0: 10, 1: 20}), "inverse")
    assert fc.solve({0: 10, 1: 20}, "inverse") == expected
    assert fc.solve({"0": 10, "1": 20}, "inverse") == expected
    assert fc.solve({np.int64(1): np.int32(20), 0: 10}, "inverse") == expected
    named = fc.solve({"road": 10, "car": 20}, "inverse")
    assert named.as_dict() == {0: 2.0, 1: 1.0}
    assert named.names == {0: "road", 1: "car"}
    assert fc.solve({7: 10, 3: 20}, "inverse").as_dict() == {3: 1.0, 7: 2.0}


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ({"road": 10, 1: 20}, "1 is a label and 'road' is a name"),
        ({"road": 10, "1": 20}, "'1' is a label and 'road' is a name"),
        ({"1": 10, 1: 20}, "a label is given twice, spelled differently"),
        ({0: 1.5}, "pixels of label 0: expected a whole number, got 1.5"),
        ({"road": -1}, "expected at least 0, got -1"),
        ({True: 1}, "pixels, label: expected a whole number, got True"),
    ],
)
def test_solve__refuses_mappings_that_mean_two_things(pixels: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        fc.solve(pixels, "inverse")


def test_load_classes__gives_names_by_label(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("id,name\n7,car\n0,road\n")
    assert list(fc.load_classes(path).items()) == [(0, "road"), (7, "car")]
    assert fc.count(STACK, classes=fc.load_classes(path)) == fc.count(STACK, classes=path)
    (tmp_path / "names.txt").write_text("road\ncar\n")
    assert fc.load_classes(str(tmp_path / "names.txt")) == {0: "road", 1: "car"}
    with pytest.raises(SourceNotFound, match="there is no such file"):
        fc.load_classes(tmp_path / "nothing.csv")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(OptionError, match="names no class"):
        fc.load_classes(tmp_path / "bad.json")


# ---- notebooks ----


class Cells(HTMLParser):
    """The cells of all tables, and whether every tag that opens also closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        assert all(name in ("style", "colspan") for name, _ in attrs)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def cells(text: str) -> Cells:
    parser = Cells()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    allowed = {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert parser.tags <= allowed
    return parser


def test_html__of_counts_has_classes_and_ledger() -> None:
    found = cells(street()._repr_html_())
    assert ["label", "name", "pixels", "share", "images"] in found.rows
    assert ["1", "car", "4", "66.6667%", "2"] in found.rows
    assert ["total", "8", "100.0000%"] in found.rows
    assert ["ignored, label 255", "1", "12.5000%"] in found.rows
    assert ["unexpected, label 9", "1", "12.5000%"] in found.rows
    assert not any(row[0] == "failed" for row in found.rows)
    assert "Counts of 8 pixels in 2 images, 3 classes" in street()._repr_html_()


def test_html__escapes_names_and_is_bounded() -> None:
    evil = "<script>alert('&')</script>"
    counts = fc.Counts.from_pixels({0: 1, 1: 2}, classes=[evil, "b"])
    for shown in (counts, fc.solve(counts, "inverse")):
        assert any(evil in row for row in cells(shown._repr_html_()).rows)
    many = fc.count(np.arange(1000, dtype=np.uint16))
    assert len(cells(many._repr_html_()).rows) < 100
    assert "and 936 more" in many._repr_html_()


def test_html__says_what_is_incomplete() -> None:
    part = fc.count(np.zeros((4, 1 << 16), np.uint8), part=(0, 2), source_id="x")
    assert "incomplete" in part._repr_html_()
    assert "incomplete" not in street()._repr_html_()


def test_html__of_weights_has_their_convention() -> None:
    weights = fc.solve(street(), "inverse", absent="zero", cap=3)
    text = weights._repr_html_()
    assert ["0", "road", "2", "33.3333%", "2"] in cells(text).rows
    assert "inverse(), weight" in text
    assert "cap=3" in text


# ---- the command line ----


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return int(end.value.code or 0)


@pytest.fixture
def stack(tmp_path: Path) -> str:
    path = tmp_path / "masks.npy"
    np.save(path, STACK)
    return str(path)


def test_count__writes_csv_that_solve_reads(stack, tmp_path, capsys) -> None:
    out = tmp_path / "counts.csv"
    names = tmp_path / "names.json"
    names.write_text(json.dumps(["road", "car", "'big, red' bus"]))
    assert run(["count", stack, "--classes", str(names), "--items", "0", "-o", str(out)]) == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["label"] for row in rows] == ["0", "1", "2"]
    assert [row["pixels"] for row in rows] == ["2", "1", "3"]
    assert rows[2]["name"] == "'big, red' bus"
    assert [row["presence"] for row in rows] == ["1", "1", "2"]
    assert "pixels" in capsys.readouterr().out
    assert run(["solve", str(out), "--scheme", "inverse", "--format", "csv"]) == 0
    solved = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in solved] == [row["name"] for row in rows]


def test_count__writes_a_table_of_images(stack, tmp_path, capsys) -> None:
    classes, images = tmp_path / "classes.csv", tmp_path / "images.csv"
    both = ["-o", str(classes), "--item-table", str(images)]
    assert run(["count", stack, "--items", "0", *both]) == 0
    rows = list(csv.reader(io.StringIO(images.read_text())))
    assert rows[0] == ["source", "item", "0", "1", "2", "9", "255"]
    assert [row[1:] for row in rows[1:]] == [
        ["0", "2", "1", "1", "0", "0"],
        ["1", "0", "0", "2", "1", "1"],
    ]
    assert classes.read_text().startswith("label,name,pixels,share,")
    capsys.readouterr()
    assert run(["solve", str(images), "--scheme", "inverse"]) == 3
    assert "its rows are images" in capsys.readouterr().err


def test_merge__writes_the_tables_of_both(stack, tmp_path, capsys) -> None:
    part, out = str(tmp_path / "part.json"), tmp_path / "images.csv"
    count = ["count", stack, "--items", "0", "--source-id"]
    assert run([*count, "a", "--keep-items", "-o", part]) == 0
    other = str(tmp_path / "other.json")
    assert run([*count, "b", "--keep-items", "-o", other]) == 0
    merged = tmp_path / "merged.csv"
    both = ["-o", str(merged), "--item-table", str(out)]
    assert run(["merge", part, other, *both]) == 0
    assert [line.split(",")[:2] for line in out.read_text().splitlines()[1:]] == [
        *(["a", "0"], ["a", "1"], ["b", "0"], ["b", "1"])
    ]
    assert merged.read_text().splitlines()[1].startswith("0,,4,")
    bare = str(tmp_path / "bare.json")
    assert run([*count, "c", "-o", bare]) == 0
    out.unlink()
    capsys.readouterr()
    assert run(["merge", bare, "--item-table", str(out)]) == 2
    assert "count each part with --keep-items" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep-items", "-o", "new.csv"], "would lose the images of --keep-items"),
        (["--item-table", "new.json"], "tables of images are saved as .csv"),
        (["--item-table", "-"], "--item-table: give a file"),
        (["-o", "new.csv", "--item-table", "new.csv"], "is the file of -o"),
        (["--item-table", "no/new.csv"], "its folder does not exist"),
        (["-o", "new.xlsx"], "counts are saved as .json or .npz or .csv"),
    ],
)
def test_count__refuses_before_it_reads(
    options, message, stack, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run(["count", stack, *options]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_count__never_writes_the_table_into_a_source(tmp_path, capsys) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    np.save(folder / "a.npy", STACK)
    assert run(["count", str(folder), "--item-table", str(folder / "t.csv")]) == 2
    assert "--item-table" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == [folder / "a.npy"]
