"""Covers: what was seen, never doubled."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_grid import grids

from fastcounts.covers import Cover, Covers, Piece, Run
from fastcounts.errors import FormatError, IncompatibleCounts
from fastcounts.grid import Grid

GRID = Grid((40,), (1,))


def cover(numbers: set[int], grid: Grid = GRID) -> Cover | None:
    """The cover of some chunks of a grid, one by one."""
    seen: Cover | None = None
    for number in sorted(numbers):
        one = Cover.of("d", Piece(grid, ((number, number + 1),)))
        seen = one if seen is None else seen.union(one)
    return seen


def chunks(found: Cover | None, size: int = 40) -> set[int]:
    if found is None:
        return set()
    if not found.pieces:
        return set(range(size))
    return {n for piece in found.pieces for start, stop in piece.blocks for n in range(start, stop)}


SETS = st.sets(st.integers(0, 39), min_size=1)


@given(SETS, SETS)
def test_cover__is_a_set_of_chunks(left: set[int], right: set[int]) -> None:
    a, b = cover(left), cover(right)
    assert a is not None
    assert b is not None
    assert chunks(a) == left
    assert a.overlaps(b) == b.overlaps(a) == bool(left & right)
    if not left & right:
        both = a.union(b)
        assert both == b.union(a) == cover(left | right)
        assert both.difference(b) == a
        assert chunks(both) == left | right
    if right <= left:
        assert chunks(a.difference(b)) == left - right
    else:
        with pytest.raises(IncompatibleCounts):
            a.difference(b)


@given(grids().filter(lambda grid: grid.size > 0), st.data())
def test_cover__of_two_regions_overlaps_where_an_element_is_in_both(
    grid: Grid, data: st.DataObject
) -> None:
    bounds = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in grid.shape]
    region = tuple((start, stop) for start, stop in bounds)
    cropped = Grid(grid.shape, grid.chunks, grid.first, region)
    if not cropped.size:
        return
    mine = Piece(grid, ((0, data.draw(st.integers(1, grid.size))),))
    theirs = Piece(cropped, ((0, data.draw(st.integers(1, cropped.size))),))
    seen = [
        {at for box in piece.boxes() for at in product(*(range(*bounds) for bounds in box))}
        for piece in (mine, theirs)
    ]
    assert mine.overlaps(theirs) == theirs.overlaps(mine) == bool(seen[0] & seen[1])


def whole(*names: str) -> Covers:
    return Covers({name: Cover("d") for name in names})


def test_covers__of_other_sources_join() -> None:
    both = whole("a").union(whole("b"))
    assert both == whole("b", "a")
    assert both.difference(whole("a")) == whole("b")
    with pytest.raises(IncompatibleCounts, match=r"^a: .*twice"):
        both.union(whole("a"))
    with pytest.raises(IncompatibleCounts, match="changed"):
        whole("a").union(Covers({"a": Cover("e")}))
    with pytest.raises(IncompatibleCounts, match="not counted"):
        whole("a").difference(whole("b"))


def run(blocks: tuple[tuple[int, int], ...], units: int = 10) -> Covers:
    return Covers(runs={"r": Run(units, blocks)})


def test_runs__say_what_is_missing() -> None:
    assert whole("a").incomplete() is None
    assert str(run(((0, 4),)).incomplete()).startswith("6 of 10 blocks")
    assert run(((0, 4),)).union(run(((4, 10),))).incomplete() is None
    with pytest.raises(IncompatibleCounts, match="same part"):
        run(((0, 4),)).union(run(((3, 5),)))


def test_runs__empty_shares_arrive_in_any_order() -> None:
    empty, all_of_it = run(()), run(((0, 10),))
    assert str(empty.incomplete()).startswith("10 of 10")
    assert empty.union(all_of_it).incomplete() is None
    assert all_of_it.union(empty).incomplete() is None
    assert all_of_it.union(empty).union(empty) == Covers()
    assert all_of_it.difference(empty).incomplete() is None


@given(SETS, st.booleans())
def test_covers__travel(numbers: set[int], several: bool) -> None:
    found = cover(numbers)
    assert found is not None
    names = ["dir/a", "dir/b", "c", "https://x/y#z"] if several else ["dir/a"]
    covers = Covers(
        {name: found if name == "dir/a" else Cover("d") for name in names},
        {"r": Run(100, ((0, 5), (7, 9)))},
    )
    assert Covers.from_list(covers.to_list()) == covers


@pytest.mark.parametrize(
    "entries",
    [
        None,
        {},
        [3],
        [{}],
        [{"source": "a"}],
        [{"run": "r", "units": "x", "blocks": []}],
        [{"run": "r", "units": 3, "blocks": [[2, 1]]}],
        [{"run": "r", "units": 3, "blocks": [[0, 2], [1, 3]]}],
        [{"folder": "a", "files": 3}],
        [{"source": "a", "digest": "d", "pieces": [{}]}],
        [{"source": "a", "digest": "d", "pieces": [{"shape": [3], "chunks": [1]}]}],
    ],
    ids=str,
)
def test_covers__from_nonsense(entries: Any) -> None:
    with pytest.raises(FormatError, match="covers"):
        Covers.from_list(entries)


@pytest.mark.parametrize(
    "change",
    [
        {"digest": 5},
        {"source": None},
        {"pieces": [{"chunks": [0]}]},
        {"pieces": [{"chunks": [-1]}]},
        {"pieces": [{"chunks": [1, 1]}]},
        {"pieces": [{"shape": [1.5]}]},
        {"pieces": [{"first": 1}]},
        {"pieces": [{"first": []}]},
        {"pieces": [{"region": [[0, 9]]}]},
        {"pieces": [{"blocks": [[0, 10**18]]}]},
        {"pieces": [{"blocks": [[0.5, 1]]}]},
    ],
)
def test_covers__that_no_count_has_are_refused(change: dict[str, Any]) -> None:
    piece = {"shape": [8], "chunks": [2], "first": 0, "region": [[0, 8]], "blocks": [[0, 2]]}
    entry = {"source": "a", "digest": "d", "pieces": [piece]}
    assert Covers.from_list([entry]).sources
    if "pieces" in change:
        change = {"pieces": [piece | change["pieces"][0]]}
    with pytest.raises(FormatError, match=r"covers\[0\]"):
        Covers.from_list([entry | change])


def test_covers__name_everything_once() -> None:
    run = {"run": "r", "units": 4, "blocks": [[0, 2]]}
    assert Covers.from_list([run]).incomplete() is not None
    with pytest.raises(FormatError, match=r"covers\[0\].*up to 4"):
        Covers.from_list([run | {"blocks": [[0, 5]]}])
    for entry in (run, {"source": "a", "digest": "d"}):
        with pytest.raises(FormatError, match=r"covers\[1\].*twice"):
            Covers.from_list([entry, entry])
