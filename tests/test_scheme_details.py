"""Options that several schemes share, and what is said of schemes that do little."""

from __future__ import annotations

import numpy as np
import pytest

from fastcounts import errors, solvers
from fastcounts.counts import Counts

solve = solvers.solve
PIXELS, VOID = [180, 90, 25, 5], 60


@pytest.mark.parametrize(
    ("scheme", "more", "formula"),
    [
        ("power", {}, lambda p: p**-0.5),
        ("power", {"exponent": 1}, lambda p: 1 / p),
        ("neg_log", {}, lambda p: -np.log(p)),
        ("log_inverse", {"mu": 1}, lambda p: np.maximum(1, np.log(1 / p))),
        ("one_minus", {}, lambda p: 1 - p),
        ("enet", {}, lambda p: 1 / np.log(1.02 + p)),
        ("inverse_offset", {}, lambda p: 1 / (p + 0.001)),
    ],
)
@pytest.mark.parametrize("void", [False, True])
def test_ignored_pixels_are_in_the_denominator_on_request(scheme, more, formula, void):
    counts = Counts.from_pixels(dict(enumerate(PIXELS)), ignored={255: VOID})
    total = sum(PIXELS) + (VOID if void else 0)
    expected = formula(np.array(PIXELS) / total)
    found = solve(counts, scheme, void=void, **more).values
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def flags_of(weights):
    return [found["flag"] for found in weights.diagnostics["flags"]]


@pytest.mark.parametrize("pixels", [PIXELS, [10**9, 10**6, 10**3], [10**15, 1]])
def test_the_default_effective_number_is_flagged_as_inverse_frequency(pixels):
    weights = solve(Counts.from_pixels(dict(enumerate(pixels))), "effective_number")
    mass = weights.values * pixels
    assert mass.max() / mass.min() < 1.6
    assert "near_inverse" in flags_of(weights)


@pytest.mark.parametrize("more", [{"beta": 0.9}, {"prototypes": 50}])
def test_an_effective_number_that_differs_is_not_flagged(more):
    weights = solve(Counts.from_pixels(dict(enumerate(PIXELS))), "effective_number", **more)
    assert "near_inverse" not in flags_of(weights)


def test_counts_that_are_even_are_not_flagged():
    weights = solve(Counts.from_pixels({0: 10, 1: 9}), "effective_number")
    assert "near_inverse" not in flags_of(weights)


@pytest.mark.parametrize("scheme", ["neg_log", "one_minus"])
def test_weights_that_are_all_zero_still_have_diagnostics(scheme):
    weights = solve(Counts.from_pixels({3: 10}, items=5, presence={3: 4}), scheme)
    assert weights.values.tolist() == [0]
    assert flags_of(weights)[0] == "zero"
    assert weights.diagnostics["images"]["presence_share"].tolist() == [0.8]


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("target_prior", {"prior": [1, 2, 10**400, 3]}),
        ("equal_cost", {"eps": [0.1, 0.1, 10**400, 0.1]}),
        ("equal_cost", {"costs": [[10**400] * 4] * 4}),
    ],
)
def test_a_number_that_no_float_holds_is_refused(scheme, options):
    with pytest.raises(errors.OptionError, match="finite"):
        solve(Counts.from_pixels(dict(enumerate(PIXELS))), scheme, **options)
