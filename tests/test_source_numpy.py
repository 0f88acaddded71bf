"""NumPy's own files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from test_sources import Case, SourceContract, mask

import fastcounts as fc
from fastcounts.errors import ReadError, UnsupportedSource


def npy(array: np.ndarray) -> Case:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        np.save(folder / "mask.npy", array)
        return folder / "mask.npy", [array]

    return make


def npz(compress: bool = False, **arrays: np.ndarray) -> Case:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        (np.savez_compressed if compress else np.savez)(folder / "masks.npz", **arrays)
        if len(arrays) == 1:
            return folder / "masks.npz", list(arrays.values())
        return [folder / f"masks.npz#{name}" for name in arrays], list(arrays.values())

    return make


class TestNpy(SourceContract):
    cases: ClassVar[dict[str, Case]] = {
        "c": npy(mask(20, 30)),
        "fortran": npy(np.asfortranarray(mask(20, 30))),
        "big-endian": npy(mask(9, 7, 2, dtype=">u2")),
        "bool": npy(mask(9, 7, labels=2, dtype=bool)),
        "int64": npy(mask(9, 7, dtype=np.int64) - 2),
        "0-d": npy(np.array(2, ">i2")),
        "empty": npy(np.zeros((0, 5), np.uint8)),
        "floats": npy(mask(5, 5).astype(np.float64)),
    }


class TestNpz(SourceContract):
    cases: ClassVar[dict[str, Case]] = {
        "one": npz(a=mask(20, 30)),
        "compressed": npz(True, a=mask(20, 30), b=mask(4, 4, dtype=">i2")),
        "fortran": npz(a=np.asfortranarray(mask(20, 30))),
        "0-d": npz(a=np.array(2, np.uint8)),
        "empty": npz(a=np.zeros((0, 5), np.uint8), b=mask(3, 3)),
        "odd names": npz(**{"a#b": mask(3, 4), "c/d": mask(5, 3), "e f": mask(2, 2)}),
    }


def test_npz__is_one_item(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", left=mask(4, 4), right=mask(5, 5))
    np.savez(tmp_path / "b.npz", left=mask(4, 4), right=mask(5, 5))
    assert fc.count(tmp_path, all_arrays=True).items == 2
    assert fc.count(tmp_path, items="array", all_arrays=True).items == 4
    parts = [fc.count(tmp_path, part=(n, 5), all_arrays=True) for n in range(5)]
    assert sum(parts) == fc.count(tmp_path, all_arrays=True)


def test_npy__that_goes_on_is_not_read_in_part(tmp_path: Path) -> None:
    with (tmp_path / "two.npy").open("wb") as file:
        np.save(file, mask(3, 3))
        np.save(file, mask(4, 4))
    with pytest.raises(ReadError, match="another"):
        fc.count(tmp_path / "two.npy")


def test_npz__whose_member_goes_on_is_not_read_in_part(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.npz", "w") as archive, archive.open("a.npy", "w") as file:
        np.save(file, mask(3, 3))
        np.save(file, mask(4, 4))
    with pytest.raises(ReadError, match="another"):
        fc.count(tmp_path / "two.npz")


def test_npy__of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([1, None], object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", a=np.array([1, None], object))
    for name in ("o.npy", "o.npz"):
        with pytest.raises(UnsupportedSource, match="Python objects"):
            fc.count(tmp_path / name)


def test_npz__of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UnsupportedSource, match=r"readme\.txt"):
        fc.count(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz")
    with pytest.raises(UnsupportedSource, match="no array"):
        fc.count(tmp_path / "b.npz")
