"""Archives of several arrays: which of them are counted, and how one is named."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from test_sources import mask
from zarr.storage import ZipStore

import fastcounts as fc
from fastcounts import cli
from fastcounts.errors import (
    AmbiguousSource,
    OptionError,
    ReadError,
    SourceNotFound,
    UnsupportedSource,
)

LABEL = mask(6, 7)
IMAGE = np.arange(42, dtype=np.uint8).reshape(6, 7)


def pixels(counts: fc.Counts) -> dict[int, int]:
    return dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))


def tally(*arrays: np.ndarray) -> dict[int, int]:
    labels, number = np.unique(np.concatenate([array.ravel() for array in arrays]), return_counts=1)
    return dict(zip(labels.astype(int).tolist(), number.tolist(), strict=True))


def test_several_integer_arrays_are_ambiguous_and_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", image=IMAGE, label=LABEL, weight=np.ones(3))
    with pytest.raises(AmbiguousSource) as caught:
        fc.count(tmp_path / "s.npz")
    text = str(caught.value)
    for part in ("2 arrays of integers", "image (uint8 (6, 7))", "label (uint8 (6, 7))"):
        assert part in text
    assert f"{tmp_path}/s.npz#label" in text  # the likely one is the example
    assert text.endswith("all_arrays=True")
    assert caught.value.shell_message().endswith(" --all")


@pytest.mark.parametrize("named", ["s.npz#label", "s.npz/label", "s.npz#label.npy", "*.npz#label"])
def test_one_array_is_named(tmp_path: Path, named: str) -> None:
    np.savez(tmp_path / "s.npz", image=IMAGE, label=LABEL)
    counts = fc.count(f"{tmp_path}/{named}")
    assert pixels(counts) == tally(LABEL)
    assert list(counts.covers.sources) == [f"{(tmp_path / 's.npz').as_uri()}#label"]
    assert counts == fc.count([f"{tmp_path}/{named}"])


def test_a_glob_names_an_array_of_every_archive(tmp_path: Path) -> None:
    for name in "ab":
        np.savez(tmp_path / f"{name}.npz", image=IMAGE, label=LABEL)
    counts = fc.count(f"{tmp_path}/*.npz#label")
    assert counts.items == 2
    assert pixels(counts) == tally(LABEL, LABEL)


def test_names_with_marks_and_slashes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a#b.npz", **{"c#d": LABEL, "e/f": IMAGE})
    assert pixels(fc.count(f"{tmp_path}/a#b.npz#c#d")) == tally(LABEL)
    for named in ("a#b.npz#e/f", "a#b.npz/e/f"):
        assert pixels(fc.count(f"{tmp_path}/{named}")) == tally(IMAGE)


def test_a_name_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", image=IMAGE, label=LABEL)
    with pytest.raises(SourceNotFound, match=r"'mask', only image .*label"):
        fc.count(f"{tmp_path}/s.npz#mask")
    np.save(tmp_path / "s.npy", LABEL)
    for named in ("s.npy/label", "s.npy#label"):
        with pytest.raises(SourceNotFound, match="not an archive"):
            fc.count(f"{tmp_path}/{named}")


def test_all_arrays_counts_all_of_integers(tmp_path: Path, capsys: Any) -> None:
    np.savez(tmp_path / "s.npz", image=IMAGE, label=LABEL, weight=np.ones(3))
    counts = fc.count(tmp_path / "s.npz", all_arrays=True)
    assert pixels(counts) == tally(LABEL, IMAGE)
    with pytest.raises(SystemExit) as end:
        cli.main(["count", f"{tmp_path}/s.npz", "--all", "-o", f"{tmp_path}/counts.json"])
    assert end.value.code == 0
    assert "s.npz#weight" in capsys.readouterr().err
    assert fc.load(tmp_path / "counts.json") == counts


def test_all_arrays_of_a_group(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    for name in ("road", "car"):
        group.create_array(name, data=LABEL)
    with pytest.raises(AmbiguousSource, match="all_arrays=True"):
        fc.count(tmp_path / "g.zarr")
    assert pixels(fc.count(tmp_path / "g.zarr", all_arrays=True)) == tally(LABEL, LABEL)
    with pytest.raises(OptionError, match="all_arrays"):
        fc.count(tmp_path / "g.zarr", all_arrays="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other", [np.ones((6, 7)), np.array(["a", "b"]), np.array([None, 1], object), np.ones(3, "c8")]
)
def test_the_only_array_of_integers_is_taken_and_others_reported(
    tmp_path: Path, other: np.ndarray
) -> None:
    np.savez(tmp_path / "s.npz", label=LABEL, other=other)
    counts = fc.count(tmp_path)
    assert pixels(counts) == tally(LABEL)
    (notice,) = counts.provenance["runs"][0]["notices"]
    assert notice["code"] == "skipped-array"
    assert notice["severity"] == "note"
    assert "s.npz#other" in notice["message"]


def test_one_array_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", LABEL.astype(np.float32))
    assert pixels(fc.count(tmp_path / "s.npz")) == tally(LABEL)


def test_several_arrays_of_floats_are_ambiguous(tmp_path: Path) -> None:
    floats = {"image": IMAGE / 7, "label": LABEL.astype(float)}
    np.savez(tmp_path / "s.npz", **floats)
    with pytest.raises(AmbiguousSource, match=r"no array of integers.*s\.npz#label"):
        fc.count(tmp_path / "s.npz")
    assert pixels(fc.count(f"{tmp_path}/s.npz#label")) == tally(LABEL)
    np.savez(tmp_path / "s.npz", first=LABEL.astype(float), second=IMAGE.astype(float))
    assert pixels(fc.count(tmp_path / "s.npz", all_arrays=True)) == tally(LABEL, IMAGE)


def npz_of(path: Path, *members: tuple[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in members:
            buffer = io.BytesIO()
            np.save(buffer, array)
            with archive.open(zipfile.ZipInfo(name), "w") as file:
                file.write(buffer.getvalue())


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("named", ["m.npz", "m.npz#label"])
def test_two_members_of_one_name_are_refused_by_name(tmp_path: Path, named: str) -> None:
    npz_of(tmp_path / "m.npz", ("label.npy", LABEL), ("label.npy", LABEL + 1))
    for every in (False, True):
        with pytest.raises(UnsupportedSource, match=r"m\.npz: .*several arrays named 'label'"):
            fc.count(f"{tmp_path}/{named}", all_arrays=every)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_added_while_counting_is_noticed(tmp_path: Path) -> None:
    from fastcounts.sources import open_source

    npz_of(tmp_path / "m.npz", ("label.npy", LABEL))
    source = open_source(tmp_path / "m.npz")
    npz_of(tmp_path / "m.npz", ("label.npy", LABEL), ("label.npy", LABEL + 1))
    with pytest.raises(UnsupportedSource, match="several arrays named 'label'"):
        list(source.read(0, ((0, 6), (0, 7))))


def test_a_member_that_is_too_short_is_found_before_reading(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, LABEL)
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("label.npy", buffer.getvalue()[:-5])
    with pytest.raises(ReadError, match=r"m\.npz#label: cut off: 37 of 42"):
        fc.count(tmp_path / "m.npz")


# ---- zip files of Zarr, by content ----


def zipped(path: Path, folder: str = "") -> None:
    with ZipStore(path, mode="w") as store:
        zarr.create_array(store, name=folder or None, data=LABEL, chunks=(3, 7))


@pytest.mark.parametrize("name", ["a.zip", "a.ZIP", "a.ozx", "a.zarr", "a"])
@pytest.mark.parametrize("folder", ["", "a.zarr"])
def test_a_zip_file_of_zarr_is_known_by_its_content(tmp_path: Path, name: str, folder: str) -> None:
    zipped(tmp_path / name, folder)
    assert pixels(fc.count(tmp_path / name)) == tally(LABEL)
    np.save(tmp_path / "b.npy", LABEL)
    for target in (tmp_path, f"{tmp_path}/*", [tmp_path / name, tmp_path / "b.npy"]):
        assert pixels(fc.count(target)) == tally(LABEL, LABEL)


def test_v2_arrays_in_a_zip_file(tmp_path: Path) -> None:
    with ZipStore(tmp_path / "a", mode="w") as store:
        array = zarr.create_array(store, shape=(6, 7), chunks=(3, 7), dtype="u1", zarr_format=2)
        array[...] = LABEL
    assert pixels(fc.count(tmp_path / "a")) == tally(LABEL)


def test_several_zarr_arrays_in_a_zip_file_are_ambiguous(tmp_path: Path) -> None:
    for name in ("x.zarr", "y.zarr"):
        zarr.create_array(tmp_path / "set" / name, data=LABEL)
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "set")
    with pytest.raises(AmbiguousSource, match=r"x\.zarr, y\.zarr.*a\.zip/x\.zarr.*all_arrays"):
        fc.count(tmp_path / "a.zip")
    for named in ("a.zip/y.zarr", "a.zip#y.zarr"):
        assert pixels(fc.count(f"{tmp_path}/{named}")) == tally(LABEL)
    assert pixels(fc.count(tmp_path / "a.zip", all_arrays=True)) == tally(LABEL, LABEL)


def test_an_npz_stays_an_npz_under_another_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", LABEL)
    (tmp_path / "s.npz").rename(tmp_path / "s")
    assert pixels(fc.count(tmp_path / "s")) == tally(LABEL)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_refused_while_counting_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastcounts.sources.numpy_files import NpzFormat

    for name in ("a.npz", "b.npz"):
        npz_of(tmp_path / name, ("label.npy", LABEL))
    read = NpzFormat.read

    def append(self: Any, path: Path, *about: Any) -> Any:
        if path.name == "b.npz":
            npz_of(path, ("label.npy", LABEL), ("label.npy", LABEL))
        return read(self, path, *about)

    monkeypatch.setattr(NpzFormat, "read", append)
    counts = fc.count(tmp_path, on_error="record", workers=1)
    assert (counts.ledger.counted, counts.ledger.failed) == (42, 42)
    with pytest.raises((UnsupportedSource, ReadError), match=r"b\.npz"):
        fc.count(tmp_path, workers=1)


@pytest.mark.parametrize("named", ["a.npz#c#d", "a.npz#e", "a.npz/e", "*.npz#e", "a.npz#none"])
def test_an_archive_of_which_a_member_is_named_is_never_written_to(
    tmp_path: Path, named: str, capsys: Any
) -> None:
    np.savez(tmp_path / "a.npz", **{"c#d": LABEL, "e": IMAGE})
    before = (tmp_path / "a.npz").read_bytes()
    with pytest.raises(SystemExit) as end:
        cli.main(["count", f"{tmp_path}/{named}", "-o", f"{tmp_path}/a.npz"])
    assert end.value.code == 2
    assert "never written to" in capsys.readouterr().err
    assert (tmp_path / "a.npz").read_bytes() == before
