"""Shards of any layout: the counts of zarr-python, chunk by chunk, in little memory."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
import zarr
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.storage import MemoryStore

import fastcounts as fc
from fastcounts.errors import MissingChunk
from fastcounts.sources import open_source
from fastcounts.sources.shards import Shards

SHAPE = (13, 20, 9)
SHARD = (8, 8, 8)
INNER = (4, 2, 4)
NESTED = (2, 2, 4)
FILL = 1
LONG_SECONDS = float(os.environ.get("FASTCOUNTS_LONG_SECONDS", "60"))


def numcodec(name: str, **options: Any) -> Any:
    """A codec of numcodecs, as an array of format 3 names it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are in no specification
        return getattr(zarr.codecs.numcodecs, name)(**options)


def chains() -> dict[str, tuple[str, list[Any]]]:
    """For each chain of inner chunks a type of elements, and its codecs."""
    little, big = BytesCodec(endian="little"), BytesCodec(endian="big")
    delta = numcodec("Delta", dtype="<u2")
    turned = TransposeCodec(order=(2, 0, 1))
    return {
        "bytes": ("u2", [little]),
        "big": ("i4", [big]),
        "blosc": ("u2", [turned, big, BloscCodec(cname="lz4", typesize=2)]),
        "zstd": ("u1", [TransposeCodec(order=(1, 0, 2)), turned, little, ZstdCodec()]),
        "gzip, checked": ("u2", [little, GzipCodec(), Crc32cCodec()]),
        "gzip over a checksum": ("u2", [little, Crc32cCodec(), GzipCodec()]),
        "gzip over a checksum over zstd": ("u2", [big, ZstdCodec(), Crc32cCodec(), GzipCodec()]),
        "blosc over zstd": ("u2", [little, ZstdCodec(), BloscCodec(cname="zstd")]),
        "zstd over gzip": ("u4", [little, GzipCodec(), ZstdCodec()]),
        "lz4 over a checksum over bz2": (
            "u2",
            [little, numcodec("BZ2"), Crc32cCodec(), numcodec("LZ4")],
        ),
        "shuffle": ("u4", [little, numcodec("Shuffle", elementsize=4), ZstdCodec()]),
        "shuffle over zstd": ("u2", [little, ZstdCodec(), numcodec("Shuffle", elementsize=1)]),
        "delta": ("u2", [delta, little, ZstdCodec()]),
        "delta, turned": ("u2", [turned, delta, little, GzipCodec(), ZstdCodec()]),
        "delta in bytes": ("u2", [numcodec("Delta", dtype="<u2", astype="<i4"), little]),
        "scale": (
            "u2",
            [
                numcodec("FixedScaleOffset", dtype="<u2", astype="u1", offset=1, scale=1),
                little,
                Crc32cCodec(),
            ],
        ),
        "type": (
            "i8",
            [numcodec("AsType", encode_dtype="<i2", decode_dtype="<i8"), little, numcodec("LZMA")],
        ),
        "zlib": ("bool", [little, numcodec("Zlib")]),
        "checksums": ("u2", [little, numcodec("CRC32"), numcodec("Adler32"), numcodec("CRC32C")]),
        "fletcher": ("u2", [little, ZstdCodec(), numcodec("Fletcher32")]),
    }


INDEXES: dict[str, list[Any]] = {
    "checked": [BytesCodec(), Crc32cCodec()],
    "bare": [BytesCodec()],
    "big": [BytesCodec(endian="big"), Crc32cCodec()],
    "turned": [TransposeCodec(order=(3, 1, 0, 2)), BytesCodec(), Crc32cCodec()],
    "twice": [BytesCodec(), Crc32cCodec(), Crc32cCodec()],
}
BEFORE: dict[str, list[Any]] = {
    "": [],
    "turned": [TransposeCodec(order=(2, 0, 1))],
    "turned twice": [TransposeCodec(order=(1, 2, 0)), TransposeCodec(order=(0, 2, 1))],
}
AFTER: dict[str, list[Any]] = {
    "": [],
    "gzip": [GzipCodec()],
    "checked zstd": [ZstdCodec(), Crc32cCodec()],
}
NESTINGS = ("", "nested", "nested, turned")


class Layout(NamedTuple):
    """How shards are stored, by the names of its parts."""

    chain: str
    index: str = "checked"
    location: str = "end"
    before: str = ""
    after: str = ""
    nesting: str = ""


def turned(shape: tuple[int, ...], codecs: list[Any]) -> tuple[int, ...]:
    """The shape behind some transpositions."""
    for codec in codecs:
        shape = tuple(shape[axis] for axis in codec.order)
    return shape


def written(layout: Layout) -> tuple[MemoryStore, np.ndarray, np.ndarray]:
    """An array with missing shards and inner chunks; gives its pixels and which are missing."""
    dtype, inner = CHAINS[layout.chain]
    before = BEFORE[layout.before]
    kinds: dict[str, Any] = {
        "index_codecs": INDEXES[layout.index],
        "index_location": layout.location,
    }
    chunk = INNER
    if layout.nesting:
        between = [TransposeCodec(order=(1, 2, 0))] if "turned" in layout.nesting else []
        shape = turned(turned(NESTED, before), between)
        inner = [*between, ShardingCodec(chunk_shape=shape, codecs=inner, **kinds)]
        chunk = NESTED
    codec = ShardingCodec(chunk_shape=turned(INNER, before), codecs=inner, **kinds)
    pixels = (np.arange(np.prod(SHAPE)).reshape(SHAPE) // 3 % 250 + 1).astype(dtype)
    random = Random(str(layout))
    missing = np.zeros(SHAPE, bool)
    for corner in product(*(range(0, n, m) for n, m in zip(SHAPE, SHARD, strict=True))):
        if random.random() < 0.2:
            missing[box(corner, SHARD)] = True
    for corner in product(*(range(0, n, m) for n, m in zip(SHAPE, chunk, strict=True))):
        if random.random() < 0.3:
            missing[box(corner, chunk)] = True
    pixels[missing] = FILL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python advises against what it can write
        array = zarr.create(
            store=(store := MemoryStore()),
            shape=SHAPE,
            chunks=SHARD,
            dtype=dtype,
            zarr_format=3,
            fill_value=FILL,
            codecs=[*before, codec, *AFTER[layout.after]],
            config={"write_empty_chunks": False},
        )
        array[...] = pixels
        assert (array[...] == pixels).all()
    for corner in product(*(range(0, n, m) for n, m in zip(SHAPE, chunk, strict=True))):
        part = box(corner, chunk)  # zarr drops chunks of nothing but fill, also where we wrote
        missing[part] = (pixels[part] == FILL).all()
    return store, pixels, missing


def box(corner: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(n, n + m) for n, m in zip(corner, shape, strict=True))


def said(counts: fc.Counts) -> dict[int, int]:
    return dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))


def truth(pixels: np.ndarray) -> dict[int, int]:
    found, numbers = np.unique(pixels, return_counts=True)
    return {int(label): int(number) for label, number in zip(found, numbers, strict=True)}


REGIONS = (
    None,
    (slice(1, 11), slice(3, 17), slice(2, 9)),
    (slice(5, 6), slice(9, 10), slice(8, 9)),
)


def check(layout: Layout, folder: Path | None = None, *, quick: bool = True) -> None:
    """Count an array of a layout in every way, and compare with what zarr-python reads."""
    store, pixels, missing = written(layout)
    target: Any = store
    if folder is not None:
        for key, value in store._store_dict.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(value.to_bytes())
        target = folder
    source = open_source(target)
    assert isinstance(source._arrays[0].chunks, Shards)
    for region in REGIONS[:2] if quick else REGIONS:
        part = ... if region is None else region
        plain = fc.count(target, region=region, workers=1)
        assert said(plain) == truth(pixels[part])
        assert plain.ledger.filled == np.count_nonzero(missing[part])
        separate = fc.count(target, region=region, missing="separate", workers=1)
        assert said(separate) == truth(pixels[part][~missing[part]])
        assert separate.ledger.missing == np.count_nonzero(missing[part])
        small = fc.count(target, region=region, items=1, memory="5MB", workers=1)
        assert said(small) == truth(pixels[part])
        if missing[part].any():
            with pytest.raises(MissingChunk):
                fc.count(target, region=region, missing="raise", workers=1)
        else:
            assert said(fc.count(target, region=region, missing="raise")) == truth(pixels[part])


CHAINS = chains()


def some() -> Iterator[Layout]:
    """Every part with several chains, every chain with several parts, and a sample of all."""
    random = Random(16)
    for chain in CHAINS:
        yield Layout(chain, location=random.choice(["start", "end"]))
        yield Layout(chain, before="turned", nesting=random.choice(NESTINGS))
        yield Layout(chain, after=random.choice(["gzip", "checked zstd"]))
    for index, location in product(INDEXES, ("start", "end")):
        yield Layout("bytes", index, location)
    for before, after in product(BEFORE, AFTER):
        yield Layout("zstd", "checked", "end", before, after, random.choice(NESTINGS))
    yield from random.sample(list(everything()), 10)


def everything() -> Iterator[Layout]:
    for parts in product(CHAINS, INDEXES, ("start", "end"), BEFORE, AFTER, NESTINGS):
        yield Layout(*parts)


@pytest.mark.parametrize("chain", CHAINS)
def test_layout__is_counted_chunk_by_chunk(chain: str) -> None:
    layouts = [layout for layout in dict.fromkeys(some()) if layout.chain == chain]
    assert len(layouts) >= 3
    for layout in layouts:
        check(layout)


@pytest.mark.parametrize("chain", ["bytes", "zstd over gzip", "delta"])
def test_layout__in_a_folder(chain: str, tmp_path: Path) -> None:
    check(Layout(chain, before="turned", nesting="nested"), tmp_path / "nested.zarr")
    check(Layout(chain, after="gzip"), tmp_path / "around.zarr")


@pytest.mark.long
@pytest.mark.parametrize("chain", CHAINS)
def test_layout__all_of_them(chain: str) -> None:
    """Check the 5,400 layouts in random order, as many as FASTCOUNTS_LONG_SECONDS allow."""
    layouts = [layout for layout in everything() if layout.chain == chain]
    Random(time.time_ns()).shuffle(layouts)
    end = time.monotonic() + LONG_SECONDS / len(CHAINS)
    for number, layout in enumerate(layouts):
        if number >= 10 and time.monotonic() > end:
            break
        check(layout, quick=False)
