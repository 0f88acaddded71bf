"""Chunks of a grid: every element once, in a fixed order."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastcounts.grid import Grid, intersect, volume


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Small grids of any rank, order and region."""
    shape = tuple(draw(st.lists(st.integers(0, 7), max_size=4)))
    chunks = tuple(draw(st.integers(1, 8)) for _ in shape)
    first = draw(st.none() | st.integers(0, len(shape) - 1)) if shape else None
    region = None
    if draw(st.booleans()):
        region = tuple(tuple(sorted(draw(st.tuples(*[st.integers(0, n)] * 2)))) for n in shape)
    return Grid(shape, chunks, first, region)  # type: ignore[arg-type]


def paint(grid: Grid, boxes: Any) -> np.ndarray:
    painted = np.zeros(grid.shape, int)
    for box in boxes:
        painted[tuple(slice(*bounds) for bounds in box)] += 1
    return painted


@given(grids())
def test_chunks__hold_every_element_of_the_region_once(grid: Grid) -> None:
    painted = paint(grid, (grid.box(number) for number in range(grid.size)))
    expected = np.zeros(grid.shape, int)
    expected[tuple(slice(*bounds) for bounds in grid.bounds)] = 1
    assert np.array_equal(painted, expected)
    assert grid.pixels == expected.sum()
    assert all(volume(grid.box(number)) for number in range(grid.size))


@given(grids())
def test_chunks__are_those_of_the_array(grid: Grid) -> None:
    """No box crosses a line between chunks, wherever the region begins."""
    for number in range(grid.size):
        for (start, stop), chunk in zip(grid.box(number), grid.chunks, strict=True):
            assert start // chunk == (stop - 1) // chunk


@given(grids())
def test_chunks__come_item_by_item(grid: Grid) -> None:
    """Along the axis of items the chunks never go back; within an item they are in C order."""
    corners = [tuple(start for start, _ in grid.box(number)) for number in range(grid.size)]
    ordered = sorted(corners, key=lambda at: tuple(at[axis] for axis in grid.order))
    assert corners == ordered
    assert grid.order[:1] == ((grid.first,) if grid.first is not None else grid.order[:1])


@given(grids(), st.data())
def test_boxes__are_a_range_of_chunks_in_few_pieces(grid: Grid, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, grid.size))
    stop = data.draw(st.integers(start, grid.size))
    boxes = list(grid.boxes(start, stop))
    one_by_one = paint(grid, (grid.box(number) for number in range(start, stop)))
    assert np.array_equal(paint(grid, boxes), one_by_one)
    assert len(boxes) <= max(2 * len(grid.shape) - 1, 1)


@given(grids(), st.data())
def test_each__is_chunk_by_chunk(grid: Grid, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, grid.size))
    stop = data.draw(st.integers(start, grid.size))
    assert list(grid.each(start, stop)) == [grid.box(number) for number in range(start, stop)]


def test_boxes__of_huge_grids_are_arithmetic() -> None:
    grid = Grid((10**12, 10**12), (10, 10))
    assert grid.size == 10**22
    assert len(list(grid.boxes(5, 10**22 - 5))) <= 3
    assert grid.box(10**22 - 1) == ((10**12 - 10, 10**12),) * 2


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=1, max_size=3))
def test_intersect__is_what_both_have(pairs: list[tuple[int, int, int, int]]) -> None:
    left = tuple((min(a, b), max(a, b)) for a, b, _, _ in pairs)
    right = tuple((min(c, d), max(c, d)) for _, _, c, d in pairs)
    shared = set(product(*(range(*bounds) for bounds in left)))
    shared &= set(product(*(range(*bounds) for bounds in right)))
    box = intersect(left, right)
    assert (set() if box is None else set(product(*(range(*b) for b in box)))) == shared
