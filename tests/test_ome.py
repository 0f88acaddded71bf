"""Groups: the label images of OME-Zarr, at the highest resolution, never the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts.errors import AmbiguousSource, UnsupportedSource


def scales(group: zarr.Group, version: str, pixels: np.ndarray, label: Any = None) -> None:
    """Make a group an image of two resolutions."""
    about: dict[str, Any] = {
        "multiscales": [{"version": version, "datasets": [{"path": "0"}, {"path": "1"}]}]
    }
    if label is not None:
        about["image-label"] = label
    group.attrs.update({"ome": {"version": version, **about}} if version == "0.5" else about)
    for path, part in (("0", pixels), ("1", pixels[::2, ::2])):
        array = group.create_array(path, shape=part.shape, dtype=part.dtype, chunks=(8, 8))
        array[...] = part


def name_labels(group: zarr.Group, version: str, names: list[str]) -> None:
    group.attrs.update(
        {"ome": {"version": version, "labels": names}} if version == "0.5" else {"labels": names}
    )


@pytest.fixture(params=["0.4", "0.5"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A picture of 200s with one label image, and a second that is not listed."""
    version = request.param
    path = tmp_path / "image.zarr"
    root = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3)
    scales(root, version, np.full((16, 16), 200, np.uint8))
    labels = root.create_group("labels")
    nuclei = np.arange(256, dtype=np.int32).reshape(16, 16) // 64
    scales(labels.create_group("nuclei"), version, nuclei, {"version": version})
    name_labels(labels, version, ["nuclei"])
    return path, version


def counted(path: Path, **options: Any) -> dict[int, int]:
    counts = fc.count(path, **options)
    return dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))


QUARTERS = {0: 64, 1: 64, 2: 64, 3: 64}


def test_image__is_counted_by_its_only_label_image(image: tuple[Path, str]) -> None:
    path, _ = image
    assert counted(path) == QUARTERS
    for below in ("labels", "labels/nuclei", "labels/nuclei/0"):
        assert counted(path / below) == QUARTERS
    assert fc.count(path).provenance["runs"][0]["sources"] == [str(path / "labels/nuclei/0")]


def test_image__of_several_label_images_asks_which(image: tuple[Path, str]) -> None:
    path, version = image
    labels = zarr.open_group(path / "labels", mode="r+")
    scales(labels.create_group("cells"), version, np.ones((16, 16), np.uint16), {})
    name_labels(labels, version, ["nuclei", "cells"])
    with pytest.raises(AmbiguousSource, match=r"labels/nuclei/0.*labels/cells/0"):
        fc.count(path)
    assert counted(path / "labels/cells") == {1: 256}


def test_image__without_labels_is_refused(image: tuple[Path, str]) -> None:
    path, _ = image
    root = zarr.open_group(path, mode="r+")
    del root["labels"]
    with pytest.raises(UnsupportedSource, match=r"image\.zarr: is an image without label images"):
        fc.count(path)


def test_collection__of_images_finds_all_label_images(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "plate.zarr")
    for number in range(2):
        image = root.create_group(f"{number}")
        scales(image, "0.5", np.full((16, 16), 9, np.uint8))
        labels = image.create_group("labels")
        scales(labels.create_group("cells"), "0.5", np.full((16, 16), number, np.uint8), {})
        name_labels(labels, "0.5", ["cells"])
    with pytest.raises(AmbiguousSource, match="0/labels/cells/0"):
        fc.count(tmp_path / "plate.zarr")
    from fastcounts.sources import open_source

    source = open_source(tmp_path / "plate.zarr", every=True)
    assert [info.name.rpartition("plate.zarr/")[2] for info in source.arrays] == [
        "0/labels/cells/0",
        "1/labels/cells/0",
    ]


def test_group__of_one_array_is_that_array(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "group.zarr")
    root.create_array("deep/labels", shape=(4,), chunks=(2,), dtype="u1")[...] = 3
    root.create_array("heights", shape=(4,), chunks=(2,), dtype="f4")[...] = 3
    assert counted(tmp_path / "group.zarr") == {3: 4}


@pytest.mark.parametrize(
    "about",
    [
        {"multiscales": []},
        {"multiscales": [{}]},
        {"multiscales": [{"datasets": [{"path": "9"}]}]},
        {"multiscales": 3, "image-label": {}},
        {"labels": ["gone"]},
        {"ome": {"labels": [7]}},
    ],
)
def test_metadata__that_is_broken_is_an_error_in_words(tmp_path: Path, about: Any) -> None:
    root = zarr.create_group(tmp_path / "broken.zarr")
    root.attrs.update(about)
    root.create_array("0", shape=(4,), chunks=(2,), dtype="u1")[...] = 3
    with pytest.raises(UnsupportedSource, match=r"broken\.zarr"):
        fc.count(tmp_path / "broken.zarr")
