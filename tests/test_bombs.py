"""Chunks that decode to more than they should, behind codecs whose sizes nothing announces."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

import fastcounts as fc
from fastcounts.errors import ReadError
from fastcounts.sources.codecs import DecodeError, chain_v2

BOMB = 256 << 20
SHAPE, CHUNK = (64, 64), (32, 32)
PIXELS = np.ones(SHAPE, np.uint8)


def numcodec(name: str, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are in no specification
        return getattr(zarr.codecs.numcodecs, name)(**options)


def bomb(*codecs: numcodecs.abc.Codec) -> bytes:
    """Zeros behind some compressors, the last of which is undone first."""
    content: Any = np.zeros(BOMB, np.uint8)
    for codec in codecs:
        content = np.frombuffer(bytes(codec.encode(content)), np.uint8)
    return bytes(content)


def zstd_without_size() -> bytes:
    """A frame of blocks that repeat one byte, which does not say how many come out of it."""
    block = ((128 << 10) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (1 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    return struct.pack("<IBB", 0xFD2FB528, 0, 0x58) + block * (BOMB >> 17) + last


ZSTD, GZIP, LZ4 = numcodecs.Zstd(), numcodecs.GZip(1), numcodecs.LZ4()
BLOSC = numcodecs.Blosc("zstd")
V3: dict[str, tuple[dict[str, Any], bytes]] = {
    "gzip over zstd": ({"compressors": [ZstdCodec(), GzipCodec()]}, bomb(GZIP)),
    "zstd over gzip": ({"compressors": [GzipCodec(), ZstdCodec()]}, bomb(ZSTD)),
    "zstd of unknown size": ({"compressors": [GzipCodec(), ZstdCodec()]}, zstd_without_size()),
    "blosc over gzip": ({"compressors": [GzipCodec(), numcodec("Blosc")]}, bomb(BLOSC)),
    "lz4 over gzip": ({"compressors": [GzipCodec(), numcodec("LZ4")]}, bomb(LZ4)),
    "gzip over gzip": ({"compressors": [GzipCodec(), GzipCodec()]}, bomb(GZIP, GZIP)),
    "gzip behind a filter": (
        {"filters": [numcodec("Delta", dtype="|u1")], "compressors": GzipCodec()},
        bomb(GZIP),
    ),
    "bz2 over a checksum": (
        {"compressors": [ZstdCodec(), Crc32cCodec(), numcodec("BZ2")]},
        bomb(numcodecs.BZ2(1)),
    ),
}
V2: dict[str, tuple[dict[str, Any], bytes]] = {
    "gzip over base64": ({"filters": [numcodecs.Base64()], "compressors": GZIP}, bomb(GZIP)),
    "zstd over base64": ({"filters": [numcodecs.Base64()], "compressors": ZSTD}, bomb(ZSTD)),
    "blosc over zlib": ({"filters": [numcodecs.Zlib()], "compressors": BLOSC}, bomb(BLOSC)),
    "lz4 over base64": ({"filters": [numcodecs.Base64()], "compressors": LZ4}, bomb(LZ4)),
}


def refused(path: Path, key: str, failed: int) -> None:
    """Counting stops with an error that names the chunk, and takes little memory for it."""
    with pytest.raises(ReadError, match=key):
        fc.count(path, workers=1)
    tracemalloc.start()
    try:
        counts = fc.count(path, workers=1, on_error="record")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counts.ledger.failed == failed
    assert counts.pixels.tolist() == [PIXELS.size - failed]
    assert peak < 32 << 20


@pytest.mark.filterwarnings("ignore")  # zarr-python advises against codecs of numcodecs
@pytest.mark.parametrize("name", [*V3, *V2])
def test_bomb__behind_codecs_whose_sizes_nothing_announces(tmp_path: Path, name: str) -> None:
    options, content = V3.get(name) or V2[name]
    path = tmp_path / "labels.zarr"
    version = 3 if name in V3 else 2
    array = zarr.create_array(
        path, shape=SHAPE, chunks=CHUNK, dtype="u1", zarr_format=version, **options
    )
    array[...] = PIXELS
    assert fc.count(path).pixels.tolist() == [PIXELS.size]
    key = "c/0/1" if version == 3 else "0.1"
    (path / key).write_bytes(content)
    refused(path, key, 32 * 32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["around", "within"])
def test_bomb__of_a_shard(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "labels.zarr"
    inner = [BytesCodec(), ZstdCodec(), GzipCodec()]
    shards = ShardingCodec(chunk_shape=(16, 16), codecs=inner if kind == "within" else inner[:1])
    around = GzipCodec() if kind == "around" else None
    array = zarr.create_array(
        path, shape=SHAPE, chunks=CHUNK, dtype="u1", serializer=shards, compressors=around
    )
    array[...] = PIXELS
    file, content = path / "c/0/1", bomb(GZIP)
    if kind == "within":
        stored = bytearray(file.read_bytes())
        entries = np.frombuffer(stored[-68:-4], "<u8").reshape(4, 2).copy()
        entries[1] = 0, len(content)
        entries[[0, 2, 3]] += np.array([len(content), 0], np.uint64)
        content += bytes(stored[:-68]) + entries.tobytes()
        content += bytes(numcodecs.checksum32.CRC32C(location="end").encode(entries.tobytes()))[-4:]
    file.write_bytes(content)
    refused(path, "c/0/1", 16 * 16 if kind == "within" else 32 * 32)


def test_chain__accepts_what_another_compressor_made() -> None:
    content = bytes(range(200)) * 5
    chain = chain_v2([numcodecs.GZip()], numcodecs.Zstd(), "C", (1000,), np.dtype("u1"))
    out = memoryview(bytearray(1000))
    chain.decode(numcodecs.Zstd().encode(gzip.compress(content)), out)
    assert bytes(out) == content
    noise = np.random.default_rng(1).bytes(1000)  # which compressors make longer
    for outer in ("Zstd", "LZ4", "Blosc", "BZ2", "LZMA"):
        codec = getattr(numcodecs, outer)()
        chain = chain_v2([numcodecs.BZ2()], codec, "C", (1000,), np.dtype("u1"))
        chain.decode(bytes(codec.encode(numcodecs.BZ2().encode(noise))), out)
        assert bytes(out) == noise
        with pytest.raises(DecodeError):
            chain.decode(bytes(codec.encode(numcodecs.BZ2().encode(noise + b"more"))), out)
