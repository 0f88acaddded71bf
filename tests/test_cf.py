"""What arrays say of their labels by the CF conventions, read directly and through xarray."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import given as draw
from hypothesis import settings
from hypothesis import strategies as st
from reference import check_ledger, said

import fastcounts as fc
from fastcounts.classes import Options
from fastcounts.engine.stored import stored_array
from fastcounts.errors import IncompatibleCounts, UnsupportedSource
from fastcounts.sources.cf import as_label, clean_name, nodata_labels, read_attributes

pytestmark = pytest.mark.filterwarnings("ignore:.*fill_value:fastcounts.errors.FastcountsWarning")
"""What fill values of format 2 mean to xarray is warned of; see test_declared_nodata.py."""


def xarray() -> Any:
    return pytest.importorskip("xarray", reason="xarray is not installed")


MASK = np.arange(24, dtype="u1").reshape(4, 6) % 5
FLAGS = {"flag_values": np.array([0, 1, 3], "u1"), "flag_meanings": "road car tree"}
NAMES = {0: "road", 1: "car", 3: "tree"}


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="synchronous"):
        yield


def write(
    folder: Path, mask: np.ndarray = MASK, fill: Any = 4, version: int = 3, **attributes: Any
) -> Path:
    """A data set of one variable, as xarray writes it; gives the path of the variable."""
    data = xarray().Dataset({"m": (("t", "x")[: mask.ndim], mask, attributes)})
    encoding: dict[str, Any] = {"chunks": (2, 3)[: mask.ndim]}
    if fill is not None:
        encoding["_FillValue"] = mask.dtype.type(fill)
    path = folder / f"{version}.zarr"
    data.to_zarr(
        path,
        zarr_format=version,
        encoding={"m": encoding},
        consolidated=False,
        write_empty_chunks=fill is None,
    )
    return path / "m"


def opened(path: Path, mask_and_scale: bool, chunks: Any) -> Any:
    return xarray().open_zarr(
        path.parent, mask_and_scale=mask_and_scale, chunks=chunks, consolidated=False
    )["m"]


def ways(path: Path) -> dict[str, Any]:
    """The same variable in every way in which it can be given."""
    return {
        "path": path,
        "zarr": zarr.open_array(path, mode="r"),
        "decoded": opened(path, True, None),
        "decoded, lazy": opened(path, True, {}),
        "decoded, loaded": opened(path, True, None).load(),
        "raw": opened(path, False, None),
        "raw, lazy": opened(path, False, {}),
        "raw, loaded": opened(path, False, None).load(),
        "decoded, rechunked": opened(path, True, {}).chunk({"t": 1}),
        "raw, rechunked": opened(path, False, {}).chunk({"t": 1}),
    }


def said_of(counts: fc.Counts) -> dict[str, Any]:
    """What a count says, but for the names of sources."""
    return said(counts) | {"rows": [row for _, row in said(counts)["rows"] or ()]}


# ---- fill values ----


@settings(max_examples=12)
@draw(
    st.sampled_from(["u1", "i2", "<u4", "i8", "f4", "f8"]),
    st.sampled_from([2, 3]),
    st.sampled_from([None, 0, 4]),
    st.sampled_from(["auto", 0, 1]),
    st.sampled_from([{}, {"ignore": 2}, {"classes": {0: "a", 1: "b", 2: "a"}}]),
    st.integers(0, 99),
)
def test_every_way_gives_the_same_counts(dtype, version, fill, items, meaning, seed):
    mask = np.random.default_rng(seed).integers(0, 6, (5, 7)).astype(dtype)
    options: dict[str, Any] = {"items": items, "keep_items": True, "workers": 1, **meaning}
    void = fc.count(np.ma.masked_equal(mask, fill) if fill is not None else mask, **options)
    is_named = fill in {meaning.get("ignore"), *meaning.get("classes", ())}
    expected = fc.count(mask, **options) if is_named else void
    with TemporaryDirectory() as folder:
        path = write(Path(folder), mask, fill, version)
        for way, given in ways(path).items():
            counts = fc.count(given, **options)
            check_ledger(counts)
            is_decoded = fill is not None and way.startswith("decoded")
            assert said_of(counts) == said_of(void if is_decoded else expected), way


def stored(folder: Path, mask: np.ndarray = MASK, **more: Any) -> Any:
    """A Zarr array that xarray did not write."""
    attributes = more.pop("attributes", {})
    array = zarr.create_array(
        folder / "m.zarr", shape=mask.shape, dtype=mask.dtype, chunks=(2, 3), **more
    )
    array.attrs.update(attributes)
    array[...] = mask
    return array


@pytest.mark.parametrize("version", [2, 3])
def test_a_fill_value_alone_is_a_label(tmp_path, version):
    array = stored(tmp_path, fill_value=4, zarr_format=version)
    assert fc.count(array).ledger.nodata == 0
    assert fc.count(array) == fc.count(array.store.root)
    array.attrs["_ARRAY_DIMENSIONS"] = ["t", "x"]
    assert fc.count(array).ledger.nodata == (np.count_nonzero(MASK == 4) if version == 2 else 0)


def test_several_fill_values(tmp_path):
    counts = fc.count(stored(tmp_path, attributes={"_FillValue": 4, "missing_value": [3, 99]}))
    assert counts.labels.tolist() == [0, 1, 2]
    assert counts.ledger.nodata == np.count_nonzero(MASK > 2)
    assert counts.provenance["runs"][0]["nodata_labels"] == [3, 4, 99]


@pytest.mark.parametrize("missing", ["fill", "separate"])
@pytest.mark.parametrize("items", ["array", 0, 1])
def test_chunks_that_do_not_exist_are_nodata_where_their_fill_value_is(tmp_path, missing, items):
    array = zarr.create_array(
        tmp_path / "m.zarr", shape=(40, 30), chunks=(2, 3), dtype="u1", fill_value=9
    )
    array.attrs["_FillValue"] = 9
    array[:4, :6] = 1
    array[3, 5] = 9
    counts = fc.count(array, missing=missing, items=items)
    assert counts.pixels.tolist() == [23]
    assert counts.ledger.filled == 0
    absent = counts.ledger.missing if missing == "separate" else counts.ledger.nodata - 1
    assert absent == 1200 - 24
    assert fc.count(array, ignore=9, items=items).ledger.ignored[9].pixels == 1200 - 23


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
@pytest.mark.parametrize("items", ["array", 0])
def test_parts_of_data_with_fill_values_are_the_run(tmp_path, items, scheduler):
    path = write(tmp_path, np.tile(MASK, (3, 2)))
    options = {"items": items, "keep_items": True, "scheduler": scheduler}
    run = fc.count(path, **options)
    parts = [fc.count(path, part=(n, 3), **options) for n in range(3)]
    assert sum(parts) == sum(reversed(parts)) == run
    assert run.ledger.nodata == 6 * np.count_nonzero(MASK == 4)
    assert run == fc.count(opened(path, True, {}), **options)


def test_parts_under_another_fill_value_are_other_data(tmp_path):
    array = stored(tmp_path)
    first = fc.count(array, part=(0, 2))
    array.attrs["_FillValue"] = 4
    with pytest.raises(IncompatibleCounts, match="changed"):
        first + fc.count(array, part=(1, 2))


def test_a_delayed_count_knows_them_too(tmp_path):
    lazy = opened(write(tmp_path, **FLAGS), False, {})
    counts = fc.count_delayed(lazy, items=0).compute()
    assert said(counts) == said(fc.count(lazy, items=0))
    assert counts.names == NAMES


@pytest.mark.parametrize("version", [2, 3])
def test_a_delayed_count_of_a_bare_dask_array_knows_what_is_stored(tmp_path, version):
    lazy = dask.array.from_zarr(write(tmp_path, version=version, **FLAGS))
    counts, direct = fc.count_delayed(lazy, items=0).compute(), fc.count(lazy, items=0)
    assert direct.ledger.nodata == np.count_nonzero(MASK == 4)
    assert (counts.ledger.nodata, counts.names) == (direct.ledger.nodata, direct.names)
    assert counts.pixels.tolist() == direct.pixels.tolist()


def test_masked_arrays_are_still_read_without_dask(tmp_path):
    path = write(tmp_path, **FLAGS)
    lazy = opened(path, True, {})
    assert lazy.dtype == np.float32
    direct = fc.count(path)
    assert fc.count(lazy).covers == fc.count(opened(path, True, None)).covers == direct.covers
    assert fc.count(lazy[2:]) == fc.count(path, region=slice(2, 4))
    array, region, meaning = stored_array(lazy.data, None, None, Options())
    assert (array.dtype, region, meaning.nodata) == (np.uint8, None, (4,))
    assert stored_array(lazy.data + 0, None, None, Options()) is None
    assert stored_array(lazy.data, None, None, Options(ignore=(4,))) is None


def test_attributes_that_were_taken_away_say_nothing(tmp_path):
    path = write(tmp_path, **FLAGS)
    for chunks in (None, {}):
        bare = fc.count(opened(path, False, chunks).drop_attrs())
        assert said(bare) == said(fc.count(MASK))
    assert fc.count(path).ledger.nodata


def test_types_of_other_libraries_are_refused_in_words():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    array = xarray().DataArray(pandas.array([1, 2, None], dtype="Int64"), attrs={"_FillValue": 2})
    with pytest.raises(UnsupportedSource):
        fc.count(array)


# ---- packed numbers, bits ----


@pytest.mark.parametrize(
    "attributes", [{"scale_factor": 0.5}, {"add_offset": 10}, {"scale_factor": 2, "add_offset": 1}]
)
def test_packed_numbers_are_no_labels(tmp_path, attributes):
    path = write(tmp_path, fill=None, **attributes)
    said_so = "m: its attributes say (scale_factor|add_offset)"
    for given in (path, opened(path, False, None), opened(path, False, {})):
        with pytest.raises(UnsupportedSource, match=said_so):
            fc.count(given)
    decoded = MASK * attributes.get("scale_factor", 1) + attributes.get("add_offset", 0)
    if "add_offset" in attributes:
        for chunks in (None, {}):
            assert said(fc.count(opened(path, True, chunks))) == said(fc.count(decoded))


def test_signs_that_are_to_be_turned_are_refused(tmp_path):
    array = stored(tmp_path, MASK.astype("i1"), attributes={"_Unsigned": "true"})
    with pytest.raises(UnsupportedSource, match="_Unsigned true"):
        fc.count(array)


def test_packing_that_changes_nothing(tmp_path):
    array = stored(tmp_path, attributes={"scale_factor": 1.0, "add_offset": 0, "_Unsigned": "true"})
    assert said(fc.count(array)) == said(fc.count(MASK))


def test_bits_have_no_names(tmp_path, caplog):
    flags = {"flag_masks": [1, 2], "flag_meanings": "cloud snow"}
    with caplog.at_level(logging.WARNING, "fastcounts"):
        counts = fc.count(stored(tmp_path, attributes=flags))
    assert counts.names == {}
    assert said(counts) == said(fc.count(MASK))
    assert "flag_masks name bits" in caplog.text


# ---- names ----


@pytest.mark.parametrize("version", [2, 3])
def test_meanings_are_names(tmp_path, version):
    path = write(tmp_path, version=version, **FLAGS)
    for way, given in ways(path).items():
        assert fc.count(given).names == NAMES, way
    loaded = fc.load(saved(fc.count(path), tmp_path))
    assert loaded.names == NAMES
    assert fc.count(path, classes={1: "bus", 2: None}).names == {1: "bus"}
    assert fc.count(path, ignore=1).names == {0: "road", 3: "tree"}
    assert fc.solve(fc.count(path), "inverse").names == NAMES


def saved(counts: fc.Counts, folder: Path) -> Path:
    counts.save(folder / "counts.json")
    return folder / "counts.json"


def test_the_names_of_an_array_in_hand_are_those_it_has_now(tmp_path):
    path = write(tmp_path, **FLAGS)
    for chunks in (None, {}):
        array = opened(path, True, chunks).assign_attrs(flag_meanings="a b c")
        assert fc.count(array).names == {0: "a", 1: "b", 3: "c"}
        assert fc.count(array).covers == fc.count(path).covers


def test_names_make_no_label_unexpected_and_fold_none(tmp_path):
    flags = {"flag_values": [0, 1, 9], "flag_meanings": "car car truck"}
    counts = fc.count(stored(tmp_path, attributes=flags))
    assert counts == fc.count(stored(tmp_path, overwrite=True))
    assert counts.names == {0: "car", 1: "car"}
    assert counts.members == counts.ledger.unexpected == {}


@pytest.mark.parametrize(
    ("values", "meanings", "names"),
    [
        ([1, 2], "a b", {1: ("a",), 2: ("b",)}),
        (3, "a", {3: ("a",)}),
        ([1.0, 2.0], " a  b ", {1: ("a",), 2: ("b",)}),
        (np.array([1, 1], "i4"), "b a", {1: ("a", "b")}),
        ([1], "a b", {}),
        ([1, 0.5], "a b", {}),
        ("1 2", "a b", {}),
        (None, "a b", {}),
        ([True], "a", {}),
        ([1], ["a"], {}),
        ([1, 2], "a \x1b[31mb", {1: ("a",)}),
    ],
)
def test_flags_in_every_form(values, meanings, names):
    found = read_attributes({"flag_values": values, "flag_meanings": meanings}, "u1", "m")
    assert found.names == names


@pytest.mark.parametrize(
    ("value", "dtype", "labels"),
    [
        (4, "u1", (4,)),
        (np.uint8(4), "u1", (4,)),
        (-1, "u1", ()),
        (256, "u1", ()),
        (2**64 - 1, "u8", (2**64 - 1,)),
        ([-9, 4.0], "i2", (-9, 4)),
        ("AAAAAAAAEEA=", "f4", (4,)),
        ("AAAAAAAA+H8=", "f4", ()),
        ("NaN", "f4", ()),
        ("no number", "f4", ()),
        (float("nan"), "f8", ()),
        (0.5, "f8", ()),
        (9.969209968386869e36, "f4", ()),
        (False, "?", ()),
        (1, "?", ()),
        (None, "u1", ()),
        ({"a": 1}, "u1", ()),
    ],
)
def test_fill_values_in_every_form(value, dtype, labels):
    assert read_attributes({"_FillValue": value}, dtype, "m").nodata == labels


def test_words_of_metadata():
    assert [as_label(value) for value in (3, 3.0, 3.5, True, "3", None)] == [3, 3] + [None] * 4
    assert clean_name(" traffic \n light ") == "traffic light"
    assert clean_name("") is clean_name(3) is clean_name("\x07") is None
    assert nodata_labels([1, 1.0, 2], "f4") == (1, 2)
