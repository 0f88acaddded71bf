"""Tables: constants, draining, refusing, and what stays after an error."""

from __future__ import annotations

import numpy as np
import pytest

from fastcounts import errors
from fastcounts.kernels import count, count_items, table

LABELS = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


@pytest.mark.parametrize("dtype", LABELS)
def test_drain_empties_the_table(dtype, as_counts):
    counts = table(np.dtype(dtype))
    counts.add(np.ones(100, dtype))
    assert as_counts(counts.drain()) == ({1: 100}, 0)
    assert as_counts(counts.drain()) == ({}, 0)


@pytest.mark.parametrize("dtype", LABELS)
def test_constants_are_pixels(dtype, as_counts):
    counts = table(np.dtype(dtype))
    counts.add(np.ones((3, 5), dtype))
    counts.add_constant(1, 2**40)
    counts.add_constant(0, 2)
    counts.add_constant(0, 0)
    assert as_counts(counts.drain()) == ({0: 2, 1: 2**40 + 15}, 0)
    assert as_counts(counts.drain()) == ({}, 0)


def test_constants__the_largest_labels(as_counts):
    counts = table(np.dtype(np.uint64))
    counts.add(np.array([3], np.uint64))
    counts.add_constant(2**64 - 1, 7)
    assert as_counts(counts.drain()) == ({3: 1, 2**64 - 1: 7}, 0)


def test_constants__overflow_is_an_error_and_adds_nothing(as_counts):
    counts = table(np.dtype(np.uint8))
    counts.add_constant(4, 2**63 - 1)
    with pytest.raises(OverflowError):
        counts.add_constant(4, 1)
    with pytest.raises(OverflowError):
        counts.add(np.full(3, 4, np.uint8))
    assert as_counts(counts.drain()) == ({4: 2**63 - 1}, 0)


@pytest.mark.parametrize(
    ("dtype", "label"),
    [
        ("?", 2),
        ("u1", 256),
        ("u1", -1),
        ("i1", 128),
        ("u8", 2**64),
        ("f2", 2049),
        ("f8", 2**53 + 1),
    ],
)
def test_constants__a_label_that_does_not_fit_is_refused(dtype, label):
    with pytest.raises(errors.OptionError, match=str(label)):
        table(np.dtype(dtype)).add_constant(label, 1)


def test_constants__a_negative_number_of_pixels_is_refused():
    with pytest.raises(errors.OptionError, match="-3"):
        table(np.dtype(np.uint8)).add_constant(1, -3)


@pytest.mark.parametrize("dtype", ["c16", "O", "S3", "U2", "M8[s]", "m8[s]", "V4", "i4,i4", "g"])
def test_other_types_are_refused_by_name(dtype):
    array = np.zeros(3, dtype)
    for call in (count, lambda a: count_items(a, 0), lambda a: table(a.dtype)):
        with pytest.raises(errors.UnsupportedSource, match=r"hold no labels"):
            call(array)


def test_an_array_of_another_type_is_refused():
    with pytest.raises(errors.UnsupportedSource, match="int8"):
        table(np.dtype(np.uint8)).add(np.zeros(3, np.int8))


def test_a_masked_array_is_refused():
    with pytest.raises(errors.UnsupportedSource, match="masked"):
        count(np.ma.masked_equal(np.zeros(3, np.uint8), 0))


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("wrong", [0.5, -2.25, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_pixel_that_is_no_label_is_named_and_nothing_is_added(dtype, wrong, order, as_counts):
    array = np.ones((60, 70), dtype, order=order)
    array[5] = np.arange(70)
    array[41, 3] = array[41, 2] = array[50, 0] = wrong
    counts = table(array.dtype)
    counts.add(array[:5])
    with pytest.raises(errors.NonIntegralLabel) as caught:
        counts.add(array)
    assert (caught.value.value, caught.value.index) == (wrong, (41, 2))
    assert as_counts(counts.drain()) == ({1: 350}, 0)
    with pytest.raises(errors.NonIntegralLabel) as caught:
        count_items(array, 1)
    assert caught.value.index == (41, 2)
    with pytest.raises(errors.NonIntegralLabel) as caught:
        count(np.tile(array, (1000, 1)), threads=3)
    assert caught.value.index == (41, 2)


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8"])
def test_a_pixel_that_is_no_label_is_found_far_into_a_large_array(dtype):
    array = np.zeros((3, 500, 700), dtype)
    array[2, 301, 699] = array[2, 302, 0] = 0.25
    for view, index in ((array, (2, 301, 699)), (array[::-1], (0, 301, 699))):
        with pytest.raises(errors.NonIntegralLabel) as caught:
            count(view)
        assert caught.value.index == index


@pytest.mark.parametrize("wrong", [2.0**53 + 2, -(2.0**60), 1e300])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_whole_number_beyond_exactness_is_no_label(dtype, wrong):
    with np.errstate(over="ignore"):
        array = np.array([[0, 1], [2.0**53, wrong]], dtype)
    if np.isinf(array[1, 1]) or array[1, 1] == 2.0**53:
        array[1, 1] = 2.0**54
    with pytest.raises(errors.NonIntegralLabel) as caught:
        count(array)
    assert caught.value.index == (1, 1)


def test_many_labels(as_counts, oracle):
    rng = np.random.default_rng(5)
    for dtype in ("u4", "u8", "f8"):
        array = rng.integers(0, 2**31, 200_000).astype(dtype)
        array[::7] = 3
        assert as_counts(count(array)) == oracle(array)


def test_memory_follows_the_labels_not_the_pixels():
    counts = table(np.dtype(np.int64))
    counts.add(np.zeros(1_000_000, np.int64))
    assert counts.nbytes < 2_000_000
    counts.add(np.arange(100_000))
    assert 1_600_000 <= counts.nbytes < 10_000_000


@pytest.mark.parametrize("before", [0, 1000, 1_000_000])
def test_no_memory_for_growth_adds_nothing(before, monkeypatch, as_counts):
    from fastcounts.kernels import tables

    counts = table(np.dtype(np.uint64))
    counts.add(np.arange(5, dtype=np.uint64))

    def no_memory(capacity):
        raise MemoryError

    labels = np.concatenate([np.arange(before) // 9 % 7, np.arange(100_000) * 3])
    monkeypatch.setattr(tables, "_hash_table", no_memory)
    with pytest.raises(MemoryError):
        counts.add(labels.astype(np.uint64))
    monkeypatch.undo()
    assert as_counts(counts.drain()) == (dict.fromkeys(range(5), 1), 0)


def test_the_window_moves_to_where_the_labels_are(as_counts):
    """Small labels of wide types take another way; wherever they lie, none is lost."""
    counts = table(np.dtype(np.int64))
    expected: dict[int, int] = {}
    rng = np.random.default_rng(2)
    for base in (0, 1000, -1, -128, 2**62, 5, 0, 10**12, -(2**63)):
        labels = base + rng.integers(0, 200, 100_000)
        counts.add(labels)
        for label, pixels in zip(*np.unique(labels, return_counts=True), strict=True):
            expected[int(label)] = expected.get(int(label), 0) + int(pixels)
    assert as_counts(counts.drain()) == (expected, 0)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "u8", "f8"])
def test_memory_does_not_grow_with_the_pixels(dtype):
    small, large = table(np.dtype(dtype)), table(np.dtype(dtype))
    labels = np.random.default_rng(0).integers(0, 200, 1_000_000).astype(dtype)
    small.add(labels[:10_000])
    for _ in range(3):
        large.add(labels)
    assert large.nbytes == small.nbytes < 2_000_000


def test_ten_thousand_items_of_few_labels_each(oracle):
    items = np.zeros((10_000, 8, 8), np.uint8)
    items[:, 0, 0] = np.arange(10_000) % 251
    tally = count_items(items, 0)
    assert tally.offsets[-1] == tally.labels.size == 10_000 + np.count_nonzero(items[:, 0, 0])
    assert int(tally.pixels.sum()) == items.size


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "f4", "u8"])
def test_threads_share_an_array(threads, dtype, oracle, as_counts, monkeypatch):
    from fastcounts.kernels import arrays

    monkeypatch.setattr(arrays, "_LEAST_BYTES", 1 << 12)
    monkeypatch.setattr(arrays, "_SHARE_BYTES", 1 << 10)
    array = np.random.default_rng(1).integers(0, 50, (97, 3, 311)).astype(dtype)
    for view in (array, array.T, array[::2, :, ::-3]):
        assert as_counts(count(view, threads=threads)) == oracle(view)


def test_fewer_threads_than_one_are_refused():
    with pytest.raises(errors.OptionError, match="threads=0"):
        count(np.zeros(3, np.uint8), threads=0)
