"""Every scheme: its vectors, its promises, its errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcounts import errors, solvers
from fastcounts.counts import Counts
from fastcounts.ledger import Ignored
from fastcounts.solvers import schemes, solve

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
    ("median_frequency", {"presence_only": False}, [0.319444444444, 0.638888888889, 2.3, 11.5]),
    ("enet", {}, [2.07285612848, 3.60189368929, 10.1692260168, 27.7697264678]),
    ("enet", {"c": 1.1}, [1.88455853603, 2.97201341199, 5.94052413229, 9.06223476567]),
]


@pytest.mark.parametrize(("name", "options", "expected"), VECTORS)
def test_vectors(name, options, expected):
    np.testing.assert_allclose(solve(question(), name, **options).values, expected, rtol=5e-12)


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
        ({"presence_only": False}, [12 / 20, 6 / 20, 2 / 20], 6 / 20),
        ({"presence_only": False, "void": True}, [12 / 24, 6 / 24, 2 / 24], 6 / 24),
        (
            {"void": True, "void_in_median": True},
            [12 / 24, 6 / 24, 2 / 12],
            (6 / 24 + 4 / 24) / 2,
        ),
        (
            {"presence_only": False, "void_in_median": True},
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
        weights = solve(odd, "median_frequency", presence_only=False, of=of).values
        np.testing.assert_allclose(weights, [5 / 7, 1, 5 / 3], rtol=1e-15)


def test_median_leaves_absent_classes_out():
    counts = counts_of([7, 5, 3, 0])
    weights = solve(counts, "median_frequency", presence_only=False, absent="zero").values
    np.testing.assert_allclose(weights, [5 / 7, 1, 5 / 3, 0], rtol=1e-15)


@pytest.mark.parametrize("items", [0, 1])
def test_presence_is_needed_and_how_to_give_it_is_said(items):
    counts = Counts.from_pixels({0: 3, 1: 1}, items=items)
    with pytest.raises(errors.PresenceNeeded, match=r"items=.*Counts\.from_pixels"):
        solve(counts, "median_frequency")


def test_enet_bounds():
    one = solve(counts_of([7]), "enet").values[0]
    assert one == pytest.approx(1.422278, abs=5e-7)
    tiny = solve(counts_of([2**60, 1]), "enet").values
    assert tiny[1] == pytest.approx(50.498350, abs=5e-7)
    assert tiny[1] / tiny[0] < 35.6


def test_an_unknown_scheme_is_met_with_the_nearest():
    with pytest.raises(errors.UnknownScheme, match=r"no scheme 'enett'; did you mean 'enet'\?"):
        solve(question(), "enett")
    with pytest.raises(errors.UnknownScheme, match="There are: uniform, inverse"):
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
        ("median_frequency", {"presence_only": "no"}, "presence_only='no': give True or False"),
        ("median_frequency", {"void": 1}, "void=1: give True or False"),
    ],
)
def test_bad_options_teach(name, options, message):
    with pytest.raises(errors.OptionError, match=message):
        solve(question(), name, **options)


def test_plain_numbers_are_no_counts():
    with pytest.raises(errors.OptionError, match=r"a dict is no Counts.*from_pixels"):
        solve({0: 3, 1: 1}, "inverse")


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
        solvers.scheme(**words)(nameless)
    with pytest.raises(TypeError, match="nameless has no option width"):
        solvers.scheme(**words, size="a size", width="a width")(nameless)


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


PIXELS_ONLY = ("inverse", "balanced", "equal_cost", "enet")
SCALE_FREE = ("inverse", "balanced", "equal_cost", "enet")


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
