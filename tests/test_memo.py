"""Chunks counted without their pixels: the same bytes again, and shuffled ones."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any
from unittest import mock

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import tally
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

import fastcounts as fc
from fastcounts.errors import NonIntegralLabel
from fastcounts.kernels import planes
from fastcounts.sources import memo as memo_module
from fastcounts.sources.memo import Memo


def counted(path: Any, **options: Any) -> dict[int, int]:
    counts = fc.count(path, **options)
    return dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))


def met(counts: fc.Counts) -> dict[str, int]:
    found: dict[str, int] = counts.provenance["runs"][0]["chunks"]
    return found


def background(shape: tuple[int, ...] = (40, 64, 64)) -> np.ndarray:
    """Masks of which every tenth has something in it."""
    pixels = np.full(shape, 3, np.int32)
    for number in range(0, shape[0], 10):
        pixels[number] = np.add.outer(np.arange(shape[1]), np.arange(shape[2])) // 9 + number
    return pixels


# ---- the same bytes again ----


@pytest.mark.parametrize(
    "codecs",
    [[ZstdCodec()], [BloscCodec(shuffle="bitshuffle", typesize=4)], [ZstdCodec(), Crc32cCodec()]],
)
@pytest.mark.parametrize("items", ["auto", 0, 1])
def test_memo__counts_what_repeats_once(tmp_path: Path, codecs: Any, items: Any) -> None:
    pixels = background()
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=pixels.shape, chunks=(1, 32, 32), dtype="i4", compressors=codecs
    )
    array[...] = pixels
    expected, _ = tally(pixels)
    counts = fc.count(tmp_path / "a.zarr", workers=1, items=items, keep_items=True)
    assert dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True)) == expected
    if items != 1:
        found = met(counts)
        assert found["read"] + found["repeated"] == 160
        assert found["repeated"] > 140
    if items == 0:
        table = counts.item_table
        assert table is not None
        assert counts.items == 40


def test_memo__of_shards(tmp_path: Path) -> None:
    pixels = background()
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=pixels.shape, chunks=(1, 16, 32), shards=(4, 64, 64), dtype="i4"
    )
    array[...] = pixels
    assert counted(tmp_path / "a.zarr", workers=1) == tally(pixels)[0]
    assert met(fc.count(tmp_path / "a.zarr", workers=1))["repeated"] > 250


def test_memo__finds_places_of_labels_that_repeat(tmp_path: Path) -> None:
    pixels = background()
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=pixels.shape, chunks=(1, 32, 32), dtype="i4"
    )
    array[...] = pixels
    counts = fc.count(tmp_path / "a.zarr", workers=1, classes=3, items=0)
    flat = np.argwhere(pixels == 3)[:3]
    assert [at for _, _, at in counts.ledger.unexpected[3].places] == [tuple(at) for at in flat]


def test_memo__crops_are_not_taken_for_whole_chunks(tmp_path: Path) -> None:
    pixels = np.full((50, 50), 7, np.uint8)
    array = zarr.create_array(tmp_path / "a.zarr", shape=(50, 50), chunks=(8, 8), dtype="u1")
    array[...] = pixels
    assert counted(tmp_path / "a.zarr", workers=1) == {7: 2500}
    assert counted(tmp_path / "a.zarr", workers=1, region=(slice(3, 47), slice(1, 50))) == {
        7: 44 * 49
    }


def test_memo__counts_nan_again(tmp_path: Path) -> None:
    pixels = np.full((64, 64), 2.0, np.float32)
    pixels[:, 5] = np.nan
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(64, 64), chunks=(8, 64), dtype="f4", fill_value=0
    )
    array[...] = pixels
    counts = fc.count(tmp_path / "a.zarr", workers=1)
    assert counts.pixels.tolist() == [63 * 64]
    assert counts.ledger.nodata == 64
    assert met(counts)["repeated"] == 6


def test_memo__a_fraction_that_repeats_is_placed_the_first_time(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(64, 64), chunks=(8, 64), dtype="f4", fill_value=0
    )
    array[...] = 0.5
    with pytest.raises(NonIntegralLabel, match=r"\(0, 0\)"):
        fc.count(tmp_path / "a.zarr", workers=1)


def test_memo__of_gzip_does_not_look_at_the_time_of_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    array = zarr.create_array(
        path, shape=(20, 4096), chunks=(1, 4096), dtype="u1", compressors=GzipCodec(level=5)
    )
    array[...] = 7
    for place in range(20):
        (path / f"c/{place}/0").write_bytes(gzip.compress(b"\7" * 4096, 5, mtime=place))
    counts = fc.count(path, workers=1)
    assert (counts.pixels.tolist(), met(counts)["repeated"]) == ([20 * 4096], 18)
    odd = bytearray((path / "c/9/0").read_bytes())
    odd[3] = 8  # a name is said to follow, so that all that follows means something else
    (path / "c/9/0").write_bytes(bytes(odd))
    counts = fc.count(path, workers=1, on_error="record")
    assert (counts.pixels.tolist(), counts.ledger.failed) == ([19 * 4096], 4096)


def test_memo__same_length_and_sample_are_not_enough() -> None:
    memo = Memo()
    first, second = b"a" + b"x" * 40, b"b" + b"x" * 40
    assert memo.look(first) is None
    assert memo.look(second) is None
    entry = memo.look(first)
    assert entry is not None
    assert entry.content == first


def test_memo__gives_up_where_nothing_repeats_and_stays_small() -> None:
    memo = Memo()
    for number in range(2000):
        memo.look(number.to_bytes(4, "little") * 1000)
        if not memo.is_open:
            break
    assert number == memo_module._TRIAL - 1
    busy = Memo()
    for number in range(20_000):
        busy.look(b"the same again")
        busy.look(number.to_bytes(4, "little") * 1000)
    assert busy.is_open
    assert busy._bytes <= memo_module._MOST_BYTES
    assert len(busy._entries) <= memo_module._MOST_ENTRIES


# ---- each chunk in an item of its own ----


@settings(max_examples=60)
@given(st.data())
def test_apart__every_chunk_is_an_image(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("apart") / "a.zarr"
    images, across = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 2))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    pixels = np.repeat(rng.integers(0, 6, (images, 16, across)), 16, 2).astype(np.uint8)
    pixels[rng.random(images) < 0.6] = 0
    codec = data.draw(st.sampled_from([None, numcodecs.Zstd(), numcodecs.LZ4(), numcodecs.GZip()]))
    array = zarr.create_array(
        path,
        shape=pixels.shape,
        chunks=(1, 16, 16),
        dtype="u1",
        zarr_format=2,
        compressors=codec,
        filters=None,
        fill_value=2,
        config={"write_empty_chunks": True},
    )
    array[...] = pixels
    lost, broken = rng.random((2, images)) < 0.1
    broken &= ~lost
    for image in np.flatnonzero(lost).tolist():
        (path / f"{image}.0.0").unlink()
    for image in np.flatnonzero(broken).tolist():
        (path / f"{image}.0.0").write_bytes(b"x")
    pixels[lost, :, :16] = 2
    seen = np.ones(pixels.shape, bool)
    seen[broken, :, :16] = False
    options: Any = {
        "classes": data.draw(st.sampled_from([None, 3, {0: "a", 1: "b", 2: "a", 5: "c"}])),
        "ignore": 4,
        "items": 0,
        "keep_items": True,
    }
    workers = data.draw(st.integers(1, 2))
    counts = fc.count(path, on_error="record", workers=workers, **options)
    expected = fc.count(np.ma.masked_array(pixels, ~seen), **options)
    for column in ("labels", "pixels", "presence", "presence_pixels", "presence_pixels_total"):
        assert getattr(counts, column).tolist() == getattr(expected, column).tolist()
    assert counts.items == images
    assert counts.ledger.failed == (~seen).sum()
    assert counts.item_table is not None
    assert expected.item_table is not None
    assert counts.item_table.pixels.tolist() == expected.item_table.pixels.tolist()
    assert counts.ledger.ignored == expected.ledger.ignored
    for label, found in counts.ledger.unexpected.items():
        where = np.argwhere((pixels == label) & seen)
        assert found.pixels == len(where)
        assert [at for _, _, at in found.places] == [tuple(at) for at in where[:3]]


# ---- shuffled ----


@st.composite
def labels(draw: st.DrawFn, dtype: np.dtype[Any], size: int) -> np.ndarray:
    few = draw(st.sampled_from([1, 2, 3, 9, 33, 100, 256]))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    run = draw(st.sampled_from([1, 7, 50]))
    found = np.repeat(rng.integers(0, few, size // run + 1), run)[:size]
    if dtype.kind == "i" and draw(st.booleans()):
        found = found - draw(st.sampled_from([1, 5]))
    if dtype.itemsize > 1 and draw(st.sampled_from([False, False, True])):
        found[draw(st.integers(0, size - 1))] = 300
    return found.astype(dtype)


@settings(max_examples=150)
@given(st.data())
def test_shuffled__chunks_are_counted_as_if_they_were_not(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shuffled")
    dtype = np.dtype(
        data.draw(st.sampled_from(["|u1", "|u1", "|i1", "|b1", "<u2", ">u2", "<i4", "<u8", "<f4"]))
    )
    chunk = data.draw(st.sampled_from([8, 64, 100, 512, 1000, 4096, 5000, 20000]))
    count = data.draw(st.integers(1, 5))
    size = chunk * count - data.draw(st.integers(0, chunk - 1))
    pixels = data.draw(labels(dtype, size))
    codec = numcodecs.Blosc(
        data.draw(st.sampled_from(["lz4", "zstd", "blosclz", "lz4hc", "zlib"])),
        data.draw(st.sampled_from([0, 1, 5, 9])),
        data.draw(st.sampled_from([1, 2, 2, 2])),
        data.draw(st.sampled_from([0, 0, 256, 1000, 4096])),
    )
    array = zarr.create_array(
        folder / "a.zarr",
        shape=(size,),
        chunks=(chunk,),
        dtype=dtype,
        zarr_format=2,
        compressors=codec,
        filters=None,
    )
    array[...] = pixels
    assert counted(folder / "a.zarr", workers=1) == tally(pixels)[0]


@pytest.mark.parametrize(
    ("dtype", "shuffle"),
    [("u1", "bitshuffle"), ("i4", "shuffle"), ("u2", "bitshuffle"), ("b1", "bitshuffle")],
)
def test_shuffled__natural_chunks_do_take_the_short_way(
    tmp_path: Path, dtype: str, shuffle: str
) -> None:
    grid = np.add.outer(np.arange(256), np.arange(256)) // 40
    pixels = (grid % 2 if dtype == "b1" else grid).astype(dtype)
    width = pixels.dtype.itemsize
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(256, 256),
        chunks=(128, 128),
        dtype=dtype,
        compressors=BloscCodec(cname="lz4", shuffle=shuffle, typesize=width),
    )
    array[...] = pixels
    done = []
    name, good = ("count_blosc_planes", 9) if shuffle == "bitshuffle" else ("count_low_bytes", 6)
    plain = getattr(planes, name)

    def watched(*arguments: Any) -> Any:
        plain(*arguments)
        done.extend(arguments[good].tolist())

    with mock.patch.object(planes, name, watched):
        assert counted(tmp_path / "a.zarr", workers=1) == tally(pixels)[0]
    assert len(done) == 4
    assert all(done)


@pytest.mark.parametrize("size", [40_000, 65_536, 70_001])
@pytest.mark.parametrize("dtype", ["<i4", "<u8", "<u2"])
@pytest.mark.parametrize("place", [0, 30_000, -1])
@pytest.mark.parametrize("large", [7, 256, 2**15])
def test_shuffled__one_large_label_among_small_ones(
    tmp_path: Path, dtype: str, size: int, place: int, large: int
) -> None:
    """The higher bytes are looked at, in split blocks and in what is left over behind them."""
    pixels = (np.arange(size) // 50 % 11).astype(dtype)
    pixels[place] = large
    codec = numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE, 16384)
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(size,),
        chunks=(size,),
        dtype=dtype,
        zarr_format=2,
        compressors=codec,
        filters=None,
    )
    array[...] = pixels
    assert counted(tmp_path / "a.zarr", workers=1) == tally(pixels)[0]


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<i4", "<u8"])
def test_shuffled__twice_by_the_flags_is_what_blosc_makes_of_it(tmp_path: Path, dtype: str) -> None:
    pixels = (np.arange(4096) // 300).astype(dtype)
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=pixels.shape,
        chunks=pixels.shape,
        dtype=dtype,
        zarr_format=2,
        compressors=numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
        filters=None,
    )
    array[...] = pixels
    file = tmp_path / "a.zarr/0"
    stored = bytearray(file.read_bytes())
    stored[2] |= 5
    file.write_bytes(bytes(stored))
    assert counted(tmp_path / "a.zarr", workers=1) == tally(np.asarray(array[...]))[0]


def test_shuffled__chunks_are_checked_before_they_are_counted(tmp_path: Path) -> None:
    array = zarr.create(
        store=tmp_path / "a.zarr",
        shape=(4096,),
        chunk_shape=(1024,),
        dtype="u1",
        zarr_format=3,
        codecs=[BytesCodec(), BloscCodec(shuffle="bitshuffle", typesize=1), Crc32cCodec()],
    )
    array[...] = np.arange(4096) // 100 + 1
    assert sum(counted(tmp_path / "a.zarr").values()) == 4096
    file = tmp_path / "a.zarr/c/1"
    stored = bytearray(file.read_bytes())
    stored[-1] ^= 1
    file.write_bytes(bytes(stored))
    assert fc.count(tmp_path / "a.zarr", on_error="record").ledger.failed == 1024
