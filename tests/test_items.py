"""Items: open ones, and the table of those that were seen whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcounts.errors import FormatError, IncompatibleCounts, OptionError
from fastcounts.items import ItemKey, ItemTable, OpenItem

Row = tuple[ItemKey, dict[int, int]]
ROWS = st.lists(
    st.tuples(
        st.builds(ItemKey, st.sampled_from(["", "a", "b"]), st.integers(0, 3)),
        st.dictionaries(st.integers(-2, 4) | st.just(2**40), st.integers(1, 9), max_size=4),
    ),
    max_size=8,
)


def table(rows: list[Row]) -> ItemTable:
    offsets = np.concatenate([[0], np.cumsum([len(row) for _, row in rows])]).astype(np.int64)
    pairs = [pair for _, row in rows for pair in sorted(row.items())]
    labels = np.array([label for label, _ in pairs], np.int64)
    pixels = np.array([number for _, number in pairs], np.int64)
    return ItemTable.of([key for key, _ in rows], offsets, labels, pixels)


def plain(rows: list[Row]) -> list[Any]:
    return sorted((key, *map(tuple, zip(*sorted(row.items()), strict=True))) for key, row in rows)


def said(found: ItemTable) -> list[Any]:
    return [(key, *((labels, pixels) if labels else ())) for key, labels, pixels in found.rows()]


@given(ROWS, ROWS)
def test_tables__are_bags_of_rows(left: list[Row], right: list[Row]) -> None:
    a, b = table(left), table(right)
    assert said(a) == plain(left)
    assert len(a) == len(left)
    assert a.join(b) == b.join(a) == table(left + right)
    assert a.join(b).without(b) == a
    assert table(left[::-1]) == a


@given(ROWS)
def test_tables__travel(rows: list[Row]) -> None:
    assert ItemTable.from_dict(table(rows).to_dict()) == table(rows)


@given(ROWS, st.lists(st.integers(-2, 5), unique=True))
def test_dense__has_a_column_for_each_label(rows: list[Row], labels: list[int]) -> None:
    found = table(rows)
    lookup = [dict(zip(names, pixels, strict=True)) for _, names, pixels in found.rows()]
    expected = [[row.get(label, 0) for label in labels] for row in lookup]
    assert found.dense(labels).tolist() == expected
    assert found.dense(labels).shape == (len(rows), len(labels))


def test_dense__refuses_a_label_twice() -> None:
    with pytest.raises(OptionError):
        table([]).dense([1, 1])


def test_without__refuses_rows_that_are_not_there() -> None:
    a = table([(ItemKey("a", 0), {1: 2})])
    with pytest.raises(IncompatibleCounts):
        a.without(table([(ItemKey("a", 0), {1: 3})]))
    with pytest.raises(IncompatibleCounts):
        a.without(a.join(a))


def item(seen: int, total: int, **pixels: int) -> OpenItem:
    labels = np.array([int(name[1:]) for name in pixels], np.int64)
    return OpenItem(ItemKey("a", 1), seen, total, labels, np.array(list(pixels.values()), np.int64))


def test_open_items__join() -> None:
    joined = item(3, 10, x1=2, x5=1).join(item(4, 10, x0=1, x5=2))
    assert joined == item(7, 10, x0=1, x1=2, x5=3)
    assert OpenItem.from_dict(joined.to_dict()) == joined


def test_open_items__of_other_sizes_do_not_belong_together() -> None:
    with pytest.raises(IncompatibleCounts, match="a item 1"):
        item(3, 10).join(item(3, 11))
    with pytest.raises(IncompatibleCounts, match="do not belong together"):
        item(6, 10).join(item(6, 10))
    with pytest.raises(IncompatibleCounts, match="do not belong together"):
        item(1, 10, x1=2)


@pytest.mark.parametrize("data", [None, [], {}, 3, {"source": "a"}], ids=str)
def test_items__from_nonsense(data: Any) -> None:
    with pytest.raises(FormatError, match="open_items"):
        OpenItem.from_dict(data)
    with pytest.raises(FormatError, match="item_table"):
        ItemTable.from_dict(data)
