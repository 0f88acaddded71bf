"""Groups: coordinates are not labels, and layouts without label images are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts.errors import AmbiguousSource, UnsupportedSource
from fastcounts.sources import open_source
from fastcounts.sources.ome import axis_names

MASK = np.arange(24, dtype="u1").reshape(2, 3, 4) % 3


def arrays(path: Path) -> list[str]:
    source = open_source(path, every=True)
    return [info.name.rpartition("/")[2] for info in source.arrays]


# ---- coordinates ----


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("depth", ["", "deep"])
def test_coordinates_that_xarray_writes(tmp_path: Path, version: int, depth: str) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    label = xarray.DataArray(
        MASK,
        dims=("time", "y", "x"),
        coords={
            "time": [3, 4],
            "y": [1, 2, 3],
            "quality": (("y", "x"), np.ones((3, 4), "i4")),
            "spatial_ref": ((), 0),
        },
        attrs={"grid_mapping": "crs: x y"},
        name="label",
    )
    data = label.to_dataset()
    data["crs"] = ((), 0)
    data["lonely"] = ((), 0)
    data = data.set_coords("lonely")
    path = tmp_path / "x.zarr"
    data.to_zarr(path, group=depth or None, zarr_format=version, consolidated=False)
    assert arrays(path) == ["label"]
    assert fc.count(path, nodata="metadata").pixels.tolist() == [8, 8, 8]
    assert fc.count(path / depth / "time").labels.tolist() == [3, 4]


@pytest.mark.parametrize("version", [2, 3])
def test_groups_of_nothing_but_coordinates(tmp_path: Path, version: int) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    data = xarray.Dataset({"height": ("time", [0.5, 1.5])}, coords={"time": [3, 4]})
    data.to_zarr(tmp_path / "x.zarr", zarr_format=version, consolidated=False)
    with pytest.raises(
        UnsupportedSource,
        match=r"only height \(float64\); beside coordinates: time \(int64\)\. If .* name it",
    ):
        fc.count(tmp_path / "x.zarr")


def test_labels_of_groups_without_names_of_dimensions_are_all_there(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g.zarr")
    for name in ("time", "label"):
        group.create_array(name, shape=(4,), chunks=(2,), dtype="u1")[...] = 1
    with pytest.raises(AmbiguousSource, match=r"2 arrays of integers.*label .*, time"):
        fc.count(tmp_path / "g.zarr")
    assert arrays(tmp_path / "g.zarr") == ["label", "time"]


@pytest.mark.parametrize("value", [3, ["label"], {"a": "label"}, None])
def test_attributes_that_list_no_coordinates(tmp_path: Path, value: Any) -> None:
    group = zarr.create_group(tmp_path / "g.zarr", attributes={"coordinates": value})
    array = group.create_array("label", shape=(4,), chunks=(2,), dtype="u1")
    array.attrs["bounds"] = value
    assert arrays(tmp_path / "g.zarr") == ["label"]


# ---- layouts of images without labels ----


def attributes(version: str, **about: Any) -> dict[str, Any]:
    return {"ome": {"version": version, **about}} if version == "0.5" else about


def image(group: zarr.Group, version: str, path: str = "0") -> None:
    axes = [{"name": "t"}, {"name": "y"}, {"name": "x"}]
    scales = [{"axes": axes, "datasets": [{"path": path}]}]
    group.attrs.update(attributes(version, multiscales=scales))
    group.create_array(path, data=MASK)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_plates_and_bioformats2raw_are_named(tmp_path: Path, version: str) -> None:
    path = tmp_path / "p.zarr"
    root = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3)
    root.attrs.update(attributes(version, plate={"wells": [{"path": "A/1"}, {"path": "B/1"}]}))
    for name in ("A/1", "B/1"):
        well = root.require_group(name)
        well.attrs.update(attributes(version, well={"images": [{"path": "0"}]}))
        image(well.create_group("0"), version)
    for below, words in (
        ("", "a plate of 2 wells and contains images, but no label images; .*p.zarr/A/1/0/0"),
        ("/A/1", "a well of a plate of 1 images and contains images.*p.zarr/A/1/0/0"),
        ("/A/1/0", "an image without label images; .* such as .*p.zarr/A/1/0/0"),
    ):
        with pytest.raises(UnsupportedSource, match=f"p.zarr{below}: is {words}"):
            fc.count(f"{path}{below}")
    assert fc.count(path / "A/1/0/0").pixels.tolist() == [8, 8, 8]
    labels = zarr.open_group(path, mode="r+")["B/1/0"].create_group("labels")
    labels.attrs.update(attributes(version, labels=["cells"]))
    image(labels.create_group("cells"), version)
    assert fc.count(path).pixels.tolist() == [8, 8, 8]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_bioformats2raw_is_named(tmp_path: Path, version: str) -> None:
    path = tmp_path / "b.zarr"
    root = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3)
    root.attrs.update(attributes(version, **{"bioformats2raw.layout": 3}))
    root.create_group("OME").attrs.update(attributes(version, series=["0"]))
    image(root.create_group("0"), version, "s0")
    with pytest.raises(UnsupportedSource, match=r"is a bioformats2raw layout .*/b\.zarr/0/s0$"):
        fc.count(path)


@pytest.mark.parametrize("about", [{"plate": 3}, {"plate": {"wells": 3}}, {"well": []}])
def test_broken_plates(tmp_path: Path, about: dict[str, Any]) -> None:
    root = zarr.create_group(tmp_path / "p.zarr", attributes=about)
    root.create_group("A")
    with pytest.raises(UnsupportedSource, match=r"p\.zarr: is a (plate|well of a plate) and"):
        fc.count(tmp_path / "p.zarr")


def test_an_empty_group(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "e.zarr")
    with pytest.raises(UnsupportedSource, match="no array of integers; it is empty"):
        fc.count(tmp_path / "e.zarr")


# ---- names of axes ----


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_axes_of_images_are_those_of_their_arrays(tmp_path: Path, version: str) -> None:
    group = zarr.create_group(tmp_path / "i.zarr", zarr_format=2 if version == "0.4" else 3)
    image(group, version, "s0")
    for path in ("s0",):
        assert axis_names(zarr.open_array(tmp_path / "i.zarr" / path)) == ("t", "y", "x")
        assert axis_names(group[path]) == ("t", "y", "x")


@pytest.mark.parametrize(
    ("version", "options", "attrs", "names"),
    [
        (3, {"dimension_names": ("t", "y", "x")}, {}, ("t", "y", "x")),
        (3, {"dimension_names": ("t", None, "x")}, {}, ("t", "", "x")),
        (3, {}, {}, ()),
        (2, {}, {"_ARRAY_DIMENSIONS": ["t", "y", "x"]}, ("t", "y", "x")),
        (2, {}, {"_ARRAY_DIMENSIONS": ["t", "y"]}, ()),
        (2, {}, {"_ARRAY_DIMENSIONS": 3}, ()),
        (2, {}, {"_ARRAY_DIMENSIONS": ["t", 3, "x"]}, ("t", "", "x")),
    ],
)
def test_names_of_dimensions(
    tmp_path: Path, version: int, options: Any, attrs: Any, names: tuple[str, ...]
) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=MASK.shape, dtype="u1", zarr_format=version, **options
    )
    array.attrs.update(attrs)
    assert axis_names(array) == names


@pytest.mark.parametrize("axes", [None, 3, [], ["t", "y"], [{}, {}, {}], [1, 2, 3]])
def test_axes_that_name_nothing(tmp_path: Path, axes: Any) -> None:
    group = zarr.create_group(
        tmp_path / "i.zarr", attributes={"multiscales": [{"axes": axes, "datasets": []}]}
    )
    assert not any(axis_names(group.create_array("0", data=MASK)))


def test_groups_with_a_broken_member_end_without_messages_of_asyncio(tmp_path: Path) -> None:
    """zarr-python opens members at once; those that are open when one fails are waited for."""
    group = zarr.open_group(tmp_path / "many.zarr", mode="w")
    for number in range(40):
        group.create_array(f"a{number}", shape=(4,), chunks=(4,), dtype="u1")
    metadata = tmp_path / "many.zarr" / "a7" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"bytes"', '"nonsense"'))
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "fastcounts", "count", str(tmp_path / "many.zarr"), "--all"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 3
        assert done.stderr.startswith("fastcounts: ")
        assert "nonsense" in done.stderr
        assert "Task" not in done.stderr
        assert "Traceback" not in done.stderr
