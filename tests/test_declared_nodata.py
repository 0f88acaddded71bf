"""Labels that metadata declares nodata: reported with their pixels, and kept on request."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from reference import check_ledger

import fastcounts as fc
from fastcounts import cli
from fastcounts.console import ledger_lines
from fastcounts.engine.events import Notice
from fastcounts.errors import FastcountsWarning, FormatError, StrictError

MASK = np.arange(40, dtype="u1").reshape(5, 8) % 4
ZEROS = 10


def write(
    folder: Path,
    name: str = "a.zarr",
    *,
    mask: np.ndarray = MASK,
    version: int = 2,
    fill: Any = 0,
    **attributes: Any,
) -> Path:
    """Write an array as kerchunk or xarray would, with its dimensions named in format 2."""
    array = zarr.create_array(
        folder / name,
        shape=mask.shape,
        chunks=(2, 3),
        dtype=mask.dtype,
        zarr_format=version,
        fill_value=fill,
    )
    if version == 2:
        attributes = {"_ARRAY_DIMENSIONS": ["y", "x"], **attributes}
    array.attrs.update(attributes)
    array[...] = mask
    return folder / name


def entries(counts: fc.Counts) -> list[tuple[int, int, str, str, int]]:
    names = ("label", "pixels", "attribute", "array", "arrays")
    return [
        tuple(entry[name] for name in names)
        for run in counts.provenance["runs"]
        for entry in run.get("nodata", [])
    ]


def notices(counts: fc.Counts) -> list[tuple[str, str]]:
    found = [n for run in counts.provenance["runs"] for n in run.get("notices", [])]
    assert {notice["code"] for notice in found} <= {"metadata-nodata"}
    return [(notice["severity"], notice["message"]) for notice in found]


def test_a_fill_value_that_takes_class_0_is_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path)
    events: list[Any] = []
    with pytest.warns(FastcountsWarning, match=r"a\.zarr: label 0 \(10 pixels\) became nodata"):
        counts = fc.count(path, progress=events.append)
    check_ledger(counts)
    assert counts.labels.tolist() == [1, 2, 3]
    assert counts.ledger.nodata == ZEROS
    assert entries(counts) == [(0, ZEROS, "fill_value", str(path), 1)]
    ((severity, message),) = notices(counts)
    assert severity == "warning"
    assert "fill_value" in message
    assert "nodata='none'" in message
    assert [event.message for event in events if isinstance(event, Notice)] == [message]
    with pytest.raises(StrictError, match=r"label 0 .*became nodata"):
        fc.count(path, strict=True)


def test_nodata_none_keeps_every_label(tmp_path: Path) -> None:
    for path in (
        write(tmp_path),
        write(tmp_path, "b.zarr", version=3, fill=3, _FillValue=0, missing_value=2),
    ):
        counts = fc.count(path, nodata="none", strict=True)
        plain = fc.count(MASK)
        assert counts.labels.tolist() == plain.labels.tolist() == [0, 1, 2, 3]
        assert counts.pixels.tolist() == plain.pixels.tolist()
        assert counts.ledger == plain.ledger
        assert entries(counts) == notices(counts) == []


def test_nodata_metadata_confirms_it(tmp_path: Path) -> None:
    counts = fc.count(write(tmp_path), nodata="metadata", strict=True)
    assert counts.ledger.nodata == ZEROS
    assert entries(counts)[0][:2] == (0, ZEROS)
    assert [severity for severity, _ in notices(counts)] == ["note"]


@pytest.mark.parametrize("named", [{"ignore": 0}, {"classes": 4}, {"classes": {0: "a"}}])
def test_a_label_that_the_user_names_is_never_nodata(tmp_path: Path, named: Any) -> None:
    counts = fc.count(write(tmp_path), **named)
    assert counts.ledger.nodata == 0
    assert entries(counts) == notices(counts) == []


def test_a_declaration_is_a_note(tmp_path: Path) -> None:
    path = write(tmp_path, version=3, fill=1, _FillValue=3, missing_value=[0, 99])
    counts = fc.count(path, strict=True)
    assert entries(counts) == [
        (0, 10, "missing_value", str(path), 1),
        (3, 10, "_FillValue", str(path), 1),
    ]
    assert sorted(notices(counts)) == [
        ("note", f"{path}: label {label} (10 pixels) became nodata, as its {attribute} says; to "
         "count it as a label, use nodata='none'")
        for label, attribute in ((0, "missing_value"), (3, "_FillValue"))
    ]  # fmt: skip


@pytest.mark.parametrize("mask", [MASK + 1, np.zeros((0, 8), "u1")])
def test_nothing_is_said_of_labels_without_pixels(tmp_path: Path, mask: np.ndarray) -> None:
    counts = fc.count(write(tmp_path, mask=mask), strict=True)
    assert entries(counts) == notices(counts) == []


@pytest.mark.filterwarnings("ignore::fastcounts.errors.FastcountsWarning")
@pytest.mark.parametrize("items", ["auto", 0, 1])
def test_missing_chunks_are_in_the_number(tmp_path: Path, items: int | str) -> None:
    array = zarr.create_array(
        tmp_path / "m.zarr", shape=(40, 30), chunks=(2, 3), dtype="u1", fill_value=9, zarr_format=2
    )
    array.attrs["_ARRAY_DIMENSIONS"] = ["y", "x"]
    array[:4, :6] = 1
    array[3, 5] = 9
    counts = fc.count(array, items=items)
    assert counts.ledger.nodata == 1200 - 23
    assert [entry[:3] for entry in entries(counts)] == [(9, 1200 - 23, "fill_value")]
    apart = fc.count(array, items=items, missing="separate")
    assert apart.ledger.missing == 1200 - 24
    assert [entry[:2] for entry in entries(apart)] == [(9, 1)]


@pytest.mark.filterwarnings("ignore::fastcounts.errors.FastcountsWarning")
@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
@pytest.mark.parametrize("items", ["auto", 0])
def test_every_executor_says_the_same(tmp_path: Path, items: int | str, scheduler: str) -> None:
    path = write(tmp_path)
    expected = fc.count(path, items=items)
    counts = fc.count(path, items=items, scheduler=scheduler)
    assert counts == expected
    assert entries(counts) == entries(expected)
    assert notices(counts) == notices(expected)
    lazy = da.from_zarr(str(path))
    assert [entry[:3] for entry in entries(fc.count(lazy, items=items, scheduler=scheduler))] == [
        (0, ZEROS, "fill_value")
    ]


@pytest.mark.parametrize("chunks", [(5, 8), (2, 3)])
def test_graphs_of_dask_arrays_say_it_too(tmp_path: Path, chunks: tuple[int, ...]) -> None:
    lazy = da.from_zarr(str(write(tmp_path))).rechunk(chunks)
    counts = fc.count_delayed(lazy, items=0).compute(scheduler="synchronous")
    assert counts.ledger.nodata in (0, ZEROS)  # what is computed has lost its metadata
    stored = da.from_zarr(str(tmp_path / "a.zarr"))
    counts = fc.count_delayed(stored, items=0).compute(scheduler="synchronous")
    assert entries(counts) == [(0, ZEROS, "fill_value", str(tmp_path / "a.zarr"), 1)]
    assert [severity for severity, _ in notices(counts)] == ["warning"]
    with pytest.raises(StrictError):
        fc.count_delayed(stored, strict=True).compute(scheduler="synchronous")
    kept = fc.count_delayed(stored, nodata="none", strict=True).compute(scheduler="synchronous")
    assert kept.pixels.tolist() == fc.count(MASK).pixels.tolist()


def test_data_arrays(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    write(tmp_path / "set.zarr", "m")
    zarr.open_group(tmp_path / "set.zarr", mode="a", zarr_format=2)
    given = {
        decode: xarray.open_zarr(
            tmp_path / "set.zarr", consolidated=False, mask_and_scale=decode, chunks=None
        )["m"]
        for decode in (True, False)
    }
    with pytest.warns(FastcountsWarning, match="label 0"):
        counts = fc.count(given[False])
    assert entries(counts)[0][:3] == (0, ZEROS, "fill_value")
    masked = fc.count(given[True], strict=True)  # the user's xarray has masked it
    assert masked == counts
    assert entries(masked) == entries(counts)
    ((severity, message),) = notices(masked)
    assert (severity, "mask_and_scale=False" in message) == ("note", True)
    kept = fc.count(given[False], nodata="none")
    assert kept.pixels.tolist() == [10, 10, 10, 10]
    assert fc.count(given[True], nodata="none").ledger.nodata == ZEROS
    computed = given[False] + 0
    computed.attrs["_FillValue"] = 3
    counts = fc.count(computed.chunk(2))
    assert [entry[:3] for entry in entries(counts)] == [(3, 10, "_FillValue")]
    assert [severity for severity, _ in notices(counts)] == ["note"]


@pytest.mark.filterwarnings("ignore::fastcounts.errors.FastcountsWarning")
def test_parts_and_files_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    run = fc.count(path)
    parts = [fc.count(path, part=(n, 3)) for n in range(3)]
    merged = sum(parts)
    assert merged == run
    assert sum(pixels for _, pixels, *_ in entries(merged)) == ZEROS
    merged.save(tmp_path / "counts.json")
    for name in ("counts.json", "counts.npz"):
        merged.save(tmp_path / name)
        assert entries(fc.load(tmp_path / name)) == entries(merged)
    other = fc.count(write(tmp_path, "b.zarr"))
    assert (merged + other) - other == merged
    assert ledger_lines((merged + other) - other)[-1] == f"{ZEROS} nodata"
    assert f"{2 * ZEROS} nodata: label 0, from fill_value of {tmp_path / 'b.zarr'} and others" in (
        ledger_lines(merged + other)
    )
    with pytest.raises(SystemExit):
        cli.main(["merge", str(tmp_path / "counts.json")])
    assert f"{ZEROS} nodata: label 0, from fill_value of {path}" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::fastcounts.errors.FastcountsWarning")
def test_several_arrays(tmp_path: Path) -> None:
    paths = [write(tmp_path, f"{n}.zarr") for n in range(3)]
    paths.append(write(tmp_path, "other.zarr", version=3, _FillValue=1))
    counts = fc.count(paths)
    assert entries(counts) == [
        (0, 3 * ZEROS, "fill_value", str(paths[0]), 3),
        (1, 10, "_FillValue", str(paths[3]), 1),
    ]
    assert [message.partition(" became")[0] for _, message in sorted(notices(counts))] == [
        f"{paths[3]}: label 1 (10 pixels)",
        f"{paths[0]} and 2 more arrays: label 0 (30 pixels)",
    ]


def shell(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return int(str(end.value.code))


def test_in_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, mask=np.repeat(MASK, 100, 1), missing_value=3)
    assert shell("count", path) == 0
    out, err = capsys.readouterr()
    assert f"1,000 nodata: label 0, from fill_value of {path}\n" in out
    assert f"1,000 nodata: label 3, from missing_value of {path}\n" in out
    assert f"warning: {path}: label 0 (1,000 pixels) became nodata" in err
    assert shell("count", path, "--nodata", "none") == 0
    out, err = capsys.readouterr()
    assert "nodata" not in out + err
    assert shell("count", path, "--strict") == 1
    assert shell("count", path, "--strict", "--nodata", "metadata") == 0


def test_nodata_that_is_declared_and_nan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = MASK.astype("f4")
    mask[0, :2] = np.nan
    path = write(tmp_path, mask=mask, version=3, fill=float("nan"), _FillValue=3)
    assert shell("count", path) == 0
    out, _ = capsys.readouterr()
    assert f"10 nodata: label 3, from _FillValue of {path}\n2 nodata: masked or NaN\n" in out


def test_files_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    counts = fc.count(write(tmp_path), nodata="metadata")
    for wrong in (3, [3], [{}], [{"label": "0"}]):
        data = counts.to_dict()
        data["provenance"]["runs"][0]["nodata"] = wrong
        with pytest.raises(FormatError, match=r"provenance\.runs: nodata"):
            fc.Counts.from_dict(data)


def test_an_option_that_is_none_of_them() -> None:
    with pytest.raises(fc.errors.OptionError, match=r"nodata: .*'auto'"):
        fc.count(MASK, nodata="keep")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fc.count(MASK, nodata="metadata")
