"""Inputs that each take another way through the kernels, against the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from fastcounts.kernels import count, count_items, table

SIZE = 300_001


def _runs(rng, mean, labels):
    lengths = rng.geometric(1 / mean, int(SIZE / mean * 1.5) + 10)
    return np.repeat(rng.integers(0, labels, lengths.size), lengths)[:SIZE]


def _inputs():
    rng = np.random.default_rng(11)
    for mean in (1.5, 3, 6, 12, 40, 150, 5000):
        yield f"runs of {mean}", _runs(rng, mean, 31)
        yield f"runs of {mean}, many labels", _runs(rng, mean, 256)
    for labels in (1, 2, 3, 12, 31, 32, 33, 64, 256):
        yield f"noise of {labels}", rng.integers(0, labels, SIZE)
    for period in (2, 3, 7, 8, 9, 33, 64, 65):
        yield f"period {period}", np.arange(SIZE) % period
    for tile in (100, 1024, 4096, 10_000):
        noise = rng.integers(0, 256, SIZE)
        turns = np.arange(SIZE) // tile
        yield f"noise and runs by {tile}", np.where(turns % 2, turns % 250, noise)
    for every in (8, 64, 500):
        odd = np.full(SIZE, 9)
        odd[::every] = rng.integers(0, 256, odd[::every].size)
        yield f"an odd pixel in {every}", odd
    few = rng.integers(0, 30, SIZE)
    few[rng.integers(0, SIZE, 50)] = 200
    yield "noise of 30 and a rare label", few
    phases = [rng.integers(0, 12, SIZE // 3), _runs(rng, 50, 20)[: SIZE // 3]]
    yield "phases", np.concatenate([*phases, rng.integers(0, 256, SIZE // 3), *phases])


INPUTS = dict(_inputs())
TYPES = ["u1", "i1", "<u2", "<i2", ">u2", "<i4", "<u4", "<i8", "<u8", ">u8", "<f2", "<f4", "<f8"]


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_way_through_the_kernels(name, dtype, oracle, as_counts):
    array = INPUTS[name].astype(dtype)
    assert as_counts(count(array)) == oracle(array)


@pytest.mark.parametrize("name", ["noise of 12", "noise of 256", "runs of 6", "runs of 40"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
def test_every_size_and_alignment(name, dtype, oracle, as_counts):
    array = INPUTS[name].astype(dtype)
    for size in (0, 1, 2, 63, 64, 65, 66, 127, 128, 129, 4095, 4096, 4097, 4161, 9000):
        for start in (0, 1, 31, 33):
            part = array[start : start + size]
            assert as_counts(count(part)) == oracle(part)


@pytest.mark.parametrize("dtype", ["u2", "u4", "u8"])
def test_unaligned_memory(dtype, oracle, as_counts):
    memory = np.zeros(SIZE, np.uint8)
    array = memory[1 : 1 + 20_000 * np.dtype(dtype).itemsize].view(dtype)
    array[:] = np.arange(20_000) // 30
    assert not array.flags.aligned
    assert as_counts(count(array)) == oracle(array)


def test_what_was_learned_does_not_leak_into_the_next_count(oracle, as_counts):
    counts = table(np.dtype(np.uint8))
    for name in (*INPUTS, *reversed(INPUTS)):
        array = INPUTS[name].astype(np.uint8)
        counts.add(array)
        assert as_counts(counts.drain()) == oracle(array)


def test_pairs_are_settled_before_they_overflow(monkeypatch, oracle, as_counts):
    from fastcounts.kernels import tables

    monkeypatch.setattr(tables, "_MOST_PAIRED", 10_000)
    array = INPUTS["noise of 256"].astype(np.uint8)
    assert as_counts(count(array)) == oracle(array)


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_every_bit_of_a_label_counts(dtype, as_counts):
    labels = np.array([1 << bit for bit in range(63)], dtype)
    array = np.repeat(labels, 100)
    assert as_counts(count(array)) == (dict.fromkeys(labels.tolist(), 100), 0)


def test_the_pattern_that_marks_a_free_place_is_a_label_like_any_other(oracle, as_counts):
    from fastcounts.kernels import sparse

    array = np.arange(1, 1001, dtype=np.int64)
    array[300:307] = sparse.EMPTY
    array[500] = sparse.EMPTY
    labels, _nodata = as_counts(count(array))
    assert labels[sparse.EMPTY] == 8
    assert len(labels) == 993
    noise = np.random.default_rng(0).integers(0, 5000, 100_000)
    noise[::3] = sparse.EMPTY
    assert as_counts(count(noise)) == oracle(noise)
    assert as_counts(count(noise.astype(np.float64))) == oracle(noise)


def test_masks_of_nan(as_counts):
    array = np.full(10_000, np.nan, np.float32)
    array[100:200] = -0.0
    array[200:250] = 0.0
    array[250] = -3
    assert as_counts(count(array)) == ({-3: 1, 0: 150}, 9849)


@pytest.mark.parametrize("dtype", ["u2", "i2", ">u2", "i4", "u8"])
@pytest.mark.parametrize("run", [1, 40])
@pytest.mark.parametrize("tile", [64, 4096, 10_000])
def test_labels_that_fit_into_a_byte_by_turns(dtype, run, tile, oracle, as_counts):
    """Tiles are counted as bytes where they can be, alone and item by item."""
    rng = np.random.default_rng(3)
    labels = np.repeat(rng.integers(0, 31, SIZE // run + 1), run)[:300_000]
    labels[np.arange(300_000) // tile % 3 == 2] += 250
    labels = labels.astype(dtype)
    assert as_counts(count(labels)) == oracle(labels)
    counts = table(labels.dtype)
    for _ in range(3):
        counts.add(labels)
        assert as_counts(counts.drain()) == oracle(labels)
    items = count_items(labels.reshape(10, -1), 0)
    for number, item in enumerate(labels.reshape(10, -1)):
        part = slice(*items.offsets[number : number + 2])
        found = dict(zip(items.labels[part].tolist(), items.pixels[part].tolist(), strict=True))
        assert found == oracle(item)[0]
