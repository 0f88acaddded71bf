"""Which chunks exist in stores that can list: what is missing is not asked for."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from stores import Bucket, bucket_server
from zarr.codecs import BytesCodec, ShardingCodec
from zarr.storage import LoggingStore, MemoryStore, ZipStore

import fastcounts as fc
from fastcounts.grid import Grid
from fastcounts.plan import make_plan
from fastcounts.sources import open_source
from fastcounts.sources.listing import PAGE_KEYS, Listing, cheapest

ROWS, COLUMNS = 3, 1100
A_MISSING_ONE = 1  # is asked for, so that messages can name it
LAYOUTS: dict[str, dict[str, Any]] = {
    "v3 slash": {},
    "v3 dot": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "v2 dot": {"zarr_format": 2},
    "v2 slash": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "shards": {"serializer": ShardingCodec(chunk_shape=(1, 1), codecs=[BytesCodec()])},
}


def sparse(layout: str, present: set[tuple[int, int]]) -> tuple[MemoryStore, np.ndarray]:
    """An array of ROWS x COLUMNS chunks or shards of two pixels, of which some are stored."""
    options = LAYOUTS[layout] | {"compressors": None, "filters": None}
    store = MemoryStore()
    array = zarr.create_array(
        store, name="labels.zarr", shape=(ROWS, 2 * COLUMNS), chunks=(1, 2), dtype="u1", **options
    )
    pixels = np.zeros(array.shape, np.uint8)
    first = min(present)
    array[first[0], 2 * first[1] : 2 * first[1] + 2] = 7
    (key,) = (key for key in store._store_dict if key[-1].isdecimal())
    for row, column in present:
        name = array.metadata.encode_chunk_key((row, column))
        store._store_dict[f"labels.zarr/{name}"] = store._store_dict[key]
        pixels[row, 2 * column : 2 * column + 2] = 7
    return store, pixels


def files(store: MemoryStore) -> dict[str, bytes]:
    return {key: value.to_bytes() for key, value in store._store_dict.items()}


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with bucket_server() as bucket:
        yield bucket


@pytest.fixture
def bucket(server: Bucket) -> Bucket:
    server.reset()
    return server


quiet = pytest.mark.filterwarnings("ignore")  # boto3 and moto warn of their own


@quiet
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bucket__is_not_asked_for_chunks_that_it_does_not_list(bucket: Bucket, layout: str) -> None:
    present = {(0, 3), (1, 0), (1, 1099), (2, 17), (2, 1000)}
    store, pixels = sparse(layout, present)
    bucket.put({f"{layout}/{key}": value for key, value in files(store).items()})
    url = f"s3://masks/{layout}/labels.zarr"
    counts = fc.count(url, workers=2)
    assert dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True)) == {
        0: pixels.size - 10,
        7: 10,
    }
    assert counts.ledger.filled == pixels.size - 10
    assert len(set(bucket.chunks_asked())) == len(present) + A_MISSING_ONE
    assert 1 <= bucket.pages_asked() <= ROWS
    assert counts.provenance["runs"][0]["chunks"]["missing"] == ROWS * COLUMNS - len(present)
    bucket.asked.clear()
    assert fc.count(url, missing="separate").ledger.missing == pixels.size - 10
    assert len(set(bucket.chunks_asked())) == len(present) + A_MISSING_ONE


@quiet
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bucket__of_several_pages_is_listed_to_the_end(bucket: Bucket, layout: str) -> None:
    present = {(0, column) for column in range(COLUMNS)} | {(2, 5), (1, 1098)}
    store, _ = sparse(layout, present)
    bucket.put({f"pages {layout}/{key}": value for key, value in files(store).items()})
    url = f"s3://masks/pages {layout}/labels.zarr"
    source = open_source(url)
    bucket.asked.clear()
    grid = Grid((ROWS, 2 * COLUMNS), (1, 2))
    found = source.present(0, grid, 0, grid.size)
    assert found is not None
    assert found.tolist() == sorted(row * COLUMNS + column for row, column in present)
    assert bucket.pages_asked() >= 2
    region = (slice(1, 3), slice(1, 2190))
    source = open_source(url)
    bucket.asked.clear()
    inner = Grid((ROWS, 2 * COLUMNS), (1, 2), None, ((1, 3), (1, 2190)))
    found = source.present(0, inner, 0, inner.size)
    assert found is not None
    assert found.tolist() == [1095 + 5]
    counts = fc.count(url, region=region)
    assert counts.pixels.tolist() == [2 * 2189 - 2, 2]
    assert len(set(bucket.chunks_asked())) == 1 + A_MISSING_ONE


@quiet
def test_bucket__lists_only_the_rows_that_are_needed(bucket: Bucket) -> None:
    store, _ = sparse("v3 slash", {(0, column) for column in range(COLUMNS)} | {(2, 4)})
    bucket.put({f"rows/{key}": value for key, value in files(store).items()})
    source = open_source("s3://masks/rows/labels.zarr")
    grid = Grid((ROWS, 2 * COLUMNS), (1, 2))
    bucket.asked.clear()
    found = source.present(0, grid, 2 * COLUMNS, 3 * COLUMNS)
    assert found is not None
    assert found.tolist() == [2 * COLUMNS + 4]
    assert bucket.pages_asked() == 1
    assert "c%2F2%2F" in bucket.asked[-1][1]


@quiet
@pytest.mark.parametrize("status", [403, 400])
def test_bucket__that_refuses_to_list_is_read(bucket: Bucket, status: int) -> None:
    array = zarr.create_array(
        store := MemoryStore(), name="labels.zarr", shape=(64,), chunks=(1,), dtype="u1"
    )
    array[5:9] = 3
    bucket.put({f"refused{status}/{key}": value for key, value in files(store).items()})
    url = f"s3://masks/refused{status}/labels.zarr"
    assert fc.count(url).pixels.tolist() == [60, 4]
    assert len(bucket.chunks_asked()) == 4 + A_MISSING_ONE
    bucket.status = {"list-type": [status] * 99}
    bucket.asked.clear()
    assert fc.count(url, missing="separate").ledger.missing == 60
    assert len(bucket.chunks_asked()) == 64


# ---- other stores ----


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["memory", "zip", "logging"])
def test_stores__that_list_are_not_asked_for_more(tmp_path: Path, kind: str, layout: str) -> None:
    present = {(0, 3), (1, 0), (2, 1000)}
    held, pixels = sparse(layout, present)
    store: Any = held
    if kind == "zip":
        with ZipStore(tmp_path / "labels.zip", mode="w") as written:
            for key, value in held._store_dict.items():
                zarr.core.sync.sync(written.set(key, value))
        store = ZipStore(tmp_path / "labels.zip", mode="r")
    elif kind == "logging":
        store = LoggingStore(held.with_read_only(True), log_level="CRITICAL")
    counts = fc.count(store, items=0)
    assert counts.pixels.tolist() == [pixels.size - 6, 6]
    assert counts.items == ROWS
    met = counts.provenance["runs"][0]["chunks"]
    assert met["missing"] == ROWS * COLUMNS - 3
    if kind == "logging":
        assert store.counter["list_prefix"] >= 1
        assert store.counter["get"] < 30


class Said(MemoryStore):
    """A store of any number of keys, none of which is held."""

    def __init__(self, metadata: MemoryStore, keys: int = 0, *, full: bool = False) -> None:
        super().__init__(dict(metadata._store_dict), read_only=True)
        self._keys = keys
        self._full = full
        self.listed = 0

    async def exists(self, key: str) -> bool:
        return self._full or await super().exists(key)

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        self.listed += 1
        for number in range(self._keys):
            yield f"{prefix}{2 * number}"


def flat(chunks: int) -> MemoryStore:
    zarr.create_array(store := MemoryStore(), shape=(chunks,), chunks=(1,), dtype="u1")
    return store


def test_listing__takes_a_bit_a_chunk_and_a_page_of_keys() -> None:
    chunks, keys = 1 << 21, 60_000
    source = open_source(Said(flat(chunks), keys))
    grid = Grid((chunks,), (1,))
    source.present(0, Grid((4096,), (1,)), 0, 4096)
    tracemalloc.start()
    found = source.present(0, grid, 0, 1 << 16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None
    assert found.tolist() == list(range(0, 1 << 16, 2))
    last = source.present(0, grid, 2 * keys - 4, chunks)
    assert last is not None
    assert last.tolist() == [2 * keys - 4, 2 * keys - 2]
    assert peak < chunks // 8 + (12 << 20)


def test_listing__of_what_mostly_exists_is_left_alone() -> None:
    store = Said(flat(50_000), full=True)
    source = open_source(store)
    assert source.present(0, Grid((50_000,), (1,)), 0, 50_000) is None
    assert store.listed == 0
    store = Said(flat(20_000), 3, full=True)  # a sample would take more requests than the pages
    found = open_source(store).present(0, Grid((20_000,), (1,)), 0, 20_000)
    assert found is not None
    assert found.tolist() == [0, 2, 4]


def test_listing__that_breaks_off_is_not_believed() -> None:
    class Broken(Said):
        async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
            yield f"{prefix}7"
            raise RuntimeError("the connection is gone")

    store = Broken(flat(100))
    plain = zarr.create_array(other := MemoryStore(), shape=(100,), chunks=(1,), dtype="u1")
    plain[3] = 5
    store._store_dict["c/3"] = other._store_dict["c/3"]
    assert fc.count(store).pixels.tolist() == [99, 1]


def test_listing__is_not_asked_of_stores_that_have_none_to_trust(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    zarr.create_array(tmp_path / "labels.zarr", shape=(100,), chunks=(1,), dtype="u1")[5] = 1
    store = zarr.storage.FsspecStore.from_url(
        f"file://{tmp_path}/labels.zarr", storage_options={"auto_mkdir": False}
    )
    source = open_source(store)
    assert source.present(0, Grid((100,), (1,)), 0, 100) is None or isinstance(
        source._arrays[0].array.store, zarr.storage.LocalStore
    )

    class Blind(Said):
        supports_listing = False

    blind = Blind(flat(100), 3)
    assert open_source(blind).present(0, Grid((100,), (1,)), 0, 100) is None
    assert blind.listed == 0


# ---- arithmetic ----


def test_cheapest__prefix_has_about_a_page() -> None:
    assert cheapest(Grid((100_000, 8, 8), (1, 8, 8))) == (0, 100)
    assert cheapest(Grid((1, 1, 1000, 1000), (1, 1, 1, 1))) == (3, 1000)
    assert cheapest(Grid((1, 1, 50, 200, 500), (1,) * 5)) == (4, 10_000)
    window = Grid((1000, 1000), (1, 1), None, ((3, 5), (0, 1000)))
    assert cheapest(window) == (1, 2)
    assert cheapest(Grid((7,), (1,))) == (0, 1)


@given(st.data())
def test_listing__finds_what_exists_in_any_range(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    region = tuple(
        tuple(sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))))
        for n in shape
    )
    grid = Grid(shape, (1,) * len(shape), data.draw(st.sampled_from([None, 0])), region)
    depth = data.draw(st.integers(0, len(shape) - 1))
    corners = list(np.ndindex(shape))
    there = set(data.draw(st.lists(st.sampled_from(corners), unique=True)))
    asked: list[tuple[int, ...]] = []

    def listed(prefixes: Any) -> Iterator[tuple[int, ...]]:
        for prefix in prefixes:
            asked.append(prefix)
            yield from (one for one in there if one[:depth] == prefix)

    listing = Listing(grid, listed, lambda some: 0, depth=depth)
    for _ in range(2):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, grid.size)] * 2)))
        if start == stop:
            continue
        found = listing.present(start, stop)
        assert found is not None
        expected = [
            number
            for number in range(start, stop)
            if tuple(low for low, _ in grid.box(number)) in there
        ]
        assert found.tolist() == expected
    assert len(set(asked)) == len(asked)
    assert PAGE_KEYS == 1000


@pytest.mark.parametrize("layout", ["c/", "c.", ".", "/"])
def test_listing__passes_names_that_are_no_places(tmp_path: Path, layout: str) -> None:
    path, mark = tmp_path / "a.zarr", layout[-1]
    array = zarr.create_array(
        path,
        shape=(64, 64),
        chunks=(1, 1),
        dtype="u1",
        chunk_key_encoding={"name": "default" if "c" in layout else "v2", "separator": mark},
    )
    array[:3] = 5
    start = layout[:-1] + mark if "c" in layout else ""
    for first, last in ((10**25, 0), (1, 2**63), (99, 0), (0, "x")):
        key = path / f"{start}{first}{mark}{last}"
        key.parent.mkdir(exist_ok=True)
        key.write_bytes(b"none of ours")
    counts = fc.count(path, missing="separate")
    assert (counts.pixels.tolist(), counts.ledger.missing) == ([3 * 64], 61 * 64)
    source = open_source(path)
    grid = make_plan(source.arrays).grids[0]
    assert source.weigh(0, grid, 0, grid.size).missing == 61 * 64
