"""Every scheme: its vectors, its promises, its errors."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastcounts import errors, solvers
from fastcounts.classes import Options
from fastcounts.counts import Counts
from fastcounts.items import ItemKey, ItemTable
from fastcounts.ledger import Ignored, Ledger
from fastcounts.solvers import register, schemes, solve
from fastcounts.solvers.shares import existence

PIXELS = [180, 90, 25, 5]
IMAGES = [[60, 30, 10, 0], [80, 20, 0, 0], [40, 40, 15, 5]]


def question() -> Counts:
    """Three images of a hundred pixels."""
    return Counts.from_pixels(
        dict(enumerate(PIXELS)),
        items=3,
        presence=dict(enumerate([3, 3, 2, 1])),
        presence_pixels=dict(enumerate([300, 300, 200, 100])),
    )


def of_images(images, source="") -> Counts:
    """Counts of images with the table of them; a row of ``images`` is the pixels of its classes."""
    images = np.asarray(images, dtype=np.int64)
    rows, columns = np.nonzero(images)
    held = images > 0
    inside = held.T @ images.sum(axis=1)
    offsets = np.append(0, np.cumsum(held.sum(axis=1)))
    keys = [ItemKey(source, place) for place in range(len(images))]
    return Counts(
        labels=np.arange(images.shape[1]),
        pixels=images.sum(axis=0),
        items=len(images),
        presence=held.sum(axis=0),
        presence_pixels=inside,
        presence_pixels_total=inside,
        ledger=Ledger(total=int(images.sum()), counted=int(images.sum())),
        item_table=ItemTable.of(keys, offsets, columns, images[rows, columns]),
    )


def counts_of(pixels) -> Counts:
    return Counts.from_pixels(dict(enumerate(pixels)))


VECTORS = [
    ("inverse", {}, [1, 2, 7.2, 36]),
    ("inverse", {"cap": 10}, [1, 2, 7.2, 10]),
    (
        "inverse",
        {"normalize": "sum"},
        [0.021645021645, 0.04329004329, 0.155844155844, 0.779220779221],
    ),
    ("balanced", {}, [0.416666666667, 0.833333333333, 3, 15]),
    ("equal_cost", {}, [0.416666666667, 0.833333333333, 3, 15]),
    ("median_frequency", {}, [0.354166666667, 0.708333333333, 1.7, 4.25]),
    ("median_frequency", {"presence": False}, [0.319444444444, 0.638888888889, 2.3, 11.5]),
    ("enet", {}, [2.07285612848, 3.60189368929, 10.1692260168, 27.7697264678]),
    ("enet", {"c": 1.1}, [1.88455853603, 2.97201341199, 5.94052413229, 9.06223476567]),
    ("uniform", {}, [1, 1, 1, 1]),
    ("power", {}, [1.29099444874, 1.82574185835, 3.46410161514, 7.74596669241]),
    (
        "power",
        {"normalize": "mean"},
        [0.360441698888, 0.509741539013, 0.967166568768, 2.16265019333],
    ),
    (
        "power",
        {"normalize": "pixel_mean"},
        [0.741910834993, 1.04922036492, 1.99075567235, 4.45146500996],
    ),
    ("power", {"exponent": 1, "normalize": "min"}, [1, 2, 7.2, 36]),
    ("power", {"exponent": 0}, [1, 1, 1, 1]),
    ("log_inverse", {}, [1, 1, 1, 2.19722457734]),
    ("log_inverse", {"mu": 1}, [1, 1.20397280433, 2.48490664979, 4.09434456222]),
    ("inverse_offset", {}, [1 / 0.601, 1 / 0.301, 1 / (1 / 12 + 0.001), 1 / (1 / 60 + 0.001)]),
    ("neg_log", {}, [0.510825623766, 1.20397280433, 2.48490664979, 4.09434456222]),
    ("one_minus", {}, [0.4, 0.7, 11 / 12, 59 / 60]),
    ("inverse_log_count", {}, [0.571927988783, 0.660027331189, 0.922681560009, 1.84536312002]),
    (
        "effective_number",
        {"beta": 0.99},
        [0.172191035116, 0.241882252436, 0.648058566126, 2.93786814632],
    ),
    (
        "effective_number",
        {"beta": 0.999},
        [0.0938691044649, 0.179655143335, 0.626261787708, 3.10021396449],
    ),
    (
        "effective_number",
        {"prototypes": 1000},
        [0.0938691044649, 0.179655143335, 0.626261787708, 3.10021396449],
    ),
    ("effective_number", {"beta": 0, "of": "presence"}, [1, 1, 1, 1]),
    ("ldam", {}, [0.204124145232, 0.242745885854, 0.334370152488, 0.5]),
    (
        "logit_adjustment",
        {},
        [-0.510825623766, -1.20397280433, -2.48490664979, -4.09434456222],
    ),
    (
        "logit_adjustment",
        {"post_hoc": True, "tau": 2},
        [1.021651247532, 2.40794560866, 4.96981329958, 8.18868912444],
    ),
    ("balanced_softmax", {}, [5.19295685089, 4.49980967033, 3.21887582487, 1.60943791243]),
    ("generalised_dice", {}, [3.08641975309e-05, 0.000123456790123, 0.0016, 0.04]),
    ("idf", {"smooth": False}, [0, 0, 0.405465108108, 1.09861228867]),
    ("idf", {}, [1, 1, 1.28768207245, 1.69314718056]),
    ("pos_weight", {}, [0.666666666667, 2.33333333333, 11, 59]),
    ("target_prior", {"prior": [0.4, 0.3, 0.2, 0.1]}, [0.666666666667, 1, 2.4, 6]),
    ("target_prior", {"prior": {"3": 1, "0": 4, "2": 2, "1": 3}}, [0.666666666667, 1, 2.4, 6]),
    ("label_smoothing", {}, [0.531681216559, 1.0183047029, 3.00399887356, 7.50999718389]),
    (
        "equal_cost",
        {"label_smoothing": 0.1, "framework": "torch"},
        [0.531681216559, 1.0183047029, 3.00399887356, 7.50999718389],
    ),
    ("equal_cost", {"label_smoothing": 0.1}, [0.416666666667, 0.833333333333, 3, 15]),
]


@pytest.mark.parametrize(("name", "options", "expected"), VECTORS)
def test_vectors(name, options, expected):
    found = solve(question(), name, **options).values
    np.testing.assert_allclose(found, expected, rtol=2e-11, atol=1e-15)


def with_void() -> Counts:
    """Two images of 12 pixels; 3 ignored in the first, 1 in the second."""
    return Counts.from_pixels(
        {0: 12, 1: 6, 2: 2},
        ignored={255: Ignored(pixels=4, presence=2, presence_pixels_total=24)},
        items=2,
        presence={0: 2, 1: 2, 2: 1},
        presence_pixels={0: 20, 1: 20, 2: 9},
        presence_pixels_total={0: 24, 1: 24, 2: 12},
    )


@pytest.mark.parametrize(
    ("options", "frequencies", "median"),
    [
        ({}, [12 / 20, 6 / 20, 2 / 9], 6 / 20),
        ({"void": True}, [12 / 24, 6 / 24, 2 / 12], 6 / 24),
        ({"presence": False}, [12 / 20, 6 / 20, 2 / 20], 6 / 20),
        ({"presence": False, "void": True}, [12 / 24, 6 / 24, 2 / 24], 6 / 24),
        (
            {"void": True, "void_in_median": True},
            [12 / 24, 6 / 24, 2 / 12],
            (6 / 24 + 4 / 24) / 2,
        ),
        (
            {"presence": False, "void_in_median": True},
            [12 / 20, 6 / 20, 2 / 20],
            (6 / 20 + 4 / 24) / 2,
        ),
    ],
)
def test_median_frequency_states_where_void_stands(options, frequencies, median):
    found = solve(with_void(), "median_frequency", **options).values
    np.testing.assert_allclose(found, median / np.array(frequencies), rtol=1e-15)


def test_median_of_inverses_differs_for_an_even_number_of_classes():
    f = np.array([0.6, 0.3, 0.125, 0.05])
    found = solve(question(), "median_frequency", of="inverses").values
    np.testing.assert_allclose(found, (1 / f) / np.median(1 / f), rtol=1e-15)
    odd = counts_of([7, 5, 3])
    for of in ("frequencies", "inverses"):
        weights = solve(odd, "median_frequency", presence=False, of=of).values
        np.testing.assert_allclose(weights, [5 / 7, 1, 5 / 3], rtol=1e-15)


def test_median_leaves_absent_classes_out():
    counts = counts_of([7, 5, 3, 0])
    weights = solve(counts, "median_frequency", presence=False, absent="zero").values
    np.testing.assert_allclose(weights, [5 / 7, 1, 5 / 3, 0], rtol=1e-15)


@pytest.mark.parametrize("items", [0, 1])
def test_presence_is_needed_and_how_to_give_it_is_said(items):
    counts = Counts.from_pixels({0: 3, 1: 1}, items=items)
    with pytest.raises(errors.PresenceNeeded, match=r"count with items .*Counts\.from_pixels"):
        solve(counts, "median_frequency")


def test_enet_bounds():
    one = solve(counts_of([7]), "enet").values[0]
    assert one == pytest.approx(1.422278, abs=5e-7)
    tiny = solve(counts_of([2**60, 1]), "enet").values
    assert tiny[1] == pytest.approx(50.498350, abs=5e-7)
    assert tiny[1] / tiny[0] < 35.6


def test_an_unknown_scheme_is_met_with_the_nearest():
    with pytest.raises(errors.UnknownScheme, match=r"called 'enett': did you mean 'enet'\? There"):
        solve(question(), "enett")
    with pytest.raises(errors.UnknownScheme, match=r"called '\?\?\?'\. There are uniform, inverse"):
        solve(question(), "???")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("enet", {"k": 3}, "enet has no option 'k': it has c"),
        ("inverse", {"power": 3}, "inverse has no option 'power': it has none"),
        ("enet", {"c": 1}, "c=1: give a number above 1"),
        ("enet", {"c": np.nan}, "c=nan: give a number above 1"),
        ("enet", {"c": np.inf}, "c=inf: give a number above 1"),
        ("enet", {"c": "1.02"}, "c='1.02': give a number above 1"),
        ("median_frequency", {"of": "means"}, "of='means': give one of frequencies, inverses"),
        ("median_frequency", {"presence": "no"}, "presence='no': give True or False"),
        ("median_frequency", {"void": 1}, "void=1: give True or False"),
        ("power", {"exponent": -1}, "exponent=-1: give a number from 0 on"),
        ("power", {"exponent": True}, "exponent=True"),
        ("log_inverse", {"mu": 0}, "mu=0: give a number above 0"),
        ("inverse_offset", {"eps": -0.1}, "eps=-0.1: give a number above 0"),
        ("effective_number", {"beta": 1}, "beta=1: give a number from 0 to below 1"),
        ("effective_number", {"beta": -1}, "beta=-1: give a number from 0 to below 1"),
        ("effective_number", {"prototypes": 0.5}, "prototypes=0.5: give a number from 1 on"),
        ("effective_number", {"beta": 0.9, "prototypes": 10}, "are the same thing: give one"),
        ("effective_number", {"of": "instances"}, "give one of pixels, presence"),
        ("target_prior", {}, "prior=None: give 4 finite numbers, one a class in the order"),
        ("target_prior", {"prior": [0.5, 0.5]}, "give 4 finite numbers"),
        (
            "target_prior",
            {"prior": [1, -1, 0, 0]},
            "the number at place 1 is -1.0: give nonnegative",
        ),
        ("target_prior", {"prior": {0: 1}}, r"is for the labels \[0\]"),
        ("target_prior", {"prior": "even"}, "give 4 finite numbers"),
        ("label_smoothing", {"alpha": 1}, "alpha=1: give a number from 0 to below 1"),
        ("logit_adjustment", {"tau": 0}, "tau=0"),
        ("ldam", {"largest": -0.5}, "largest=-0.5"),
        ("equal_cost", {"costs": [[0, 1], [1, 0]]}, "give 4 rows of 4 finite numbers"),
        ("equal_cost", {"costs": "dear"}, "give 4 rows of 4 finite numbers"),
        ("equal_cost", {"costs": [[np.nan] * 4] * 4}, "give 4 rows of 4 finite numbers"),
        ("equal_cost", {"eps": [0.1, 0.1, 0.1, 1.0]}, "numbers between 0 and 1"),
        ("equal_cost", {"eps": 0.1}, "give 4 finite numbers"),
        (
            "equal_cost",
            {"label_smoothing": 1},
            "label_smoothing=1: give a number from 0 to below 1",
        ),
        ("equal_cost", {"framework": "jax"}, "framework='jax': give one of keras, torch"),
        ("equal_cost", {"floor": 2, "costs": 1 - np.eye(4)}, "floor=2: give a number from 0 to 1"),
        ("equal_cost", {"objective": "least", "costs": 1 - np.eye(4)}, "one of maximin, spread"),
        ("equal_cost", {"eps": [0.1] * 4, "per_image": True}, "exclude each other"),
    ],
)
def test_bad_options_teach(name, options, message):
    with pytest.raises(errors.OptionError, match=message):
        solve(question(), name, **options)


def test_plain_numbers_are_no_counts():
    with pytest.raises(errors.OptionError, match=r"a list is no Counts.*from_pixels"):
        solve([3, 1], "inverse")


def test_the_register_says_all_of_every_scheme():
    from fastcounts.weights import KINDS, NORMALIZATIONS

    assert len({record.name for record in schemes()}) == len(schemes())
    for record in schemes():
        assert record.summary.endswith(".")
        assert all((record.formula, record.tex, record.source, record.absent)), record.name
        assert record.kind in KINDS
        assert record.published in (None, *NORMALIZATIONS)
        assert all(option.meaning for option in record.options), record.name


def test_an_option_without_meaning_cannot_be_registered():
    def nameless(tally, *, size=1):
        """Do nothing."""

    words = {"formula": "0", "tex": "0", "source": "none", "absent": "0"}
    with pytest.raises(KeyError, match="size"):
        register.scheme(**words)(nameless)
    with pytest.raises(TypeError, match="nameless has no option width"):
        register.scheme(**words, size="a size", width="a width")(nameless)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.02", 1.02),
        ("3", 3),
        ("1e-3", 0.001),
        ("true", True),
        ("False", False),
        ("none", None),
        ("[0.4, 0.6]", [0.4, 0.6]),
        ("keras", "keras"),
    ],
)
def test_options_are_read_from_the_command_line(text, value):
    found = solvers.read_option(text)
    assert found == value
    assert type(found) is type(value)


PIXELS_ONLY = (
    "inverse",
    "balanced",
    "power",
    "equal_cost",
    "enet",
    "inverse_offset",
    "effective_number",
    "generalised_dice",
    "label_smoothing",
)
SCALE_FREE = tuple(
    record.name
    for record in schemes()
    if record.kind == "weight"
    and not record.presence
    and record.name
    not in ("inverse_log_count", "generalised_dice", "target_prior", "effective_number")
)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=9), st.integers(2, 10**6))
def test_ten_times_the_data_give_the_same_weights(pixels, factor):
    for name in SCALE_FREE:
        few, many = counts_of(pixels), counts_of([n * factor for n in pixels])
        np.testing.assert_allclose(solve(few, name).values, solve(many, name).values, rtol=1e-13)


@given(st.lists(st.integers(1, 2**60), min_size=1, max_size=7))
def test_rarer_never_weighs_less(pixels):
    counts = counts_of(pixels)
    order = np.argsort(pixels)[::-1]
    for name in PIXELS_ONLY:
        values = solve(counts, name).values
        assert (np.diff(values[order]) >= 0).all(), name
        assert np.isfinite(values).all()
        assert (values > 0).all()


@given(st.lists(st.integers(2**59, 2**60), min_size=2, max_size=7))
def test_counts_near_the_limit_are_weighed_to_the_last_digits(pixels):
    total = sum(pixels)
    for name, exact in (
        ("inverse", [max(pixels) / n for n in pixels]),
        ("balanced", [total / (len(pixels) * n) for n in pixels]),
    ):
        np.testing.assert_allclose(solve(counts_of(pixels), name).values, exact, rtol=1e-15)


@given(st.lists(st.tuples(*[st.integers(1, 10**6)] * 3), min_size=2, max_size=5))
def test_merge_then_solve_is_solve_of_the_merge(parts):
    merged = sum(counts_of(part) for part in parts)
    whole = counts_of([sum(column) for column in zip(*parts, strict=True)])
    for name in PIXELS_ONLY:
        assert solve(merged, name) == solve(whole, name)


def test_merged_tables_solve_like_the_whole():
    whole = solve(of_images(IMAGES, "a"), "equal_cost", per_image=True)
    parts = [of_images(IMAGES[:1], "a"), of_images([[0] * 4, *IMAGES[1:]], "b")]
    merged = solve(parts[0] + parts[1], "equal_cost", per_image=True)
    np.testing.assert_allclose(merged.values, whole.values, rtol=1e-12)


def test_effective_numbers_that_saturate_warn_and_others_are_stable():
    pixels = [6 * 10**8, 3 * 10**8, 10**6, 2 * 10**4]
    weights = solve(counts_of(pixels), "effective_number", beta=0.9999).values
    np.testing.assert_allclose(weights, [0.96235, 0.96235, 0.96235, 1.11296], atol=6e-6)
    with pytest.warns(UserWarning, match="nothing is weighted; give more prototypes="):
        solve(counts_of(pixels), "effective_number", beta=0.999)
    far = solve(counts_of([2**60, 2**40]), "effective_number", prototypes=1e17).values
    exact = [1e17 * -np.expm1(-n / 1e17) for n in (2**60, 2**40)]
    np.testing.assert_allclose(far[1] / far[0], exact[0] / exact[1], rtol=1e-12)


def test_more_prototypes_come_to_inverse_frequency():
    ones = solve(question(), "effective_number", prototypes=1e15, normalize="min").values
    np.testing.assert_allclose(ones, [1, 2, 7.2, 36], rtol=1e-9)


def test_a_target_prior_leaves_absent_classes_out():
    counts = counts_of([*PIXELS, 0])
    weights = solve(counts, "target_prior", prior=[4, 3, 2, 1, 10], absent="zero")
    np.testing.assert_allclose(weights.values, [2 / 3, 1, 2.4, 6, 0], rtol=1e-14)


def test_the_published_scale_can_be_left():
    mean = solve(question(), "inverse_log_count")
    assert mean.values.mean() == pytest.approx(1)
    assert mean.normalize is None
    assert solve(question(), "inverse_log_count", normalize="sum").values.sum() == pytest.approx(1)


def test_a_class_of_one_pixel_has_no_inverse_logarithm():
    with pytest.raises(errors.SolveError, match="1: inf"):
        solve(counts_of([9, 1]), "inverse_log_count")


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        ("uniform", 1),
        ("inverse_offset", 1000),
        ("one_minus", 1),
        ("equal_cost", 0),
        ("inverse_log_count", 0),
        ("label_smoothing", 1 / (0.1 * 300 / 5)),
    ],
)
def test_what_formulas_give_for_no_pixels(scheme, value):
    weights = solve(counts_of([*PIXELS, 0]), scheme, absent="formula")
    assert weights.raw[-1] == pytest.approx(value)


@pytest.mark.parametrize("scheme", ["logit_adjustment", "balanced_softmax"])
def test_biases_of_absent_classes(scheme):
    counts = counts_of([*PIXELS, 0])
    with pytest.raises(errors.AbsentClass):
        solve(counts, scheme)
    for policy in ("formula", "mask"):
        assert solve(counts, scheme, absent=policy).values[-1] == -np.inf
    assert solve(counts, scheme, absent="zero").values[-1] == 0
    assert np.isfinite(solve(counts, scheme, absent="smooth").values).all()


# ---- equal cost ----

COSTS = {
    "right or wrong": (
        1 - np.eye(4),
        [0.25, 0.25, 0.25, 0.25],
        0.75,
        [0.416667, 0.833333, 3, 15],
    ),
    "two groups": (
        [[0, 1, 4, 4], [1, 0, 4, 4], [2, 2, 0, 1], [2, 2, 1, 0]],
        [0.35, 0.35, 0.15, 0.15],
        1.55,
        [0.583333, 1.166667, 1.8, 9],
    ),
    "one dear answer": (
        [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [5, 5, 5, 0]],
        [0.0625, 0.0625, 0.0625, 0.8125],
        0.9375,
        [0.104167, 0.208333, 0.75, 48.75],
    ),
    "dear to miss": (
        np.array([1, 1, 3, 5]) * (1 - np.eye(4)),
        [0.394737, 0.394737, 0.131579, 0.078947],
        1.184211,
        [0.657895, 1.315789, 1.578947, 4.736842],
    ),
    "singular": (
        [[0, 1, 2, 1], [1, 0, 1, 2], [2, 1, 0, 1], [1, 2, 1, 0]],
        [0.25, 0.25, 0.25, 0.25],
        1.0,
        [0.416667, 0.833333, 3, 15],
    ),
}


@pytest.mark.parametrize("name", COSTS)
def test_cost_matrices(name):
    costs, masses, common, expected = COSTS[name]
    weights = solve(question(), "equal_cost", costs=costs)
    np.testing.assert_allclose(weights.values, expected, atol=6e-7)
    assert weights.diagnostics["exact"] is True
    np.testing.assert_allclose(weights.diagnostics["implied_prior"], masses, atol=6e-7)
    np.testing.assert_allclose(
        weights.diagnostics["stated_costs"]["after"], [common] * 4, atol=6e-7
    )


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_closed_forms_agree_with_least_squares(size, seed):
    draw = np.random.default_rng(seed)
    right, wrong = draw.uniform(0, 0.5, size), draw.uniform(1, 1.2, size)
    even = np.full(size, 1 / size)
    for costs in (np.tile(wrong, (size, 1)), np.tile(wrong[:, None], size)):
        np.fill_diagonal(costs, right)
        closed = solvers.masses._closed_form(costs)
        np.testing.assert_allclose(closed, solvers.masses._nearest(costs, even), atol=1e-12)


@given(st.integers(2, 6), st.integers(0, 2**32 - 1), st.floats(-5, 5))
def test_costs_may_be_shifted_and_scaled(size, seed, shift):
    draw = np.random.default_rng(seed)
    costs = draw.uniform(1, 1.3, (size, size))
    np.fill_diagonal(costs, 0)
    names = [str(place) for place in range(size)]
    masses = solvers.equal_masses(costs, names)
    np.testing.assert_allclose(costs @ masses, (costs @ masses)[0], rtol=1e-10)
    moved = solvers.equal_masses(3 * costs + shift, names)
    np.testing.assert_allclose(moved, masses, atol=1e-9)


INFEASIBLE = [[0, 1, 10, 10], [1, 0, 1, 1], [1, 1, 0, 1], [9, 9, 9, 0]]


def test_infeasible_costs_are_refused():
    with pytest.raises(errors.InfeasibleCosts, match=r"would need a negative one.*floor=0\.1"):
        solve(question(), "equal_cost", costs=INFEASIBLE)


def test_a_dominated_answer_is_named():
    costs = [[0, 1, 1, 1], [3, 2, 3, 3], [1, 1, 0, 1], [1, 1, 1, 0]]
    with pytest.raises(errors.InfeasibleCosts, match="always answering 0 costs less than always"):
        solve(question(), "equal_cost", costs=costs)


def test_the_programmes_for_infeasible_costs():
    pytest.importorskip("scipy")
    exact = solve(question(), "equal_cost", costs=INFEASIBLE, floor=0)
    found = exact.diagnostics
    np.testing.assert_allclose(found["implied_prior"], [1 / 9, 0, 0, 8 / 9], atol=1e-9)
    np.testing.assert_allclose(found["stated_costs"]["after"], [80 / 9, 1, 1, 1], atol=1e-9)
    assert found["exact"] is False
    spread = {"floor": 0.2, "objective": "spread"}
    found = solve(question(), "equal_cost", costs=INFEASIBLE, **spread).diagnostics
    masses = [0.455263, 0.05, 0.05, 0.444737]
    np.testing.assert_allclose(found["implied_prior"], masses, atol=6e-7)
    assert np.ptp(found["stated_costs"]["after"]) == pytest.approx(4.047368, abs=6e-7)


def test_costs_that_leave_a_choice_are_met_with_positive_masses():
    pytest.importorskip("scipy")
    two = np.array([[0.0, 3.0, 3.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    found = solvers.equal_masses(two, list("abc"))
    np.testing.assert_allclose(two @ found, (two @ found)[0], atol=1e-12)
    assert (found > 0.1).all()


def test_feasible_only_at_an_edge_of_many():
    optimize = pytest.importorskip("scipy.optimize")
    draw = np.random.default_rng(3)
    for _ in range(200):
        size = int(draw.integers(3, 6))
        costs = draw.integers(0, 4, (size, size)).astype(float)
        costs[-1] = costs[0]
        centred = costs - costs.mean(axis=0)
        system = np.vstack([centred, np.ones(size)])
        _, residual = optimize.nnls(system, np.append(np.zeros(size), 1.0))
        names = [str(place) for place in range(size)]
        if residual < 1e-9:
            masses = solvers.equal_masses(costs, names)
            assert (masses >= 0).all()
            np.testing.assert_allclose(costs @ masses, (costs @ masses)[0], atol=1e-9)
        elif residual > 1e-6:
            with pytest.raises(errors.InfeasibleCosts):
                solvers.equal_masses(costs, names)


def test_scipy_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(errors.MissingExtra, match=r"SciPy: install it with .*fastcounts\["):
        solve(question(), "equal_cost", costs=INFEASIBLE, floor=0.1)


def test_each_answer_may_be_as_sure_as_it_likes():
    weights = solve(question(), "equal_cost", eps=[1e-4, 0.3, 0.3, 0.3])
    found = weights.diagnostics
    np.testing.assert_allclose(
        found["implied_prior"], [0.789871, 0.070043, 0.070043, 0.070043], atol=6e-7
    )
    np.testing.assert_allclose(found["stated_costs"]["after"], [2.166288] * 4, atol=6e-7)
    even = solve(question(), "equal_cost", eps=[0.2] * 4)
    np.testing.assert_allclose(even.values, solve(question(), "equal_cost").values, rtol=1e-12)
    with pytest.raises(errors.InfeasibleCosts):
        solve(question(), "equal_cost", eps=[0.01, 0.05, 0.1, 0.2])


def test_gaps_change_how_eps_is_spread_and_are_not_filled_later():
    weights = solve(question(), "equal_cost", eps=[0.2] * 4, absent="zero")
    with pytest.raises(errors.OptionError, match="num_classes=6 to solve"):
        weights.dense(6)


def test_options_may_be_arrays():
    listed = solve(question(), "equal_cost", eps=[0.1, 0.2, 0.2, 0.1])
    arrays = solve(question(), "equal_cost", eps=np.array([0.1, 0.2, 0.2, 0.1]))
    assert listed == arrays


def test_statistics_of_images_stand_beside_the_weights_that_they_are_of():
    counts = of_images(IMAGES)
    weights = solve(counts, "inverse", num_classes=6, absent="zero")
    images = weights.diagnostics["images"]
    assert images["presence_share"].tolist() == pytest.approx([1, 1, 2 / 3, 1 / 3, 0, 0])
    assert images["effective_images"][3:].tolist() == [1, 0, 0]
    assert np.isnan(images["log_weight_errors"][4:]).all()


def test_absent_classes_take_no_part_in_equal_cost():
    counts = counts_of([180, 0, 25, 5])
    weights = solve(counts, "equal_cost", costs=1 - np.eye(4), absent="one")
    assert weights.values[1] == 1
    np.testing.assert_allclose(
        weights.values[[0, 2, 3]], 210 / 3 / np.array([180, 25, 5]), rtol=1e-13
    )
    assert weights.diagnostics["exact"] is True


def test_equal_cost_is_exact_and_others_say_they_are_not():
    for scheme, exact in (("inverse", True), ("balanced", True), ("enet", False)):
        assert solve(question(), scheme).diagnostics["exact"] is exact
    assert solve(question(), "equal_cost", cap=5).diagnostics["exact"] is False


def test_the_cap_is_the_best_there_is_under_a_ratio():
    optimize = pytest.importorskip("scipy.optimize")
    n = np.array(PIXELS)
    for cap in (5, 10, 36, 100):
        # least spread u - l of the masses, over weights between s and cap * s, pixel mean 1
        upper = np.vstack(
            [
                np.hstack([np.diag(n), np.tile([-1, 0, 0], (4, 1))]),
                np.hstack([-np.diag(n), np.tile([0, 1, 0], (4, 1))]),
                np.hstack([np.eye(4), np.tile([0, 0, -cap], (4, 1))]),
                np.hstack([-np.eye(4), np.tile([0, 0, 1], (4, 1))]),
            ]
        )
        best = optimize.linprog(
            [0, 0, 0, 0, 1, -1, 0],
            A_ub=upper,
            b_ub=np.zeros(16),
            A_eq=[[*n, 0, 0, 0]],
            b_eq=[300],
            bounds=[(0, None)] * 7,
        )
        values = solve(question(), "inverse", cap=cap, normalize="pixel_mean").values
        assert np.ptp(values * n) == pytest.approx(best.fun, abs=1e-7)


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("label_smoothing", {}),
        ("equal_cost", {"label_smoothing": 0.1, "framework": "torch"}),
    ],
)
def test_the_costs_under_torch_smoothing_are_stated(scheme, options):
    found = solve(question(), scheme, **options).diagnostics
    np.testing.assert_allclose(found["stated_costs"]["after"], [5.143266] * 4, atol=6e-7)
    assert np.ptp(found["stated_costs"]["before"]) > 1
    assert found["exact"] is True
    assert np.ptp(found["constant_predictors"][0]["by_weights"]) > 1


def test_smoothing_depends_on_the_number_of_classes():
    more = {"label_smoothing": 0.1, "framework": "torch", "absent": "max"}
    weights = solve(question(), "equal_cost", **more)
    with pytest.raises(errors.OptionError, match="num_classes=6 to solve"):
        weights.dense(6)
    assert solve(question(), "equal_cost", num_classes=6, **more).dense().size == 6


# ---- per image ----


def test_weights_for_the_mean_of_torch_in_batches_of_one():
    weights = solve(of_images(IMAGES), "equal_cost", per_image=True, normalize="mean")
    expected = [0.0126687926251, 0.0389450743097, 0.270965332663, 3.6774208004]
    np.testing.assert_allclose(weights.values, expected, rtol=1e-8)


def test_a_class_in_too_few_images_cannot_have_its_share():
    images = [[5, 5, 5, 0]] * 4 + [[5, 5, 5, 5]]
    with pytest.raises(errors.InfeasibleCosts, match=r"class 3 is in 20\.00% of the images"):
        solve(of_images(images), "equal_cost", per_image=True)


def test_images_that_hold_too_little_else_cannot_be_balanced():
    with pytest.raises(errors.InfeasibleCosts, match=r"share|rounds"):
        solve(of_images([[5, 0], [5, 5]]), "equal_cost", per_image=True)


def test_per_image_needs_the_table():
    with pytest.raises(errors.PresenceNeeded, match="keep_items=True"):
        solve(question(), "equal_cost", per_image=True)


# ---- images ----


def test_repeat_factors():
    weights = solve(of_images(IMAGES), "repeat_factor", threshold=0.9)
    np.testing.assert_allclose(weights.values, [1.161895, 1, 1.643168], atol=6e-7)
    assert weights.kind == "item"
    assert weights.labels.tolist() == [0, 1, 2]
    assert solve(of_images(IMAGES), "repeat_factor").values.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("temperature", "chances"),
    [
        (0.01, [0, 0, 0.001271, 0.998729]),
        (0.1, [0.001859, 0.037340, 0.325946, 0.634855]),
        (0.5, [0.113073, 0.206033, 0.317784, 0.363110]),
    ],
)
def test_rare_class_chances(temperature, chances):
    found = solvers.rare_class_chances(np.array(PIXELS) / 300, temperature)
    np.testing.assert_allclose(found, chances, atol=6e-7)
    images = solve(of_images(IMAGES), "rare_class", temperature=temperature, min_pixels=0).values
    a, b, c, d = found
    expected = [a / 3 + b / 3 + c / 2, a / 3 + b / 3, a / 3 + b / 3 + c / 2 + d]
    np.testing.assert_allclose(images, expected, rtol=1e-12)
    assert images.sum() == pytest.approx(1)


def test_cold_chances_do_not_overflow():
    assert solvers.rare_class_chances([0.9, 0.1], 1e-4).tolist() == [0, 1]


def test_rare_class_says_which_class_no_image_has_enough_of():
    with pytest.raises(errors.SolveError, match=r"more than 10 pixels of class 3: lower"):
        solve(of_images(IMAGES), "rare_class", min_pixels=10)


def test_class_uniform():
    images = np.ones((3000, 19), dtype=np.int64)
    values = solve(of_images(images), "class_uniform").values
    np.testing.assert_allclose(values, (19 * 78 + 1518) / 3000)
    assert values.sum() == pytest.approx(3000)
    for epoch, rest in ((80, 0), (83, 1)):
        few = solve(of_images(IMAGES), "class_uniform", epoch=epoch, part=1.0).values
        drawn = np.array([20 / 3 + 20 / 3 + 10, 40 / 3, 40 / 3 + 10 + 20])
        np.testing.assert_allclose(few, drawn + rest)


@pytest.mark.parametrize("scheme", ["repeat_factor", "rare_class", "class_uniform"])
def test_images_with_absent_classes(scheme):
    counts = of_images([[*row, 0] for row in IMAGES])
    more = {"min_pixels": 0} if scheme == "rare_class" else {}
    with pytest.raises(errors.AbsentClass, match="class 4"):
        solve(counts, scheme, **more)
    found = solve(counts, scheme, absent="zero", **more)
    whole = solve(of_images(IMAGES), scheme, **more)
    np.testing.assert_allclose(found.values, whole.values)
    with pytest.raises(errors.PresenceNeeded, match="keep_items=True"):
        solve(question(), scheme)
    with pytest.raises(errors.OptionError, match="neither capped nor normalised"):
        solve(of_images(IMAGES), scheme, cap=3, **more)


def test_sampling_tells_what_the_classes_become():
    weights = solve(of_images(IMAGES, "train"), "repeat_factor", threshold=0.9)
    drawn = weights.values @ np.array(IMAGES)
    share = weights.diagnostics["class_share"]
    np.testing.assert_allclose(share["after"], drawn / drawn.sum())
    np.testing.assert_allclose(share["before"], np.array(PIXELS) / 300)
    assert weights.names[2] == "train 2"


# ---- bootstrap ----


def test_bootstrap_agrees_with_the_delta_method():
    from fastcounts.diagnostics import log_weight_errors

    draw = np.random.default_rng(5)
    images = (draw.dirichlet([5, 2, 0.5], size=200) * 1000).astype(np.int64)
    counts = of_images(images)
    found = solvers.bootstrap(counts, "inverse", level=0.6827, replicates=800, method="percentile")
    half = np.log(found.high / found.low) / 2
    np.testing.assert_allclose(half[1:], log_weight_errors(counts)[1:], rtol=0.1)
    assert (found.missing == 0).all()
    assert found.replicates == 800


def test_a_class_in_one_image_has_no_upper_bound():
    images = [[50, 50, 0]] * 9 + [[50, 50, 10]]
    found = solvers.bootstrap(of_images(images), "inverse", replicates=2000, method="percentile")
    assert np.isinf(found.high[2])
    assert np.isfinite(found.high[:2]).all()
    assert found.missing[2] == pytest.approx(0.9**10, abs=0.03)


@pytest.mark.parametrize("scheme", ["median_frequency", "idf", "inverse"])
def test_a_replicate_is_the_counts_of_the_images_drawn(scheme):
    images = np.random.default_rng(1).integers(0, 9, (30, 4))
    found = solvers.bootstrap(of_images(images), scheme, replicates=1, seed=3, method="percentile")
    drawn = images[np.random.default_rng(3).integers(30, size=30)]
    np.testing.assert_allclose(found.low, solve(of_images(drawn), scheme).values, rtol=1e-14)
    np.testing.assert_array_equal(found.low, found.high)


def test_bootstrap_takes_presence_along():
    found = solvers.bootstrap(
        of_images([[60, 30, 10], [80, 20, 5]] * 20),
        "median_frequency",
        replicates=50,
        method="percentile",
    )
    assert np.isfinite(found.high).all()
    assert (found.low <= found.high).all()


def test_bootstrap_is_of_weights_and_needs_the_table():
    with pytest.raises(errors.OptionError, match="logit_adjustment gives a bias"):
        solvers.bootstrap(of_images(IMAGES), "logit_adjustment")
    with pytest.raises(errors.PresenceNeeded, match="bootstrap needs"):
        solvers.bootstrap(question(), "inverse")
    with pytest.raises(errors.OptionError, match="level=1"):
        solvers.bootstrap(of_images(IMAGES), "inverse", level=1)


def test_a_replicate_takes_its_ignored_pixels_along():
    draw = np.random.default_rng(2)
    images = draw.integers(1, 9, (20, 4))  # the last label is ignored
    void = images[:, 3]

    def counts(rows):
        whole = of_images(images[rows][:, :3])
        inside = images[rows].sum(axis=1)
        held = images[rows][:, :3] > 0
        seen = {255: Ignored(int(void[rows].sum()), len(rows), int(inside.sum()))}
        table = ItemTable.of(
            [ItemKey("", place) for place in range(len(rows))],
            np.arange(0, 4 * len(rows) + 1, 4),
            np.tile([0, 1, 2, 255], len(rows)),
            images[rows].ravel(),
        )
        total = int(inside.sum())
        return replace(
            whole,
            presence_pixels_total=held.T @ inside,
            ledger=Ledger(total=total, counted=total - int(void[rows].sum()), ignored=seen),
            options=Options.parse((255,), None),
            item_table=table,
        )

    rows = np.random.default_rng(3).integers(20, size=20)
    for scheme, more in (
        ("median_frequency", {"void": True, "void_in_median": True}),
        ("enet", {"void": True}),
    ):
        found = solvers.bootstrap(
            counts(np.arange(20)), scheme, replicates=1, seed=3, method="percentile", **more
        )
        expected = solve(counts(rows), scheme, **more).values
        np.testing.assert_allclose(found.low, expected, rtol=1e-14)


def test_a_replicate_is_balanced_by_its_own_images():
    images = np.random.default_rng(4).integers(1, 50, (12, 3))
    found = solvers.bootstrap(
        of_images(images), "equal_cost", replicates=1, per_image=True, method="percentile"
    )
    drawn = images[np.random.default_rng(0).integers(12, size=12)]
    expected = solve(of_images(drawn), "equal_cost", per_image=True).values
    np.testing.assert_allclose(found.high, expected, rtol=1e-10)


def test_replicates_without_weights_count_as_missing():
    images = [[50, 50]] * 3 + [[50, 0]] * 2
    found = solvers.bootstrap(
        of_images(images), "equal_cost", replicates=200, per_image=True, method="percentile"
    )
    assert np.isinf(found.high).all()
    assert (found.missing > 0).all()
    with pytest.raises(errors.InfeasibleCosts):
        solvers.bootstrap(of_images([[5, 0], [5, 5]]), "equal_cost", per_image=True)


@pytest.mark.parametrize("replicates", [0, 2.5, True, "many"])
def test_replicates_are_a_whole_number(replicates):
    with pytest.raises(errors.OptionError, match="give a whole number from 1 on"):
        solvers.bootstrap(of_images(IMAGES), "inverse", replicates=replicates)


# ---- whether weights for batches of one image exist ----


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_certificate_agrees_with_all_sets_of_classes(images, classes, seed):
    pytest.importorskip("scipy")
    held = np.random.default_rng(seed).random((images, classes)) < 0.6
    held = held[held.any(axis=1)]
    held = held[:, held.any(axis=0)]
    assume(held.size)
    size = held.shape[1]

    def asks_too_much(chosen):
        touched = held[:, chosen].any(axis=1)
        others = np.setdiff1d(np.arange(size), chosen)
        spare = touched.sum() * size - len(chosen) * len(held)
        return spare < 0 or (spare == 0 and held[touched][:, others].any())

    sets = [
        list(chosen)
        for number in range(1, size)
        for chosen in itertools.combinations(range(size), number)
    ]
    found = existence(held)
    assert found.exists is not any(map(asks_too_much, sets))
    if not found.exists:
        assert asks_too_much(list(found.classes))


def test_the_certificate_of_the_theory():
    pytest.importorskip("scipy")
    found = existence(np.array(IMAGES) > 0)
    assert found.exists
    assert found.margin == pytest.approx(1 / 36)


def test_classes_that_together_have_too_few_images_are_named():
    pytest.importorskip("scipy")
    images = [[5, 5, 0, 0, 0]] * 7 + [[5, 5, 5, 5, 5]] * 3
    with pytest.raises(
        errors.InfeasibleCosts,
        match=r"the classes 2, 3, 4 need 3 / 5 of the loss, .* hold any of them are 30\.00%",
    ):
        solve(of_images(images), "equal_cost", per_image=True)


def test_classes_that_never_meet_must_balance():
    pytest.importorskip("scipy")
    images = [[5, 5, 0, 0]] * 2 + [[0, 0, 5, 5]] * 3
    with pytest.raises(errors.InfeasibleCosts, match="the classes 0, 1 need 2 / 4 of the loss"):
        solve(of_images(images), "equal_cost", per_image=True)


def test_without_scipy_it_is_still_refused(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(errors.InfeasibleCosts, match="were found in 20000 rounds: class"):
        solve(of_images([[5, 0], [5, 5]]), "equal_cost", per_image=True)


def test_what_it_costs_in_batches_of_one_image_is_stated():
    found = solve(of_images(IMAGES), "equal_cost", per_image=True).diagnostics
    np.testing.assert_allclose(found["stated_costs"]["after"], [4.280349] * 4, atol=6e-7)
    assert found["exact"] is True


# ---- what hostile users found ----


def test_label_smoothing_of_keras_is_part_of_what_unequal_answers_cost():
    eps, alpha = np.array([0.05, 0.2, 0.2, 0.2]), 0.1
    weights = solve(question(), "equal_cost", eps=eps, label_smoothing=alpha)
    costs = []
    for answer in range(4):
        chances = np.full(4, eps[answer] / 3)
        chances[answer] = 1 - eps[answer]
        truth = np.eye(4) * (1 - alpha) + alpha / 4
        costs.append(-(truth @ np.log(chances)) @ (weights.values * np.array(PIXELS)) / 300)
    np.testing.assert_allclose(costs, costs[0], rtol=1e-12)
    np.testing.assert_allclose(weights.diagnostics["stated_costs"]["after"], costs, rtol=1e-12)
    assert weights.diagnostics["exact"] is True


def test_costs_that_are_given_hold_the_label_smoothing_already():
    with pytest.raises(errors.OptionError, match="already say what label smoothing does"):
        solve(question(), "equal_cost", costs=1 - np.eye(4), label_smoothing=0.1)


@pytest.mark.parametrize(
    ("more", "column"),
    [
        ({}, "presence"),
        ({"presence": {0: 3, 1: 1}}, "presence_pixels"),
        ({"presence": {0: 3, 1: 1}, "presence_pixels": {0: 4, 1: 1}}, None),
    ],
)
def test_presence_that_was_not_given_is_asked_for(more, column):
    counts = Counts.from_pixels({0: 3, 1: 1}, items=3, **more)
    if column is None:
        np.testing.assert_allclose(solve(counts, "median_frequency").values, [7 / 6, 7 / 8])
        return
    with pytest.raises(errors.PresenceNeeded, match=rf"needs {column}: class 0 has 3 pixels"):
        solve(counts, "median_frequency")
    if column == "presence_pixels":
        assert solve(counts, "idf").values.size == 2


@pytest.mark.parametrize("amount", ["smooth:9e18", "smooth:1e30"])
def test_smoothing_beyond_what_counts_can_hold(amount):
    values = solve(counts_of([*PIXELS, 0]), "inverse", absent=amount).values
    np.testing.assert_allclose(values, [1, 2, 7.2, 36, 36], rtol=1e-12)


def test_a_class_that_fills_an_int64_can_be_smoothed():
    full = solve(counts_of([2**63 - 3, 2, 0]), "balanced", absent="smooth").values
    np.testing.assert_allclose(full, 2**63 / 2 / np.array([2**63, 2, 1]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("target_prior", {"prior": {"x": 1}}, r"is for the labels \['x'\]: the classes are"),
        ("target_prior", {"prior": {0.5: 1, 1: 1, 2: 1, 3: 1}}, r"labels \[0\.5, 1"),
        ("target_prior", {"prior": {"0": 1, 0: 1, 1: 1, 2: 1, 3: 1}}, "is for the labels"),
        ("enet", {"c": np.complex128(2)}, "c=.*: give a number above 1"),
        ("log_inverse", {"mu": np.array(1.0)}, "mu=.*: give a number above 0"),
    ],
)
def test_options_of_strange_types_teach(name, options, message):
    with pytest.raises(errors.OptionError, match=message):
        solve(question(), name, **options)


@pytest.mark.parametrize("epoch", [0, 2.5, "all"])
def test_an_epoch_is_a_whole_number(epoch):
    with pytest.raises(errors.OptionError, match="give a whole number from 1 on"):
        solve(of_images(IMAGES), "class_uniform", epoch=epoch)


def test_chances_that_are_no_numbers_are_refused():
    with pytest.raises(errors.SolveError, match="no usable item here"):
        solve(of_images(IMAGES), "rare_class", temperature=1e-320, min_pixels=0)


def test_a_median_with_void_asks_for_the_images_of_void():
    more = {"items": 3, "presence": {0: 3, 1: 1}, "presence_pixels": {0: 4, 1: 1}}
    counts = Counts.from_pixels({0: 3, 1: 1}, ignored={255: 4}, **more)
    with pytest.raises(errors.PresenceNeeded, match="each ignored label: give ignored="):
        solve(counts, "median_frequency", void_in_median=True)
    assert solve(counts, "median_frequency").values.size == 2
