"""scikit-learn takes the weights as they are, and means the same by them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastcounts import export
from fastcounts.counts import Counts
from fastcounts.solvers import solve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_class_weight

PIXELS = {0: 180, 1: 90, 4: 25, 7: 5}
LABELS = np.repeat(list(PIXELS), list(PIXELS.values()))


def test_balanced_is_that_of_scikit_learn():
    weights = solve(Counts.from_pixels(PIXELS), "balanced")
    theirs = compute_class_weight("balanced", classes=weights.labels, y=LABELS)
    np.testing.assert_allclose(weights.values, theirs, rtol=1e-15)


def test_constant_answers_cost_the_same():
    weights = solve(Counts.from_pixels(PIXELS), "equal_cost")
    costs = []
    for answer in range(4):
        chances = np.full((len(LABELS), 4), 0.01 / 3)
        chances[:, answer] = 0.99
        each = export.sample_weights(weights, LABELS)
        costs.append(log_loss(LABELS, chances, sample_weight=each))
    np.testing.assert_allclose(costs, weights.diagnostics["constant_predictors"][0]["by_weights"])
    np.testing.assert_allclose(costs, costs[0], rtol=1e-12)


def test_class_weight_and_sample_weight_train_the_same_model():
    weights = solve(Counts.from_pixels(PIXELS), "enet")
    features = np.random.default_rng(0).normal(LABELS[:, None], 2.0, (len(LABELS), 2))
    by_class = LogisticRegression(class_weight=weights.as_dict()).fit(features, LABELS)
    by_sample = LogisticRegression().fit(
        features, LABELS, sample_weight=export.sample_weights(weights, LABELS)
    )
    np.testing.assert_allclose(by_class.coef_, by_sample.coef_, atol=1e-5)


def test_an_ignored_label_is_a_class_unless_its_pixels_are_left_out():
    counts = Counts.from_pixels(PIXELS, ignored={255: 60})
    weights = solve(counts, "equal_cost")
    labels = np.append(LABELS, np.full(60, 255))
    features = np.random.default_rng(0).normal(labels[:, None] % 100, 2.0, (len(labels), 2))
    each = export.sample_weights(weights, labels)
    everything = LogisticRegression().fit(features, labels, sample_weight=each)
    assert 255 in everything.classes_  # with a weight of 0
    space = {}
    exec(export.render(weights, "python"), space)
    by_class = LogisticRegression(class_weight=space["weights"]).fit(features, labels)
    assert (by_class.predict(features) == 255).any()  # and of 1, where class_weight has no key
    kept = np.isin(labels, weights.labels)
    left = LogisticRegression(class_weight=space["weights"]).fit(features[kept], labels[kept])
    assert left.classes_.tolist() == [0, 1, 4, 7]
    by_sample = LogisticRegression().fit(features[kept], labels[kept], sample_weight=each[kept])
    np.testing.assert_allclose(left.coef_, by_sample.coef_, atol=1e-5)
