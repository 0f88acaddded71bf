"""Folders, globs and lists of files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tifffile
import zarr
from pngs import png
from test_sources import Case, SourceContract, mask

import fastcounts as fc
from fastcounts.errors import ReadError, SourceNotFound


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".png":
        path.write_bytes(png(array))
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        zarr.create_array(path, data=array, chunks=tuple(-(-n // 2) for n in array.shape))


def folder_of(*names: str, target: str = "", bystanders: bool = False) -> Case:
    """Masks under these names; they are counted in the order of their names."""

    def make(folder: Path) -> tuple[Any, list[np.ndarray]]:
        try:
            os.fsencode("".join(names))
        except UnicodeEncodeError:
            pytest.skip(f"no file has these names where they are {sys.getfilesystemencoding()}")
        arrays = [mask(6 + n, 9, seed=n) for n in range(len(names))]
        for name, array in zip(names, arrays, strict=True):
            save(folder / name, array)
        if bystanders:
            (folder / "README.md").write_text("Masks.")
            (folder / ".hidden").mkdir()
            (folder / ".hidden" / "thumb.png").write_bytes(b"none")
            (folder / "_SUCCESS").touch()
            (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 and so on")
            (folder / "empty").mkdir()
        return str(folder / target) if target else folder, arrays

    return make


def listed(*names: str) -> Case:
    def make(folder: Path) -> tuple[Any, list[np.ndarray]]:
        _, arrays = folder_of(*names)(folder)
        return [folder / name for name in names], arrays

    return make


class TestFolders(SourceContract):
    cases: ClassVar[dict[str, Case]] = {
        "png": folder_of("a.png", "b.png", "c.png"),
        "mixed": folder_of("a.npy", "b.png", "c.tif"),
        "nested": folder_of("a.png", "sub/z.png", "sub/deep/c.png"),
        "bystanders": folder_of("a.png", "b.png", bystanders=True),
        "odd names": folder_of("a b.png", "ä#1.png", "ü%20.npy"),
        "glob": folder_of("a.png", "b.png", target="*.png"),
        "glob into folders": folder_of("a/m.png", "b/m.png", target="*/m.png"),
        "glob all the way": folder_of("a/m.png", "b/c/m.png", target="**/*.png"),
        "list": listed("b.png", "a.npy"),
        "zarr among files": folder_of("a.png", "b.zarr", "c.npy"),
        "folder of zarr": folder_of("a.zarr", "b.zarr"),
    }


def test_folder__items_are_files(tmp_path: Path) -> None:
    for seed in range(3):
        save(tmp_path / f"{seed}.png", mask(6, 6, seed=seed))
    counts = fc.count(tmp_path, keep_items=True)
    assert counts.items == 3
    assert counts.item_table is not None
    assert [key.source.rpartition("/")[2] for key in counts.item_table.keys] == [
        "0.png",
        "1.png",
        "2.png",
    ]
    for seed in range(3):
        row = counts.item_table.dense(range(5))[seed]
        assert row.tolist() == np.bincount(mask(6, 6, seed=seed).ravel(), minlength=5).tolist()


def test_folder__says_what_it_passed_over(tmp_path: Path) -> None:
    folder_of("a.png", bystanders=True)(tmp_path)
    counts = fc.count(tmp_path)
    assert counts.ledger.total == 54
    assert counts.provenance["runs"][0]["skipped"] == 4  # one of them hidden


def test_folder__without_masks(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="no masks"):
        fc.count(tmp_path)
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(SourceNotFound, match="only 1 other file"):
        fc.count(tmp_path)
    with pytest.raises(SourceNotFound, match="no mask"):
        fc.count(str(tmp_path / "*.txt"))


@pytest.mark.parametrize("damage", [b"", b"<html>404</html>", b"\x88PNG\r\n\x1a\n"])
def test_folder__passes_over_no_damaged_mask(tmp_path: Path, damage: bytes) -> None:
    save(tmp_path / "a.png", mask(6, 6))
    (tmp_path / "b.png").write_bytes(damage)
    with pytest.raises(ReadError, match=r"b\.png"):
        fc.count(tmp_path)
    counts = fc.count(tmp_path, on_error="record")
    assert counts.ledger.total == 36
    (failure,) = counts.provenance["runs"][0]["failures"]
    assert failure["name"].endswith("b.png")
    assert failure["pixels"] is None


def test_folder__follows_links_and_no_circle(tmp_path: Path) -> None:
    save(tmp_path / "store" / "blob.png", mask(6, 6))
    (tmp_path / "set").mkdir()
    for name in ("a.png", "b.png"):  # equal files kept once, as data versioning does
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / "blob.png")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set")
    assert fc.count(tmp_path / "set").items == 2
    assert fc.count([tmp_path / "set" / "a.png", tmp_path / "set" / "b.png"]).items == 2


def test_folder__a_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "a.png", mask(6, 6))
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ReadError, match=r"b\.png.*No such file"):
        fc.count(tmp_path)
