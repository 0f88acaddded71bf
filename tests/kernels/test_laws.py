"""What is always true of counting, for every array."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastcounts.kernels import count, count_items, table


def test_count_equals_the_oracle(oracle, as_counts, any_array):
    @given(array=any_array(), threads=st.sampled_from([1, 2, 7]))
    def law(array, threads):
        before = array.copy()
        assert as_counts(count(array, threads=threads)) == oracle(array)
        assert np.array_equal(array, before, equal_nan=array.dtype.kind == "f")

    law()


def test_every_pixel_is_counted_once(any_array):
    @given(array=any_array())
    def law(array):
        tally = count(array)
        assert int(tally.pixels.sum()) + tally.nodata == array.size

    law()


def test_adding_parts_equals_adding_the_whole(oracle, as_counts, any_array):
    @given(array=any_array(), parts=st.integers(1, 5))
    def law(array, parts):
        counts = table(array.dtype)
        for part in np.array_split(np.atleast_1d(array), parts):
            counts.add(part)
        assert as_counts(counts.drain()) == oracle(array)

    law()


def test_items_equal_counting_each_apart(oracle, any_array):
    @given(array=any_array().filter(lambda array: array.ndim > 0), data=st.data())
    def law(array, data):
        axis = data.draw(st.integers(-array.ndim, array.ndim - 1))
        tally = count_items(array, axis)
        items = np.moveaxis(array, axis, 0)
        assert tally.offsets.shape == (len(items) + 1,)
        assert tally.offsets[0] == 0
        assert tally.offsets[-1] == tally.labels.size == tally.pixels.size
        for number, item in enumerate(items):
            here = slice(tally.offsets[number], tally.offsets[number + 1])
            labels = tally.labels[here]
            assert (labels[1:] > labels[:-1]).all()
            counts = dict(zip(labels.tolist(), tally.pixels[here].tolist(), strict=True))
            assert (counts, tally.nodata[number]) == oracle(item)

    law()
