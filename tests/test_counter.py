"""Counting masks as they come: the counts are those of counting all of them at once."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastcounts as fc
from fastcounts.engine import counter as module
from fastcounts.errors import (
    LabelRangeError,
    NonIntegralLabel,
    OptionError,
    UnexpectedLabel,
    UnsupportedSource,
)
from tests.strategies import DTYPES, elements

CLASSES = {0: "road", 1: "car", 2: "car", 7: None}


def batches(rank: int) -> st.SearchStrategy[list[np.ndarray]]:
    """Arrays of one rank, of any type, some of them masked or without pixels."""

    @st.composite
    def batch(draw: st.DrawFn) -> np.ndarray:
        from hypothesis.extra import numpy as hnp

        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
        shape = draw(hnp.array_shapes(min_dims=rank, max_dims=rank, min_side=0, max_side=4))
        array = draw(hnp.arrays(dtype, shape, elements=elements(dtype)))
        if draw(st.booleans()):
            array = np.asfortranarray(array)
        if draw(st.booleans()):
            return np.ma.MaskedArray(array, draw(hnp.arrays(bool, shape)))
        return array

    return st.lists(batch(), min_size=1, max_size=5)


def counted(masks: list[np.ndarray], **options: object) -> fc.Counts:
    counter = fc.Counter(**options)  # type: ignore[arg-type]
    for mask in masks:
        counter.update(mask)
    return counter.counts


def places(counts: fc.Counts) -> dict:
    return {label: entry.places for label, entry in counts.ledger.unexpected.items()}


OPTIONS = st.fixed_dictionaries(
    {
        "classes": st.sampled_from([None, CLASSES]),
        "ignore": st.sampled_from([None, 5, (2, 255)]),
        "keep_items": st.booleans(),
    }
)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 3).flatmap(batches), OPTIONS)
def test_counter__equals_the_count_of_the_list(masks, options) -> None:
    try:
        expected = fc.count(masks, **options)
    except LabelRangeError:
        with pytest.raises(LabelRangeError):
            counted(masks, **options)
        return
    found = counted(masks, **options)
    assert found == expected
    assert places(found) == places(expected)


@settings(deadline=None, max_examples=60)
@given(st.data(), OPTIONS, st.integers(0, 2))
def test_counter__equals_the_count_of_the_joined_batches(data, options, axis) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 4)] * 2))
    dtype = np.dtype(data.draw(st.sampled_from(("u1", "<i2", ">u4", "<i8", "<f4"))))
    lengths = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    from hypothesis.extra import numpy as hnp

    stacks = [
        np.moveaxis(
            data.draw(hnp.arrays(dtype, (length, *shape), elements=elements(dtype))), 0, axis
        )
        for length in lengths
    ]
    expected = fc.count(np.concatenate(stacks, axis), items=axis, **options)
    found = counted(stacks, items=axis, **options)
    assert found == expected
    assert places(found) == places(expected)


def test_counter__goes_on_after_its_counts_were_read() -> None:
    counter = fc.Counter(items=0, keep_items=True)
    assert counter.counts == fc.Counter(items=0, keep_items=True).counts
    first = np.array([[[0, 1]], [[1, 1]]], np.uint8)
    counter.update(first)
    once = counter.counts
    assert once == counter.counts == fc.count(first, items=0, keep_items=True)
    counter.update(first)
    assert once.items == 2, "counts that were read do not change"
    assert counter.counts == fc.count(np.concatenate([first, first]), items=0, keep_items=True)
    assert counter.counts + fc.count(first, items=0, keep_items=True)


def test_counter__does_not_keep_or_change_what_it_is_given() -> None:
    counter, buffer = fc.Counter(), np.zeros((2, 2), np.uint8)
    for label in range(3):
        buffer[...] = label
        buffer.flags.writeable = False
        counter.update(buffer)
        buffer.flags.writeable = True
    assert counter.counts.as_dict() == {0: 4, 1: 4, 2: 4}


def test_counter__adds_up_when_much_is_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = [np.array([n % 7, n % 3], np.uint8) for n in range(50)]
    expected = fc.count(masks, keep_items=True)
    for name in ("_MAX_PENDING", "_MAX_UPDATES"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 3)
            assert counted(masks, keep_items=True) == expected


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (np.array([0.0, 0.5]), NonIntegralLabel, r"update 1, pixel \(1,\): 0.5 is no label"),
        (np.ma.MaskedArray([9.5, 0, 1.5], [1, 0, 0]), NonIntegralLabel, r"pixel \(2,\): 1.5"),
        (np.array([2**63], np.uint64), LabelRangeError, "labels run from -1 to"),
        (np.array([3, 99], np.int8), UnexpectedLabel, r"update 1: label 99 at \(1,\), image 1"),
        (np.array([1j]), UnsupportedSource, "complex"),
        ([0, 1], UnsupportedSource, "builtins.list"),
        ("masks.png", UnsupportedSource, "builtins.str"),
        (None, UnsupportedSource, "NoneType"),
    ],
)
def test_counter__is_as_it_was_after_an_error(wrong, error, message) -> None:
    counter = fc.Counter(classes={-1: "a", 3: "b", 2**62: "c", 0: "d", 9: "e"}, strict=True)
    counter.update(np.array([-1, 3], np.int64))
    before = counter.counts
    with pytest.raises(error, match=message):
        counter.update(wrong)
    assert counter.counts == before
    counter.update(np.array([3.0, np.nan]))
    assert counter.counts.as_dict() == {-1: 1, 0: 0, 3: 2, 9: 0, 2**62: 0}
    assert counter.counts.ledger.nodata == 1


def test_counter__refuses_negative_beside_huge_labels_without_classes() -> None:
    counter = fc.Counter()
    counter.update(np.array([2**63], np.uint64))
    with pytest.raises(LabelRangeError):
        counter.update(np.array([-1], np.int8))
    assert counter.counts.as_dict() == {2**63: 1}


def test_counter__names_the_pixel_of_a_batch() -> None:
    counter = fc.Counter(items=1)
    batch = np.zeros((2, 3, 4))
    batch[1, 2, 3] = 0.25
    for wrong in (batch, np.ma.MaskedArray(batch, False)):
        with pytest.raises(NonIntegralLabel, match=r"pixel \(1, 2, 3\): 0.25"):
            counter.update(wrong)


@pytest.mark.parametrize("items", ["file", -1, "time", 1.5])
def test_counter__refuses_items_that_arrays_do_not_have(items) -> None:
    with pytest.raises(OptionError, match="items"):
        fc.Counter(items=items)


def test_counter__refuses_a_mask_without_the_axis() -> None:
    with pytest.raises(OptionError, match=r"shape \(4,\), and no axis 1"):
        fc.Counter(items=1).update(np.zeros(4, np.uint8))


def test_counter__counts_from_several_threads() -> None:
    counter = fc.Counter(items=0)
    batch = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: counter.update(batch), range(200)))
    assert counter.counts.items == 600
    assert set(counter.counts.as_dict().values()) == {200}


def test_counter__counts_tensors_of_the_cpu() -> None:
    torch = pytest.importorskip("torch")
    counter = fc.Counter(items=0)
    labels = np.array([[[0, 3], [3, 255]]])
    for dtype in (torch.uint8, torch.int16, torch.int64, torch.float32):
        counter.update(torch.tensor(labels).to(dtype))
    counter.update(torch.tensor(labels).transpose(1, 2))
    assert counter.counts == fc.count(np.concatenate([labels] * 5), items=0)
    for wrong, message in (
        (torch.zeros(2, requires_grad=True), "requires gradients"),
        (torch.zeros(2, dtype=torch.bfloat16), "bfloat16"),
        (torch.zeros((2, 2), dtype=torch.int64).to_sparse(), "dense tensor"),
        (torch.zeros(2, device="meta"), r"on meta: .*mask.cpu\(\)"),
    ):
        with pytest.raises(UnsupportedSource, match=message):
            counter.update(wrong)


def test_counter__does_not_import_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(UnsupportedSource):
        fc.Counter().update(SimpleNamespace(device="cpu"))
    assert "torch" not in sys.modules
