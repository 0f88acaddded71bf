"""Tables that others published, solved again from their counts, to the digits printed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from fastcounts.counts import Counts
from fastcounts.solvers import solve

SHARED = Path(
    os.environ.get(
        "FASTCOUNTS_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    )
)
VECTORS = SHARED.parent / "vectors"

CITYSCAPES = [
    2036416525, 336090793, 1260636120, 36199498, 48454166, 67789506, 11477088, 30448193,
    879783988, 63949536, 221979646, 67326424, 7463162, 386328286, 14772328, 12990290,
    12863955, 5449152, 22861233, 715747311,
]  # fmt: skip
CITYSCAPES_WEIGHTS = [
    0.0121096, 0.07337357, 0.0195617, 0.68122994, 0.50893832, 0.3637758, 2.14864449,
    0.80990625, 0.02802981, 0.3856194, 0.11109209, 0.36627791, 3.30425387, 0.06383219,
    1.66934974, 1.89835499, 1.91699846, 4.52550817, 1.07868993, 0.03445375,
]  # fmt: skip


def counts_of(pixels, void=0):
    return Counts.from_pixels(dict(enumerate(pixels)), ignored={255: void} if void else None)


def test_cityscapes_inverse_frequency_of_mean_1():
    weights = solve(counts_of(CITYSCAPES), "inverse", normalize="mean")
    np.testing.assert_allclose(weights.values, CITYSCAPES_WEIGHTS, rtol=5e-7)


def published(name):
    file = VECTORS / "published.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there: set FASTCOUNTS_DATA to the folder beside it")
    return next(entry for entry in json.loads(file.read_text()) if entry["name"] == name)


def test_cityscapes_from_the_file():
    entry = published("cityscapes20_invfreq_mean1")
    assert entry["input"]["counts"] == CITYSCAPES
    weights = solve(counts_of(CITYSCAPES), "inverse", normalize="mean").values
    np.testing.assert_allclose(weights, entry["published"], rtol=entry["rtol"])
    np.testing.assert_allclose(weights, entry["computed_float64"], rtol=1e-14)


def test_shares_are_published_too():
    for name in ("synapse9_ratio", "eolearn_lulc_percentage"):
        entry = published(name)
        frequencies = counts_of(entry["input"]["counts"]).frequencies()
        np.testing.assert_allclose(frequencies, entry["published"], rtol=entry["rtol"])
        np.testing.assert_allclose(frequencies, entry["computed_float64"], rtol=1e-15)


def test_counts_beyond_32_bits_are_summed_exactly():
    counts = counts_of(published("fundus_edema4_counts")["input"]["counts"])
    assert counts.ledger.counted == 8960 * 1024 * 512


MASKS = {
    "enet_1_02": ("enet", {}),
    "enet_1_10": ("enet", {"c": 1.1}),
    "max_over_count": ("inverse", {}),
    "cap10": ("inverse", {"cap": 10}),
    "inverse_sum1": ("inverse", {"normalize": "sum"}),
    "balanced": ("balanced", {}),
    "median_freq": ("median_frequency", {}),
    "median_freq_total": ("median_frequency", {"presence_only": False}),
}


@pytest.mark.parametrize("vector", MASKS)
def test_scheme_vectors_from_the_file(vector):
    file = VECTORS / "schemes.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there: set FASTCOUNTS_DATA to the folder beside it")
    data = json.loads(file.read_text())
    images = np.array(data["input"]["images"])
    classes = range(images.shape[1])
    present = images > 0
    counts = Counts.from_pixels(
        dict(zip(classes, images.sum(0).tolist(), strict=True)),
        items=len(images),
        presence=dict(zip(classes, present.sum(0).tolist(), strict=True)),
        presence_pixels=dict(zip(classes, (present.T @ images.sum(1)).tolist(), strict=True)),
    )
    scheme, options = MASKS[vector]
    found = solve(counts, scheme, **options).values
    np.testing.assert_allclose(found, data["schemes"][vector], rtol=5e-12)
