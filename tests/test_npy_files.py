"""Headers of .npy files that no array can have, and files that change while they are counted."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_sources import mask

import fastcounts as fc
from fastcounts.errors import FastcountsError, ReadError
from fastcounts.sources import open_source


def npy(shape: str, body: bytes = b"", descr: str = "'|u1'") -> bytes:
    head = f"{{'descr':{descr},'fortran_order':False,'shape':{shape},}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


SHAPES = [
    ("(0,99999999999999999999)", b""),
    ("(True,4)", b"1234"),
    ("(9223372036854775807,0,4)", b""),
    ("(4611686018427387904,4)", b""),
    ("(-1,4)", b"1234"),
    ("(2.0,2)", b"1234"),
    ("('a',)", b""),
    (str((1,) * 65), b"1"),
    ("4", b"1234"),
]


@pytest.mark.parametrize(("shape", "body"), SHAPES, ids=[shape[:20] for shape, _ in SHAPES])
@pytest.mark.parametrize("archive", [False, True])
def test_a_shape_that_no_array_has(tmp_path: Path, shape: str, body: bytes, archive: bool) -> None:
    content, name = npy(shape, body), "x.npy"
    if archive:
        name = "x.npz"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("a.npy", content)
        content = buffer.getvalue()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReadError, match=name):
        fc.count(tmp_path / name)


@pytest.mark.parametrize("descr", ["'|V0'", "'>O'", "[('a','u1')]", "'|S0'", "'u3'", "''", "4"])
def test_a_type_that_no_label_has(tmp_path: Path, descr: str) -> None:
    (tmp_path / "x.npy").write_bytes(npy("(4,)", b"1234", descr))
    with pytest.raises(FastcountsError, match=r"x\.npy"):
        fc.count(tmp_path / "x.npy")


def test_a_long_header_is_refused_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(npy("(4,)" + " " * 20_000, b"1234"))
    with pytest.raises(ReadError) as caught:
        fc.count(tmp_path / "x.npy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["truncated", "grown", "replaced", "written over"])
@pytest.mark.parametrize("form", ["npy", "npz", "png", "tif"])
def test_a_file_that_changes_is_no_file_that_is_counted(
    tmp_path: Path, form: str, kind: str
) -> None:
    from test_source_folders import save

    path = tmp_path / f"a.{form}"

    def write(target: Path, seed: int) -> None:
        if form == "npz":
            np.savez(target, mask(50, 50, seed=seed))
        else:
            save(target, mask(50, 50, seed=seed))

    write(path, 0)
    source = open_source(path)
    box = tuple((0, n) for n in source.arrays[0].shape)
    assert len(list(source.read(0, box))) == 1
    if kind == "truncated":
        os.truncate(path, path.stat().st_size - 100)
    elif kind == "grown":
        with path.open("ab") as file:
            file.write(b"more")
    elif kind == "replaced":
        write(tmp_path / f"b.{form}", 1)
        (tmp_path / f"b.{form}").replace(path)
    else:
        before = path.stat()
        write(path, 1)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    with pytest.raises(ReadError, match=path.name):
        list(source.read(0, box))


def test_a_file_that_changes_is_recorded(tmp_path: Path, monkeypatch: Any) -> None:
    from fastcounts.sources.numpy_files import NpyFormat

    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, mask(50, 50))
    read = NpyFormat.read

    def change(self: Any, path: Path, *about: Any) -> Any:
        if path.name == "b.npy":
            np.save(path, mask(60, 50))
        return read(self, path, *about)

    monkeypatch.setattr(NpyFormat, "read", change)
    counts = fc.count(tmp_path, on_error="record", workers=1)
    assert counts.ledger.failed == 2500
    assert counts.ledger.counted == 2500
    assert "b.npy" in counts.provenance["runs"][0]["failures"][0]["reason"]
