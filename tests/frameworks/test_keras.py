"""The question in the framework in which it was asked: Keras on TensorFlow, and on torch."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from fastcounts import export
from fastcounts.counts import Counts
from fastcounts.solvers import solve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    keras = tf.keras

pytestmark = pytest.mark.filterwarnings("ignore")

PIXELS = [180, 90, 25, 5]
VOID = 20
COST = 4.280349439955526


@pytest.fixture
def weights():
    counts = Counts.from_pixels(dict(enumerate(PIXELS)), ignored={255: VOID})
    return solve(counts, "equal_cost")


@pytest.fixture
def masks():
    labels = np.repeat([0, 1, 2, 3, 255], [*PIXELS, VOID]).astype(np.uint8)
    return np.random.default_rng(0).permutation(labels).reshape(4, 8, 10)


def always(answer, shape, eps=0.01, classes=4):
    """Probabilities of a network that answers one class everywhere."""
    chances = np.full((*shape, classes), eps / (classes - 1), dtype=np.float32)
    chances[..., answer] = 1 - eps
    return chances


def constant_model(answer, ignore=True, reduction="sum_over_batch_size"):
    """Model that answers one class everywhere, compiled with a learning rate of 0."""
    logits = np.log(always(answer, ()))
    model = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            keras.layers.Conv2D(
                4, 1, kernel_initializer="zeros", bias_initializer=lambda *_, **__: logits
            ),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=255 if ignore else None, reduction=reduction
    )
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=loss)
    return model


def dataset(masks, weights, axis=False):
    images = np.zeros((*masks.shape, 1), np.float32)
    labels = masks[..., None] if axis else masks
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(4).map(weights.keras())


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight"])
def test_constant_answers_cost_the_same_under_both_reductions(weights, masks, reduction):
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=255, reduction=reduction)
    _, _, each = weights.keras()(None, masks)
    for answer in range(4):
        found = float(loss(masks, always(answer, masks.shape), sample_weight=each))
        assert found == pytest.approx(COST, rel=1e-6)


def test_max_over_count_costs_the_same_too_and_more(masks):
    counts = Counts.from_pixels(dict(enumerate(PIXELS)), ignored={255: VOID})
    each = solve(counts, "inverse").lookup()[masks]
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=255)
    for answer in range(4):
        found = float(loss(masks, always(answer, masks.shape), sample_weight=each))
        assert found == pytest.approx(10.272838655893263, rel=1e-6)


def test_without_weights_they_do_not(weights, masks):
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=255)
    expected = weights.diagnostics["constant_predictors"][0]["before"]
    for answer in range(4):
        found = float(loss(masks, always(answer, masks.shape)))
        assert found == pytest.approx(expected[answer], rel=1e-6)


def test_hard_answers_cost_what_the_clip_says(weights):
    labels = np.repeat(range(4), PIXELS)
    loss = keras.losses.SparseCategoricalCrossentropy()
    table = weights.diagnostics["constant_predictors"][1]
    assert table["predictor"] == "Keras clip"
    for answer in range(4):
        hard = always(answer, labels.shape, eps=0.0)
        found = float(loss(labels, hard, sample_weight=weights.lookup()[labels]))
        # float32 cannot hold 1 - 1e-7 closely
        assert found == pytest.approx(table["by_pixels"][answer], abs=1e-4)
        assert float(loss(labels, hard)) == pytest.approx(table["before"][answer], abs=1e-4)


@pytest.mark.parametrize("axis", [False, True])
def test_fit_through_a_map(weights, masks, axis):
    (_, _, each), *_ = dataset(masks, weights, axis)
    assert each.shape == masks.shape
    assert each.dtype == tf.float32
    costs = []
    for answer in range(4):
        history = constant_model(answer).fit(dataset(masks, weights, axis), epochs=1, verbose=0)
        costs.append(history.history["loss"][0])
    np.testing.assert_allclose(costs, [COST] * 4, rtol=1e-6)


def test_batches_of_one_image_still_agree_in_the_mean(weights, masks):
    """Keras divides by pixels, so equal cost holds in every epoch; all images weigh the same."""
    even = masks.copy()
    even[even == 255] = 0
    counts = Counts.from_pixels(dict(enumerate(np.bincount(even.ravel()).tolist())))
    one = solve(counts, "equal_cost")
    costs = []
    for answer in range(4):
        data = dataset(even, one).unbatch().batch(1)
        costs.append(constant_model(answer, ignore=False).evaluate(data, verbose=0))
    np.testing.assert_allclose(costs, [COST] * 4, rtol=1e-6)


def test_the_table_alone_divides_by_ignored_pixels_as_well(weights, masks):
    """Three conventions, three numbers: whoever compares losses must know which."""
    each = weights.lookup()[masks]
    valid = np.where(masks == 255, 0, masks)
    loss = keras.losses.SparseCategoricalCrossentropy()
    found = float(loss(valid, always(0, masks.shape), sample_weight=each))
    assert found == pytest.approx(COST * 300 / 320, rel=1e-6)


def test_sparse_and_categorical_cross_entropy_are_one_number(weights):
    labels = np.repeat(range(4), PIXELS)
    chances = np.random.default_rng(2).dirichlet(np.ones(4), 300).astype(np.float32)
    each = weights.lookup()[labels]
    sparse = keras.losses.SparseCategoricalCrossentropy()(labels, chances, each)
    dense = keras.losses.CategoricalCrossentropy()(np.eye(4)[labels], chances, each)
    assert float(sparse) == pytest.approx(float(dense), rel=1e-6)


def test_label_smoothing_of_keras_needs_no_other_weights(weights):
    labels = np.repeat(range(4), PIXELS)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    costs = [
        float(loss(np.eye(4)[labels], always(answer, labels.shape), weights.lookup()[labels]))
        for answer in range(4)
    ]
    np.testing.assert_allclose(costs, [COST] * 4, rtol=1e-6)


def test_focal_loss_takes_the_list(weights):
    labels = np.repeat(range(4), PIXELS)
    loss = keras.losses.CategoricalFocalCrossentropy(
        alpha=export.focal_alpha(weights), gamma=2, reduction="sum_over_batch_size"
    )
    for answer in range(4):
        found = float(loss(np.eye(4)[labels], always(answer, labels.shape)))
        assert found == pytest.approx(4.249366, abs=2e-6)


def test_pasted_text_is_the_exported_map(weights, masks):
    space = {}
    exec(export.render(weights, "keras"), space)
    _, _, pasted = space["add_weights"](None, tf.constant(masks))
    _, _, mapped = weights.keras()(None, tf.constant(masks))
    np.testing.assert_array_equal(pasted, mapped)
    np.testing.assert_array_equal(mapped, weights.keras().weigh(masks))


@pytest.mark.parametrize("axis", [False, True])
def test_pasted_text_trains_with_an_ignored_label(weights, masks, axis):
    space = {}
    exec(export.render(weights, "keras"), space)
    labels = masks[..., None] if axis else masks
    pixels = np.zeros((*masks.shape, 1), np.float32)
    data = tf.data.Dataset.from_tensor_slices((pixels, labels)).batch(4).map(space["add_weights"])
    for answer in range(4):
        model = constant_model(answer)
        model.compile(optimizer=keras.optimizers.SGD(0.0), loss=space["loss"])
        found = model.fit(data, epochs=1, verbose=0).history["loss"][0]
        assert found == pytest.approx(COST * 300 / 320, rel=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint16"])
def test_values_beyond_the_table_weigh_what_others_weigh(weights, dtype):
    strange = np.array([[0, 3, 256, 60_000, -1, 255]]).astype(dtype)
    if dtype == "int64":
        strange[0, 3] = 2**32 + 3
    expected = [[weights.values[0], 15, 0.5, 0.5, 0.5, 0]]
    for mask in (strange, tf.constant(strange)):
        found = weights.keras(other=0.5).weigh(mask)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6)


def test_unequal_answers_under_the_label_smoothing_of_keras():
    eps = [0.05, 0.2, 0.2, 0.2]
    counts = Counts.from_pixels(dict(enumerate(PIXELS)))
    solved = solve(counts, "equal_cost", eps=eps, label_smoothing=0.1)
    labels = np.repeat(range(4), PIXELS)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    costs = [
        float(
            loss(
                np.eye(4)[labels],
                always(answer, labels.shape, eps[answer]),
                solved.lookup()[labels],
            )
        )
        for answer in range(4)
    ]
    np.testing.assert_allclose(costs, costs[0], rtol=1e-6)
    np.testing.assert_allclose(solved.diagnostics["stated_costs"]["after"], costs, rtol=1e-6)


def test_a_mask_of_unknown_shape(weights, masks):
    @tf.function(input_signature=[tf.TensorSpec(None, tf.uint8)])
    def mapped(mask):
        return weights.keras().weigh(mask)

    np.testing.assert_array_equal(mapped(masks), weights.lookup()[masks])


ON_TORCH = """
import numpy as np, keras
from fastcounts.counts import Counts
from fastcounts.solvers import solve
assert keras.backend.backend() == "torch"
pixels = {0: 180, 1: 90, 2: 25, 3: 5}
weights = solve(Counts.from_pixels(pixels, ignored={255: 20}), "equal_cost")
labels = np.repeat([*pixels, 255], [*pixels.values(), 20]).astype(np.uint8).reshape(4, 8, 10)
image, mask, weight = weights.keras()(np.zeros((4, 8, 10, 1), np.float32), labels)
for answer in range(4):
    chances = np.full(4, 0.01 / 3)
    chances[answer] = 0.99
    model = keras.Sequential([keras.Input((8, 10, 1)), keras.layers.Conv2D(4, 1)])
    model.set_weights([np.zeros((1, 1, 1, 4)), np.log(chances)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=loss)
    history = model.fit(image, mask, sample_weight=weight, batch_size=4, verbose=0)
    print(history.history["loss"][0])
"""


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")
def test_keras_on_torch():
    done = subprocess.run(
        [sys.executable, "-c", ON_TORCH],
        env={**os.environ, "KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose([float(line) for line in done.stdout.split()], COST, rtol=1e-6)
