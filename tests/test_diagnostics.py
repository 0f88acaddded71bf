"""What weights do, held against the tables of the theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcounts import errors, solvers
from fastcounts.counts import Counts
from fastcounts.diagnostics import (
    KERAS_CLIP,
    constant_predictors,
    describe,
    effective_sample_size,
    entropy_ratio,
    variance_blow_up,
)

PIXELS = [180, 90, 25, 5]
ONES = [1.0, 1.0, 1.0, 1.0]
MAX_OVER_COUNT = [1, 2, 7.2, 36]
BALANCED = [180 / 432, 90 / 108, 3, 15]
INVERSE_ROOT = (lambda raw: raw / raw.mean())(np.array(PIXELS) ** -0.5)

SHARES = 0.8 ** np.arange(30)
QUESTION = np.round(1e8 * np.concatenate([[0.6], 0.4 * SHARES / SHARES.sum()])).astype(np.int64)
"""The shape of the question: 31 classes, one of them 60 % of all pixels."""


@pytest.mark.parametrize(
    ("weights", "by_pixels", "by_weights"),
    [
        (ONES, [2.287543, 3.995663, 5.229305, 5.608887], [2.287543, 3.995663, 5.229305, 5.608887]),
        (MAX_OVER_COUNT, [10.272839] * 4, [4.280349] * 4),
        (BALANCED, [4.280349] * 4, [4.280349] * 4),
        (
            INVERSE_ROOT,
            [1.539707, 1.900363, 2.312163, 2.565836],
            [3.169238, 3.911589, 4.759213, 5.281358],
        ),
    ],
)
def test_the_proof(weights, by_pixels, by_weights):
    table = constant_predictors(PIXELS, weights)
    np.testing.assert_allclose(table.by_pixels, by_pixels, atol=6e-7)
    np.testing.assert_allclose(table.by_weights, by_weights, atol=6e-7)
    np.testing.assert_allclose(table.before, [2.287543, 3.995663, 5.229305, 5.608887], atol=6e-7)


def test_the_proof_for_the_hard_answers_that_keras_clips():
    table = constant_predictors(PIXELS, BALANCED, eps=None)
    np.testing.assert_allclose(table.by_pixels, [12.088571] * 4, atol=6e-7)
    np.testing.assert_allclose(table.before, [6.447238, 11.282667, 14.774920, 15.849462], atol=6e-7)
    assert table.wrong == -math.log(KERAS_CLIP)


@given(
    st.lists(st.integers(1, 10**12), min_size=2, max_size=40),
    st.floats(1e-6, 0.4),
    st.floats(1e-3, 1e3),
)
def test_equal_cost_is_equal_whatever_eps_and_scale(pixels, eps, scale):
    weights = scale / np.array(pixels)
    table = constant_predictors(pixels, weights, eps=eps)
    for costs in (table.by_pixels, table.by_weights):
        np.testing.assert_allclose(costs, costs[0], rtol=1e-11)


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=6), st.data())
def test_the_costs_are_those_of_the_pixels_one_by_one(pixels, data):
    size = len(pixels)
    weights = np.array(data.draw(st.lists(st.floats(0.01, 9), min_size=size, max_size=size)))
    table = constant_predictors(pixels, weights, eps=0.1)
    n = np.array(pixels)
    for answer in range(size):
        predicted = np.full(size, 0.1 / (size - 1))
        predicted[answer] = 0.9
        summed = -(n * weights * np.log(predicted)).sum()
        assert table.by_pixels[answer] == pytest.approx(summed / n.sum())
        assert table.by_weights[answer] == pytest.approx(summed / (n * weights).sum())


@pytest.mark.parametrize(
    ("scheme", "options", "low", "high", "share", "best", "mean"),
    [
        ("inverse", {}, 7.7484, 7.7484, 0.0239, 3.4340, 18.6),
        ("inverse", {"cap": 10}, 6.9055, 8.0041, 0.5233, 2.5921, 4.36),
        ("enet", {}, 6.9059, 8.0009, 0.4249, 2.8655, 9.04),
    ],
)
def test_the_table_of_the_question(scheme, options, low, high, share, best, mean):
    weights = solvers.solve(
        Counts.from_pixels(dict(enumerate(QUESTION.tolist()))), scheme, **options
    )
    found = weights.diagnostics
    costs = found["constant_predictors"][0]["by_weights"]
    assert (costs.min(), costs.max()) == pytest.approx((low, high), abs=6e-5)
    assert found["effective_share"] == pytest.approx(share, abs=6e-5)
    assert found["best_constant_loss"]["after"] == pytest.approx(best, abs=6e-5)
    assert found["best_constant_loss"]["before"] == pytest.approx(1.6700, abs=6e-5)
    assert found["pixel_mean"] == pytest.approx(mean, abs=6e-3)


@pytest.mark.parametrize(
    ("scheme", "options", "size"),
    [
        ("inverse", {}, 62.337662),
        ("median_frequency", {}, 158.823529),
        ("enet", {}, 141.836199),
        ("inverse", {"cap": 10}, 149.015411),
    ],
)
def test_effective_sample_sizes(scheme, options, size):
    counts = Counts.from_pixels(
        dict(enumerate(PIXELS)),
        items=3,
        presence=dict(enumerate([3, 3, 2, 1])),
        presence_pixels=dict(enumerate([300, 300, 200, 100])),
    )
    weights = solvers.solve(counts, scheme, **options)
    assert weights.diagnostics["effective_sample_size"] == pytest.approx(size, abs=6e-7)


def test_no_weights_lose_nothing():
    assert effective_sample_size(PIXELS, ONES) == 300
    assert variance_blow_up(PIXELS, ONES) == 1


@given(st.lists(st.integers(1, 2**60), min_size=1, max_size=7))
def test_inverse_frequency_has_k_times_the_harmonic_mean(pixels):
    weights = max(pixels) / np.array(pixels)
    size = len(pixels) ** 2 / sum(1 / n for n in pixels)
    assert effective_sample_size(pixels, weights) == pytest.approx(size, rel=1e-9)


def test_entropy_ratios():
    assert entropy_ratio([0.25] * 4) == pytest.approx(1)
    assert entropy_ratio([1.0, 0.0]) == 0
    assert entropy_ratio([1.0]) == 1


def test_classes_without_pixels_change_no_cost_but_have_one():
    table = constant_predictors([10, 10, 0], [1, 1, 5])
    assert table.by_pixels[2] == table.wrong
    assert describe([10, 10, 0], [1, 1, 5])["ratio"] == 1


def test_a_single_class_has_no_other_to_confuse_with():
    table = constant_predictors([7], [3.0])
    assert table.by_weights[0] == pytest.approx(table.right)


def test_bad_arguments():
    for eps in (0, 1, -1, math.nan):
        with pytest.raises(errors.OptionError, match="between 0 and 1"):
            constant_predictors(PIXELS, ONES, eps=eps)
    with pytest.raises(errors.SolveError, match="there is no cost"):
        constant_predictors(PIXELS, [0.0] * 4)


def test_counts_whose_sum_is_close_to_the_limit():
    pixels = np.array([2**60] * 7, dtype=np.int64)
    found = describe(pixels, np.ones(7))
    assert found["effective_sample_size"] == pytest.approx(7 * 2**60, rel=1e-15)
    assert found["pixel_mean"] == pytest.approx(1, rel=1e-15)
