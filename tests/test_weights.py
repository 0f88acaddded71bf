"""The value: cap, absent classes, normalisation, dense forms; and the bijection with priors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastcounts as fc
from fastcounts import errors, solvers
from fastcounts.counts import Counts
from fastcounts.export import render
from fastcounts.weights import (
    KINDS,
    NORMALIZATIONS,
    Weights,
    absent_policy,
    finish,
    implied_prior,
    logit_bias,
    weights_from_prior,
)

PIXELS = [180, 90, 25, 5]
solve = solvers.solve


def counts_of(pixels, **more):
    return Counts.from_pixels(dict(enumerate(pixels)), **more)


many_pixels = st.lists(st.integers(1, 2**60), min_size=1, max_size=7)
some_pixels = st.lists(st.integers(1, 10**9), min_size=1, max_size=12)


@given(some_pixels, st.data())
def test_prior_and_weights_are_a_bijection(pixels, data):
    size = len(pixels)
    shares = data.draw(st.lists(st.floats(0.01, 1), min_size=size, max_size=size))
    prior = np.array(shares) / sum(shares)
    weights = weights_from_prior(pixels, prior)
    np.testing.assert_allclose(implied_prior(pixels, weights), prior, rtol=1e-12)
    np.testing.assert_allclose(np.average(weights, weights=pixels), 1, rtol=1e-12)


def test_posterior_shift_by_the_logarithm_of_the_weights():
    posterior, weights = np.array([0.7, 0.2, 0.08, 0.02]), np.array([1, 2, 7.2, 36])
    logits = np.log(posterior) + logit_bias(weights)
    shifted = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(shifted, [0.292154, 0.166945, 0.240401, 0.300501], atol=5e-7)


def test_a_weight_of_zero_is_a_bias_of_minus_infinity():
    assert logit_bias([0.0, 1.0]).tolist() == [-np.inf, 0.0]


@pytest.mark.parametrize("weights", [[-1.0, 1.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_no_bias_of_bad_weights(weights):
    with pytest.raises(errors.OptionError, match="none below zero"):
        logit_bias(weights)


def test_prior_where_there_are_no_pixels():
    assert weights_from_prior([3, 0], [1, 0]).tolist() == [1.0, 0.0]
    with pytest.raises(errors.AbsentClass, match="no weight gives that"):
        weights_from_prior([3, 0], [0.5, 0.5])


@pytest.mark.parametrize("prior", [[1.0], [-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0]])
def test_bad_priors(prior):
    with pytest.raises(errors.OptionError):
        weights_from_prior([3, 1], prior)


ALWAYS = [
    record.name
    for record in solvers.schemes()
    if record.kind == "weight"
    and not record.presence
    and record.name not in ("neg_log", "one_minus", "inverse_log_count", "target_prior")
]


@given(many_pixels, st.sampled_from(ALWAYS))
def test_normalisations_hold(pixels, scheme):
    counts = counts_of(pixels)
    n = np.array(pixels) / sum(pixels)
    checks = {
        "pixel_mean": lambda w: (n * w).sum(),
        "mean": np.mean,
        "sum": np.sum,
        "max": np.max,
        "min": np.min,
    }
    assert set(checks) == set(NORMALIZATIONS)
    raw = solve(counts, scheme).values
    for name, check in checks.items():
        values = solve(counts, scheme, normalize=name).values
        assert check(values) == pytest.approx(1, rel=1e-12)
        np.testing.assert_allclose(values / values[0], raw / raw[0], rtol=1e-12)


@given(many_pixels, st.floats(1, 1e6))
def test_the_cap_bounds_the_ratio_and_keeps_the_order(pixels, cap):
    free, capped = (solve(counts_of(pixels), "inverse", cap=c).values for c in (None, cap))
    assert capped.max() <= capped.min() * cap * (1 + 1e-12)
    assert (capped <= free).all()
    assert (np.diff(capped[np.argsort(free)]) >= 0).all()


def test_normalisations_of_inverse_frequency():
    expected = {
        "sum": [0.021645, 0.043290, 0.155844, 0.779221],
        "mean": [0.086580, 0.173160, 0.623377, 3.116883],
        "pixel_mean": [0.416667, 0.833333, 3, 15],
        "max": [0.027778, 0.055556, 0.2, 1],
        "min": [1, 2, 7.2, 36],
    }
    for name, values in expected.items():
        found = solve(counts_of(PIXELS), "inverse", normalize=name).values
        np.testing.assert_allclose(found, values, atol=5e-7)


def test_the_cap_comes_before_the_normalisation():
    weights = solve(counts_of(PIXELS), "inverse", cap=10, normalize="pixel_mean")
    np.testing.assert_allclose(weights.values, [0.508475, 1.016949, 3.661017, 5.084746], atol=5e-7)


@pytest.mark.parametrize(
    ("absent", "expected"),
    [
        ("max", [1.0, 2.0, 7.2, 36.0, 36.0]),
        ("one", [1.0, 2.0, 7.2, 36.0, 1.0]),
        ("zero", [1.0, 2.0, 7.2, 36.0, 0.0]),
        ("smooth", [1.0, 2.0, 7.2, 36.0, 180.0]),
        ("smooth:10", [1.0, 2.0, 7.2, 36.0, 36.0]),
    ],
)
def test_absent_classes(absent, expected):
    weights = solve(counts_of([*PIXELS, 0]), "inverse", absent=absent)
    np.testing.assert_allclose(weights.values, expected, rtol=1e-15)
    assert weights.absent == absent


def test_an_absent_class_raises_by_default_and_is_named():
    counts = Counts.from_pixels({0: 5, 7: 0}, classes={0: "road", 7: "train"})
    with pytest.raises(errors.AbsentClass, match=r"7 \(train\).*absent='max'"):
        solve(counts, "inverse")


def test_absent_by_formula_is_finite_or_refused():
    counts = counts_of([*PIXELS, 0])
    assert solve(counts, "enet", absent="formula").values[-1] == pytest.approx(50.498350, abs=5e-7)
    with pytest.raises(errors.SolveError, match="4: inf"):
        solve(counts, "inverse", absent="formula")


def test_absent_classes_come_after_the_cap_and_the_normalisation():
    weights = solve(counts_of([*PIXELS, 0]), "inverse", cap=10, absent="max", normalize="max")
    np.testing.assert_allclose(weights.values, [0.1, 0.2, 0.72, 1, 1], rtol=1e-15)


def test_nothing_counted():
    for pixels in ({}, {0: 0, 1: 0}):
        with pytest.raises(errors.AbsentClass, match="no class has a pixel"):
            solve(Counts.from_pixels(pixels), "inverse")


@pytest.mark.parametrize("scheme", ALWAYS)
def test_one_class(scheme):
    assert solve(counts_of([7]), scheme, normalize="mean").values.tolist() == [1.0]


@pytest.mark.parametrize("scheme", ["neg_log", "one_minus"])
def test_one_class_that_has_nothing_to_be_rarer_than(scheme):
    weights = solve(counts_of([7]), scheme)
    assert weights.values.tolist() == [0.0]
    assert set(weights.diagnostics) == {"pixels", "flags", "images"}
    (flag,) = weights.diagnostics["flags"]
    assert (flag["flag"], flag["labels"]) == ("zero", [0])
    assert "all weights are 0" in flag["message"]
    with pytest.raises(errors.SolveError, match="all weights are zero"):
        solve(counts_of([7]), scheme, normalize="pixel_mean")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"normalize": "median"}, "normalize='median': give one of pixel_mean, mean"),
        ({"cap": 0.5}, "cap=0.5: the largest weight over the smallest is 1 or more"),
        ({"cap": np.nan}, "cap=nan"),
        ({"cap": -3}, "cap=-3"),
        ({"absent": "most"}, "absent='most': a weight of a class without pixels can be raise, max"),
        ({"absent": "max:3"}, "only smooth takes a number"),
        ({"absent": "smooth:-1"}, "above zero"),
        ({"absent": "smooth:many"}, "above zero"),
        ({"absent": "smooth:nan"}, "above zero"),
        ({"num_classes": 3}, r"label 3 is not one of the labels 0..2 of num_classes=3"),
        ({"num_classes": 0}, "whole number, 1 or more"),
        ({"num_classes": 4.5}, "whole number, 1 or more"),
        ({"num_classes": True}, "whole number, 1 or more"),
    ],
)
def test_bad_arguments_teach(more, message):
    with pytest.raises(errors.OptionError, match=message):
        solve(counts_of(PIXELS), "inverse", **more)


def test_only_weights_are_capped_and_normalised():
    raw, pixels = np.ones(2), np.ones(2, dtype=np.int64)
    for more in ({"cap": 3.0}, {"normalize": "sum"}):
        with pytest.raises(errors.OptionError, match="neither capped nor normalised"):
            finish(raw, pixels, kind="bias", **more)
    with pytest.raises(errors.OptionError, match="a bias of a class without pixels can be"):
        absent_policy("max", "bias")


def test_a_ratio_to_zero_cannot_be_capped():
    with pytest.raises(errors.SolveError, match="class 0 is 0: no cap"):
        finish(np.array([0.0, 1.0]), np.array([5, 5]), cap=10)
    with pytest.raises(errors.SolveError, match="nothing to scale"):
        finish(np.zeros(2), np.array([5, 5]), normalize="sum")


def test_num_classes_makes_the_gaps_absent_classes():
    counts = Counts.from_pixels({0: 180, 2: 90})
    with pytest.raises(errors.AbsentClass, match="no pixels of class 1"):
        solve(counts, "inverse", num_classes=3)
    weights = solve(counts, "inverse", num_classes=4, absent="max")
    assert weights.labels.tolist() == [0, 1, 2, 3]
    assert weights.values.tolist() == [1.0, 2.0, 2.0, 2.0]


def test_a_class_absent_from_the_data_never_shifts_the_ones_after_it():
    weights = solve(Counts.from_pixels({0: 180, 2: 90}), "inverse")
    with pytest.raises(errors.OptionError, match=r"labels are 0, 2.*num_classes=3.*order="):
        weights.dense()
    with pytest.raises(errors.AbsentClass, match="no pixels of class 1 of 3"):
        weights.dense(3)
    assert weights.dense(order=[2, 0]).tolist() == [2.0, 1.0]


@given(
    st.dictionaries(st.integers(0, 9), st.integers(1, 10**12), min_size=1),
    st.sampled_from([None, *NORMALIZATIONS]),
    st.sampled_from(["max", "one", "zero"]),
    st.sampled_from([None, 5.0]),
)
def test_filling_gaps_later_is_the_same_as_solving_with_them(pixels, normalize, absent, cap):
    counts = Counts.from_pixels(pixels)
    for scheme in ("inverse", "balanced", "enet", "equal_cost"):
        more = {"normalize": normalize, "absent": absent, "cap": cap}
        before = solve(counts, scheme, num_classes=10, **more)
        after = solve(counts, scheme, **more)
        np.testing.assert_allclose(after.dense(10), before.values, rtol=1e-14)


@pytest.mark.parametrize("absent", ["smooth", "formula"])
def test_what_depends_on_the_number_of_classes_is_not_filled_later(absent):
    weights = solve(Counts.from_pixels({0: 180, 2: 90}), "enet", absent=absent)
    with pytest.raises(errors.OptionError, match="num_classes=3 to solve"):
        weights.dense(3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"num_classes": 3, "order": [0, 1, 2]}, "give one of them"),
        ({"num_classes": 2}, "label 3 has no place among num_classes=2"),
        ({"order": [0, 1]}, "must name each of the labels 0, 1, 2, 3 once"),
        ({"order": [0, 1, 2, 3, 3]}, "once"),
        ({"num_classes": -1}, "1 or more"),
    ],
)
def test_bad_dense_arguments_teach(more, message):
    with pytest.raises(errors.OptionError, match=message):
        solve(counts_of(PIXELS), "inverse").dense(**more)


def test_negative_labels_need_an_order():
    weights = solve(Counts.from_pixels({-1: 3, 0: 1}), "inverse")
    with pytest.raises(errors.OptionError, match="label -1 has no place"):
        weights.dense(2)
    assert weights.dense(order=[-1, 0]).tolist() == [1.0, 3.0]


def test_labels_beyond_int64():
    weights = solve(Counts.from_pixels({0: 3, 2**63: 1}), "inverse")
    assert weights.labels.dtype == np.uint64
    assert weights.as_dict() == {0: 1.0, 2**63: 3.0}
    json.dumps(weights.to_dict())
    with pytest.raises(errors.OptionError):
        weights.lookup()


def test_dtypes_and_frozen():
    weights = solve(counts_of(PIXELS), "inverse")
    assert weights.values.dtype == np.float64
    assert weights.labels.dtype == np.int64
    assert weights.float32().dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        weights.values[0] = 3
    with pytest.raises(AttributeError):
        weights.scheme = "other"
    weights.dense()[0] = 3
    assert weights.values[0] == 1


def test_json_has_the_keys_of_the_contract():
    weights = solve(counts_of(PIXELS), "inverse")
    data = weights.to_dict()
    assert list(data) == [
        "scheme",
        "kind",
        "options",
        "normalize",
        "cap",
        "absent",
        "labels",
        "ignore",
        "names",
        "weights",
        "diagnostics",
    ]
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["weights"] == [1.0, 2.0, 7.2, 36.0]


def test_equal_and_pickled():
    weights = solve(counts_of(PIXELS), "inverse")
    assert weights == solve(counts_of(PIXELS), "inverse")
    assert weights != solve(counts_of(PIXELS), "inverse", cap=5)
    assert weights != [1.0]
    assert pickle.loads(pickle.dumps(weights)) == weights


@pytest.mark.parametrize("kind", ["weight", "pos_weight"])
def test_negative_weights_are_refused(kind):
    with pytest.raises(errors.SolveError, match=rf"no usable {kind} here \(sky: -1\)"):
        finish(np.array([-1.0, 1.0]), np.array([5, 5]), kind=kind, classes=["sky", "road"])
    assert finish(np.array([-1.0, 1.0]), np.array([5, 5]), kind="bias").tolist() == [-1, 1]


def test_long_options_stay_on_one_line():
    counts = counts_of(range(1, 20))
    weights = solve(counts, "equal_cost", costs=1 - np.eye(19), cap=np.int64(3))
    pair = solve(counts_of([3, 1]), "equal_cost", costs=1 - np.eye(2))
    assert "costs=[[0.0, 1.0], [1.0, 0.0]]" in pair.convention()
    assert "\n" not in weights.convention()
    assert len(weights.convention()) < 300
    data = weights.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["options"]["costs"] == (1 - np.eye(19)).tolist()
    assert data["cap"] == 3


def test_no_mass_no_prior():
    with pytest.raises(errors.SolveError, match="there is no prior"):
        implied_prior([3, 0], [0, 1])


def test_finish_needs_pixels_and_lets_items_be():
    with pytest.raises(errors.AbsentClass, match="no class has a pixel"):
        finish(np.ones(2), np.zeros(2, dtype=np.int64), absent="max")
    assert finish(np.ones(2), np.zeros(2, dtype=np.int64), kind="item").tolist() == [1, 1]


def test_json_has_no_infinities():
    weights = solve(counts_of([5, 3]), "target_prior", prior=[1, 0])
    assert weights.diagnostics["ratio"] == np.inf
    assert weights.to_dict()["diagnostics"]["ratio"] is None
    json.dumps(weights.to_dict(), allow_nan=False)


def test_words():
    weights = solve(counts_of(PIXELS), "enet", cap=10, normalize="sum")
    assert weights.convention() == (
        "enet(c=1.02, void=False), weight, normalize=sum, cap=10, absent=raise"
    )
    assert repr(weights).startswith("Weights(enet(c=1.02, void=False), weight")
    assert "..." in repr(solve(counts_of(range(1, 20)), "inverse"))


def test_lengths_and_kinds_are_checked():
    one, two = np.ones(1), np.ones(2)
    with pytest.raises(errors.OptionError, match="as many of each"):
        Weights(one, np.arange(2), two.astype(np.int64))
    with pytest.raises(errors.OptionError, match="kind='size'"):
        Weights(one, np.arange(1), one.astype(np.int64), kind="size")


def test_solve_is_public():
    assert fc.solve is solvers.solve


# ---- ignored labels among the classes ----


@pytest.mark.parametrize("absent", ["raise", "max", "one", "smooth"])
@pytest.mark.parametrize("normalize", [None, "mean", "max"])
def test_an_ignored_label_among_the_channels_weighs_nothing_and_changes_nothing(absent, normalize):
    pixels = {1: 180, 2: 90}
    counts = Counts.from_pixels(pixels, ignored={0: 30})
    alone = solve(counts, "inverse", absent=absent, normalize=normalize)
    with_it = solve(counts, "inverse", absent=absent, normalize=normalize, num_classes=3)
    assert with_it.values.tolist() == [0, *alone.values.tolist()]
    if absent != "smooth":
        assert alone.dense(3).tolist() == with_it.values.tolist()
    with pytest.raises(errors.AbsentClass, match="no pixels of class 3 of 4"):
        solve(counts, "inverse").dense(4)


def test_an_order_may_name_ignored_labels():
    weights = solve(Counts.from_pixels({1: 180, 2: 90}, ignored={0: 30}), "inverse")
    assert weights.dense(order=[2, 0, 1]).tolist() == [2.0, 0.0, 1.0]
    for order in ([2, 0], [2, 0, 1, 0], [2, 1, 3]):
        with pytest.raises(errors.OptionError, match="must name each of the labels 1, 2 once"):
            weights.dense(order=order)


def test_an_ignored_label_is_no_absent_class_to_a_bias():
    counts = Counts.from_pixels({1: 3, 2: 1}, ignored={0: 5})
    assert solve(counts, "balanced_softmax", num_classes=3).values[0] == 0


# ---- arguments that are no numbers ----


@pytest.mark.parametrize("cap", ["10", True, [3], np.inf])
def test_a_cap_is_a_number(cap):
    with pytest.raises(errors.OptionError, match="1 or more: give such a number"):
        solve(counts_of(PIXELS), "inverse", cap=cap)


@pytest.mark.parametrize("num_classes", ["x", "4", np.nan, np.inf, [4]])
def test_a_number_of_classes_is_a_whole_number(num_classes):
    for call in (
        lambda: solve(counts_of(PIXELS), "inverse", num_classes=num_classes),
        lambda: solve(counts_of(PIXELS), "inverse").dense(num_classes),
    ):
        with pytest.raises(errors.OptionError, match="give a whole number, 1 or more"):
            call()


def test_an_order_is_not_rounded():
    with pytest.raises(errors.OptionError, match="must name each of the labels"):
        solve(counts_of(PIXELS), "inverse").dense(order=[0.5, 1, 2, 3])
    order = np.array([3, 2, 1, 0])
    assert solve(counts_of(PIXELS), "inverse").dense(order=order).tolist() == [36, 7.2, 2, 1]


def test_a_normalisation_is_a_word():
    with pytest.raises(errors.OptionError, match=r"normalize=\['sum'\]: give one of"):
        solve(counts_of(PIXELS), "inverse", normalize=["sum"])


@pytest.mark.parametrize(
    ("pixels", "weights", "message"),
    [
        ([1, 2, 3], [1], "weights: 1 numbers for the pixels of 3 classes"),
        ([1, 2], [-1, 3], "weights: the number at place 0 is -1.0"),
        ([1, 2], [1, np.nan], "weights: the number at place 1 is nan"),
        ([1, -2], [1, 1], "pixels: the number at place 1 is -2"),
    ],
)
def test_a_prior_is_not_made_of_bad_numbers(pixels, weights, message):
    with pytest.raises(errors.OptionError, match=message):
        implied_prior(pixels, weights)


def test_weights_beyond_float32_are_not_made_infinite():
    weights = solve(counts_of([2**60, 1]), "power", exponent=4)
    for call in (weights.float32, weights.lookup):
        with pytest.raises(errors.SolveError, match=r"1\.76685e\+72 is infinite in float32"):
            call()


# ---- the schema ----

SCHEMA = json.loads(
    (Path(__file__).parents[1] / "docs" / "weights.schema.json").read_text(encoding="utf-8")
)


def of_masks():
    masks = np.random.default_rng(0).choice([0, 1, 2, 255], (12, 16, 16), p=[0.6, 0.2, 0.1, 0.1])
    return fc.count(masks.astype(np.uint8), ignore=255, items=0, keep_items=True)


SOLVED = [
    *((record.name, {}) for record in solvers.schemes() if record.name != "target_prior"),
    ("target_prior", {"prior": [5, 3, 2]}),
    ("target_prior", {"prior": {"0": 1, "1": 0, "2": 1}}),
    ("inverse", {"cap": 3, "normalize": "mean", "absent": "max", "num_classes": 5}),
    ("enet", {"absent": "smooth:100", "num_classes": 5}),
    ("effective_number", {"beta": 0.9, "of": "presence"}),
    ("equal_cost", {"costs": (1 - np.eye(3))}),
    ("equal_cost", {"eps": [0.1, 0.2, 0.2]}),
    ("equal_cost", {"per_image": True}),
    ("equal_cost", {"label_smoothing": 0.1, "framework": "torch"}),
    ("class_uniform", {"epoch": 5}),
]


@pytest.mark.parametrize(("scheme", "more"), SOLVED)
def test_schema_holds_for_every_scheme(scheme, more):
    jsonschema = pytest.importorskip("jsonschema")
    if scheme == "rare_class":
        more = {"min_pixels": 1}
    weights = solve(of_masks(), scheme, **more)
    data = json.loads(render(weights, "json"))
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    assert data["diagnostics"] or weights.kind not in ("weight", "item")


def test_schema_holds_without_presence_and_without_mass():
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(SCHEMA).validate
    check(solve(counts_of([7]), "neg_log").to_dict())
    check(solve(counts_of([5, 3]), "target_prior", prior=[1, 0]).to_dict())
    check(solve(Counts.from_pixels({-3: 3, 2**62: 1}), "inverse").to_dict())
    huge = Counts.from_pixels({0: 3, 2**63: 0, 2**64 - 1: 1})
    check(solve(huge, "inverse", absent="one").to_dict())


def test_schema_knows_every_scheme_and_option():
    assert SCHEMA["properties"]["scheme"]["enum"] == [known.name for known in solvers.schemes()]
    parts = {
        part["if"]["properties"]["scheme"]["const"]: part["then"]["properties"]
        for part in SCHEMA["allOf"]
        if "scheme" in part["if"]["properties"]
    }
    for known in solvers.schemes():
        options = parts[known.name]["options"]
        assert parts[known.name]["kind"]["const"] == known.kind
        assert list(options["properties"]) == [option.name for option in known.options]
        assert options["required"] == list(options["properties"])
    assert SCHEMA["properties"]["kind"]["enum"] == list(KINDS)
    assert SCHEMA["properties"]["normalize"]["enum"] == [None, *NORMALIZATIONS]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "bias"},
        {"options": {"c": 0.5, "void": False}},
        {"options": {"c": 1.02}},
        {"weights": [-1.0, 1.0]},
        {"normalize": "median"},
        {"cap": 0.5},
        {"absent": "most"},
        {"diagnostics": {"ratio": 1.0}},
        {"more": 1},
    ],
)
def test_schema_refuses(wrong):
    jsonschema = pytest.importorskip("jsonschema")
    data = solve(counts_of([3, 1]), "enet").to_dict() | wrong
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(data)


def test_schema_is_one():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
