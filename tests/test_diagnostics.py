"""What weights do, held against the tables of the theory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcounts import errors, solvers
from fastcounts.classes import Options
from fastcounts.counts import Counts
from fastcounts.diagnostics import (
    KERAS_CLIP,
    advise,
    constant_predictors,
    describe,
    effective_images,
    effective_sample_size,
    entropy_ratio,
    expected_share,
    flags,
    log_weight_errors,
    variance_blow_up,
)
from fastcounts.items import ItemKey, ItemTable, OpenItem
from fastcounts.ledger import Ignored, Ledger

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
    assert table.right == pytest.approx(1e-7, rel=1e-6)


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
        ("uniform", {}, 3.2086, 8.0054, 1, 1.6700, 1),
        ("inverse", {}, 7.7484, 7.7484, 0.0239, 3.4340, 18.6),
        ("power", {"normalize": "min"}, 6.1635, 7.9799, 0.3644, 2.8759, 2.60),
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
        ("power", {}, 227.094484),
        ("generalised_dice", {}, 8.167804),
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


IMAGES = [[60, 30, 10, 0], [80, 20, 0, 0], [40, 40, 15, 5]]


def of_images(images, ignored=0) -> Counts:
    """Counts with the table of items; the last column can be an ignored label."""
    images = np.asarray(images, dtype=np.int64)
    classes = images.shape[1] - bool(ignored)
    rows, columns = np.nonzero(images)
    held = images > 0
    inside = held.T @ images[:, :classes].sum(axis=1)
    total = held.T @ images.sum(axis=1)
    labels = np.array([*range(classes), *([255] if ignored else [])])
    void = {255: Ignored(int(images[:, -1].sum()), int(held[:, -1].sum()), int(total[-1]))}
    return Counts(
        labels=labels[:classes],
        pixels=images.sum(axis=0)[:classes],
        items=len(images),
        presence=held.sum(axis=0)[:classes],
        presence_pixels=inside[:classes],
        presence_pixels_total=total[:classes],
        ledger=Ledger(
            total=int(images.sum()),
            counted=int(images[:, :classes].sum()),
            ignored=void if ignored else {},
        ),
        options=Options(ignore=(255,) if ignored else ()),
        item_table=ItemTable.of(
            [ItemKey("", place) for place in range(len(images))],
            np.append(0, np.cumsum(held.sum(axis=1))),
            labels[columns],
            images[rows, columns],
        ),
    )


def test_standard_errors_by_the_delta_method():
    found = log_weight_errors(of_images(IMAGES))
    np.testing.assert_allclose(found, [0, 0.384900, 0.719053, 1.170628], atol=6e-7)
    other = log_weight_errors(of_images(IMAGES), reference=1)
    assert other[1] == 0
    assert other[0] == pytest.approx(found[1])


@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
def test_standard_errors_are_those_of_the_gram_matrix(seed, images):
    table = np.random.default_rng(seed).integers(0, 50, (images, 4))
    table[:, 0] += 1
    counts = of_images(table)
    n = table.sum(axis=0).astype(float)
    gram = table.T.astype(float) @ table
    a = int(n.argmax())
    found = log_weight_errors(counts)
    for c in np.flatnonzero(n):
        variance = gram[a, a] / n[a] ** 2 - 2 * gram[a, c] / (n[a] * n[c]) + gram[c, c] / n[c] ** 2
        expected = math.sqrt(images / (images - 1) * max(variance, 0))
        assert found[c] == pytest.approx(expected, abs=1e-7)


def test_effective_images():
    found = effective_images(of_images(IMAGES))
    expected = [np.sum(c) ** 2 / np.sum(np.square(c)) for c in np.transpose(IMAGES)]
    np.testing.assert_allclose(found, expected)
    assert found[3] == 1
    assert effective_images(of_images([[5, 0], [5, 0]]))[1] == 0


def test_ignored_labels_of_the_table_are_no_classes():
    plain, voided = of_images(IMAGES), of_images([[*row, 50] for row in IMAGES], ignored=1)
    np.testing.assert_allclose(log_weight_errors(plain), log_weight_errors(voided))
    np.testing.assert_allclose(effective_images(plain), effective_images(voided))
    np.testing.assert_allclose(expected_share(plain, BALANCED), expected_share(voided, BALANCED))


def test_expected_share_of_batches_of_one():
    share = expected_share(of_images(IMAGES), BALANCED)
    costs = 5.703782474656201 - (5.703782474656201 - 0.01005033585350145) * share
    np.testing.assert_allclose(costs, [3.659342, 4.105909, 4.489678, 4.866469], atol=6e-7)
    sinkhorn = solvers.solve(of_images(IMAGES), "equal_cost", per_image=True).values
    np.testing.assert_allclose(expected_share(of_images(IMAGES), sinkhorn), [0.25] * 4, atol=1e-9)


def test_expected_share_comes_to_equal_in_large_batches():
    draw = np.random.default_rng(1)
    images = (draw.dirichlet([5, 2, 0.5, 0.2], 400) * 10_000).astype(np.int64)
    counts = of_images(images)
    weights = solvers.solve(counts, "equal_cost").values
    off = [np.ptp(expected_share(counts, weights, batch_size=size)) for size in (1, 8, 64)]
    assert off[0] > 3 * off[1] > 9 * off[2]
    whole = expected_share(counts, weights, batch_size=400, batches=1)
    np.testing.assert_allclose(whole, [0.25] * 4)
    for size in (0, 401, True):
        with pytest.raises(errors.OptionError, match="give 1 to 400"):
            expected_share(counts, weights, batch_size=size)
    with pytest.raises(errors.SolveError, match="there is no share"):
        expected_share(counts, [0.0] * 4)


@pytest.mark.parametrize("function", [effective_images, log_weight_errors])
def test_what_needs_the_table_says_so(function):
    counts = Counts.from_pixels({0: 5, 1: 3}, items=2, presence={0: 2, 1: 1})
    with pytest.raises(errors.PresenceNeeded, match="keep_items=True"):
        function(counts)
    missing = solvers.solve(counts, "inverse").diagnostics["images"]["missing"]
    assert set(missing) == {"effective_images", "gradient_noise", "log_weight_errors"}
    unknown = solvers.solve(Counts.from_pixels({0: 5, 1: 3}), "inverse").diagnostics["images"]
    assert "presence_share" in unknown["missing"]


def test_absent_classes_have_no_standard_error():
    assert np.isnan(log_weight_errors(of_images([[5, 0], [6, 0]]))[1])


def test_errors_need_two_images_and_a_reference_that_is_there():
    with pytest.raises(errors.PresenceNeeded, match="two images or more: one was counted"):
        log_weight_errors(of_images([[5, 5]]))
    for label in (1, 7):
        with pytest.raises(errors.OptionError, match=f"reference={label}"):
            log_weight_errors(of_images([[5, 0], [5, 0]]), reference=label)


def names_of(found):
    return {entry["flag"]: entry["labels"] for entry in found}


def test_flags():
    few = names_of(flags(of_images(IMAGES), MAX_OVER_COUNT))
    assert few == {"few_images": [0, 1, 2, 3]}
    images = [[1000, 1000, 0]] * 19 + [[1000, 1000, 5]]
    counts = of_images(images)
    found = names_of(flags(counts, [1, 1, 70_000]))
    assert found == {"ratio": [2], "float16": [2], "few_images": [2], "batch_share": [2]}
    text = {entry["flag"]: entry["message"] for entry in flags(counts, [1, 1, 70_000])}
    assert "70000 times the smallest, far more" in text["ratio"]
    assert not flags(of_images([[10, 10]] * 6), [1, 1])


def test_a_class_that_is_nearly_all_in_one_image_is_flagged():
    images = [[1000, 1]] * 9 + [[1000, 900]]
    assert names_of(flags(of_images(images), [1, 10]))["few_images"] == [1]


def test_flags_are_in_the_diagnostics():
    weights = solvers.solve(of_images([[1000, 5]] * 6), "inverse")
    assert names_of(weights.diagnostics["flags"]) == {"ratio": [1]}
    assert weights.to_dict()["diagnostics"]["images"]["effective_images"] == pytest.approx([6, 6])


def test_advice_for_probabilities_is_no_weights():
    advice = advise(of_images(IMAGES), "calibration")
    assert advice.scheme == "uniform"
    assert any("classes 0, 1, 2, 3: seen" in reason for reason in advice.reasons)


def test_advice_for_balanced_accuracy_is_equal_cost_after_training():
    advice = advise(Counts.from_pixels(dict(enumerate(PIXELS))), "balanced_accuracy")
    assert (advice.scheme, advice.cap, advice.post_hoc) == ("equal_cost", None, True)
    assert any("20.8% of the pixels would be in effect if" in reason for reason in advice.reasons)


def test_advice_for_miou_is_a_cap_that_keeps_pixels():
    counts = Counts.from_pixels(dict(enumerate(QUESTION.tolist())))
    advice = advise(counts, "miou")
    assert (advice.scheme, advice.cap) == ("inverse", 10)
    assert any("52.3% of the pixels" in reason for reason in advice.reasons)
    weights = solvers.solve(
        counts, advice.scheme, normalize=advice.normalize, cap=advice.cap, **advice.options
    )
    assert weights.diagnostics["effective_share"] >= 0.3
    assert str(advice).startswith("fc.solve(counts, 'inverse', normalize='pixel_mean', cap=10)")


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=30), st.floats(1, 1000))
def test_a_cap_leaves_a_known_part_of_the_pixels_in_effect(pixels, cap):
    weights = solvers.solve(Counts.from_pixels(dict(enumerate(pixels))), "inverse", cap=cap)
    least = 4 * cap / (1 + cap) ** 2
    assert weights.diagnostics["effective_share"] >= least * (1 - 1e-12)


def test_counts_that_are_not_whole_are_flagged():
    whole = of_images([[10, 10]] * 6)
    part = replace(
        whole,
        pixels=np.array([65, 60]),
        ledger=Ledger(total=125, counted=125),
        open_items=(OpenItem(ItemKey("", 9), 5, 10, np.array([0]), np.array([5])),),
    )
    assert names_of(flags(part, [1, 1])) == {"incomplete": []}


def test_bad_advice_is_not_given():
    with pytest.raises(errors.OptionError, match="metric='dice': give miou"):
        advise(of_images(IMAGES), "dice")
    with pytest.raises(errors.SolveError, match="nothing to advise on"):
        advise(Counts.from_pixels({0: 0}), "miou")


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1, 1, 1, -1], [1, 1, 1, math.nan]])
def test_bad_weights_are_named(weights):
    for function in (constant_predictors, describe, variance_blow_up):
        with pytest.raises(errors.OptionError, match="weights: "):
            function(PIXELS, weights)
    with pytest.raises(errors.OptionError, match="weights: "):
        expected_share(of_images(IMAGES), weights)


def test_the_ratio_of_the_costs():
    found = describe(QUESTION, 1 / QUESTION)["cost_ratio"]
    assert found["before"] == pytest.approx(2.495, abs=5e-4)
    assert found["after"] == pytest.approx(1)
    assert describe([10, 10, 0], [1, 1, 5])["cost_ratio"]["before"] == pytest.approx(1)


def test_a_class_that_weighs_nothing_is_flagged():
    weights = solvers.solve(Counts.from_pixels({0: 5, 1: 3}), "target_prior", prior=[1, 0])
    assert names_of(weights.diagnostics["flags"]) == {"zero": [1]}


@pytest.mark.parametrize("metric", ["miou", "balanced_accuracy", "calibration"])
def test_advice_says_that_absent_classes_need_a_policy(metric):
    counts = Counts.from_pixels({0: 500, 1: 3, 2: 0})
    advice = advise(counts, metric)
    assert any("classes [2] have no pixels: add absent='zero'" in text for text in advice.reasons)
    options = {"normalize": advice.normalize, "cap": advice.cap, **advice.options}
    with pytest.raises(errors.AbsentClass):
        solvers.solve(counts, advice.scheme, **options)
    solvers.solve(counts, advice.scheme, absent="zero", **options)


@pytest.mark.parametrize("pixels", [[100, 90], [7]])
def test_classes_that_are_even_are_left_alone(pixels):
    advice = advise(Counts.from_pixels(dict(enumerate(pixels))), "miou")
    assert advice.scheme == "uniform"


def test_flags_name_their_classes():
    counts = Counts.from_pixels({0: 10**6, 7: 3}, classes={0: "road", 7: "sign"})
    (found,) = flags(counts, [1, 10**4])
    assert found["labels"] == [7]
    assert found["message"].startswith("class 7 (sign): the largest weight is 10000 times")
    many = Counts.from_pixels(dict.fromkeys(range(20), 9))
    (found,) = flags(many, [1e6] * 20)
    assert found["message"].startswith("classes 0, 1, 2, 3, 4, 5, 6, 7 and 12 more: weights above")


def test_images_without_presence_are_not_called_few():
    counts = Counts.from_pixels({0: 100, 1: 50}, items=100)
    found = solvers.solve(counts, "inverse").diagnostics
    assert found["flags"] == []
    assert "presence= to" in found["images"]["missing"]["presence_share"]
