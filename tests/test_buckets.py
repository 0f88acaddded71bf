"""S3 as it is: keys that are refused, servers that slow down, signatures, ranges."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import zarr
from numcodecs import Base64
from stores import Bucket, bucket_server
from test_remote import check, make
from zarr.codecs import ShardingCodec
from zarr.core.sync import sync
from zarr.storage import FsspecStore, ObjectStore

import fastcounts as fc
from fastcounts.cli import main
from fastcounts.errors import (
    ForbiddenChunk,
    MissingChunk,
    OptionError,
    ReadError,
    SourceNotFound,
)
from fastcounts.sources import open_source
from fastcounts.sources.remote import is_forbidden

quiet = pytest.mark.filterwarnings("ignore")  # boto3 and moto warn of their own


@pytest.fixture(scope="module")
def watched_server() -> Iterator[Bucket]:
    with bucket_server() as watched:
        yield watched


@pytest.fixture
def watched(watched_server: Bucket) -> Bucket:
    watched_server.reset()
    return watched_server


def store_in(bucket: Bucket, folder: Path, prefix: str) -> str:
    """Put an array into a bucket; gives its URL."""
    root = folder / "labels.zarr"
    files = {
        f"{prefix}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
    bucket.put(files)
    return f"s3://masks/{prefix}"


SLOW: dict[str, Any] = {
    "zarr_format": 2,
    "filters": [Base64()],
    "compressors": None,
    "chunk_key_encoding": {"name": "v2", "separator": "/"},
}
"""Chunks that numcodecs itself has to decode."""

CHUNK = r"\.zarr/c/\d"
MISSING: dict[str, Any] = {"forbidden": "missing", "missing": "separate"}
FEW = {
    "max_retries": 3,
    "backoff": {
        "init_backoff": timedelta(milliseconds=1),
        "max_backoff": timedelta(milliseconds=5),
        "base": 2,
    },
}


@quiet
@pytest.mark.parametrize("passed", [0, 1, 2], ids=["size", "index", "chunks"])
def test_403__for_a_part_of_a_shard(tmp_path: Path, watched: Bucket, passed: int) -> None:
    """Whatever is forbidden, its size, its index or its chunks, the error is the same."""
    make(tmp_path, shards=(32, 64))
    url = store_in(watched, tmp_path, f"parts {passed}/labels.zarr")
    region = (slice(0, 16), slice(0, 16))
    for options, kind in (({}, ""), ({"on_error": "record"}, "failed"), (MISSING, "missing")):
        watched.status = {"/0/0$": [0] * passed + [403] * 99}
        if not kind:
            with pytest.raises(ForbiddenChunk, match=r"labels\.zarr: .*0/0.*403"):
                fc.count(url, region=region)
            continue
        counts = fc.count(url, region=region, **options)
        assert getattr(counts.ledger, kind) == counts.ledger.total == 256


@quiet
@pytest.mark.parametrize("options", [{}, {"shards": (32, 64)}, SLOW], ids=["", "shards", "slow"])
def test_403__is_an_error_unless_it_means_missing(
    tmp_path: Path, watched: Bucket, options: dict[str, Any]
) -> None:
    pixels = make(tmp_path, **options)
    url = store_in(watched, tmp_path, f"forbidden {len(str(options))}/labels.zarr")
    key, forbidden = ("0/0", 32 * 64) if "shards" in options else ("0/1", 256)
    watched.status = {f"/{key}$": [403] * 999}
    with pytest.raises(ForbiddenChunk, match=rf"labels\.zarr: .*{key}.*403.*forbidden='missing'"):
        fc.count(url)
    recorded = fc.count(url, on_error="record")
    assert recorded.ledger.failed == forbidden
    assert "forbidden" not in recorded.provenance["runs"][0]
    apart = fc.count(url, forbidden="missing", missing="separate", on_error="record")
    assert apart.ledger.missing == forbidden
    assert apart.ledger.failed == 0
    assert apart.provenance["runs"][0]["forbidden"] == 1
    filled = fc.count(url, forbidden="missing", items=0)
    assert filled.ledger.filled == forbidden
    assert filled.ledger.total == pixels.size
    with pytest.raises(MissingChunk):
        fc.count(url, forbidden="missing", missing="raise")
    if "shards" not in options:
        check(filled, pixels)
        named = fc.count(url, forbidden="missing", classes={1: "one", 2: "two"})
        assert named.ledger.unexpected[0].pixels == 256
        assert named.ledger.unexpected[0].places[0][2] == (0, 16)


@quiet
def test_403__passes_through_to_dask_and_from_the_command_line(
    tmp_path: Path, watched: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = make(tmp_path)
    url = store_in(watched, tmp_path, "dask/labels.zarr")
    watched.status = {"c/0/1$": [403] * 999, "c/3/3$": [403] * 999}
    counts = fc.count(url, forbidden="missing", missing="separate", scheduler="synchronous")
    assert counts.ledger.missing == 2 * 256
    assert counts.provenance["runs"][0]["forbidden"] == 2
    with pytest.raises(SystemExit) as ended:
        main(["count", url, "--forbidden", "missing"])
    assert not ended.value.code
    printed = capsys.readouterr()
    assert "2 chunks are forbidden (403) and were taken for missing" in printed.err
    assert f"{pixels.size:,} pixels" in printed.out
    with pytest.raises(SystemExit) as ended:
        main(["count", url])
    assert ended.value.code == 3
    assert "--forbidden" in capsys.readouterr().err
    with pytest.raises(OptionError, match="forbidden: expected 'raise' or 'missing'"):
        fc.count(url, forbidden="fill")


@quiet
def test_403__for_everything_is_never_a_count_of_fill(tmp_path: Path, watched: Bucket) -> None:
    make(tmp_path)
    url = store_in(watched, tmp_path, "expired/labels.zarr")
    watched.status = {CHUNK: [403] * 999, "zarr.json": []}
    source = open_source(url)
    watched.status["zarr.json"] = [403] * 999
    with pytest.raises(ReadError, match=r"labels\.zarr"):
        source.confirm()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError("no"), True),
        (type("HttpError", (Exception,), {"code": "403"})(), True),
        (type("ClientResponseError", (Exception,), {"status": 403})(), True),
        (type("HttpResponseError", (Exception,), {"status_code": 403})(), True),
        (
            type(
                "ClientError",
                (Exception,),
                {"response": {"ResponseMetadata": {"HTTPStatusCode": 403}}},
            )(),
            True,
        ),
        (type("HttpError", (Exception,), {"code": 404})(), False),
        (OSError("403 is in the text only"), False),
        (FileNotFoundError("gone"), False),
    ],
    ids=str,
)
def test_403__is_known_by_what_libraries_raise(error: Exception, expected: bool) -> None:
    assert is_forbidden(error) is expected
    outer = OSError("outside")
    outer.__cause__ = error
    assert is_forbidden(outer) is expected


@quiet
def test_s3__through_s3fs_says_403_as_well(tmp_path: Path, watched: Bucket) -> None:
    s3fs = pytest.importorskip("s3fs")
    make(tmp_path)
    url = store_in(watched, tmp_path, "s3fs/labels.zarr")
    watched.status = {"c/0/0$": [403] * 99}
    system = s3fs.S3FileSystem(asynchronous=True, skip_instance_cache=True)
    store = FsspecStore(system, path=url.removeprefix("s3://"), read_only=True)
    try:
        with pytest.raises(ForbiddenChunk, match="c/0/0"):
            fc.count(store)
        found = fc.count(store, forbidden="missing", missing="separate")
        assert found.ledger.missing == 2 * 256
    finally:
        sync(system._s3.close())


@quiet
def test_s3__that_slows_down_is_asked_again(tmp_path: Path, watched: Bucket) -> None:
    pixels = make(tmp_path)
    url = store_in(watched, tmp_path, "slow/labels.zarr")
    watched.status = {"c/1/1$": [503, 503], "list-type": [503]}
    check(fc.count(url), pixels)
    assert len(watched.chunks_asked("c/1/1$")) == 3


@quiet
@pytest.mark.parametrize("shards", [None, (32, 64)])
def test_s3__that_never_answers_is_an_error_of_the_chunk(
    tmp_path: Path, watched: Bucket, shards: Any
) -> None:
    from obstore.store import S3Store

    make(tmp_path, shards=shards)
    url = store_in(watched, tmp_path, f"down{bool(shards)}/labels.zarr")
    watched.status = {"c/1/0": [503] * 999}
    prefix = url.removeprefix("s3://masks/")
    store = ObjectStore(S3Store("masks", prefix=prefix, retry_config=FEW), read_only=True)
    with pytest.raises(ReadError, match=r"c/1/0 cannot be fetched: .*503"):
        fc.count(store)
    assert len(watched.chunks_asked("c/1/0")) == 4
    counts = fc.count(store, on_error="record")
    assert counts.ledger.failed == (32 * 64 if shards else 256)


@quiet
def test_s3__without_such_a_bucket_or_key(watched: Bucket) -> None:
    with pytest.raises(SourceNotFound, match="no-such-bucket"):
        fc.count("s3://no-such-bucket/labels.zarr")
    with pytest.raises(SourceNotFound, match=r"nothing\.zarr"):
        fc.count("s3://masks/nothing.zarr")


@quiet
def test_s3__signs_unless_it_is_told_not_to(
    tmp_path: Path, watched: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = make(tmp_path)
    url = store_in(watched, tmp_path, "signed/labels.zarr")
    check(fc.count(url), pixels)
    assert watched.unsigned == 0
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with pytest.raises(ReadError, match=r"labels\.zarr"):
        fc.count(url)
    monkeypatch.delenv("AWS_SKIP_SIGNATURE")
    boto3 = pytest.importorskip("boto3")
    for path in (tmp_path / "labels.zarr").rglob("*"):
        if path.is_file():
            key = f"signed/{path.relative_to(tmp_path).as_posix()}"
            boto3.client("s3").put_object_acl(Bucket="masks", Key=key, ACL="public-read")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    watched.reset()
    check(fc.count(url), pixels)
    assert watched.unsigned == len(watched.asked)


@quiet
def test_s3__shards_are_read_in_ranges(tmp_path: Path, watched: Bucket) -> None:
    pixels = make(tmp_path, shards=(32, 64), compressors=None)
    url = store_in(watched, tmp_path, "ranges/labels.zarr")
    watched.asked.clear()
    region = (slice(0, 10), slice(40, 64))
    check(fc.count(url, region=region), pixels[region])
    asked = [method for method, path in watched.asked if "/c/0/0" in path]
    assert asked.count("HEAD") == 1
    assert 2 <= asked.count("GET") <= 3  # the index, and inner chunks that lie together
    assert not watched.chunks_asked("c/1/0")


# ---- stored bytes that no chunk can have ----


@pytest.mark.parametrize("decoder", ["read", "decoded"])
@pytest.mark.parametrize("kind", ["folder", "bucket"])
@quiet
def test_zarr_python__does_not_read_what_is_far_too_large(
    tmp_path: Path, watched: Bucket, kind: str, decoder: str
) -> None:
    make(tmp_path, **(SLOW if decoder == "decoded" else filter_around_shards()))
    key, failed = ("2/2", 256) if decoder == "decoded" else ("c/1/0", 32 * 64)
    (tmp_path / "labels.zarr" / key).write_bytes(bytes(1 << 20))
    url: Any = tmp_path / "labels.zarr"
    if kind == "bucket":
        url = store_in(watched, tmp_path, f"large/{decoder}/labels.zarr")
    reader = open_source(url)._arrays[0]
    assert reader.obstacle
    assert (reader.chunks is None) == (decoder == "read")
    watched.asked.clear()
    with pytest.raises(ReadError, match=rf"{key}.* is stored in \d+ bytes.* takes so many"):
        fc.count(url)
    if decoder == "read":  # else the answer is not taken; it was asked for
        assert not [1 for method, path in watched.asked if method == "GET" and key in path]
    assert fc.count(url, on_error="record").ledger.failed == failed


def filter_around_shards() -> dict[str, Any]:
    """Return what makes shards that zarr-python itself has to read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the filter is in no specification
        same = zarr.codecs.numcodecs.AsType(encode_dtype="|u1", decode_dtype="|u1")
    shards = ShardingCodec(chunk_shape=(16, 16))
    return {"chunks": (32, 64), "filters": [same], "serializer": shards, "compressors": None}
