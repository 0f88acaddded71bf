"""The laws that every count obeys, against an oracle built on ``np.unique``."""

from __future__ import annotations

import copy
import itertools
import pickle
import random
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import answer, check_ledger, pictures, places, said, said_places
from strategies import FEW, FLOATS, INTEGERS, arrays, cuts, meanings, units

import fastcounts as fc
from fastcounts.classes import Options
from fastcounts.errors import (
    CountsOverflow,
    IncompatibleCounts,
    LabelRangeError,
    LedgerError,
    NonIntegralLabel,
    UnexpectedLabel,
)
from fastcounts.ledger import Ignored, Ledger


def feasible(meaning: dict[str, Any]) -> bool:
    """Whether a class is left when the ignored labels are taken out."""
    classes = meaning["classes"]
    return not isinstance(classes, dict) or bool(set(classes) - set(meaning["ignore"]))


def axes_of(array: np.ndarray) -> st.SearchStrategy[int | str]:
    choices: list[int | str] = ["auto", "array", *range(array.ndim)]
    return st.sampled_from(choices)


# ---- conservation, independence ----


@given(st.data(), arrays(), meanings().filter(feasible))
def test_count__equals_the_oracle(data: st.DataObject, array: np.ndarray, meaning: Any) -> None:
    items = data.draw(axes_of(array))
    expected = pictures(array, items)
    with units(data.draw(st.sampled_from([1, 3, 8, 1000]))):
        counts = fc.count(
            array,
            items=items,
            keep_items=True,
            workers=data.draw(st.integers(1, 3)),
            **meaning,
        )
    check_ledger(counts)
    assert said(counts) == answer(expected, **meaning)
    if meaning["classes"] is not None:
        assert said_places(counts) == places(expected, **meaning)


@given(st.data(), arrays(min_dims=1), meanings().filter(feasible))
def test_count__of_a_region_equals_the_oracle(
    data: st.DataObject, array: np.ndarray, meaning: Any
) -> None:
    items = data.draw(axes_of(array))
    region = []
    for length in array.shape:
        start = data.draw(st.integers(0, length))
        region.append(slice(start, data.draw(st.integers(start, length))))
    with units(data.draw(st.sampled_from([1, 3, 1000]))):
        counts = fc.count(
            array, items=items, region=tuple(region), workers=1, keep_items=True, **meaning
        )
    expected = pictures(array, items, region=tuple(region))
    assert said(counts) == answer(expected, **meaning)
    if meaning["classes"] is not None:
        assert said_places(counts) == places(expected, **meaning)


@given(st.lists(arrays(("?", "u1", ">u2", "<i4", ">f4")), min_size=1, max_size=4))
def test_count__of_a_list_equals_the_oracle(several: list[np.ndarray]) -> None:
    meaning: dict[str, Any] = {"ignore": (2,), "classes": 6}
    with units(5):
        counts = fc.count(several, workers=2, keep_items=True, **meaning)
    expected = [one for place, array in enumerate(several) for one in pictures(array, item=place)]
    assert said(counts) == answer(expected, **meaning)
    assert said_places(counts) == places(expected, **meaning)


@given(arrays(min_dims=1), st.sampled_from([1, 2, 7]), st.integers(2, 3))
def test_count__independent_of_units_workers_and_memory(
    array: np.ndarray, size: int, workers: int
) -> None:
    options: dict[str, Any] = {"items": 0, "keep_items": True, "classes": 4, "ignore": 1}
    alone = fc.count(array, workers=1, **options)
    with units(size):
        together = fc.count(array, workers=workers, memory="64MB", **options)
    assert together == alone
    assert said_places(together) == said_places(alone)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=64), st.randoms())
def test_count__independent_of_order(labels: list[int], chance: random.Random) -> None:
    shuffled = chance.sample(labels, len(labels))
    assert fc.count(np.array(labels, np.uint8)) == fc.count(np.array(shuffled, np.uint8))


# ---- merge ----


@given(st.data(), arrays(), meanings().filter(feasible), cuts())
def test_parts__merged_in_any_order_are_the_run(
    data: st.DataObject, array: np.ndarray, meaning: Any, parts: list[tuple[int, int]]
) -> None:
    options = {"items": data.draw(axes_of(array)), "keep_items": True, "source_id": "stack"}
    with units(data.draw(st.sampled_from([1, 2, 5, 1000]))):
        run = fc.count(array, workers=1, **options, **meaning)
        pieces = [fc.count(array, part=part, workers=1, **options, **meaning) for part in parts]
    merged = sum(pieces)
    assert merged == run
    assert (
        said(merged) == said(run) == answer(pictures(array, options["items"], "stack"), **meaning)
    )
    assert said_places(merged) == said_places(run)
    assert merged.incomplete is None
    assert reduce(lambda total, one: one + total, pieces) == run
    for piece in pieces:
        check_ledger(piece)
        if not piece.open_items:
            assert (merged - piece) + piece == run


@given(
    st.lists(arrays(("u1", "<u2"), min_dims=1, masks=False), min_size=1, max_size=4),
    cuts(),
    st.sampled_from(["auto", "file", "array"]),
)
def test_parts__of_several_arrays(
    several: list[np.ndarray], parts: list[tuple[int, int]], items: str
) -> None:
    options: dict[str, Any] = {"keep_items": True, "source_id": "set"}
    options["items"] = "array" if items == "file" else items
    with units(4):
        run = fc.count(several, **options)
        merged = sum(fc.count(several, part=part, workers=1, **options) for part in parts)
    assert merged == run
    assert run.items == sum(array.size > 0 for array in several)


@given(st.lists(arrays(min_dims=1), min_size=3, max_size=3), meanings().filter(feasible))
def test_merge__associative_commutative_with_identity(
    several: list[np.ndarray], meaning: Any
) -> None:
    try:
        a, b, c = (fc.count(one, items=0, keep_items=True, workers=1, **meaning) for one in several)
        whole = (a + b) + c
    except LabelRangeError:
        return
    assert whole == a + (b + c)
    assert a + b == b + a
    assert said_places(whole) == said_places(a + (b + c)) == said_places((c + b) + a)
    empty = fc.Counts()
    assert a + empty == a == empty + a
    assert sum([a, b, c]) == whole == reduce(add, [c, a, b])
    assert (a + b) - b == a
    assert (whole - a) - c == b
    check_ledger(whole)
    check_ledger(whole - b)


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.data())
def test_merge__of_sources_that_were_counted_apart(lengths: list[int], data: st.DataObject) -> None:
    named = [
        fc.count(np.full(length, place, np.uint8), source_id=f"file-{place}")
        for place, length in enumerate(lengths)
    ]
    order = data.draw(st.permutations(named))
    merged = sum(order)
    assert merged == sum(named)
    assert merged - order[0] == sum(order[1:])
    with pytest.raises(IncompatibleCounts, match="file-"):
        merged + order[-1]


def test_merge__keeps_items_open_across_regions_apart() -> None:
    """Halves of two different crops are not one whole item, however many pixels they have."""
    stack = np.arange(32, dtype=np.uint8).reshape(4, 8)
    options: dict[str, Any] = {"items": "array", "source_id": "stack", "workers": 1}
    with units(4):
        left = fc.count(stack, region=(slice(None), slice(0, 4)), part=(0, 2), **options)
        right = fc.count(stack, region=(slice(None), slice(4, 8)), part=(0, 2), **options)
    assert left.open_items
    assert right.open_items
    with pytest.raises(IncompatibleCounts, match="stack"):
        left + right


def test_merge__refuses_other_options_by_name() -> None:
    mask = np.zeros((2, 2), np.uint8)
    plain = fc.count(mask)
    for other, name in [
        (fc.count(mask, ignore=9), "ignore"),
        (fc.count(mask, classes=3), "classes"),
        (fc.count(mask, items=0), "items"),
    ]:
        with pytest.raises(IncompatibleCounts, match=name):
            plain + other
        with pytest.raises(IncompatibleCounts, match=name):
            plain - other


def test_parts__refuse_overlap_and_strangers() -> None:
    stack = np.arange(48, dtype=np.uint8).reshape(6, 8)
    with units(8):
        halves = [fc.count(stack, part=(n, 2), source_id="s", workers=1) for n in range(2)]
        third = fc.count(stack, part=(0, 3), source_id="s", workers=1)
        changed = fc.count(stack[:, :4], part=(1, 2), source_id="s", workers=1)
        whole = fc.count(stack, source_id="s", workers=1)
    for other in (halves[0], third, whole):
        with pytest.raises(IncompatibleCounts, match="s: both counts have seen the same part"):
            halves[0] + other
    with pytest.raises(IncompatibleCounts, match="changed"):
        halves[0] + changed
    assert "1 of 2" not in str(halves[0].incomplete)
    assert halves[0].incomplete
    assert sum(halves).incomplete is None
    with pytest.raises(IncompatibleCounts, match="more would be taken away"):
        halves[0] - whole


def test_minus__refuses_what_was_not_counted() -> None:
    a = fc.count(np.array([1, 1, 2], np.uint8), source_id="a")
    b = fc.count(np.array([1], np.uint8), source_id="b")
    with pytest.raises(IncompatibleCounts, match="b"):
        a - b
    anonymous = fc.count(np.array([1, 1, 1], np.uint8))
    with pytest.raises(IncompatibleCounts):
        fc.count(np.array([1], np.uint8)) - anonymous


def test_minus__refuses_open_items() -> None:
    stack = np.arange(16, dtype=np.uint8).reshape(4, 4)
    with units(4):
        run = fc.count(stack, source_id="s")
        part = fc.count(stack, source_id="s", part=(0, 2))
    with pytest.raises(IncompatibleCounts, match="open"):
        run - part


# ---- exactness ----


@given(st.integers(0, 2**62), st.integers(0, 2**62 - 1))
def test_exactness__of_huge_counts(first: int, second: int) -> None:
    a = fc.Counts.from_pixels({0: first, 5: 1}, classes=6, ignored={255: 3})
    b = fc.Counts.from_pixels({0: second}, classes=6, ignored={255: 0})
    if first + second + 4 >= 2**63:
        with pytest.raises(CountsOverflow):
            a + b
        return
    assert (a + b).pixels[0] == first + second
    assert (a + b) - b == a
    assert fc.Counts.from_dict((a + b).to_dict()) == a + b


def test_exactness__overflow_raises() -> None:
    half = fc.Counts.from_pixels({0: 2**62})
    assert (half + fc.Counts.from_pixels({0: 2**62 - 1})).pixels.tolist() == [2**63 - 1]
    with pytest.raises(CountsOverflow):
        half + half
    with pytest.raises(CountsOverflow):
        fc.Counts.from_pixels({0: 2**62, 1: 2**62})
    with pytest.raises(OverflowError):
        Ledger(total=2**63, counted=2**63)
    with pytest.raises(CountsOverflow):
        fc.count([np.broadcast_to(np.uint8(1), (2**31, 2**31))] * 2)


def test_exactness__presence_overflows_as_well() -> None:
    """No statistic exceeds the pixels, so none can overflow before they do."""
    with pytest.raises(LedgerError, match="presence_pixels"):
        fc.Counts.from_pixels({0: 1}, items=1, presence={0: 1}, presence_pixels={0: 2**62})
    one = fc.Counts.from_pixels({0: 2**62}, items=1, presence={0: 1}, presence_pixels={0: 2**62})
    with pytest.raises(CountsOverflow):
        one + one


def test_exactness__ledgers_beyond_any_float() -> None:
    counts = fc.Counts.from_pixels({0: 2**53 + 1, 1: 1}, ignored={9: 2**53 + 1})
    assert counts.ledger.total == 2**54 + 3
    assert counts.ledger.ignored[9] == Ignored(2**53 + 1, 0, 0)


# ---- purity ----


@given(arrays())
def test_purity__inputs_are_not_written_to(array: np.ndarray) -> None:
    before = copy.deepcopy(array)
    flags = str(array.flags)
    fc.count(array, classes=3, ignore=255, items="array")
    assert str(array.flags) == flags
    assert np.ma.getdata(before).tobytes() == np.ma.getdata(array).tobytes()
    if isinstance(array, np.ma.MaskedArray):
        assert np.array_equal(np.ma.getmaskarray(before), np.ma.getmaskarray(array))


def test_purity__counts_do_not_follow_their_arguments() -> None:
    pixels = np.array([3], np.int64)
    counts = fc.Counts(
        labels=np.array([1]),
        pixels=pixels,
        presence=np.array([0]),
        presence_pixels=np.array([0]),
        presence_pixels_total=np.array([0]),
        ledger=Ledger(total=3, counted=3),
    )
    pixels[0] = 7
    assert counts.pixels.tolist() == [3]
    with pytest.raises(ValueError, match="read-only"):
        counts.pixels[0] = 7


# ---- labels ----


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_labels__extremes_of_every_integer(dtype: str, order: str) -> None:
    limits = np.iinfo(dtype)
    array = np.array([limits.min, limits.max, limits.max], order + dtype)
    counts = fc.count(array)
    assert counts.labels.tolist() == [limits.min, limits.max]
    assert counts.pixels.tolist() == [1, 2]
    assert counts.labels.dtype == (np.uint64 if dtype == "u8" else np.int64)


def test_labels__bool() -> None:
    counts = fc.count(np.array([True, False, True]), classes=["no", "yes"])
    assert said(counts)["pixels"] == {0: 1, 1: 2}


@pytest.mark.parametrize("dtype", FLOATS)
def test_labels__floats_that_are_whole(dtype: str) -> None:
    counts = fc.count(np.array([1, np.nan, -0.0, 0.0, -7, np.nan], dtype))
    assert said(counts)["pixels"] == {0: 2, 1: 1, -7: 1}
    assert counts.ledger.nodata == 2


@pytest.mark.parametrize("wrong", [0.5, np.inf, -np.inf, 2.0**53 + 2, -(2.0**53) - 2])
@pytest.mark.parametrize("items", ["array", 0, 1, 2])
def test_labels__floats_that_are_not(wrong: float, items: int | str) -> None:
    array = np.zeros((3, 4, 5), ">f8")
    array[1, 2, 3] = wrong
    with units(7), pytest.raises(NonIntegralLabel) as caught:
        fc.count(array, items=items)
    assert caught.value.value == wrong
    assert caught.value.index == (1, 2, 3)
    assert "(1, 2, 3)" in str(caught.value)
    assert repr(wrong) in str(caught.value)
    masked = np.ma.masked_array(array, array == wrong)
    assert fc.count(masked, items=items).ledger.nodata == 1
    with units(7), pytest.raises(NonIntegralLabel) as caught:
        fc.count(np.ma.masked_array(array, np.zeros(array.shape, bool)), items=items)
    assert caught.value.index == (1, 2, 3)


def test_labels__2_to_the_53_is_the_last_float() -> None:
    counts = fc.count(np.array([2.0**53, -(2.0**53)]))
    assert counts.labels.tolist() == [-(2**53), 2**53]


def test_labels__negative_beside_huge() -> None:
    huge, negative = np.array([2**63], np.uint64), np.array([-1], np.int64)
    with pytest.raises(LabelRangeError):
        fc.count([huge, negative])
    with pytest.raises(LabelRangeError):
        fc.count(huge) + fc.count(negative)
    with pytest.raises(OverflowError):
        fc.count(huge, ignore=(-1, 2**63))
    mixed = fc.count([huge, np.array([5], np.int64)])
    assert mixed.labels.dtype == np.uint64
    assert mixed.labels.tolist() == [5, 2**63]
    assert (mixed - fc.count(huge)).labels.dtype == np.int64


def test_labels__huge_ones_fold_to_small_ones_beside_negative_ones() -> None:
    """Folding makes the huge label small before it meets the negative one."""
    folded = fc.count(
        np.array([[2**63, 5], [2**63, 2**63]], np.uint64), classes={5: "a", 2**63: "a"}, items=0
    )
    assert folded.labels.dtype == np.int64
    assert said(folded)["presence"] == {5: 2}


# ---- classes, ignored, unexpected ----


@given(arrays(INTEGERS), st.lists(st.sampled_from(FEW), min_size=1, unique=True))
def test_ignore__moves_pixels_and_changes_no_other(array: np.ndarray, ignore: list[int]) -> None:
    plain, without = fc.count(array), fc.count(array, ignore=ignore)
    kept = said(plain)["pixels"]
    for label in ignore:
        assert without.ledger.ignored[label].pixels == kept.pop(label, 0)
    assert said(without)["pixels"] == kept
    assert without.ledger.total == plain.ledger.total


def test_unexpected__three_places_for_256_labels() -> None:
    array = np.zeros((3, 20, 30), np.uint16)
    array[1:] = np.arange(1200).reshape(2, 20, 30) % 400
    for items, workers in itertools.product(("array", 0, 1, 2), (1, 3)):
        with units(37):
            counts = fc.count(array, classes=3, items=items, workers=workers)
        expected = places(pictures(array, items), classes=3)
        assert said_places(counts) == expected
        assert len(expected) == 256
        assert len(counts.ledger.unexpected) == 397


def test_unexpected__places_survive_merging() -> None:
    array = np.arange(600, dtype=np.uint16).reshape(20, 30) % 300
    with units(50):
        parts = [fc.count(array, classes=1, part=(n, 5), source_id="s") for n in range(5)]
    for order in (parts, parts[::-1], parts[1::2] + parts[::2]):
        assert said_places(sum(order)) == places(pictures(array, source="s"), classes=1)


def test_strict__names_the_smallest_place() -> None:
    array = np.zeros((4, 5), np.uint8)
    array[2, 3] = array[3, 1] = 9
    with pytest.raises(UnexpectedLabel, match=r"label 9 at \(2, 3\)") as caught:
        fc.count(array, classes=3, strict=True)
    assert caught.value.exit_code == 1
    assert fc.count(array, classes=3, ignore=9, strict=True).ledger.ignored[9].pixels == 2


def test_fold__presence_counts_an_item_once() -> None:
    array = np.array([[1, 2], [2, 2], [0, 0]], np.uint8)
    counts = fc.count(array, classes={0: "void", 1: "car", 2: "car"}, items=0)
    assert said(counts)["presence"] == {0: 1, 1: 2}
    assert counts.names == {0: "void", 1: "car"}
    assert counts.members == {1: (1, 2)}


def test_fold__into_what_is_left_when_the_smallest_is_ignored() -> None:
    counts = fc.count(
        np.array([1, 2, 3], np.uint8), classes={1: "car", 2: "car", 3: "car"}, ignore=1
    )
    assert said(counts)["pixels"] == {2: 2}
    assert counts.members == {2: (2, 3)}


# ---- values ----


@given(st.data(), arrays(min_dims=1), meanings().filter(feasible))
def test_values__pickle_and_files_keep_everything(
    data: st.DataObject, array: np.ndarray, meaning: Any
) -> None:
    with units(3):
        counts = fc.count(
            array,
            items=data.draw(axes_of(array)),
            keep_items=True,
            part=(0, data.draw(st.integers(1, 2))),
            source_id="s/1",
            workers=1,
            **meaning,
        )
    for other in (
        pickle.loads(pickle.dumps(counts)),
        copy.deepcopy(counts),
        fc.Counts.from_dict(counts.to_dict()),
    ):
        assert other == counts
        assert said(other) == said(counts)
        assert said_places(other) == said_places(counts)
        assert dict(other.provenance) == dict(counts.provenance)


def test_values__options_are_understood_once() -> None:
    assert Options.parse(255) == Options.parse([255]) == Options.parse(np.uint8(255))
    assert Options.parse(None, ["a", "b"]) == Options.parse((), {0: "a", 1: "b"})


def test_values__sample_places_and_provenance_are_no_part_of_equality() -> None:
    array = np.array([[0, 9], [9, 0]], np.uint8)
    assert fc.count(array, classes=1) == fc.count(array[:, ::-1], classes=1)
