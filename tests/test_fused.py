"""Chunks read and decoded without zarr-python: the same answer as through it, and right."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from reference import tally
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

import fastcounts as fc
from fastcounts import plan as plan_module
from fastcounts.errors import MissingChunk
from fastcounts.plan import make_plan
from fastcounts.sources import chunks as chunks_module
from fastcounts.sources import decoding as decoding_module
from fastcounts.sources import keys as keys_module
from fastcounts.sources import open_source

DTYPES = ("|b1", "|u1", "|i1", "<u2", ">i2", "<i4", ">u4", "<i8", ">u8", "<f4", ">f8", "<f2")


class Made(NamedTuple):
    """An array that was written, and what is in it."""

    path: Path
    array: Any


def fills(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind == "f":
        return st.sampled_from([0.0, 7.0, float("nan")])
    return st.sampled_from([0, 3, 100])


def bytes_codecs(dtype: np.dtype[Any]) -> st.SearchStrategy[list[Any]]:
    """Codecs from bytes to bytes of a v3 array."""
    size = dtype.itemsize
    blosc = st.builds(
        BloscCodec,
        typesize=st.sampled_from([size, size, 1, 4]),
        cname=st.sampled_from(["lz4", "zstd", "blosclz", "lz4hc", "zlib"]),
        clevel=st.sampled_from([0, 1, 5]),
        shuffle=st.sampled_from(["noshuffle", "shuffle", "bitshuffle"]),
        blocksize=st.sampled_from([0, 0, 64]),
    )
    zstd = st.builds(ZstdCodec, level=st.sampled_from([0, 3]), checksum=st.booleans())
    one = st.one_of(blosc, zstd, st.just(GzipCodec(level=5)))
    check = st.sampled_from([[], [], [Crc32cCodec()]])
    return st.builds(
        lambda first, middle, last: [*first, *middle, *last],
        check,
        st.one_of(st.just([]), one.map(lambda codec: [codec])),
        check,
    )


@st.composite
def inner_codecs(draw: st.DrawFn, dtype: np.dtype[Any], rank: int) -> list[Any]:
    codecs = [
        TransposeCodec(order=tuple(draw(st.permutations(range(rank)))))
        for _ in range(draw(st.sampled_from([0, 0, 1, 2])))
    ]
    endian = draw(st.sampled_from(["little", "big"])) if dtype.itemsize > 1 else None
    return [*codecs, BytesCodec(endian=endian), *draw(bytes_codecs(dtype))]


@st.composite
def v3_arrays(draw: st.DrawFn, root: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    from zarr.core.metadata.v3 import ArrayV3Metadata

    dtype = dtype.newbyteorder("=")
    rank = len(shape)
    chunk = tuple(draw(st.integers(1, 5)) for _ in shape)
    codecs = draw(inner_codecs(dtype, rank))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2])) if rank else 0):
        codecs = [
            ShardingCodec(
                chunk_shape=chunk,
                codecs=codecs,
                index_codecs=[
                    BytesCodec(endian=draw(st.sampled_from(["little", "big"]))),
                    *draw(st.sampled_from([[Crc32cCodec()], []])),
                ],
                index_location=draw(st.sampled_from(["start", "end"])),
            )
        ]
        chunk = tuple(n * draw(st.integers(1, 3)) for n in chunk)
    fill = draw(fills(dtype))
    template = zarr.create_array(
        {}, shape=shape, dtype=dtype, chunks=(1,) * rank, fill_value=fill, zarr_format=3
    ).metadata.to_dict()
    encoding = draw(st.sampled_from([("default", "/"), ("default", "."), ("v2", ".")]))
    document = {
        **template,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": encoding[0], "configuration": {"separator": encoding[1]}},
        "codecs": [codec.to_dict() for codec in codecs],
    }
    import json

    text = json.dumps(ArrayV3Metadata.from_dict(document).to_dict(), default=str)
    root.mkdir()
    (root / "zarr.json").write_text(text)
    return zarr.open_array(root, mode="r+")


COMPRESSORS = (
    None,
    numcodecs.Zstd(level=0),
    numcodecs.LZ4(),
    numcodecs.Blosc("lz4", shuffle=2),
    numcodecs.Blosc("zstd", shuffle=1),
    numcodecs.Blosc("blosclz", shuffle=0),
    numcodecs.Zlib(1),
    numcodecs.GZip(1),
    numcodecs.BZ2(1),
    numcodecs.LZMA(),
    numcodecs.LZMA(format=3, filters=[{"id": 33}]),
)


def v2_filters(dtype: np.dtype[Any]) -> list[list[Any]]:
    found: list[list[Any]] = [[], [], [], [numcodecs.Shuffle(dtype.itemsize)], [numcodecs.CRC32()]]
    if dtype.kind == "b":
        found.append([numcodecs.PackBits()])
    if dtype.kind in "iu" and dtype.itemsize > 1:
        found += [
            [numcodecs.Delta(dtype.str)],
            [numcodecs.Delta(dtype.str), numcodecs.Fletcher32()],
            [numcodecs.FixedScaleOffset(0, 1, dtype.str, "<i2")],
            [numcodecs.AsType("<i2", dtype.str), numcodecs.Shuffle(2)],
        ]
    return found


@st.composite
def v2_arrays(draw: st.DrawFn, root: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    rank = len(shape)
    return zarr.create_array(
        root,
        shape=shape,
        dtype=dtype,
        chunks=tuple(draw(st.integers(1, 5)) for _ in range(rank)),
        fill_value=draw(fills(dtype)),
        zarr_format=2,
        order=draw(st.sampled_from("CF")),
        filters=draw(st.sampled_from(v2_filters(dtype))),
        compressors=draw(st.sampled_from(COMPRESSORS)),
        chunk_key_encoding={"name": "v2", "separator": draw(st.sampled_from("./"))},
    )


@st.composite
def written(draw: st.DrawFn, root: Path) -> Made:
    """An array, some of whose chunks exist."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(1, 9), max_size=3)))
    make = draw(st.sampled_from([v2_arrays, v3_arrays, v3_arrays]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = draw(make(root, dtype, shape))
        seed = draw(st.integers(0, 2**16))
        labels = np.random.default_rng(seed).integers(0, draw(st.sampled_from([1, 4, 100])), shape)
        pixels = labels.astype(array.dtype)
        if pixels.dtype.kind == "f" and draw(st.booleans()):
            pixels = np.where(labels == 1, np.nan, pixels)
        bounds = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in shape]
        cut = tuple(slice(*pair) for pair in bounds) if draw(st.booleans()) else ...
        array[cut] = pixels[cut]
    return Made(root, array)


def regions(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    def bounds(length: int) -> st.SearchStrategy[slice]:
        return st.tuples(st.integers(0, length), st.integers(0, length)).map(
            lambda pair: slice(min(pair), max(pair))
        )

    return st.none() | st.tuples(*[bounds(length) for length in shape])


@contextlib.contextmanager
def slow_decoders(slow: bool) -> Iterator[None]:
    """Have chunks decoded in Python, as where the C functions are not to be had."""
    if not slow:
        yield
        return
    with (
        mock.patch.object(decoding_module, "has_native", return_value=False),
        mock.patch.object(chunks_module, "file_functions", return_value=None),
    ):
        yield


@given(st.data())
def test_fused__is_what_zarr_and_numpy_say(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = data.draw(written(Path(folder) / "labels.zarr"))
        source = open_source(made.path)
        assert source._arrays[0].chunks is not None
        region = data.draw(regions(made.array.shape))
        items = data.draw(st.sampled_from(["auto", *range(made.array.ndim)]))
        classes = data.draw(st.sampled_from([None, 3]))
        pixels = np.asarray(made.array[...] if region is None else made.array[region])
        expected, nodata = tally(pixels)
        with slow_decoders(data.draw(st.booleans())):
            counts = fc.count(
                made.path, region=region, items=items, classes=classes, workers=1, keep_items=True
            )
        found = dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))
        found |= {label: one.pixels for label, one in counts.ledger.unexpected.items()}
        assert {label: number for label, number in found.items() if number} == expected
        assert counts.ledger.nodata == nodata
        for label, one in counts.ledger.unexpected.items():
            assert one.places
            for _, _, at in one.places:
                assert made.array[at] == label
        if isinstance(items, int) and classes is None and pixels.size:
            assert counts.items == pixels.shape[items]


@given(st.data())
def test_fused__chunks_that_do_not_exist_are_those_without_a_file(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = data.draw(written(Path(folder) / "labels.zarr"))
        array = made.array
        counts = fc.count(made.path, missing="separate", workers=2)
        if array.shards is None:
            absent = 0
            for corner in np.ndindex(
                *(-(-n // m) for n, m in zip(array.shape, array.chunks, strict=True))
            ):
                if not (made.path / array.metadata.encode_chunk_key(corner)).exists():
                    at = tuple(
                        slice(n * m, (n + 1) * m) for n, m in zip(corner, array.chunks, strict=True)
                    )
                    absent += np.asarray(array[at]).size
            assert counts.ledger.missing == absent
        filled = fc.count(made.path, workers=2)
        assert counts.ledger.missing == filled.ledger.filled or filled.ledger.nodata


@pytest.mark.parametrize("what", ["read", "decoded"])
def test_fused__other_codecs_go_through_zarr_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    serializer: Any = BytesCodec()
    if what == "read":
        serializer = ShardingCodec(chunk_shape=(2, 2))
    compressors = [ZstdCodec()] if what == "decoded" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        filters = [zarr.codecs.numcodecs.AsType(encode_dtype="|u1", decode_dtype="|u1")]
        array = zarr.create_array(
            tmp_path / "labels.zarr",
            shape=(9, 9),
            chunks=(4, 4),
            dtype="u1",
            filters=filters,
            serializer=serializer,
            compressors=compressors,
        )
        array[...] = 5
    with caplog.at_level("INFO", "fastcounts"):
        counts = fc.count(tmp_path / "labels.zarr")
    assert counts.pixels.tolist() == [81]
    (record,) = caplog.records
    assert f"{what} through zarr-python" in record.getMessage()
    assert "labels.zarr" in record.getMessage()


@pytest.mark.parametrize("codec", ["zstd", "lz4", "blosc", "gzip", "zlib"])
def test_native__decoders_are_found_here(codec: str) -> None:
    if codec in ("gzip", "zlib"):
        pytest.importorskip("deflate")
    assert decoding_module.has_native(codec)


@given(st.data())
def test_listing__changes_nothing(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = data.draw(written(Path(folder) / "labels.zarr"))
        options: dict[str, Any] = {
            "region": data.draw(regions(made.array.shape)),
            "items": data.draw(st.sampled_from(["auto", *range(made.array.ndim)])),
            "missing": data.draw(st.sampled_from(["fill", "separate"])),
            "classes": data.draw(st.sampled_from([None, 3])),
            "ignore": data.draw(st.sampled_from([None, 0, 100])),
            "workers": data.draw(st.sampled_from([1, 2])),
            "keep_items": True,
        }
        expected = fc.count(made.path, **options)
        with (
            mock.patch.object(keys_module, "LEAST_CHUNKS", 1),
            mock.patch.object(plan_module, "HOLE_UNITS", data.draw(st.sampled_from([1, 3, 1000]))),
        ):
            found = fc.count(made.path, **options)
        assert found == expected
        assert found.ledger == expected.ledger
        for label, one in found.ledger.unexpected.items():
            assert one.places == expected.ledger.unexpected[label].places


def test_listing__of_a_missing_chunk_still_stops(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(9, 9), chunks=(3, 3), dtype="u1")
    array[:3] = 5
    with (
        mock.patch.object(keys_module, "LEAST_CHUNKS", 1),
        pytest.raises(MissingChunk, match="c/1/0"),
    ):
        fc.count(tmp_path / "a.zarr", missing="raise")


def test_listing__is_left_where_most_chunks_exist(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(40, 40), chunks=(1, 1), dtype="u1")
    array[...] = 5
    source = open_source(tmp_path / "a.zarr")
    grid = make_plan(source.arrays).grids[0]
    assert source.present(0, grid, 0, grid.size) is None
    shutil.rmtree(tmp_path / "a.zarr/c/7")
    for row in range(10, 40):
        shutil.rmtree(tmp_path / f"a.zarr/c/{row}")
    found = open_source(tmp_path / "a.zarr").present(0, grid, 0, grid.size)
    assert found is not None
    assert found.tolist() == [n for n in range(400) if n // 40 != 7]
    assert fc.count(tmp_path / "a.zarr", missing="separate").ledger.missing == 31 * 40
