"""What `fastcounts bench` measures and advises; no test asserts a time."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from test_preview import KINDS, PIXELS, Run, files_below, run, zarr_array  # noqa: F401
from test_remote import Server
from zarr.codecs import ZstdCodec

import fastcounts as fc
from fastcounts.engine import Measured, Request, advise, bench, measuring
from fastcounts.engine.figures import Stage
from fastcounts.engine.measuring import stretches
from fastcounts.kernels.reading import fold_words
from fastcounts.sources import Way, open_source

ENOUGH = 60.0
"""Seconds that are enough to measure all of what is small; nothing here takes so long."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rounds, and little memory to read."""
    monkeypatch.setattr(measuring, "_MOST_ROUNDS", 2)
    monkeypatch.setattr(measuring, "_LIMIT_BYTES", 1 << 20)


LONG = ["--seconds", str(ENOUGH)]


def measured(run: Run, target: Any, *words: str) -> dict[str, Any]:  # noqa: F811
    code, out, err = run("bench", str(target), *LONG, *words, "--all", "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_consistent(run: Run, tmp_path: Path, kind: str) -> None:  # noqa: F811
    found = measured(run, KINDS[kind](tmp_path), "--workers", "2")
    sample, stages = found["sample"], found["stages"]
    assert sample["pixels"] == sample["decoded_bytes"] == PIXELS.size
    told_apart = kind in ("v3", "v2", "sharded", "zip")
    assert [name for name in stages if stages[name] is None] == (
        [] if told_apart else ["fetch", "decode"] if kind == "npy" else ["fetch"]
    )
    shares = [stage["share"] for stage in stages.values() if stage and stage["share"] is not None]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0
    for name, stage in stages.items():
        if stage is None:
            continue
        assert stage["seconds"] > 0
        assert 0 <= stage["idle"] <= 1
        assert stage["gigapixels"] * stage["seconds"] * 1e9 == pytest.approx(sample["pixels"])
        if name != "limit":
            stored = sample["stored_bytes"]
            assert stage["gigabytes"] * stage["seconds"] * 1e9 == pytest.approx(stored)
    assert found["rounds"] >= 1
    assert found["workers"] <= 2


@pytest.mark.parametrize("kind", ["v3", "v2", "zip"])
def test_chunks_and_bytes_are_those_of_the_files(
    run: Run,  # noqa: F811
    tmp_path: Path,
    kind: str,
) -> None:
    target = KINDS[kind](tmp_path)
    planned = json.loads(run("plan", str(target), "--json")[1])
    sample = measured(run, target)["sample"]
    assert (sample["chunks"], sample["missing"]) == (16, 8)
    assert sample["stored_bytes"] == planned["stored_bytes"]
    assert sample["chunk_bytes"] == 32 * 32


def test_inner_chunks_of_shards_are_fetched(tmp_path: Path) -> None:
    target = KINDS["sharded"](tmp_path)
    found = bench(Request.parse(target), ENOUGH)
    assert (found.chunks, found.chunk_bytes) == (4 * 16, 16 * 16)
    (tmp_path / "plain").mkdir()
    zarr_array(tmp_path / "plain" / "a.zarr", chunks=(1, 16, 16))
    sizes = [path.stat().st_size for path in files_below(tmp_path / "plain")]
    assert found.stored_bytes == sum(sizes)


def test_labels_are_those_of_the_sample(tmp_path: Path) -> None:
    found = bench(Request.parse(KINDS["v3"](tmp_path)), ENOUGH)
    assert (found.labels, found.least, found.most) == (6, 0, 5)
    only = bench(Request.parse(KINDS["v3"](tmp_path), region=slice(4, 6)), ENOUGH)
    assert (only.labels, only.chunks, only.stored_bytes, only.missing) == (1, 0, 0, 8)


def test_a_source_in_memory_is_measured() -> None:
    store = zarr.storage.MemoryStore()
    zarr_array(store)
    found = bench(Request.parse(store), ENOUGH)
    assert found.fetch is not None
    assert found.chunks == 16
    assert bench(Request.parse(PIXELS), ENOUGH).fetch is None


def test_a_store_far_away_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    KINDS["v3"](tmp_path)
    server = Server(tmp_path)
    try:
        found = bench(Request.parse(f"{server.url}/v3.zarr"), ENOUGH)
    finally:
        server.stop()
    assert found.chunks == 16
    assert [way.requests for way in found.ways] == [zarr.config.get("async.concurrency")]


def test_fetch_says_nothing_where_it_cannot_be_told_apart(tmp_path: Path) -> None:
    for kind in ("npy", "npz", "png", "fallback"):
        source = open_source(KINDS[kind](tmp_path), every=True)
        assert source.fetch(0, [tuple((0, n) for n in source.arrays[0].shape)]) is None


def test_the_table_says_what_is_not_told_apart(run: Run, tmp_path: Path) -> None:  # noqa: F811
    for kind, says in (
        ("v3", "the stored bytes alone"),
        ("png", "not told apart from decoding"),
        ("fallback", "not told apart from decoding"),
        ("npy", "mapped into memory"),
    ):
        code, out, err = run("bench", str(KINDS[kind](tmp_path)), *LONG)
        assert (code, err) == (0, "")
        assert says in out
        assert "read limit" in out
        assert "what to change" in out


def test_counts_that_change_are_noticed(
    run: Run,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = KINDS["npy"](tmp_path)
    read = measuring._Sample.read

    def spoil(self: Any, words: Any) -> Any:
        before = target.stat()
        np.save(target, PIXELS[::-1] + 1)
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))  # else reading notices
        return read(self, words)

    monkeypatch.setattr(measuring._Sample, "read", spoil)
    code, out, err = run("bench", str(target), *LONG)
    assert (code, out) == (3, "")
    assert "differ" in err


def test_bad_input_ends_as_a_count_would(run: Run, tmp_path: Path) -> None:  # noqa: F811
    target = KINDS["v3"](tmp_path)
    np.save(tmp_path / "empty.npy", np.zeros((0, 4), np.uint8))
    for words, code, says in (
        ([str(target), "--seconds", "0"], 2, "seconds"),
        ([str(target), "--region", "0:99"], 2, "0:99"),
        ([str(target), str(target)], 2, "argument"),
        ([str(tmp_path / "nope")], 3, "nope"),
        ([str(tmp_path / "empty.npy")], 3, "no pixels"),
    ):
        ended, out, err = run("bench", *words)
        assert (ended, out) == (code, ""), words
        assert says in err
        assert err.count("\n") == 1
    chunk = files_below(target)[0]
    chunk.write_bytes(chunk.read_bytes()[:5])
    ended, out, err = run("bench", str(target), *LONG)
    assert (ended, out) == (3, "")
    assert "v3.zarr" in err


@given(start=st.integers(0, 100), length=st.integers(1, 500), units=st.integers(1, 600))
def test_stretches_lie_within_and_apart(start: int, length: int, units: int) -> None:
    found = stretches((start, start + length), units)
    taken = [unit for low, high in found for unit in range(low, high)]
    assert taken == sorted(set(taken))
    assert start <= taken[0]
    assert taken[-1] < start + length
    assert min(units, length) / 2 < len(taken) <= units


def test_a_sample_is_spread_over_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr_array(tmp_path / "many.zarr", chunks=(1, 8, 8))
    request = Request.parse(tmp_path / "many.zarr", workers=1)
    found = bench(request, 1e-9)
    assert found.pixels == 4 * 64
    assert found.chunks + found.missing == 4
    assert 0 < found.missing < 4


def test_words_are_folded() -> None:
    words = np.random.default_rng(0).integers(0, 2**63, 1001, np.uint64)
    assert fold_words(words) == np.bitwise_xor.reduce(words)
    assert fold_words(words[:0]) == 0


# ---- advice ----

GOOD = Measured(
    name="labels.zarr",
    ways=(Way("chunks", ("zstd",), native=True),),
    dtype=np.dtype("u1"),
    workers=2,
    processors=2,
    rounds=5,
    pixels=256 << 20,
    decoded_bytes=256 << 20,
    stored_bytes=8 << 20,
    chunks=256,
    chunk_bytes=1 << 20,
    missing=0,
    repeated=0,
    labels=31,
    least=0,
    most=30,
    first=0.01,
    fetch=Stage(0.002, 0.0),
    decode=Stage(0.035, 0.0),
    count=Stage(0.040, 0.0),
    limit=Stage(0.004, 0.0),
)
"""Measurements that ask for nothing."""


def names(**changes: Any) -> list[str]:
    """What is advised where these figures are others."""
    return [one.name for one in advise(replace(GOOD, **changes))]


def message(**changes: Any) -> str:
    (one,) = advise(replace(GOOD, **changes))
    return one.message


def test_advice__nothing_where_nothing_is_wrong() -> None:
    assert names() == []
    assert names(ways=(Way("mapped"),), fetch=None, decode=None, count=Stage(0.006, 0.0)) == []
    assert names(ways=(Way("file"),), fetch=None) == []


def test_advice__zarr_python_is_named_with_its_reason() -> None:
    way = Way("zarr-python", ("zstd", "gzip"), obstacle="gzip after a compressor")
    assert "gzip after a compressor" in message(ways=(way,), fetch=None)
    assert names(ways=(way,), fetch=None, decode=Stage(0.010, 0.0), limit=Stage(0.02, 0.0)) == []


def test_advice__the_extra_for_gzip_where_it_is_decoded_in_python() -> None:
    for codecs in (("gzip",), ("zlib",), ("gzip", "crc32c")):
        way = Way("chunks", codecs)
        assert names(ways=(way,)) == ["extra"]
        assert "pip install 'fastcounts[fast]'" in message(ways=(way,))
        assert names(ways=(way._replace(native=True),)) == ["codec"]
    assert names(ways=(Way("chunks", ("gzip",)),), decode=Stage(0.012, 0.0)) == ["counting"]


def test_advice__codecs_that_are_slow() -> None:
    assert "bz2" in message(ways=(Way("chunks", ("bz2",)),))
    shuffled = message(ways=(Way("chunks", ("shuffle", "zstd")),))
    assert "shuffle with zstd" in shuffled
    assert "blosc shuffles as well" in shuffled
    assert "blosc shuffles" not in message(ways=(Way("chunks", ("delta", "zstd")),))
    assert names(ways=(Way("chunks", ("gzip",), native=True),), count=Stage(0.1, 0.0)) == [
        "counting"
    ]


SMALL: dict[str, Any] = {
    "chunks": 256 << 6,
    "chunk_bytes": 16 << 10,
    "fetch": Stage(0.1, 0.0),
    "decode": Stage(0.13, 0.0),
    "count": Stage(0.14, 0.0),
}


def test_advice__small_chunks_with_the_size_that_would_do() -> None:
    text = message(**SMALL)
    assert "16 KiB" in text
    assert "12 us" in text
    assert "chunks of 512 KiB would do" in text
    assert names(**SMALL | {"chunk_bytes": 1 << 20, "chunks": 256}) == ["disk"]
    assert names(**SMALL | {"fetch": Stage(0.02, 0.0)}) == []
    assert names(**SMALL | {"fetch": None}) == []


def test_advice__small_chunks_that_would_do_are_a_power_of_two_within_bounds() -> None:
    for seconds in (0.06, 0.1, 0.139):
        text = message(**SMALL | {"fetch": Stage(seconds, 0.0)})
        number, unit = text.partition("chunks of ")[2].split()[:2]
        size = float(number) * {"KiB": 1 << 10, "MiB": 1 << 20}[unit]
        assert 32 << 10 <= size <= 16 << 20
        assert size.is_integer()
        assert int(size).bit_count() == 1


FAR: dict[str, Any] = {
    "ways": (Way("chunks", ("zstd",), native=True, requests=10),),
    "stored_bytes": 256 * (2 << 20),
    "fetch": Stage(0.9, 0.8),
    "decode": Stage(0.95, 0.8),
    "count": Stage(1.0, 0.8),
}


def test_advice__more_requests_where_threads_wait_for_them() -> None:
    assert "ZARR_ASYNC__CONCURRENCY=40" in message(**FAR)
    assert names(**FAR | {"count": Stage(1.0, 0.1)}) == []
    few = FAR | {"stored_bytes": 1 << 20}
    assert names(**few) == ["small-chunks", "requests"]
    assert "or shards" in advise(replace(GOOD, **few))[0].message


SLOW: dict[str, Any] = {
    "stored_bytes": 256 << 20,
    "fetch": Stage(0.9, 0.8),
    "decode": Stage(0.95, 0.8),
    "count": Stage(1.0, 0.8),
}


def test_advice__a_slow_disk_and_no_compression() -> None:
    assert names(**SLOW) == ["disk"]
    raw = (Way("chunks", (), native=True),)
    assert names(**SLOW, ways=raw) == ["disk", "compression"]
    cached = {"fetch": Stage(0.02, 0.0), "decode": Stage(0.021, 0.0), "count": Stage(0.03, 0.0)}
    assert names(**SLOW | cached, ways=raw) == []


def test_advice__what_was_not_in_memory_the_first_time() -> None:
    assert names(first=3.0) == ["disk"]
    assert "3 s" in message(first=3.0)
    assert names(first=None) == names(first=0.05) == []
    assert names(first=3.0, ways=(Way("chunks", (), native=True),)) == ["disk", "compression"]


@pytest.mark.parametrize(
    ("dtype", "least", "most", "fits"),
    [("i8", 0, 255, "uint8"), ("u2", 0, 30, "uint8"), ("f4", 3, 256, "uint16")],
)
def test_advice__labels_that_take_fewer_bytes(dtype: str, least: int, most: int, fits: str) -> None:
    wide = {"dtype": np.dtype(dtype), "least": least, "most": most}
    text = message(**wide)
    assert f"{least} to {most}" in text
    assert fits in text
    assert np.dtype(dtype).name in text
    assert names(**wide | {"least": -1}) == []
    assert names(**wide | {"most": 70_000}) == []


def test_advice__counting_that_takes_the_time() -> None:
    slow = {"count": Stage(0.2, 0.0)}
    assert "noise" in message(**slow)
    assert "1,000,000 labels" in message(**slow, labels=1_000_000)
    assert names(**slow, limit=Stage(0.1, 0.0)) == []


def test_advice__more_threads_than_processors() -> None:
    waiting = {"count": Stage(0.04, 0.5)}
    assert "--workers 2" in message(**waiting, workers=8)
    assert names(**waiting) == names(workers=8) == []


def test_advice__is_printed_and_in_the_json(run: Run, tmp_path: Path) -> None:  # noqa: F811
    zarr_array(tmp_path / "small.zarr")
    wide = zarr.create_array(
        tmp_path / "wide.zarr", shape=(64, 64), chunks=(64, 64), dtype="i8", compressors=ZstdCodec()
    )
    wide[...] = 7
    found = measured(run, tmp_path / "wide.zarr")
    assert "wide-labels" in [one["name"] for one in found["advice"]]
    assert "wide-labels" not in [
        one["name"] for one in measured(run, tmp_path / "small.zarr")["advice"]
    ]
    assert "uint8 holds them in 1" in run("bench", str(tmp_path / "wide.zarr"), *LONG)[1]


def test_what_is_measured_is_what_a_count_gives(tmp_path: Path) -> None:
    for kind in KINDS:
        target = KINDS[kind](tmp_path)
        counts = fc.count(target, all_arrays=True)
        found = bench(Request.parse(target, every=True), ENOUGH)
        assert found.labels == counts.labels.size, kind
        assert found.pixels == counts.ledger.total
