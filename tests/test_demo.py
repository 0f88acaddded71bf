"""The demonstration makes the data that the question tells of."""

from __future__ import annotations

import numpy as np
import zarr

from fastcounts.demo import CLASSES, SIDE, demonstrate, write_masks


def test_masks_are_those_of_the_question(tmp_path):
    write_masks(tmp_path / "masks.zarr", 3)
    masks = zarr.open_array(tmp_path / "masks.zarr", mode="r")[...]
    assert masks.shape == (3, SIDE, SIDE)
    assert masks.dtype == np.uint8
    shares = np.bincount(masks.ravel(), minlength=CLASSES) / masks.size
    assert 0.58 < shares[0] < 0.62
    assert np.unique(masks).tolist() == list(range(CLASSES))


def test_masks_are_regions_and_not_noise(tmp_path):
    write_masks(tmp_path / "masks.zarr", 1)
    mask = zarr.open_array(tmp_path / "masks.zarr", mode="r")[0]
    changes = np.count_nonzero(mask[:, 1:] != mask[:, :-1]) + SIDE
    assert mask.size / changes > 30  # mean run, in pixels


def test_masks_are_the_same_every_time(tmp_path):
    write_masks(tmp_path / "a.zarr", 2)
    write_masks(tmp_path / "b.zarr", 2)
    first, second = (zarr.open_array(tmp_path / f"{name}.zarr", mode="r")[...] for name in "ab")
    assert np.array_equal(first, second)


def test_the_answer_holds(tmp_path):
    found = demonstrate(tmp_path, 2)
    masks = zarr.open_array(tmp_path / "masks.zarr", mode="r")[...]
    assert found.counts.pixels.tolist() == np.bincount(masks.ravel()).tolist()
    assert found.counts.items == 2
    pixels = found.counts.pixels
    assert np.allclose(found.inverse.values, pixels.max() / pixels, rtol=1e-15)
    assert np.isclose((found.equal_cost.values * pixels).sum() / pixels.sum(), 1)
    costs = found.equal_cost.diagnostics["constant_predictors"][0]
    assert np.ptp(costs["by_pixels"]) < 1e-12
    assert np.ptp(costs["by_weights"]) < 1e-12
    assert np.ptp(costs["before"]) > 4
