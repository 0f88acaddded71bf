"""Tables that others published, solved again from their counts, to the digits printed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from fastcounts.counts import Counts
from fastcounts.items import ItemKey, ItemTable
from fastcounts.ledger import Ledger
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

OVER_ALL_PIXELS = [
    3.063728571, 18.563516617, 4.949110508, 172.351211548, 128.761428833, 91.361610413,
    543.607177734, 204.906326294, 7.091544151, 97.561729431, 28.106302261, 92.668327332,
    835.976379395, 16.149547577, 422.345581055, 480.283935547, 485.000701904, 1144.953857422,
    272.908599854,
]  # fmt: skip
"""Cityscapes as in BenBausch/Depth-Semantic-UDA, utils/constans.py; pole (91.36) counts another
label of Cityscapes too."""

SEMANTIC_KITTI = [
    100109630, 390251, 936032, 5086655, 4245784, 793172, 298655, 88017, 467084144, 34578866,
    338155618, 9174690, 311754113, 170012302, 626897777, 14179620, 183599798, 6709163, 1446379,
]  # fmt: skip
SEMANTIC_KITTI_TOTAL = 2349559532
SEMANTIC_KITTI_WEIGHTS = [
    22.9317, 857.5627, 715.11, 315.9618, 356.2452, 747.617, 887.2239, 963.8915, 5.0051, 63.6247,
    6.9002, 203.8796, 7.4802, 13.6315, 3.7339, 142.1462, 12.6355, 259.3699, 618.9667,
]  # fmt: skip
S3DIS = [
    3370714, 2856755, 4919229, 318158, 375640, 478001, 974733, 650464, 791496, 88727, 1284130,
    229758, 2272837,
]  # fmt: skip
S3DIS_WEIGHTS = [
    4.972216341797373, 5.763650467327046, 3.5171211482124125, 26.95745666198764,
    24.8854333427416, 21.889366091711704, 13.816919320230424, 18.197969556052527,
    15.99252438436405, 40.375425131401094, 11.235984212060831, 30.916185242461246,
    7.036026965752751,
]  # fmt: skip
SYNAPSE = [
    443106950, 729993, 187946, 1061963, 1064177, 11575064, 539063, 2604912, 2862668,
]  # fmt: skip
SYNAPSE_SHARES = [
    0.95552224, 0.00157417, 0.00040529, 0.00229003, 0.00229481, 0.02496064, 0.00116244,
    0.00561727, 0.0061731,
]  # fmt: skip
EOLEARN = {0: 155, 1: 11, 2: 7601, 3: 1777, 4: 358, 8: 198}
EOLEARN_SHARES = [
    0.015346534653465346, 0.0010891089108910892, 0.7525742574257426, 0.17594059405940593,
    0.03544554455445544, 0.019603960396039604,
]  # fmt: skip
FUNDUS = [4365881383, 1295967, 39616122, 290827008]
CGNET = [
    2.5959933, 6.7415504, 3.5354059, 9.8663225, 9.690899, 9.369352, 10.289121, 9.953208, 4.3097677,
    9.490387, 7.674431, 9.396905, 10.347791, 6.3927646, 10.226669, 10.241062, 10.280587, 10.396974,
    10.055647,
]  # fmt: skip


def counts_of(pixels, void=0):
    return Counts.from_pixels(dict(enumerate(pixels)), ignored={255: void} if void else None)


def test_cityscapes_inverse_frequency_of_mean_1():
    weights = solve(counts_of(CITYSCAPES), "inverse", normalize="mean")
    np.testing.assert_allclose(weights.values, CITYSCAPES_WEIGHTS, rtol=5e-7)


def test_cityscapes_inverse_frequency_with_void_in_the_denominator():
    *classes, void = CITYSCAPES
    weights = solve(counts_of(classes, void), "power", exponent=1, void=True).values
    others = np.arange(len(classes)) != 5
    np.testing.assert_allclose(weights[others], np.array(OVER_ALL_PIXELS)[others], rtol=2e-7)
    without = solve(counts_of(classes, void), "power", exponent=1).values
    np.testing.assert_allclose(weights / without, 1 + void / sum(classes), rtol=1e-14)


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


def test_semantic_kitti_has_its_unlabelled_points_in_the_denominator():
    void = SEMANTIC_KITTI_TOTAL - sum(SEMANTIC_KITTI)
    counts = counts_of(SEMANTIC_KITTI, void)
    weights = solve(counts, "inverse_offset", eps=0.001, void=True).values
    np.testing.assert_allclose(weights, SEMANTIC_KITTI_WEIGHTS, rtol=1e-5)
    without = solve(counts, "inverse_offset", eps=0.001).values
    assert np.abs(without / SEMANTIC_KITTI_WEIGHTS - 1).max() > 0.01


def test_randla_net():
    weights = solve(counts_of(S3DIS), "inverse_offset", eps=0.02).values
    np.testing.assert_allclose(weights, S3DIS_WEIGHTS, rtol=1e-14)


def test_cgnet_is_enet_with_another_constant():
    shares = np.exp(1 / np.array(CGNET)) - 1.1
    assert shares.sum() == pytest.approx(1, abs=1e-7)
    counts = counts_of(np.round(shares * 10**12).astype(int).tolist())
    np.testing.assert_allclose(solve(counts, "enet", c=1.1).values, CGNET, rtol=2e-7)


def test_shares():
    synapse = counts_of(SYNAPSE)
    assert synapse.ledger.counted == 1769 * 512 * 512
    np.testing.assert_allclose(synapse.frequencies(), SYNAPSE_SHARES, rtol=2e-5)
    lulc = Counts.from_pixels(EOLEARN)
    np.testing.assert_allclose(lulc.frequencies(), EOLEARN_SHARES, rtol=1e-15)


def test_counts_beyond_32_bits_are_summed_exactly():
    assert counts_of(FUNDUS).ledger.counted == 8960 * 1024 * 512


def test_the_tables_here_are_those_of_the_file():
    tables = {
        "cityscapes20_invfreq_mean1": (CITYSCAPES, CITYSCAPES_WEIGHTS),
        "semantickitti19_salsanext_rangenet": (SEMANTIC_KITTI, SEMANTIC_KITTI_WEIGHTS),
        "synapse9_ratio": (SYNAPSE, SYNAPSE_SHARES),
        "eolearn_lulc_percentage": (list(EOLEARN.values()), EOLEARN_SHARES),
        "randlanet_s3dis13": (S3DIS, None),
        "fundus_edema4_counts": (FUNDUS, None),
    }
    for name, (counts, output) in tables.items():
        entry = published(name)
        assert entry["input"]["counts"] == counts
        assert entry["published"] == output


SCHEMES = {
    "max_over_count": ("inverse", {}),
    "balanced": ("balanced", {}),
    "inverse_sum1": ("inverse", {"normalize": "sum"}),
    "power_half_p": ("power", {}),
    "power_half_mean1": ("power", {"normalize": "mean"}),
    "power_half_pix1": ("power", {"normalize": "pixel_mean"}),
    "median_freq": ("median_frequency", {}),
    "median_freq_total": ("median_frequency", {"presence": False}),
    "enet_1_02": ("enet", {}),
    "enet_1_10": ("enet", {"c": 1.1}),
    "log_inverse_mu_0_15": ("log_inverse", {}),
    "log_inverse_mu_1": ("log_inverse", {"mu": 1}),
    "class_balanced_0_99": ("effective_number", {"beta": 0.99}),
    "class_balanced_0_999": ("effective_number", {"beta": 0.999}),
    "ldam_margin_0_5": ("ldam", {}),
    "log_prior": ("logit_adjustment", {}),
    "balanced_softmax_log_n": ("balanced_softmax", {}),
    "generalised_dice": ("generalised_dice", {}),
    "idf": ("idf", {"smooth": False}),
    "idf_smooth": ("idf", {}),
    "pos_weight": ("pos_weight", {}),
    "cap10": ("inverse", {"cap": 10}),
    "target_prior_4321": ("target_prior", {"prior": [4, 3, 2, 1]}),
    "label_smoothing_torch_0_1_pix1": ("label_smoothing", {}),
    "one_over_log_count_mean1": ("inverse_log_count", {}),
}


@pytest.fixture
def theory():
    file = VECTORS / "schemes.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there: set FASTCOUNTS_DATA to the folder beside it")
    return json.loads(file.read_text())


@pytest.fixture
def counts(theory):
    images = np.array(theory["input"]["images"])
    present = images > 0
    rows, columns = np.nonzero(images)
    inside = present.T @ images.sum(axis=1)
    assert inside.tolist() == theory["input"]["presence_pixels"]
    return Counts(
        labels=np.arange(images.shape[1]),
        pixels=images.sum(axis=0),
        items=len(images),
        presence=present.sum(axis=0),
        presence_pixels=inside,
        presence_pixels_total=inside,
        ledger=Ledger(total=int(images.sum()), counted=int(images.sum())),
        item_table=ItemTable.of(
            [ItemKey("", place) for place in range(len(images))],
            np.append(0, np.cumsum(present.sum(axis=1))),
            columns,
            images[rows, columns],
        ),
    )


def test_every_vector_of_the_file_is_held_against_a_scheme(theory, counts):
    assert set(theory["schemes"]) == set(SCHEMES)
    for vector, (scheme, options) in SCHEMES.items():
        found = solve(counts, scheme, **options).values
        expected = theory["schemes"][vector]
        np.testing.assert_allclose(found, expected, rtol=2e-11, atol=1e-15, err_msg=vector)


def test_equal_cost_vectors_of_the_file(theory, counts):
    vectors = theory["equal_cost"]
    for scheme, by_pixels in (
        ("inverse", vectors["keras_max_over_count"]),
        ("balanced", vectors["keras_balanced"]),
        ("equal_cost", vectors["keras_balanced"]),
    ):
        table = solve(counts, scheme).diagnostics["constant_predictors"][0]
        assert (table["right"], table["wrong"]) == pytest.approx((vectors["a"], vectors["b"]))
        np.testing.assert_allclose(table["by_pixels"], by_pixels, rtol=1e-12)
        np.testing.assert_allclose(table["by_weights"], vectors["torch_any_scale"], rtol=1e-12)
        np.testing.assert_allclose(table["before"], vectors["unweighted"], rtol=2e-11)
    per_image = solve(counts, "equal_cost", per_image=True, normalize="mean").values
    np.testing.assert_allclose(per_image, vectors["sinkhorn_per_image_mean1"], rtol=1e-8)
