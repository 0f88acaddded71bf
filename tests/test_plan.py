"""Plans: every pixel once, within the memory that is allowed."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcounts.errors import MemoryBudgetError, OptionError
from fastcounts.grid import volume
from fastcounts.plan import ArrayInfo, Plan, divide, make_plan, resolve_region, virtual_chunks


def info(
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    inner: tuple[int, ...] | None = None,
    **options: Any,
) -> ArrayInfo:
    facts = {"name": "a", "source": "a", "file": "", "digest": "d", "dtype": np.dtype("u1")}
    return ArrayInfo(shape=shape, chunks=chunks, inner=inner, **(facts | options))


@st.composite
def infos(draw: st.DrawFn, name: str = "a") -> ArrayInfo:
    """Arrays of any shape, in chunks, shards, or as views."""
    shape = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=3)))
    inner = tuple(draw(st.integers(1, 4)) for _ in shape)
    unit = tuple(length * draw(st.integers(1, 3)) for length in inner)
    kind = draw(st.sampled_from(["chunks", "shards", "view"]))
    return info(
        shape,
        unit,
        inner if kind == "shards" else None,
        name=name,
        source=name,
        is_view=kind == "view",
        dtype=np.dtype(draw(st.sampled_from(["u1", "u2", "i8"]))),
    )


def paint(plan: Plan, onto: list[np.ndarray]) -> None:
    for block in plan.blocks():
        assert volume(block.box) > 0
        onto[block.array][tuple(slice(*bounds) for bounds in block.box)] += 1


@given(
    st.lists(infos(), min_size=1, max_size=3),
    st.integers(1, 4),
    st.none() | st.integers(5 << 20, 40 << 20),
    st.integers(1, 5),
    st.sampled_from(["auto", 0]),
)
def test_plan__covers_every_pixel_once(
    arrays: list[ArrayInfo], workers: int, memory: int | None, parts: int, items: int | str
) -> None:
    options: dict[str, Any] = {"items": items, "workers": workers, "memory": memory}
    run = make_plan(arrays, **options)
    painted = [np.zeros(one.shape, int) for one in arrays]
    paint(run, painted)
    assert all((one == 1).all() for one in painted)
    assert run.pixels == sum(prod(one.shape) for one in arrays)
    for part in range(parts):
        paint(make_plan(arrays, part=(part, parts), **options), painted)
    assert all((one == 2).all() for one in painted)


@given(infos(), st.integers(1, 6))
def test_parts__are_about_equal(array: ArrayInfo, parts: int) -> None:
    plans = [make_plan([array], part=(part, parts)) for part in range(parts)]
    assert plans[0].share[0] == 0
    assert plans[-1].share[1] == plans[0].units
    assert [plan.share[0] for plan in plans[1:]] == [plan.share[1] for plan in plans[:-1]]
    sizes = [stop - start for start, stop in (plan.share for plan in plans)]
    assert max(sizes) - min(sizes) <= 1
    assert len({plan.digest for plan in plans}) == 1


@given(infos(), st.integers(1, 8))
def test_parts__do_not_depend_on_who_runs_them(array: ArrayInfo, workers: int) -> None:
    here = make_plan([array], part=(1, 3))
    there = make_plan([array], part=(1, 3), workers=workers, memory=64 << 20)
    assert here.share == there.share
    assert here.covers() == there.covers()


@given(infos())
def test_digest__tells_runs_apart(array: ArrayInfo) -> None:
    other = info(array.shape, array.chunks, name="b", source="b")
    assert make_plan([array]).digest != make_plan([other]).digest
    assert make_plan([array]).digest != make_plan([array, other]).digest


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=3),
    st.data(),
    st.integers(1, 300),
)
def test_divide__keeps_every_element_and_the_limit(
    bounds: list[tuple[int, int]], data: st.DataObject, limit: int
) -> None:
    box = tuple((start, start + length) for start, length in bounds)
    inner = tuple(data.draw(st.integers(1, 4)) for _ in box)
    order = data.draw(st.permutations(range(len(box))))
    painted = np.zeros([stop for _, stop in box], int)
    pieces = divide(box, inner, limit, order)
    for piece in pieces:
        painted[tuple(slice(*bounds) for bounds in piece)] += 1
        assert volume(piece) <= max(limit, prod(inner))
    assert (painted[tuple(slice(*bounds) for bounds in box)] == 1).all()
    assert painted.sum() == volume(box)


def test_divide__follows_the_inner_chunks() -> None:
    pieces = divide(((0, 64), (0, 64)), (8, 16), 8 * 64, (0, 1))
    assert len(pieces) == 8
    assert all(start % 8 == 0 for (start, _), _ in pieces)
    assert divide(((0, 64), (0, 64)), None, 1, (0, 1)) == [((0, 64), (0, 64))]


def test_memory__is_a_promise() -> None:
    array = info((4096, 4096), (1024, 1024))
    plan = make_plan([array], workers=8, memory=32 << 20)
    assert plan.peak_bytes <= 32 << 20
    assert 1 <= plan.workers < 8
    with pytest.raises(MemoryBudgetError, match="would do") as caught:
        make_plan([array], memory=4 << 20)
    assert isinstance(caught.value, MemoryError)
    needed = int(str(caught.value).split(";")[1].split()[0])
    assert make_plan([array], memory=needed).peak_bytes <= needed
    with pytest.raises(MemoryBudgetError):
        make_plan([array], memory=needed - 1)


def test_memory__divides_shards() -> None:
    shards = info((4096, 4096), (4096, 4096), (64, 64))
    plan = make_plan([shards], memory=8 << 20)
    assert plan.peak_bytes <= 8 << 20
    assert max(volume(block.box) for block in plan.blocks()) * 3 <= 8 << 20


@pytest.mark.parametrize("part", [(1, 1), (-1, 2), (0, 0), (2, 1), (0, -1)])
def test_part__refuses(part: tuple[int, int]) -> None:
    with pytest.raises(OptionError, match="part"):
        make_plan([info((4,), (2,))], part=part)


def test_items__refuses_an_axis_that_is_not_there() -> None:
    for axis in (2, -1, 7):
        with pytest.raises(OptionError, match=rf"no axis {axis}"):
            make_plan([info((4, 4), (2, 2))], items=axis)
    with pytest.raises(OptionError, match="no axes"):
        make_plan([info((), ())], items=0)
    with pytest.raises(OptionError, match="not in a file"):
        make_plan([info((4, 4), (2, 2))], items="file")


@pytest.mark.parametrize(
    ("region", "box"),
    [
        (slice(None), ((0, 20), (0, 30))),
        (slice(2, 5), ((2, 5), (0, 30))),
        ((slice(2, 5), slice(-3, None)), ((2, 5), (27, 30))),
        ((3, (4, 9)), ((3, 4), (4, 9))),
        ((..., 7), ((0, 20), (7, 8))),
        (-1, ((19, 20), (0, 30))),
        ((slice(5, 5),), ((5, 5), (0, 30))),
        (np.int64(4), ((4, 5), (0, 30))),
    ],
)
def test_region__is_understood(region: Any, box: Any) -> None:
    assert resolve_region(region, (20, 30)) == box


@pytest.mark.parametrize(
    "region",
    [
        slice(0, 10, 2),
        slice(0, 21),
        slice(9, 3),
        20,
        -21,
        "0:3",
        1.5,
        (1, 2, 3),
        (..., ...),
        slice(0.0, 3),
        None,
    ],
    ids=str,
)
def test_region__refuses(region: Any) -> None:
    with pytest.raises(OptionError, match="region"):
        resolve_region(region, (20, 30))


def test_region__that_is_everything_is_no_region() -> None:
    array = info((4, 6), (2, 3))
    whole = make_plan([array], region=(slice(0, 4), slice(0, 6)))
    assert whole.covers() == make_plan([array]).covers()
    assert whole.digest == make_plan([array]).digest


@given(st.lists(st.integers(0, 50), max_size=4), st.integers(1, 500), st.data())
def test_virtual_chunks__are_small_enough(shape: list[int], most: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    chunks = virtual_chunks(tuple(shape), most, order)
    assert prod(chunks) <= most
    assert all(1 <= chunk <= max(n, 1) for chunk, n in zip(chunks, shape, strict=True))
