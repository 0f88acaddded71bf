"""Stored chunks that are not what the metadata says: an error that names them, never zeros."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import (
    BytesCodec,
    Crc32cCodec,
    ShardingCodec,
    ZstdCodec,
)

import fastcounts as fc
from fastcounts.errors import FastcountsError, ReadError
from fastcounts.sources import chunks as chunks_module
from fastcounts.sources import decoding as decoding_module
from fastcounts.sources.codecs import DecodeError, chain_v2, zstd_content_size

SHAPE, CHUNK = (64, 64), (32, 32)
COMPRESSORS = {
    "zstd": numcodecs.Zstd(),
    "lz4": numcodecs.LZ4(),
    "blosc": numcodecs.Blosc("zstd", shuffle=2),
    "blosc-lz4": numcodecs.Blosc("lz4", shuffle=1),
    "zlib": numcodecs.Zlib(1),
    "gzip": numcodecs.GZip(1),
    "bz2": numcodecs.BZ2(1),
    "lzma": numcodecs.LZMA(),
}


def labels() -> np.ndarray:
    grid = np.add.outer(np.arange(64), np.arange(64))
    return (grid // 7 % 11 + 1).astype(np.uint8)


@pytest.fixture(params=[False, True], ids=["native", "python"])
def either(request: pytest.FixtureRequest) -> Any:
    """Decode with the C functions, and without."""
    if not request.param:
        yield
        return
    with (
        mock.patch.object(decoding_module, "has_native", return_value=False),
        mock.patch.object(chunks_module, "file_functions", return_value=None),
    ):
        yield


def write_v2(path: Path, compressor: Any) -> Path:
    array = zarr.create_array(
        path, shape=SHAPE, chunks=CHUNK, dtype="u1", zarr_format=2, compressors=compressor
    )
    array[...] = labels()
    return path / "0.1"


def check_failure(path: Path, key: str) -> str:
    """Counting stops with an error, and goes on with everything else right when told to."""
    with pytest.raises(ReadError) as caught:
        fc.count(path, workers=1)
    text = str(caught.value)
    assert path.name in text
    assert key in text
    counts = fc.count(path, workers=2, on_error="record")
    assert counts.ledger.failed == 32 * 32
    rest = np.delete(labels().reshape(2, 32, 2, 32).swapaxes(1, 2).reshape(4, -1), 1, axis=0)
    found, pixels = np.unique(rest, return_counts=True)
    assert counts.labels.tolist() == found.tolist()
    assert counts.pixels.tolist() == pixels.tolist()
    (failure,) = counts.provenance["runs"][0]["failures"]
    assert failure["box"] == [[0, 32], [32, 64]]
    return text


def cut_short(stored: bytes) -> bytes:
    return stored[: len(stored) // 2]


def nothing(stored: bytes) -> bytes:
    return b""


def text(stored: bytes) -> bytes:
    return b"<html>404 not found</html>" * 4


def longer(stored: bytes) -> bytes:
    return bytes(200_000)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("damage", [cut_short, nothing, text, longer])
@pytest.mark.parametrize("name", [*COMPRESSORS, "none"])
def test_chunk__that_is_damaged_is_named(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "labels.zarr"
    file = write_v2(path, COMPRESSORS.get(name))
    file.write_bytes(damage(file.read_bytes()))
    check_failure(path, "0.1")


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("size", [32 * 32 - 1, 32 * 32 + 1, 64])
def test_chunk__of_another_size_is_named(tmp_path: Path, name: str, size: int) -> None:
    path = tmp_path / "labels.zarr"
    file = write_v2(path, COMPRESSORS[name])
    file.write_bytes(bytes(COMPRESSORS[name].encode(np.ones(size, np.uint8))))
    check_failure(path, "0.1")


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("name", COMPRESSORS)
def test_bomb__takes_no_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "labels.zarr"
    file = write_v2(path, COMPRESSORS[name])
    bomb = bytes(COMPRESSORS[name].encode(np.zeros(64 << 20, np.uint8)))
    file.write_bytes(bomb)
    check_failure(path, "0.1")
    tracemalloc.start()
    try:
        with pytest.raises(ReadError):
            fc.count(path, workers=1)  # one decoder at a time
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20  # an LZMA stream may ask for a dictionary of 8 MiB


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(("name", "other"), [("zstd", "lz4"), ("gzip", "zlib"), ("blosc", "gzip")])
def test_codec__that_is_not_the_one_named(tmp_path: Path, name: str, other: str) -> None:
    path = tmp_path / "labels.zarr"
    file = write_v2(path, COMPRESSORS[name])
    file.write_bytes(bytes(COMPRESSORS[other].encode(np.ones(32 * 32, np.uint8))))
    assert name in check_failure(path, "0.1")


@pytest.mark.usefixtures("either")
def test_key__that_is_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "labels.zarr"
    file = write_v2(path, COMPRESSORS["zstd"])
    file.unlink()
    file.mkdir()
    check_failure(path, "0.1")


@pytest.mark.usefixtures("either")
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_key__that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.zarr"
    write_v2(path, COMPRESSORS["zstd"]).chmod(0)
    check_failure(path, "0.1")


@pytest.mark.usefixtures("either")
def test_key__that_is_a_link_to_nowhere_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "labels.zarr"
    file = write_v2(path, COMPRESSORS["zstd"])
    file.unlink()
    file.symlink_to(tmp_path / "nowhere")
    assert fc.count(path, missing="separate").ledger.missing == 32 * 32


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("form", ["gzip", "bz2", "lzma"])
def test_stream__of_several_members_is_read_to_its_end(tmp_path: Path, form: str) -> None:
    path = tmp_path / "labels.zarr"
    codec = COMPRESSORS[form]
    file = write_v2(path, codec)
    chunk = labels()[:32, 32:].tobytes()
    parts = [
        bytes(codec.encode(np.frombuffer(part, np.uint8))) for part in (chunk[:99], chunk[99:])
    ]
    file.write_bytes(b"".join(parts))
    counts = fc.count(path, workers=1)
    assert counts.pixels.sum() == labels().size
    assert counts == replaced(counts, labels())


def replaced(counts: fc.Counts, pixels: np.ndarray) -> fc.Counts:
    """The same counts, if they are those of ``pixels``."""
    found, numbers = np.unique(pixels, return_counts=True)
    assert counts.labels.tolist() == found.tolist()
    assert counts.pixels.tolist() == numbers.tolist()
    return counts


def test_gzip__with_bytes_behind_it_is_refused() -> None:
    chain = chain_v2([], numcodecs.GZip(), "C", (4,), np.dtype("u1"))
    out = memoryview(bytearray(4))
    chain.decode(gzip.compress(b"abcd"), out)
    assert bytes(out) == b"abcd"
    chain.decode(gzip.compress(b"abcd") + b"\0\0", out)
    for wrong in (gzip.compress(b"abcd") + b"junk", gzip.compress(b"abcd") + gzip.compress(b"e")):
        with pytest.raises(DecodeError, match="gzip"):
            chain.decode(wrong, out)


def test_zstd__frames_of_unknown_size() -> None:
    content = b"abcd" * 8
    raw = len(content) << 3 | 1
    frame = struct.pack("<IBB", 0xFD2FB528, 0, 0x58) + raw.to_bytes(3, "little") + content
    assert zstd_content_size(memoryview(frame)) is None
    chain = chain_v2([], numcodecs.Zstd(), "C", (32,), np.dtype("u1"))
    out = memoryview(bytearray(32))
    chain.decode(frame, out)
    assert bytes(out) == content
    for size in (31, 33):
        short = chain_v2([], numcodecs.Zstd(), "C", (size,), np.dtype("u1"))
        with pytest.raises(DecodeError, match="zstd"):
            short.decode(frame, memoryview(bytearray(size)))


@pytest.mark.parametrize("level", [-5, 0, 19])
@given(st.integers(1, 5000), st.integers(0, 2))
def test_zstd__content_size_is_read_from_any_header(level: int, size: int, copies: int) -> None:
    codec = numcodecs.Zstd(level=level, checksum=bool(copies % 2))
    stored = bytes(codec.encode(np.arange(size) % 251)) * (copies + 1)
    assert zstd_content_size(memoryview(stored)) == 8 * size * (copies + 1)
    skipped = struct.pack("<II", 0x184D2A53, 3) + b"abc"
    assert zstd_content_size(memoryview(skipped + stored)) == 8 * size * (copies + 1)
    with pytest.raises(DecodeError):
        zstd_content_size(memoryview(stored[:-1]))


@pytest.mark.parametrize("name", [*COMPRESSORS, "none"])
@given(data=st.data())
def test_bits__that_flip_never_crash_and_never_change_the_total(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "labels.zarr"
    file = write_v2(path, COMPRESSORS.get(name))
    stored = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(stored) - 1) | st.integers(0, 20))
        stored[place % len(stored)] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(bytes(stored))
    counts = fc.count(path, workers=1, on_error="record")
    assert counts.ledger.total == labels().size
    assert counts.ledger.failed in (0, 32 * 32)
    shutil.rmtree(path)


# ---- shards ----


def write_shards(path: Path, location: str, *, checked: bool, nested: bool = False) -> Path:
    inner: list[Any] = [BytesCodec(), ZstdCodec(), Crc32cCodec()]
    if nested:
        inner = [ShardingCodec(chunk_shape=(8, 8), codecs=inner)]
    index = [BytesCodec(), *([Crc32cCodec()] if checked else [])]
    array = zarr.create(
        store=path,
        shape=SHAPE,
        chunk_shape=(64, 64),
        dtype="u1",
        zarr_format=3,
        fill_value=0,
        codecs=[
            ShardingCodec(
                chunk_shape=CHUNK, codecs=inner, index_codecs=index, index_location=location
            )
        ],
    )
    array[...] = labels()
    return path / "c/0/0"


def entry(file: Path, location: str, checked: bool, number: int) -> tuple[int, int, int]:
    """Where an entry of the index is, and what it says."""
    size = 4 * 16 + 4 * checked
    at = (0 if location == "start" else file.stat().st_size - size) + 16 * number
    return at, *struct.unpack_from("<QQ", file.read_bytes(), at)


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize(("offset", "length"), [(2**63, 10), (2**64 - 2, 4), (10, 2**40), (0, 0)])
def test_index__that_points_anywhere_fails_that_chunk_only(
    tmp_path: Path, location: str, offset: int, length: int
) -> None:
    path = tmp_path / "labels.zarr"
    file = write_shards(path, location, checked=False)
    at, _, _ = entry(file, location, False, 1)
    stored = bytearray(file.read_bytes())
    struct.pack_into("<QQ", stored, at, offset, length)
    file.write_bytes(bytes(stored))
    check_failure(path, "c/0/0")


@pytest.mark.parametrize("location", ["start", "end"])
def test_index__with_a_wrong_checksum_fails_the_shard(tmp_path: Path, location: str) -> None:
    path = tmp_path / "labels.zarr"
    file = write_shards(path, location, checked=True)
    at, _, _ = entry(file, location, True, 1)
    stored = bytearray(file.read_bytes())
    stored[at] ^= 1
    file.write_bytes(bytes(stored))
    with pytest.raises(ReadError, match=r"c/0/0.*index.*checksum"):
        fc.count(path)
    assert fc.count(path, on_error="record").ledger.failed == 64 * 64


@pytest.mark.parametrize("nested", [False, True])
def test_shard__with_a_damaged_chunk_fails_that_chunk_only(tmp_path: Path, nested: bool) -> None:
    path = tmp_path / "labels.zarr"
    file = write_shards(path, "end", checked=True, nested=nested)
    _, offset, _ = entry(file, "end", True, 1)
    stored = bytearray(file.read_bytes())
    stored[offset + 6] ^= 4
    file.write_bytes(bytes(stored))
    if not nested:
        assert "checksum" in check_failure(path, "c/0/0")
        return
    counts = fc.count(path, on_error="record")
    assert counts.ledger.failed == 8 * 8


@pytest.mark.parametrize("size", [0, 10, 70])
def test_shard__that_is_cut_short(tmp_path: Path, size: int) -> None:
    path = tmp_path / "labels.zarr"
    file = write_shards(path, "end", checked=True)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ReadError, match=r"labels.zarr.*c/0/0"):
        fc.count(path)
    assert fc.count(path, on_error="record").ledger.failed == 64 * 64


def test_shard__whose_key_is_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "labels.zarr"
    file = write_shards(path, "end", checked=True)
    file.unlink()
    file.mkdir()
    with pytest.raises(ReadError, match=r"labels.zarr.*c/0/0"):
        fc.count(path)


def test_gzip__of_z5py_that_is_none(real_data: Path) -> None:
    (path,) = real_data.glob("**/z5py.zr/gzip")
    with pytest.raises(ReadError, match="gzip"):
        fc.count(path)


def test_metadata__that_asks_for_a_storage_transformer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.zarr"
    zarr.create_array(path, shape=(4,), chunks=(4,), dtype="u1", compressors=None)[...] = 1
    document = json.loads((path / "zarr.json").read_text())
    document["storage_transformers"] = [{"name": "unknown", "configuration": {}}]
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(FastcountsError, match=r"labels\.zarr"):
        fc.count(path)


def test_blosc__with_a_header_longer_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.zarr"
    file = write_v2(path, COMPRESSORS["blosc"])
    stored = bytearray(file.read_bytes())
    struct.pack_into("<I", stored, 12, 2**31 - 1)
    file.write_bytes(bytes(stored))
    assert "blosc" in check_failure(path, "0.1")


def test_zlib__is_bounded_without_libdeflate() -> None:
    chain = chain_v2([], numcodecs.Zlib(), "C", (1024,), np.dtype("u1"))
    with pytest.raises(DecodeError, match="more than 1024"):
        chain.decode(zlib.compress(bytes(1 << 26)), memoryview(bytearray(1024)))
