"""Counts that contradict themselves cannot exist: what arithmetic can refute is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import arrays, meanings, units
from test_laws import feasible

import fastcounts as fc
from fastcounts.consistency import coverage_contradiction
from fastcounts.errors import CountsError, FormatError, IncompatibleCounts, LedgerError, OptionError
from fastcounts.ledger import Ignored

STACK = np.random.default_rng(3).integers(0, 6, (6, 20, 20)).astype(np.uint8)
"""Six images of labels 0 to 5."""

DETAIL = np.repeat(np.arange(4, dtype=np.uint8), 6).reshape(4, 6)
"""Four rows of one label each."""


def plain(counts: fc.Counts) -> Any:
    return json.loads(json.dumps(counts.to_dict()))


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Every number of nested data, with its path."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in pairs:
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        elif isinstance(value, int) and not isinstance(value, bool):
            yield (*path, key), value


def edited(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of nested data with one entry replaced."""
    copy = json.loads(json.dumps(data))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


# ---- edits by hand ----


def with_table() -> fc.Counts:
    return fc.count(STACK, items=0, ignore=5, keep_items=True)


def without_table() -> fc.Counts:
    return fc.count(STACK, items=0, ignore=5)


EDITS: list[tuple[Any, tuple[Any, ...], Any, str]] = [
    (with_table, ("item_table", "pixels", 0), 1, "item_table: pixels"),
    (with_table, ("item_table", "labels", 5), 7, "item_table: labels: 7 is neither"),
    (with_table, ("item_table", "labels", 0), 1, "item_table: labels: expected in ascending"),
    (with_table, ("item_table", "items", 0), -1, "item_table: items"),
    (with_table, ("item_table", "pixels", 0), 0, "item_table: pixels: expected 1 or more"),
    (with_table, ("presence",), [0] * 5, "presence: class 0: 0, and item_table gives 6"),
    (with_table, ("presence_pixels", 2), 5, "presence_pixels: class 2: 5, and item_table"),
    (without_table, ("presence",), [0] * 5, "presence: class 0: 0 items, with"),
    (without_table, ("presence", 1), 0, "presence: class 1: 0 items, with"),
    (without_table, ("presence", 1), 7, "presence: class 1: more items"),
    (without_table, ("presence_pixels",), [0] * 5, "presence_pixels: class 0: 0 pixels"),
    (without_table, ("presence_pixels_total",), [2**62] * 5, "presence_pixels_total: class 0"),
    (without_table, ("presence_pixels_total", 3), 0, "presence_pixels_total: class 3: 0 pixels"),
    (without_table, ("presence_pixels_total", 3), 2000, "presence_pixels: class 3: more than"),
    (without_table, ("ledger", "ignored", "5", "presence"), 600, "ledger.ignored.5.presence: more"),
    (without_table, ("ledger", "ignored", "5", "presence"), 0, "ledger.ignored.5.presence: 0"),
    (
        without_table,
        ("ledger", "ignored", "5", "presence_pixels_total"),
        2401,
        "ledger.ignored.5.presence_pixels_total",
    ),
    (without_table, ("ledger", "ignored", "5", "presence"), 10**90, "ledger.ignored.5"),
    (without_table, ("items",), 10**90, "items: 1000"),
    (without_table, ("items",), 2401, "items: 2401 of them, and 2400 pixels"),
    (without_table, ("unplaced", 0), 10**6, "unplaced: class 0"),
    (without_table, ("options", "items"), -1, "options: items: -1"),
    (without_table, ("options", "items"), 10**30, "options: items: 1000"),
    (without_table, ("options", "ignore"), [5, 9], "ledger.ignored: it has the labels"),
    (without_table, ("ledger", "unexpected"), {"9": {"pixels": 0, "places": []}}, "unexpected"),
    (without_table, ("ledger", "filled"), 2400, "filled"),
    (
        without_table,
        ("ledger", "ignored"),
        {"05": {"pixels": 1, "presence": 1, "presence_pixels_total": 1}},
        "ledger.ignored: expected a label, got '05'",
    ),
]


@pytest.mark.parametrize(
    ("make", "path", "value", "says"), EDITS, ids=lambda value: str(value)[:40].replace(" ", "")
)
def test_edits__are_refused_by_field(make: Any, path: Any, value: Any, says: str) -> None:
    data = plain(make())
    assert fc.Counts.from_dict(data) == make()
    with pytest.raises(CountsError, match=re.escape(says)):
        fc.Counts.from_dict(edited(data, path, value))


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_edits__are_refused_in_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"c.{suffix}"
    with_table().save(path)
    content = path.read_bytes()
    if suffix == "npz":
        with np.load(path) as archive:
            members = dict(archive)
        members["pixels"] = members["pixels"][::-1].copy()
        np.savez(path, **members)
    else:
        data = json.loads(content)
        data["item_table"]["pixels"].reverse()
        path.write_text(json.dumps(data))
    with pytest.raises(FormatError, match=rf"c\.{suffix}: item_table: pixels: "):
        fc.load(path)


# ---- coverage ----


def part() -> fc.Counts:
    """The second of three parts: row 1 is complete, and row 2 is open."""
    with units(3):
        counts = fc.count(DETAIL, items=0, source_id="s", part=(1, 3), workers=1)
    assert len(counts.open_items) == 1
    assert counts.items
    return counts


def region() -> fc.Counts:
    with units(4):
        return fc.count(
            DETAIL, items=0, source_id="s", region=(slice(1, 3), slice(0, 4)), keep_items=True
        )


COVERAGE: list[tuple[Any, tuple[Any, ...], Any, str]] = [
    (part, ("open_items",), [], "."),
    (part, ("covers",), [], "covers"),
    (part, ("open_items", 0, "seen"), 1, "open_items: "),
    (part, ("open_items", 0, "total"), 99, "open_items: s item "),
    (part, ("open_items", 0, "item"), 3, "open_items: s item "),
    (part, ("open_items", 0, "source"), "t", "open_items: "),
    (part, ("covers", 0, "digest"), "changed", "digest: expected 16 hex"),
    (part, ("covers", 0, "pieces", 0, "first"), 1, "first: 1, and options.items gives 0"),
    (part, ("covers", 0, "pieces", 0, "blocks"), [], "blocks: there is none"),
    (part, ("covers", 0, "pieces", 0, "blocks"), [[0, 8]], "covers the whole array"),
    (part, ("covers", 0, "pieces", 0, "blocks"), [[0, 1]], "."),
    (part, ("covers", 1, "blocks"), [], "covers: run: 0 blocks"),
    (part, ("covers", 1, "run"), "x", "covers: run: expected 16"),
    (region, ("covers",), [], "item_table: sources: covers does not have s"),
    (region, ("items",), 1, "item_table: 2 rows for 1 items"),
    (region, ("item_table", "items", 0), 0, "item_table: items: those of s"),
    (region, ("covers", 0, "pieces", 0, "region", 0, 1), 4, "."),
    (region, ("covers", 0, "pieces", 0, "shape", 0), 2, "region"),
]


@pytest.mark.parametrize(("make", "path", "value", "says"), COVERAGE)
def test_coverage__refutes_edits(make: Any, path: Any, value: Any, says: str) -> None:
    data = plain(make())
    assert fc.Counts.from_dict(data) == make()
    with pytest.raises(CountsError, match=says):
        fc.Counts.from_dict(edited(data, path, value))


def test_coverage__of_a_run_that_was_split_needs_its_run() -> None:
    """Without the run a part would look complete."""
    data = plain(part())
    data["covers"] = [entry for entry in data["covers"] if "run" not in entry]
    with pytest.raises(LedgerError, match="covers: run: 0 blocks of runs"):
        fc.Counts.from_dict(data)


def test_coverage__that_overlaps_is_refused() -> None:
    data = plain(region())
    other = json.loads(json.dumps(data["covers"][0]["pieces"][0]))
    other["region"] = [[2, 4], [3, 6]]
    other["blocks"] = [[0, 2]]
    data["covers"][0]["pieces"].append(other)
    with pytest.raises(LedgerError, match="overlap"):
        fc.Counts.from_dict(data)


def test_coverage__of_whole_files_has_an_item_each(tmp_path: Path) -> None:
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", DETAIL)
    data = plain(fc.count(tmp_path, keep_items=True))
    assert fc.Counts.from_dict(data).items == 3
    del data["item_table"]
    for column in ("presence", "items"):
        value = [2] * 4 if column == "presence" else 2
        data[column] = value
    for column in ("presence_pixels", "presence_pixels_total"):
        data[column] = [72] * 4
    with pytest.raises(LedgerError, match="items: 2, and covers has 3 or more"):
        fc.Counts.from_dict(data)


def test_coverage__of_an_archive_knows_its_members(tmp_path: Path) -> None:
    """Members of one file are one item, complete only when all of them were seen."""
    np.savez(tmp_path / "m.npz", a=DETAIL, b=DETAIL)
    options: dict[str, Any] = {"workers": 1, "keep_items": True, "all_arrays": True}
    parts = [fc.count(tmp_path / "m.npz", part=(n, 2), **options) for n in range(2)]
    for counts in (*parts, sum(parts)):
        assert fc.Counts.from_dict(plain(counts)) == counts
    data = plain(parts[0])
    assert data["open_items"]
    data["covers"] = [entry for entry in data["covers"] if "run" in entry]
    with pytest.raises(LedgerError, match="covers does not have its source"):
        fc.Counts.from_dict(data)


@pytest.mark.parametrize(
    "places",
    [
        [["s", 1, [4, 0]]],
        [["s", 1, [1, 6]]],
        [["s", 1, [1, -1]]],
        [["s", 2, [1, 0]]],
        [["s", 1, [1]]],
        [["s", 1, [1, 1]], ["s", 1, [1, 0]]],
        [["s", 1, [1, 1]], ["s", 1, [1, 1]]],
        [["s", 1, [1, n]] for n in range(4)],
    ],
)
def test_places__outside_of_the_shape_are_refused(places: Any) -> None:
    with units(3):
        counts = fc.count(
            DETAIL,
            items=0,
            source_id="s",
            classes={0: "a", 2: "b", 3: "c"},
            region=(slice(1, 3),),
        )
    data = plain(counts)
    assert data["ledger"]["unexpected"]["1"]["places"][0] == ["s", 1, [1, 0]]
    assert fc.Counts.from_dict(data) == counts
    with pytest.raises(LedgerError, match=r"ledger.unexpected.1.places: "):
        fc.Counts.from_dict(edited(data, ("ledger", "unexpected", "1", "places"), places))


# ---- what is legal ----


def test_legal__counts_without_items() -> None:
    counts = fc.Counts.from_pixels({0: 5, 3: 7}, ignored={255: 2})
    assert counts.unplaced.tolist() == [5, 7]
    assert counts.ledger.ignored[255].unplaced == 2
    assert fc.Counts.from_dict(plain(counts)) == counts
    for extra in ("presence", "presence_pixels_total"):
        with pytest.raises(LedgerError, match=extra):
            fc.Counts.from_dict(edited(plain(counts), (extra, 0), 1))


def test_legal__given_counts_beside_counted_ones() -> None:
    given_counts = fc.Counts.from_pixels({0: 50, 9: 7}, ignored={5: 2})
    counted = fc.count(STACK[0], ignore=5, keep_items=True)
    both = counted + given_counts
    assert both.unplaced[both.labels == 9].tolist() == [7]
    assert both.unplaced[both.labels == 1].tolist() == [0]
    assert both.items == 1
    for counts in (both, both + both, given_counts + counted):
        assert fc.Counts.from_dict(plain(counts)) == counts
    assert both - given_counts == counted
    assert (both - counted).pixels.tolist() == given_counts.pixels.tolist()
    data = plain(both)
    with pytest.raises(LedgerError, match="presence: class 1: "):
        fc.Counts.from_dict(edited(data, ("presence", 1), 0))


def test_legal__statistics_that_are_given_in_part() -> None:
    """Of items it may be known how many there are, or which contain a class, and no more."""
    for more, unplaced in (
        ({}, [6, 3]),
        ({"presence": {0: 2, 1: 1}}, [6, 3]),
        ({"presence": {0: 2, 1: 1}, "presence_pixels": {0: 9, 1: 8}}, [0, 0]),
        ({"presence": {0: 2}, "presence_pixels": {0: 9}}, [0, 3]),
    ):
        counts = fc.Counts.from_pixels({0: 6, 1: 3}, items=2, **more)
        assert counts.unplaced.tolist() == unplaced
        assert fc.Counts.from_dict(plain(counts)) == counts
    for wrong in ({0: 5, 1: 8}, {0: 9, 1: 10}, {0: 8, 1: 8}):
        with pytest.raises(LedgerError, match="presence_pixels: class"):
            fc.Counts.from_pixels(
                {0: 6, 1: 3}, items=2, presence={0: 2, 1: 1}, presence_pixels=wrong
            )
    with pytest.raises(LedgerError, match="presence: class 1: 0 items, with 3"):
        fc.Counts.from_pixels(
            {0: 6, 1: 3}, items=2, presence={0: 2, 1: 0}, presence_pixels={0: 6, 1: 0}
        )
    with pytest.raises(LedgerError, match="items: 10 of them, and 9 pixels"):
        fc.Counts.from_pixels({0: 6, 1: 3}, items=10)


def test_legal__ignored_statistics_that_are_given() -> None:
    counts = fc.Counts.from_pixels(
        {0: 6},
        ignored={9: Ignored(3, 1, 5)},
        items=2,
        presence={0: 2},
        presence_pixels={0: 6},
        presence_pixels_total={0: 9},
    )
    assert not counts.unplaced.any()
    assert fc.Counts.from_dict(plain(counts)) == counts
    with pytest.raises(LedgerError, match=r"ledger.ignored.9.presence: 0 items"):
        fc.Counts.from_dict(edited(plain(counts), ("ledger", "ignored", "9", "presence"), 0))


def test_legal__files_of_the_first_release() -> None:
    """They do not say which pixels are unplaced."""
    given_counts = fc.Counts.from_pixels({0: 5, 9: 7}, ignored={5: 2})
    counted = fc.count(STACK[0], ignore=5)
    tabled = fc.count(STACK[0], ignore=5, keep_items=True)
    few = fc.Counts.from_pixels({0: 5, 9: 7}, items=3, presence={0: 2})
    for counts in (given_counts, counted, counted + given_counts, tabled + given_counts, few):
        data = plain(counts)
        del data["unplaced"]
        for entry in data["ledger"]["ignored"].values():
            del entry["unplaced"]
        loaded = fc.Counts.from_dict(data)
        assert loaded.pixels.tolist() == counts.pixels.tolist()
        assert loaded.presence.tolist() == counts.presence.tolist()
        assert loaded.ledger == counts.ledger
        assert fc.Counts.from_dict(plain(loaded)) == loaded
        if counts in (given_counts, counted, tabled):
            assert loaded == counts
        with pytest.raises(CountsError, match="presence"):
            fc.Counts.from_dict(edited(data, ("presence", 0), 10**6))


def test_legal__what_is_taken_away_leaves_its_places() -> None:
    """No more places are left than pixels."""
    array = np.zeros((2, 4), np.uint8)
    array[0, :3] = 9
    array[1, 3] = 9
    with units(4):
        whole = fc.count(array, items=0, classes=1, source_id="s")
        top = fc.count(array, items=0, classes=1, source_id="s", part=(0, 2))
    left = whole - top
    assert left.ledger.unexpected[9].pixels == 1
    assert left.ledger.unexpected[9].places == ()
    assert fc.Counts.from_dict(plain(left)) == left


def test_minus__takes_no_pixels_out_of_items() -> None:
    counted = fc.count(STACK[0])
    with pytest.raises(IncompatibleCounts, match="more would be taken away"):
        counted - fc.Counts.from_pixels({0: 1})


@given(st.data(), arrays(min_dims=1), meanings().filter(feasible))
def test_legal__whatever_is_counted_has_a_coverage_that_fits(
    data: st.DataObject, array: np.ndarray, meaning: dict[str, Any]
) -> None:
    """Parts, of the whole or of a region, in any sum, and without a part again."""
    number = data.draw(st.integers(1, 4))
    cut = [
        slice(start := data.draw(st.integers(0, n)), data.draw(st.integers(start, n)))
        for n in array.shape
    ]
    options: dict[str, Any] = {
        "items": data.draw(st.sampled_from(["auto", "array", *range(array.ndim)])),
        "keep_items": data.draw(st.booleans()),
        "region": data.draw(st.sampled_from([None, tuple(cut)])),
        "source_id": "s",
        "workers": 1,
    }
    with units(data.draw(st.sampled_from([1, 2, 5, 1000]))):
        parts = [fc.count(array, part=(n, number), **options, **meaning) for n in range(number)]
    order = data.draw(st.permutations(parts))
    total = order[0]
    for one in order[1:]:
        assert coverage_contradiction(one) is None
        assert coverage_contradiction(total) is None
        total = total + one
    assert coverage_contradiction(total) is None
    for one in parts:
        if not one.open_items:
            assert coverage_contradiction(total - one) is None


def test_legal__regions_of_one_source() -> None:
    """An item may be complete in one region and again in another."""
    tiles = [
        fc.count(STACK, items=0, source_id="s", region=(slice(0, 4), slice(a, b)), keep_items=True)
        for a, b in ((0, 7), (7, 13), (13, 20))
    ]
    merged = sum(tiles)
    assert merged.items == 12
    assert fc.Counts.from_dict(plain(merged)) == merged
    assert fc.Counts.from_dict(plain(merged - tiles[1])) == merged - tiles[1]


# ---- every number, one at a time ----

FREE_WITH_TABLE = re.compile(
    r"provenance\b.*"
    r"|ledger\.filled"  # a part of counted; no table says of which labels
    r"|ledger\.unexpected\.-?\d+\.places\b.*"  # samples, no part of equality
    r"|covers\.\d+\.(units|blocks\.\d+\.\d+)"  # how much of a run is elsewhere is not in here
    r"|covers\.\d+\.pieces\.\d+\.(shape|chunks|region\.\d+)\.\d+"  # what lies beside it
)
"""What another data set could truly have: of the numbers of named counts with a table of items."""

FREE_WITHOUT_TABLE = re.compile(
    FREE_WITH_TABLE.pattern + r"|(presence|presence_pixels|presence_pixels_total|unplaced)\.\d+"
    r"|ledger\.ignored\.-?\d+\.(presence|presence_pixels_total|unplaced)"
    r"|labels\.\d+|items"
    r"|open_items\.\d+\.(labels|pixels)\.\d+"
)
"""The same without a table: statistics may be others, within the bounds that pixels give."""

FREE_ANONYMOUS = re.compile(
    FREE_WITH_TABLE.pattern + r"|options\.items|item_table\.(items|source)\.\d+"
)
"""The same of arrays in memory: nothing says of which items of which arrays they are."""


def subjects() -> dict[str, tuple[fc.Counts, re.Pattern[str]]]:
    """Counts of every kind, and which of their numbers are free."""
    names = {0: "road", 1: "car", 2: "car", 4: "sky"}
    with units(50):
        named = fc.count(
            STACK, items=0, source_id="s", keep_items=True, classes=names, ignore=5, workers=1
        )
        half = fc.count(
            STACK,
            items=0,
            source_id="s",
            keep_items=True,
            classes=names,
            ignore=5,
            workers=1,
            part=(1, 4),
        )
        bare = fc.count(STACK, items=0, source_id="s", classes=names, ignore=5, part=(0, 4))
    return {
        "table": (named, FREE_WITH_TABLE),
        "part": (half, FREE_WITH_TABLE),
        "bare": (bare, FREE_WITHOUT_TABLE),
        "regions": (region(), FREE_WITH_TABLE),
        "anonymous": (with_table(), FREE_ANONYMOUS),
    }


@pytest.mark.parametrize("name", ["table", "part", "bare", "regions", "anonymous"])
def test_fuzz__every_number_is_refused_or_free(name: str) -> None:
    counts, free = subjects()[name]
    data = plain(counts)
    refused = accepted = 0
    for path, value in leaves(data):
        spelled = ".".join(map(str, path))
        if path == ("fastcounts",):
            continue
        for other in {0, 1, value + 1, value - 1, 2 * value + 3, 2**63, 10**90, -5} - {value}:
            try:
                loaded = fc.Counts.from_dict(edited(data, path, other))
            except (CountsError, OptionError):
                refused += 1
                continue
            accepted += 1
            assert free.fullmatch(spelled), (spelled, value, other)
            assert fc.Counts.from_dict(plain(loaded)) == loaded
    assert refused > accepted


@given(st.data(), arrays(("u1", "<i4", ">f4"), min_dims=1), meanings().filter(feasible))
def test_fuzz__any_edit_is_refused_or_gives_counts(
    data: st.DataObject, array: np.ndarray, meaning: dict[str, Any]
) -> None:
    """Nothing but the errors of this package is raised, and what loads is loaded again."""
    with units(4):
        counts = fc.count(
            array,
            items=data.draw(st.sampled_from(["auto", 0])),
            keep_items=data.draw(st.booleans()),
            source_id=data.draw(st.sampled_from(["s", "s/t#u"])),
            part=(0, data.draw(st.integers(1, 3))),
            workers=1,
            **meaning,
        )
    good = plain(counts)
    path, value = data.draw(st.sampled_from(list(leaves(good))))
    other = data.draw(st.sampled_from([0, 1, 2, value + 1, value - 1, 2**62, 2**64, 10**90, -7]))
    try:
        loaded = fc.Counts.from_dict(edited(good, path, other))
    except (CountsError, OptionError):
        return
    assert fc.Counts.from_dict(plain(loaded)) == loaded
    assert loaded + fc.Counts() == loaded


def test_fuzz__deleting_any_entry_is_refused_or_free() -> None:
    """Lists that lose an entry, as a file does that was cut by hand."""
    counts, _ = subjects()["part"]
    data = plain(counts)
    accepted = []
    for path in {path[:-1] for path, _ in leaves(data) if isinstance(path[-1], int)}:
        if path[0] == "provenance":
            continue
        entry = data
        for key in path:
            entry = entry[key]
        for place in range(len(entry)):
            try:
                fc.Counts.from_dict(edited(data, path, entry[:place] + entry[place + 1 :]))
            except (CountsError, OptionError):
                continue
            accepted.append(path)
    assert not [path for path in accepted if "places" not in path]
