"""Libraries that are tried where they are installed: MONAI, optax, XGBoost, LightGBM."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastcounts import export
from fastcounts.counts import Counts
from fastcounts.solvers import solve

pytestmark = pytest.mark.filterwarnings("ignore")

PIXELS = {0: 180, 1: 90, 2: 25, 3: 5}
LABELS = np.repeat(list(PIXELS), list(PIXELS.values()))
COST = 4.280349439955526


def library(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed")


def always(answer):
    chances = np.full(4, 0.01 / 3, dtype=np.float32)
    chances[answer] = 0.99
    return np.log(chances)


def test_monai_takes_the_tensor_and_the_text():
    torch, losses = library("torch"), library("monai.losses")
    weights = solve(Counts.from_pixels(PIXELS), "inverse")
    space = {}
    exec(export.render(weights, "monai"), space)
    torch.testing.assert_close(space["weights"], weights.torch())
    labels = torch.from_numpy(LABELS).view(1, 1, 300, 1)
    costs = {"labels": [], "one_hot": []}
    only_cross_entropy = losses.DiceCELoss(
        softmax=True, to_onehot_y=False, weight=weights.torch(), lambda_dice=0.0
    )
    one_hot = torch.nn.functional.one_hot(labels[:, 0], 4).movedim(-1, 1).float()
    for answer in range(4):
        logits = torch.from_numpy(always(answer)).view(1, 4, 1, 1).expand(1, 4, 300, 1)
        assert torch.isfinite(space["loss_function"](logits, labels))
        costs["one_hot"].append(float(only_cross_entropy(logits, one_hot)))
        costs["labels"].append(float(only_cross_entropy.ce(logits, labels)))
    np.testing.assert_allclose(costs["labels"], [COST] * 4, rtol=1e-6)
    np.testing.assert_allclose(costs["one_hot"], [10.272838655893263] * 4, rtol=1e-6)


def test_optax():
    optax, jnp = library("optax"), library("jax.numpy")
    counts = Counts.from_pixels(PIXELS, ignored={255: 20})
    weights = solve(counts, "equal_cost")
    mask = np.append(LABELS, np.full(20, 255)).astype(np.uint8)
    table, valid = jnp.asarray(weights.lookup()), jnp.asarray(mask != 255)
    labels = jnp.where(valid, jnp.asarray(mask), 0).astype(jnp.int32)
    for answer in range(4):
        logits = jnp.broadcast_to(jnp.asarray(always(answer)), (320, 4))
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        cost = (table[jnp.asarray(mask)] * loss).sum() / mask.size
        assert float(cost) == pytest.approx(COST * 300 / 320, rel=1e-6)


def features():
    return np.random.default_rng(0).normal(LABELS[:, None], 1.5, (len(LABELS), 3))


def recall(predicted):
    return np.mean([(predicted[label == LABELS] == label).mean() for label in PIXELS])


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_boosted_trees_take_the_weight_of_every_sample(name):
    module = library(name)
    kind = {"xgboost": "XGBClassifier", "lightgbm": "LGBMClassifier"}[name]
    quiet = {"lightgbm": {"verbosity": -1, "min_child_samples": 1}}.get(name, {})
    weights = solve(Counts.from_pixels(PIXELS), "equal_cost")
    make = lambda: getattr(module, kind)(n_estimators=5, max_depth=2, n_jobs=1, **quiet)  # noqa: E731
    plain = make().fit(features(), LABELS)
    weighted = make().fit(features(), LABELS, sample_weight=export.sample_weights(weights, LABELS))
    assert recall(weighted.predict(features())) > recall(plain.predict(features()))


def test_lightgbm_takes_the_dict():
    lightgbm = library("lightgbm")
    weights = solve(Counts.from_pixels(PIXELS), "equal_cost")
    settings = {"n_estimators": 5, "max_depth": 2, "n_jobs": 1, "verbosity": -1}
    by_class = lightgbm.LGBMClassifier(class_weight=weights.as_dict(), **settings)
    by_sample = lightgbm.LGBMClassifier(**settings)
    by_class.fit(features(), LABELS)
    by_sample.fit(features(), LABELS, sample_weight=export.sample_weights(weights, LABELS))
    np.testing.assert_allclose(
        by_class.predict_proba(features()), by_sample.predict_proba(features()), rtol=1e-6
    )
