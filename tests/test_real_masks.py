"""Real masks in .npy, TIFF and Zarr, against published or independently computed counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcounts as fc
from fastcounts.errors import FastcountsError, NonIntegralLabel, ReadError, UnsupportedSource

PATCH = Path("eolearn_lulc/example_data/TestEOPatch")
Z5PY = Path("zarr_implementations/data/z5py.zr")


@pytest.fixture(scope="module")
def truth(real_data: Path) -> dict[str, Any]:
    """What the masks hold, by their path."""
    found: dict[str, Any] = json.loads((real_data / "truth.json").read_text())
    return found


def spoken(counts: fc.Counts) -> dict[str, int]:
    """Pixels by label, as the truth spells them."""
    labels = map(str, counts.labels.tolist())
    return dict(zip(labels, counts.pixels.tolist(), strict=True))


@pytest.mark.parametrize("folder", ["eolearn_lulc", "stardist"])
def test_masks__have_exactly_the_stated_counts(
    real_data: Path, truth: dict[str, Any], folder: str
) -> None:
    names = [name for name in truth if name.startswith(f"{folder}/")]
    assert names
    for name in names:
        counts = fc.count(real_data / name)
        assert spoken(counts) == truth[name]["counts"], name
        assert counts.ledger.total == truth[name]["total"], name
        assert (counts.items, counts.ledger.counted) == (1, counts.ledger.total)


def test_masks__every_file_of_the_collection_is_in_the_truth(
    real_data: Path, truth: dict[str, Any]
) -> None:
    found = {
        path.relative_to(real_data).as_posix()
        for folder in ("mask", "mask_timeless")
        for path in (real_data / PATCH / folder).glob("*.npy")
    }
    assert found <= set(truth)


def test_lulc__equals_the_published_counts(real_data: Path) -> None:
    """The data set publishes counts and percentages beside the mask; label 0 is nodata."""
    published = np.load(real_data / PATCH / "label_timeless" / "LULC_COUNTS.npy")
    counts = fc.count(real_data / PATCH / "mask_timeless" / "LULC.npy")
    assert counts.pixels.tolist() == [155, 11, 7601, 1777, 358, 198]
    pixels = dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))
    assert sorted(pixels.values()) == sorted(n for n in published.ravel().tolist() if n)
    assert set(published.ravel().tolist()) - {0} <= set(pixels.values())


def test_lulc__a_folder_of_masks_is_the_sum_of_its_files(real_data: Path) -> None:
    folder = real_data / PATCH / "mask"
    counts = fc.count(folder, keep_items=True)
    files = sorted(folder.glob("*.npy"))
    assert counts.items == len(files)
    assert counts == sum(fc.count(file, keep_items=True) for file in files)
    assert counts == sum(fc.count(folder, keep_items=True, part=(n, 7)) for n in range(7))


def test_lulc__time_steps_are_items(real_data: Path) -> None:
    path = real_data / PATCH / "mask" / "CLM.npy"
    array = np.load(path)
    counts = fc.count(path, items=0, keep_items=True)
    assert counts.items == 68
    assert counts.item_table is not None
    assert counts.item_table.dense([0, 1]).tolist() == [
        [int((one == label).sum()) for label in (0, 1)] for one in array
    ]


def test_stardist__pages_are_items(real_data: Path) -> None:
    counts = fc.count(real_data / "stardist/stardist/data/images/mask3d.tif", items=0)
    assert counts.items == 31
    assert counts.presence[0] == 31


def test_percentages__are_no_labels(real_data: Path) -> None:
    with pytest.raises(NonIntegralLabel, match="LULC_PERCENTAGE"):
        fc.count(real_data / PATCH / "scalar_timeless" / "LULC_PERCENTAGE.npy")


def image_arrays(real_data: Path) -> list[Path]:
    return sorted(path for path in (real_data / Z5PY).iterdir() if path.is_dir())


def test_z5py__reads_right_or_fails(real_data: Path, truth: dict[str, Any]) -> None:
    expected = truth["zarr_implementations reference_image"]
    kinds = {}
    for path in image_arrays(real_data):
        try:
            counts = fc.count(path, workers=2)
        except FastcountsError as error:
            kinds[path.name] = type(error).__name__
            continue
        assert spoken(counts) == expected["counts"], path.name
        kinds[path.name] = "right"
    assert kinds.pop("gzip") == "ReadError"
    assert set(kinds.values()) == {"right"}
    assert len(kinds) == 3


def test_z5py__wrong_codec_is_an_error_and_never_zeros(real_data: Path) -> None:
    with pytest.raises(ReadError, match="gzip"):
        fc.count(real_data / Z5PY / "gzip")
    counts = fc.count(real_data / Z5PY / "gzip", on_error="record")
    assert counts.ledger.failed == counts.ledger.total == 512 * 512 * 3
    assert counts.ledger.counted == 0


def test_colour_png__is_refused_by_name(real_data: Path) -> None:
    """Colour codes need a table of colours; reading one channel of them would be a lie."""
    folder = real_data / "coco_panoptic" / "sample_data" / "panoptic_examples"
    for path in sorted(folder.glob("*.png")):
        with pytest.raises(UnsupportedSource, match=path.name):
            fc.count(path)
