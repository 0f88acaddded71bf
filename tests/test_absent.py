"""Absent classes: what each policy gives them, and that it leaves the other classes alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcounts import errors, solvers
from fastcounts.counts import Counts
from fastcounts.export import render
from fastcounts.weights import ABSENT_POLICIES, NORMALIZATIONS, absent_policy

solve = solvers.solve
PIXELS = [180, 90, 25, 5]

OF_WEIGHTS = ("max", "one", "zero", "smooth", "smooth:100")
OPTIONS = {"target_prior": {"prior": [1.0] * 6}}


def of_images(images) -> Counts:
    """Counts of several images, known by presence only."""
    images = np.array(images)
    held = images > 0

    def by_label(values):
        return dict(enumerate(values.tolist()))

    inside = by_label(held.T @ images.sum(axis=1))
    return Counts.from_pixels(
        by_label(images.sum(axis=0)),
        items=len(images),
        presence=by_label(held.sum(axis=0)),
        presence_pixels=inside,
        presence_pixels_total=inside,
    )


DECREASING = [
    record.name
    for record in solvers.schemes()
    if record.kind in ("weight", "pos_weight") and record.name != "uniform"
]

some, any_ = st.integers(2, 50), st.integers(0, 50)
images_with_gaps = st.lists(
    st.tuples(any_, some, any_, some, any_, st.just(0)), min_size=2, max_size=6
)
"""Pixels of six classes in a few images: two are in every image, the last in none."""


def present_and_absent(counts):
    present = counts.pixels > 0
    return present, ~present


@pytest.mark.parametrize(
    "record", [r for r in solvers.schemes() if r.kind != "item"], ids=lambda record: record.name
)
@settings(max_examples=10)
@given(images_with_gaps, st.data())
def test_the_policy_never_changes_the_weight_of_a_class_with_pixels(record, images, data):
    more = dict(OPTIONS.get(record.name, {}))
    if record.kind == "weight":
        more["normalize"] = data.draw(st.sampled_from([None, *NORMALIZATIONS]))
        more["cap"] = data.draw(st.sampled_from([None, 1.0, 3.0, 50.0]))
    counts = of_images(images)
    present, _ = present_and_absent(counts)
    try:
        expected = solve(counts, record.name, absent="zero", **more).values[present]
    except errors.SolveError:  # a class of one pixel under inverse_log_count
        return
    for policy in ABSENT_POLICIES:
        try:
            found = solve(counts, record.name, absent=policy, **more).values
        except (errors.SolveError, errors.OptionError):  # infinite, or not a policy of this kind
            continue
        np.testing.assert_array_equal(found[present], expected, err_msg=policy)


@pytest.mark.parametrize("scheme", [n for n in DECREASING if n != "pos_weight"])
@settings(max_examples=10)
@given(images_with_gaps, st.data())
def test_the_cap_holds_over_all_classes_that_weigh_anything(scheme, images, data):
    cap = data.draw(st.sampled_from([1.0, 2.0, 3.0, 50.0]))
    normalize = data.draw(st.sampled_from([None, *NORMALIZATIONS]))
    for policy in (*OF_WEIGHTS, "formula"):
        try:
            weights = solve(
                of_images(images), scheme, absent=policy, cap=cap, normalize=normalize,
                **OPTIONS.get(scheme, {}),
            )  # fmt: skip
        except errors.SolveError:
            continue
        values = weights.values[weights.values > 0]
        assert values.max() <= cap * values.min() * (1 + 1e-12), policy


@pytest.mark.parametrize("scheme", [n for n in DECREASING if n != "inverse_log_count"])
@settings(max_examples=10)
@given(images_with_gaps, st.sampled_from(["smooth", "smooth:100"]))
def test_an_absent_class_never_weighs_less_than_one_with_pixels(scheme, images, policy):
    counts = of_images(images)
    present, absent = present_and_absent(counts)
    values = solve(counts, scheme, absent=policy, **OPTIONS.get(scheme, {})).values
    assert values[absent].min() >= values[present].max()


@given(images_with_gaps, st.sampled_from(sorted(NORMALIZATIONS)), st.sampled_from(OF_WEIGHTS))
def test_normalisations_are_over_the_classes_with_pixels(images, normalize, policy):
    counts = of_images(images)
    present, _ = present_and_absent(counts)
    for scheme in ("inverse", "enet", "median_frequency", "equal_cost", "effective_number"):
        values = solve(counts, scheme, normalize=normalize, absent=policy).values
        shares = counts.pixels / counts.pixels.sum()
        found = {
            "pixel_mean": (shares * values).sum(),
            "mean": values[present].mean(),
            "sum": values[present].sum(),
            "max": values[present].max(),
            "min": values[present].min(),
        }[normalize]
        assert found == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("scheme", ["logit_adjustment", "balanced_softmax"])
@pytest.mark.parametrize("policy", ["smooth", "smooth:100", "mask"])
def test_an_absent_class_has_no_larger_bias_than_a_class_with_pixels(scheme, policy):
    counts = Counts.from_pixels(dict(enumerate([*PIXELS, 0])))
    for more in ({}, {"post_hoc": True}) if scheme == "logit_adjustment" else ({},):
        values = solve(counts, scheme, absent=policy, **more).values
        assert values[-1] <= values[:-1].min()
        real = solve(Counts.from_pixels(dict(enumerate(PIXELS))), scheme, **more).values
        np.testing.assert_allclose(values[:-1], real)


def test_a_smoothed_training_bias_is_that_of_one_pixel():
    counts = Counts.from_pixels(dict(enumerate([*PIXELS, 0])))
    values = solve(counts, "logit_adjustment", absent="smooth").values
    assert values[-1] == pytest.approx(np.log(1 / 300))


def test_the_policy_one_is_kept_within_the_range_of_the_others():
    counts = Counts.from_pixels(dict(enumerate([*PIXELS, 0])))
    for scheme, more, expected in (
        ("inverse", {}, 1),
        ("inverse", {"normalize": "pixel_mean"}, 1),
        ("enet", {"cap": 2}, solve(counts, "enet", absent="zero").values[0]),
        ("inverse", {"normalize": "sum"}, 36 / 46.2),
        ("generalised_dice", {}, 1 / 25),
        ("pos_weight", {}, 1),
    ):
        found = solve(counts, scheme, absent="one", **more).values[-1]
        assert found == pytest.approx(expected), scheme


def test_smoothing_keeps_the_ratio_that_the_formula_gives_to_the_rarest_class():
    counts = of_images([[60, 30, 10, 0, 0], [80, 20, 0, 0, 0], [40, 40, 15, 5, 0]])
    for scheme, heaviest, ratio in (
        ("inverse", 36, 5),
        ("balanced", 15, 5),
        ("power", 60**0.5, 5**0.5),
        ("median_frequency", 4.25, 5),
    ):
        values = solve(counts, scheme, absent="smooth").values
        np.testing.assert_allclose(values[-2:], [heaviest, heaviest * ratio], err_msg=scheme)


def test_a_class_that_the_scheme_gives_nothing_stays_at_nothing():
    counts = Counts.from_pixels({0: 6, 1: 3, 2: 0})
    weights = solve(counts, "target_prior", prior=[1, 1, 0], absent="smooth")
    assert weights.values[-1] == 0


def test_the_margin_of_an_absent_class_is_that_of_the_rarest():
    counts = Counts.from_pixels(dict(enumerate([*PIXELS, 0])))
    for policy in ("smooth", "smooth:100", "max"):
        values = solve(counts, "ldam", absent=policy).values
        assert values[-2:].tolist() == [0.5, 0.5]


def test_an_infinite_bias_is_refused_and_the_mask_is_named():
    counts = Counts.from_pixels({0: 3, 1: 1, 2: 0})
    with pytest.raises(errors.SolveError, match=r"2: inf.*absent='mask'"):
        solve(counts, "logit_adjustment", post_hoc=True, absent="formula")
    with pytest.raises(errors.AbsentClass, match="or 'mask'"):
        solve(counts, "logit_adjustment")
    for kind in ("weight", "pos_weight", "margin", "item"):
        with pytest.raises(errors.OptionError, match="absent='mask'"):
            absent_policy("mask", kind)


def test_a_masked_bias_can_be_written_and_read():
    counts = Counts.from_pixels({0: 3, 1: 1, 2: 0})
    weights = solve(counts, "logit_adjustment", post_hoc=True, absent="mask")
    assert json.loads(render(weights, "json"))["weights"][-1] is None
    names: dict[str, object] = {}
    exec(render(weights, "python"), names)
    assert names["weights"] == weights.as_dict()
    assert 'float("-inf")' in render(weights, "torch")
    assert weights.dense(4).tolist()[2:] == [-np.inf, -np.inf]


def test_a_masked_bias_meets_the_schema(request):
    jsonschema = pytest.importorskip("jsonschema")
    file = request.config.rootpath / "docs" / "weights.schema.json"
    check = jsonschema.Draft202012Validator(json.loads(file.read_text(encoding="utf-8")))
    counts = Counts.from_pixels({0: 3, 1: 1, 2: 0})
    data = solve(counts, "logit_adjustment", absent="mask").to_dict()
    check.validate(data)
    weights = solve(counts, "inverse", absent="max").to_dict()
    check.validate(weights)
    assert not check.is_valid(weights | {"weights": [1.0, 3.0, None]})
