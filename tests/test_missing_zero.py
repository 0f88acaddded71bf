"""Missing chunks of arrays whose fill value is null: counted as label 0 on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from reference import check_ledger

import fastcounts as fc
from fastcounts import cli
from fastcounts.errors import MissingChunk

STORED = 6 * 8
TOTAL = 24 * 16
MISSING = TOTAL - STORED


def write(folder: Path, dtype: str = "u1", fill: Any = None, **more: Any) -> Path:
    """Write an array of format 2 of which one chunk of 3s is stored."""
    path = folder / "m.zarr"
    array = zarr.create_array(
        path, shape=(24, 16), chunks=(6, 8), dtype=dtype, zarr_format=2, fill_value=fill, **more
    )
    array[:6, :8] = 3 if dtype != "bool" else True
    return path


def pixels(counts: fc.Counts) -> dict[int, int]:
    return dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))


@pytest.mark.parametrize("items", ["auto", 0, 1])
@pytest.mark.parametrize("dtype", ["u1", ">i4", "u8", "f4", "bool"])
def test_a_null_fill_value_counts_as_label_0(tmp_path: Path, dtype: str, items: int | str) -> None:
    path = write(tmp_path, dtype)
    counts = fc.count(path, missing="zero", items=items, keep_items=True)
    check_ledger(counts)
    assert pixels(counts) == {0: MISSING, 1 if dtype == "bool" else 3: STORED}
    assert counts.ledger.filled == MISSING
    read = fc.count(zarr.open_array(path)[...], items=items)
    assert (pixels(read), read.items) == (pixels(counts), counts.items)
    assert read.presence.tolist() == counts.presence.tolist()
    with pytest.raises(MissingChunk, match=r"null.*missing='zero'"):
        fc.count(path, items=items)
    assert fc.count(path, missing="separate", items=items).ledger.missing == MISSING


@pytest.mark.parametrize("items", ["auto", 0])
def test_label_0_is_treated_as_any_label(tmp_path: Path, items: int | str) -> None:
    path = write(tmp_path)
    assert fc.count(path, missing="zero", ignore=0, items=items).ledger.ignored[0].pixels == MISSING
    unexpected = fc.count(path, missing="zero", classes={3: "car"}, items=items).ledger.unexpected
    assert unexpected[0].pixels == MISSING
    assert unexpected[0].places[0][2] == (0, 8)


@pytest.mark.parametrize("missing", ["fill", "zero"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_fill_value_that_is_given_is_counted(tmp_path: Path, version: int, missing: str) -> None:
    array = zarr.create_array(
        tmp_path / "m.zarr", shape=(24,), chunks=(6,), dtype="u1", zarr_format=version, fill_value=7
    )
    array[:6] = 1
    assert pixels(fc.count(array, missing=missing)) == {1: 6, 7: 18}


def test_many_missing_chunks_are_arithmetic(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    array = zarr.create_array(
        path, shape=(300, 300), chunks=(1, 1), dtype="u2", zarr_format=2, fill_value=None
    )
    array[7, 9] = 5
    for items in ("auto", 0):
        counts = fc.count(path, missing="zero", items=items)
        assert pixels(counts) == {0: 300 * 300 - 1, 5: 1}
        assert counts.ledger.filled == 300 * 300 - 1


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
def test_every_executor_counts_them(tmp_path: Path, scheduler: str) -> None:
    path = write(tmp_path)
    expected = fc.count(path, missing="zero")
    assert fc.count(path, missing="zero", scheduler=scheduler) == expected
    assert sum(fc.count(path, missing="zero", part=(n, 3)) for n in range(3)) == expected
    lazy = da.from_zarr(str(path))
    assert fc.count(lazy, missing="zero", scheduler=scheduler) == expected
    computed = fc.count(lazy + 0, missing="zero", scheduler=scheduler)
    assert pixels(computed) == pixels(expected)


def test_other_sources_take_the_option(tmp_path: Path) -> None:
    assert pixels(fc.count(np.ones(5, "u1"), missing="zero")) == {1: 5}


def test_labels_that_xarray_wrote(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    mask = np.zeros((4, 8, 8), "u1")
    mask[1:] = 3
    data = xarray.Dataset({"label": (("t", "y", "x"), mask)}).chunk(t=1)
    data.to_zarr(tmp_path / "x.zarr", zarr_format=2, consolidated=False)
    lazy = xarray.open_zarr(tmp_path / "x.zarr", consolidated=False)["label"]
    for given in (tmp_path / "x.zarr" / "label", lazy, lazy.data):
        assert pixels(fc.count(given, missing="zero", items=0)) == {0: 64, 3: 192}


def test_in_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["count", str(write(tmp_path)), "--missing", "zero"])
    assert end.value.code == 0
    assert f"{MISSING:,} of them" in capsys.readouterr().out
