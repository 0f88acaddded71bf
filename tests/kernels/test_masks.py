"""The masks that benchmarks are made of look like real ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def masks():
    path = Path(__file__).parents[2] / "benchmarks" / "masks.py"
    spec = importlib.util.spec_from_file_location("masks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("run", [37.0, 144.0])
def test_natural_masks_have_the_runs_that_were_asked_for(masks, run):
    made = masks.natural(run, images=4, shape=(360, 480))
    lengths = masks.run_lengths(made)
    assert lengths.sum() == made.size
    assert 0.85 * run < lengths.mean() < 1.15 * run
    assert np.median(lengths) < 0.8 * run  # a long tail, as in photographs
    assert np.percentile(lengths, 90) > 2 * run
    share = np.sort(np.bincount(made.ravel()) / made.size)[::-1]
    assert 0.15 < share[0] < 0.8
    assert share[0] > 5 * share[min(10, share.size - 1)]
    assert np.array_equal(made, masks.natural(run, images=4, shape=(360, 480)))


def test_segments_have_the_runs_and_ids_that_were_asked_for(masks):
    made = masks.segments(1_000_000, 1000)
    assert made.shape == (1_000_000,)
    assert 22 < masks.mean_run(made) < 27
    assert 500 < np.unique(made).size <= 1000
    assert masks.segments(1000, 10, run=1.0).size == 1000


def test_periods_and_odd_pixels(masks):
    assert masks.periodic(10, 3).tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    odd = masks.odd_pixels(6400, 64)
    assert 90 <= np.count_nonzero(odd != 7) <= 100
