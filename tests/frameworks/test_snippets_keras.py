"""Printed code for Keras, executed: costs in the mean over batches, and ignored labels."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastcounts as fc
from fastcounts import errors

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    keras = tf.keras

pytestmark = pytest.mark.filterwarnings("ignore")

IMAGES = [[60, 30, 10, 0, 20], [80, 20, 0, 0, 20], [10, 15, 10, 10, 75]]
"""Pixels of classes 0 to 3 and of label 255 in three images of 10 by 12 pixels."""
MASKS = np.stack(
    [
        np.random.default_rng(place).permutation(np.repeat([0, 1, 2, 3, 255], image))
        for place, image in enumerate(IMAGES)
    ]
).reshape(3, 10, 12)
VALID = float((MASKS != 255).mean())
OPTIONS = {"target_prior": {"prior": [0.4, 0.3, 0.2, 0.1]}}
FOR_TORCH = ("generalised_dice", "label_smoothing")
CASES = [
    *((s.name, OPTIONS.get(s.name, {})) for s in fc.schemes() if s.kind == "weight"),
    ("inverse", {"cap": 3}),
    ("equal_cost", {"label_smoothing": 0.1}),
    ("equal_cost", {"per_image": True}),
    ("label_smoothing", {"alpha": 0}),
]
CASES = [(name, options) for name, options in CASES if options or name not in FOR_TORCH]


@pytest.fixture(scope="module")
def counts():
    return fc.count(MASKS.astype(np.uint8), ignore=255, items=0, keep_items=True)


def run(text):
    space = {}
    exec(text, space)
    return space


def constant_model(space, classes=4):
    """Model whose answer is its bias, compiled with the printed loss and a learning rate of 0."""
    model = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(classes, 1)])
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=space["loss"])
    return model


def dataset(space, masks=MASKS, batch=1, axis=False):
    images = np.zeros((*masks.shape, 1), np.float32)
    labels = masks[..., None] if axis else masks
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch)
    return data.map(space["add_weights"])


def answer_always(model, answer, eps=0.01):
    classes = model.output_shape[-1]
    chances = np.full(classes, eps / (classes - 1))
    chances[answer] = 1 - eps
    model.set_weights([np.zeros((1, 1, 1, classes)), np.log(chances)])


def costs(space, data, classes=4):
    model = constant_model(space, classes)
    found = []
    for answer in range(classes):
        answer_always(model, answer)
        found.append(model.evaluate(data, verbose=0))
    return found


@pytest.mark.parametrize("solved", CASES, ids=lambda solved: "-".join([solved[0], *solved[1]]))
def test_costs_are_the_promised_ones_in_the_mean_over_batches(counts, solved):
    scheme, options = solved
    weights = fc.solve(counts, scheme, **options)
    space = run(fc.export.render(weights, "keras"))
    if options.get("per_image"):
        expected = np.asarray(weights.diagnostics["stated_costs"]["after"])
    else:
        table = weights.diagnostics["constant_predictors"][0]
        expected = np.asarray(table["by_pixels"]) * VALID
    for axis in (False, True):
        found = costs(space, dataset(space, axis=axis))
        np.testing.assert_allclose(found, expected, rtol=2e-6)
    if scheme == "equal_cost":
        np.testing.assert_allclose(expected, expected[0], rtol=1e-9)


def test_the_cases_hold_every_scheme_of_weights():
    refused = {"generalised_dice", "label_smoothing"}
    names = {scheme.name for scheme in fc.schemes() if scheme.kind == "weight"}
    assert {name for name, _ in CASES} | refused == names


def test_two_images_of_which_one_is_mostly_ignored_cost_the_same():
    masks = np.full((2, 10, 10), 255, dtype=np.uint8)
    masks[0], masks[1, 0] = 0, 1
    weights = fc.solve(fc.count(masks, ignore=255), "equal_cost")
    space = run(fc.export.render(weights, "keras"))
    found = costs(space, dataset(space, masks), classes=2)
    np.testing.assert_allclose(found, [1.2692, 1.2692], atol=5e-5)
    # what ignore_class does: it divides by the valid pixels of the batch
    space["loss"] = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    found = costs(space, dataset(space, masks), classes=2)
    np.testing.assert_allclose(found, [12.667, 1.2941], atol=5e-4)


@pytest.mark.parametrize("options", [{}, {"per_image": True}, {"label_smoothing": 0.1}])
def test_a_batch_of_ignored_pixels_has_a_finite_loss_and_gradient(counts, options):
    space = run(fc.export.render(fc.solve(counts, "equal_cost", **options), "keras"))
    mask = np.full((2, 10, 12), 255, np.uint8)
    model = constant_model(space)
    _, _, weight = space["add_weights"](None, tf.constant(mask))
    with tf.GradientTape() as tape:
        logits = model(np.ones((2, 10, 12, 1), np.float32))
        loss = model.compute_loss(y=tf.constant(mask), y_pred=logits, sample_weight=weight)
    assert float(loss) == 0
    for gradient in tape.gradient(loss, model.trainable_variables):
        assert not np.asarray(gradient).any()
    found = model.train_on_batch(np.ones((2, 10, 12, 1), np.float32), mask, np.asarray(weight))
    assert np.isfinite(found)


@pytest.mark.parametrize(
    ("labels", "ignored", "order"),
    [
        ([0, 1, 2, 3], [-1], None),
        ([0, 1, 2, 3], [-1, 255, 70_000], None),
        ([0, 1, 2, 3], [], None),
        ([1, 2, 3], [0], None),
        ([-5, 7, 26, 300], [-1, 255], [300, 7, 26, -5]),
        ([0, 1, 2, 3], [255], [3, 2, 1, 0]),
    ],
)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}])
def test_labels_that_are_not_the_channels(labels, ignored, order, options):
    numbers = {label: 40 - 9 * place for place, label in enumerate(labels)}
    counted = fc.Counts.from_pixels(numbers, ignored=dict.fromkeys(ignored, 10))
    weights = fc.solve(counted, "equal_cost", **options)
    space = run(fc.export.render(weights, "keras", order=order))
    pixels = numbers | dict.fromkeys(ignored, 10)
    mask = np.repeat(list(pixels), list(pixels.values())).reshape(1, 1, -1)
    _, same, weight = space["add_weights"](None, tf.constant(mask))
    np.testing.assert_array_equal(same, mask)
    if min(labels) >= 0:
        np.testing.assert_allclose(weight, weights.keras(2**17).weigh(mask), rtol=1e-6)
    data = dataset(space, mask)
    found = costs(space, data, classes=1 + max(labels) if order is None else 4)
    places = [label if order is None else order.index(label) for label in labels]
    share = sum(numbers.values()) / mask.size
    if 0 not in ignored:  # with a channel that nothing fills, the constant answers differ
        table = np.asarray(weights.diagnostics["constant_predictors"][0]["by_pixels"]) * share
        np.testing.assert_allclose(np.asarray(found)[places], table, rtol=2e-6)
    np.testing.assert_allclose(np.asarray(found)[places], found[places[0]], rtol=2e-6)


@pytest.mark.parametrize("order", [None, [3, 2, 1, 0]])
def test_a_label_that_is_no_channel_is_an_error(counts, order):
    space = run(fc.export.render(fc.solve(counts, "equal_cost"), "keras", order=order))
    masks = MASKS.copy()
    masks[0, 0, 0] = 200
    model = constant_model(space)
    with pytest.raises(tf.errors.InvalidArgumentError):
        model.evaluate(dataset(space, masks), verbose=0)


def test_metrics_still_see_the_ignored_label(counts):
    weights = fc.solve(counts, "equal_cost")
    space = run(fc.export.render(weights, "keras"))
    model = constant_model(space)
    metric = keras.metrics.MeanIoU(num_classes=4, sparse_y_pred=False, ignore_class=255)
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=space["loss"], metrics=[metric])
    answer_always(model, 0)
    model.evaluate(dataset(space), verbose=0)
    expected = 150 / 245 / 4  # class 0 is right on 150 of the 245 valid pixels
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_the_map_gives_ignored_labels_outside_of_the_table_no_weight():
    counted = fc.Counts.from_pixels({0: 3, 1: 1}, ignored={-1: 2, 300: 1})
    mapped = fc.solve(counted, "inverse").keras(other=0.5)
    mask = np.array([[0, 1, -1, 300, 200, 301]])
    expected = [[1.0, 3.0, 0.0, 0.0, 0.5, 0.5]]
    np.testing.assert_array_equal(mapped.weigh(mask), expected)
    np.testing.assert_array_equal(mapped.weigh(tf.constant(mask)), expected)


@pytest.mark.parametrize(
    ("scheme", "options", "words"),
    [
        (
            "label_smoothing",
            {},
            r"label smoothing of torch \(0\.1\).*equal_cost for the label smoothing of keras",
        ),
        (
            "equal_cost",
            {"label_smoothing": 0.2, "framework": "torch"},
            r"label smoothing of torch \(0\.2\)",
        ),
        ("generalised_dice", {}, "belong in a Dice loss"),
        ("pos_weight", {}, "cannot be made of a pos_weight"),
    ],
)
def test_weights_for_another_loss_are_refused(counts, scheme, options, words):
    with pytest.raises(errors.OptionError, match=words):
        fc.export.render(fc.solve(counts, scheme, **options), "keras")


def test_the_loss_of_the_documentation_is_the_printed_one(counts):
    page = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(import tensorflow.*?)```", page, re.DOTALL)
    space = {"fc": fc}
    exec(block, space)
    weights = fc.solve(counts, "equal_cost")
    used = {"loss": space["pixel_loss"], "add_weights": weights.keras()}
    printed = run(fc.export.render(weights, "keras"))
    expected = costs(printed, dataset(printed))
    for axis in (False, True):
        np.testing.assert_allclose(costs(used, dataset(used, axis=axis)), expected, rtol=1e-6)


# ---- class_weight= of fit ----

CLASS_WEIGHT = {0: 0.4, 1: 0.8, 2: 3.0, 3: 15.0}
SQUARE = np.random.default_rng(0).integers(0, 4, (4, 4, 4)).astype(np.uint8)


def cost_under_class_weight(masks, class_weight, *, arrays=False, batch=4):
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    one_hot = masks.ndim == 4 and masks.shape[-1] == 4
    loss = keras.losses.CategoricalCrossentropy(from_logits=True) if one_hot else sparse
    model = constant_model({"loss": loss})
    answer_always(model, 0)
    images = np.zeros((*masks.shape[:3], 1), np.float32)
    if arrays:
        given = {"x": images, "y": masks, "batch_size": batch}
    else:
        given = {"x": tf.data.Dataset.from_tensor_slices((images, masks)).batch(batch)}
    return model.fit(**given, class_weight=class_weight, verbose=0).history["loss"][0]


def expected_cost(masks):
    right = np.where(masks == 0, -np.log(0.99), -np.log(0.01 / 3))
    return np.mean(np.array(list(CLASS_WEIGHT.values()))[masks] * right)


def test_class_weight_is_right_for_masks_with_an_axis_of_1_and_one_hot_ones_of_tf_data():
    for masks in (SQUARE[..., None], SQUARE[..., None].astype(np.float32), np.eye(4)[SQUARE]):
        found = cost_under_class_weight(masks, CLASS_WEIGHT)
        assert found == pytest.approx(expected_cost(SQUARE), rel=1e-5)


def test_class_weight_is_wrong_in_silence_or_fails_for_masks_without_that_axis():
    found = cost_under_class_weight(SQUARE, CLASS_WEIGHT)
    assert abs(found / expected_cost(SQUARE) - 1) > 0.05
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        cost_under_class_weight(MASKS[:, :, :10] % 4, CLASS_WEIGHT)
    for masks in (SQUARE, SQUARE[..., None], np.eye(4)[SQUARE]):
        with pytest.raises(TypeError):
            cost_under_class_weight(masks, CLASS_WEIGHT, arrays=True)


def test_class_weight_needs_a_key_for_the_ignored_label():
    masks = SQUARE.copy()
    masks[0, 0] = 255
    with pytest.raises(tf.errors.InvalidArgumentError):
        cost_under_class_weight(masks[..., None], CLASS_WEIGHT)
    assert np.isfinite(cost_under_class_weight(masks[..., None], {**CLASS_WEIGHT, 255: 0.0}))
