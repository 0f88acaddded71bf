"""Reasons why a chunk cannot be read: one line, and a hint if it is text that is no chunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts.errors import ReadError
from fastcounts.sources.port import one_line


def write(folder: Path, **more: Any) -> Path:
    path = folder / "m.zarr"
    array = zarr.create_array(path, shape=(8, 8), chunks=(8, 8), dtype="u1", **more)
    array[...] = np.arange(64, dtype="u1").reshape(8, 8)
    return path


def reason(path: Path) -> str:
    counts = fc.count(path, on_error="record")
    assert counts.ledger.failed == 64
    found: str = counts.provenance["runs"][0]["failures"][0]["reason"]
    return found


def test_a_checksum_that_is_explained_in_several_lines(tmp_path: Path) -> None:
    path = write(tmp_path, zarr_format=2, filters=[numcodecs.Fletcher32()], compressors=None)
    content = bytearray((path / "0.0").read_bytes())
    content[3] ^= 1
    (path / "0.0").write_bytes(content)
    with pytest.raises(RuntimeError) as own:
        zarr.open_array(path)[...]
    assert "\n" in str(own.value)
    found = reason(path)
    assert "fletcher32" in found
    assert "\n" not in found
    with pytest.raises(ReadError) as caught:
        fc.count(path)
    assert str(caught.value) == found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (RuntimeError("one\n  two\r\nthree"), "one two three"),
        (MemoryError(), "MemoryError"),
        (FileNotFoundError(2, "No such file", "a"), "No such file"),
        ("a" * 9 + " " + "b" * 300, "aaaaaaaaa ..."),
        ("", "no reason is given"),
    ],
)
def test_one_line(given: object, expected: str) -> None:
    assert one_line(given) == expected


@pytest.mark.parametrize("layout", [{}, {"compressors": None}, {"zarr_format": 2}])
@pytest.mark.parametrize(
    "text", ["../../base/0", "/data/0", "base/0", "<!DOCTYPE html>\n<p>Gone", "version https://git"]
)
def test_a_chunk_that_is_text_is_named_as_such(
    tmp_path: Path, text: str, layout: dict[str, Any]
) -> None:
    path = write(tmp_path, **layout)
    key = "0.0" if layout.get("zarr_format") == 2 else "c/0/0"
    (path / key).write_text(text)
    found = reason(path)
    assert f"chunk {key}: " in found
    assert f"contains the text {' '.join(text.split())!r}" in found


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"ABCDEF", b"/\xff\x00"])
def test_a_broken_chunk_is_not_taken_for_text(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path)
    (path / "c/0/0").write_bytes(content)
    assert "text" not in reason(path)
