"""``items`` by the name of an axis, and data sets of xarray that are not one array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts import cli
from fastcounts.engine import Request, preview
from fastcounts.engine import bench as measure
from fastcounts.errors import OptionError, UnsupportedSource

MASK = np.random.default_rng(0).integers(0, 4, (5, 6, 8)).astype("u1")
NAMES = ("time", "y", "x")


def xarray() -> Any:
    return pytest.importorskip("xarray", reason="xarray is not installed")


def write(folder: Path, version: int = 3, names: Any = NAMES, name: str = "m.zarr") -> Path:
    named = version == 3 and names is not None
    array = zarr.create_array(
        folder / name, shape=MASK.shape, chunks=(2, 3, 8), dtype="u1", zarr_format=version,
        fill_value=0 if version == 3 else None, dimension_names=names if named else None,
    )  # fmt: skip
    if version == 2 and names is not None:
        array.attrs["_ARRAY_DIMENSIONS"] = list(names)
    array[...] = MASK
    return folder / name


def image(folder: Path, version: str) -> Path:
    group = zarr.create_group(folder / "i.zarr", zarr_format=2 if version == "0.4" else 3)
    about: dict[str, Any] = {
        "multiscales": [
            {"axes": [{"name": one} for one in NAMES], "datasets": [{"path": "0"}]}
        ],
        "image-label": {},
    }  # fmt: skip
    group.attrs.update(about if version == "0.4" else {"ome": about})
    group.create_array("0", data=MASK)
    return folder / "i.zarr"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("version", [2, 3])
def test_dimensions_of_zarr_arrays(tmp_path: Path, version: int, name: str) -> None:
    path = write(tmp_path, version)
    for scheduler in ("threads", "synchronous"):
        counts = fc.count(path, items=name, keep_items=True, missing="zero", scheduler=scheduler)
        assert counts.options.items == NAMES.index(name)
        assert counts == fc.count(path, items=NAMES.index(name), keep_items=True, missing="zero")
        assert counts.items == MASK.shape[NAMES.index(name)]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_axes_of_ome_zarr_images(tmp_path: Path, version: str) -> None:
    path = image(tmp_path, version)
    for given in (path, path / "0", zarr.open_array(path / "0")):
        assert fc.count(given, items="y").items == 6
        assert fc.count(given, items="y") == fc.count(given, items=1)
    with pytest.raises(OptionError, match=r"got 'z'; .*0 has the axes 'time', 'y', 'x'"):
        fc.count(path, items="z")


def test_data_arrays(tmp_path: Path) -> None:
    array = xarray().DataArray(MASK, dims=NAMES, name="label")
    write(tmp_path)
    expected = fc.count(MASK, items=0)
    assert fc.count(array, items="time") == expected
    for given in (array.chunk(2), array.chunk(2) + 0):
        counts = fc.count(given, items="time")
        assert (counts.items, counts.pixels.tolist()) == (5, expected.pixels.tolist())
        assert counts == fc.count_delayed(given, items="time").compute()
    turned = array.transpose("x", "y", "time")
    assert fc.count(turned, items="time").options.items == 2
    with pytest.raises(OptionError, match=r"got 't'; DataArray label has the axes 'time', 'y'"):
        fc.count(array, items="t")
    with pytest.raises(OptionError, match="DataArray label has the axes"):
        fc.count_delayed(array.chunk(), items="t")


def test_stored_data_arrays(tmp_path: Path) -> None:
    data = xarray().Dataset({"m": (NAMES, MASK)})
    data.to_zarr(tmp_path / "x.zarr", consolidated=False)
    stored = xarray().open_zarr(tmp_path / "x.zarr", consolidated=False)["m"]
    direct = fc.count(tmp_path / "x.zarr", items="y")
    assert fc.count(stored, items="y") == direct
    part, region = fc.count(stored[1:3], items="y"), fc.count(MASK[1:3], items=1)
    assert (part.pixels.tolist(), part.presence.tolist()) == (
        region.pixels.tolist(),
        region.presence.tolist(),
    )
    assert fc.count(da.from_zarr(str(tmp_path / "x.zarr"), component="m"), items="y") == direct


def test_parts_by_name_and_by_number_merge(tmp_path: Path) -> None:
    path = write(tmp_path)
    parts = [fc.count(path, items=items, part=(n, 2)) for n, items in enumerate(("time", 0))]
    assert sum(parts) == fc.count(path, items="time")
    parts[0].save(tmp_path / "counts.json")
    assert fc.load(tmp_path / "counts.json").options.items == 0


@pytest.mark.parametrize("items", ["images", "0", "Time"])
def test_names_that_there_are_not(tmp_path: Path, items: str) -> None:
    bare = write(tmp_path, names=None, name="bare.zarr")
    for given, words in (
        (write(tmp_path), r"m\.zarr has the axes 'time', 'y', 'x'"),
        (bare, r"bare\.zarr has no named axes"),
        (MASK, "has no named axes"),
        ([MASK], "has no named axes"),
        (da.from_array(MASK), "a Dask array has no named axes"),
    ):
        with pytest.raises(OptionError, match=rf"a number from 0 to 2, .*got '{items}'; .*{words}"):
            fc.count(given, items=items)
    with pytest.raises(OptionError, match="a Dask array has no named axes"):
        fc.count_delayed(da.from_array(MASK), items=items)
    with pytest.raises(OptionError, match="items: expected"):
        fc.count(MASK, items="")
    with pytest.raises(OptionError, match="items: expected"):
        fc.Counts.from_pixels({0: 1}).options.parse(items=items)


def test_axes_without_names_or_with_one_name(tmp_path: Path) -> None:
    path = write(tmp_path, names=("t", None, "t"))
    with pytest.raises(OptionError, match="has the axes 't', one without a name, 't'"):
        fc.count(path, items="t")


def test_arrays_that_have_the_axis_elsewhere(tmp_path: Path) -> None:
    paths = [write(tmp_path), write(tmp_path, names=("y", "time", "x"), name="n.zarr")]
    with pytest.raises(OptionError, match=r"'time' is axis 0 in .*m\.zarr and 1 in .*n\.zarr"):
        fc.count(paths, items="time")
    assert fc.count(paths, items="x") == fc.count(paths, items=2)


def test_plan_and_bench(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert (
        preview(Request.parse(path, items="y")).plan == preview(Request.parse(path, items=1)).plan
    )
    with pytest.raises(OptionError, match="has the axes"):
        preview(Request.parse(path, items="z"))
    with pytest.raises(OptionError, match="has the axes"):
        measure(Request.parse(path, items="z"), 0.01)


def test_in_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("count", "plan"):
        with pytest.raises(SystemExit) as end:
            cli.main([command, str(write(tmp_path, name=command)), "--items", "time"])
        assert end.value.code == 0
    assert "in 5 images" in capsys.readouterr().out


# ---- data sets ----


def test_a_dataset_names_its_variables() -> None:
    data = xarray().Dataset(
        {
            "height": (("y", "x"), np.ones((2, 3))),
            "label": (("y", "x"), np.ones((2, 3), "u1")),
            "valid": ((), True),
        },
        coords={"y": [1, 2]},
    )
    words = (
        r"Dataset: pass one variable, such as dataset\['label'\]; its variables of integers are "
        r"label \(uint8, y x x\), valid \(bool, one value\)$"
    )
    with pytest.raises(UnsupportedSource, match=words):
        fc.count(data)
    with pytest.raises(UnsupportedSource, match=words):
        fc.count_delayed(data)
    with pytest.raises(UnsupportedSource, match=r"none of its variables .*: height \(float64\);"):
        fc.count(data[["height"]])
    with pytest.raises(UnsupportedSource, match=r"none of its variables .*: it is empty;"):
        fc.count(xarray().Dataset())
    assert fc.count(data["label"]).pixels.tolist() == [6]


def test_a_data_tree_names_its_variables() -> None:
    label = xarray().Dataset({"label": (("y",), np.ones(2, "u1"))})
    tree = xarray().DataTree.from_dict({"/": label, "/a/b": label})
    with pytest.raises(
        UnsupportedSource, match=r"tree\['/label'\]; .* /label \(uint8, y\), /a/b/label \(uint8, y"
    ):
        fc.count(tree)
    assert fc.count(tree["/a/b/label"]).pixels.tolist() == [2]
