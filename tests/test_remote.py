"""Stores that are no local folder: the same counts, requests that fail, object stores."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from test_fused import regions, written
from zarr.storage import MemoryStore, ZipStore

import fastcounts as fc
from fastcounts.errors import FastcountsError, ReadError, SourceNotFound
from fastcounts.sources import open_source
from fastcounts.sources.remote import StoreChunks, StoreShards


def in_memory(folder: Path) -> MemoryStore:
    """All files of a folder in zarr's store for memory."""
    from zarr.core.buffer import default_buffer_prototype

    kind = default_buffer_prototype().buffer
    files = (path for path in folder.rglob("*") if path.is_file())
    return MemoryStore(
        {str(path.relative_to(folder)): kind.from_bytes(path.read_bytes()) for path in files}
    )


def labels(shape: tuple[int, ...] = (64, 64)) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) // 37 % 7 + 1).astype(np.uint8)


@given(st.data())
def test_stores__give_the_answer_of_a_folder(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = data.draw(written(Path(folder) / "labels.zarr"))
        options: dict[str, Any] = {
            "region": data.draw(regions(made.array.shape)),
            "items": data.draw(st.sampled_from(["auto", *range(made.array.ndim)])),
            "missing": data.draw(st.sampled_from(["fill", "separate"])),
            "workers": data.draw(st.sampled_from([1, 2])),
            "keep_items": True,
            "source_id": "labels",
        }
        expected = fc.count(made.path, **options)
        store = in_memory(made.path)
        source = open_source(store)
        assert isinstance(source._arrays[0].chunks, StoreChunks | StoreShards)
        before = {key: value.to_bytes() for key, value in store._store_dict.items()}
        found = fc.count(store, **options)
        assert found == expected
        assert found.ledger == expected.ledger
        assert {key: value.to_bytes() for key, value in store._store_dict.items()} == before


@pytest.mark.parametrize("shards", [None, (32, 64)])
def test_zip__is_counted(tmp_path: Path, shards: Any) -> None:
    with ZipStore(tmp_path / "labels.zip", mode="w") as store:
        array = zarr.create_array(store, shape=(64, 64), chunks=(16, 16), shards=shards, dtype="u1")
        array[...] = labels()
    counts = fc.count(tmp_path / "labels.zip")
    assert counts.pixels.tolist() == np.unique(labels(), return_counts=True)[1].tolist()


# ---- a server ----


class Server:
    """Serves a folder on the loopback interface, and misbehaves when told to.

    Attributes
    ----------
    status : for each path that matches, statuses to answer with before anything else.
    cut : paths whose body breaks off in the middle, once.
    asked : how often each path was asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.knows_head = True
        self.status: dict[str, list[int]] = {}
        self.cut: set[str] = set()
        self.delay = 0.0
        self.asked: Counter[str] = Counter()
        handler = partial(_Handler, self, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, server: Server, *arguments: Any, **options: Any) -> None:
        self._owner = server
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        owner = self._owner
        owner.asked[self.path] += 1
        if self.command == "HEAD" and not owner.knows_head:
            self.send_error(501)
            return
        time.sleep(owner.delay)
        for pattern, statuses in owner.status.items():
            if statuses and re.search(pattern, self.path):
                self.send_response(statuses.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(path.read_bytes())

    def _send(self, content: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        total = len(content)
        if wanted:
            first, last = wanted.groups()
            begin = int(first) if first else total - int(last)
            end = min(int(last) + 1, total) if first and last else total
            content = content[begin:end]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.path in self._owner.cut:
            self._owner.cut.discard(self.path)
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815  the base class calls it so

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("obstore")
    server = Server(tmp_path)
    yield server
    server.stop()


def make(folder: Path, **options: Any) -> np.ndarray:
    pixels = labels()
    pixels[:16, 16:32] = 0
    options = {"chunks": (16, 16), **options}
    array = zarr.create_array(
        folder / "labels.zarr", shape=(64, 64), dtype="u1", fill_value=0, **options
    )
    array[...] = pixels
    return pixels


def check(counts: fc.Counts, pixels: np.ndarray) -> None:
    found, numbers = np.unique(pixels, return_counts=True)
    assert counts.labels.tolist() == found.tolist()
    assert counts.pixels.tolist() == numbers.tolist()


@pytest.mark.parametrize("shards", [None, (32, 64)])
def test_server__that_only_gives_files(tmp_path: Path, server: Server, shards: Any) -> None:
    server.knows_head = False
    pixels = make(tmp_path, shards=shards)
    check(fc.count(f"{server.url}/labels.zarr"), pixels)


@pytest.mark.parametrize("shards", [None, (32, 64)])
@pytest.mark.parametrize("region", [None, (slice(10, 60), slice(3, 20))])
def test_server__is_counted_and_404_is_missing(
    tmp_path: Path, server: Server, shards: Any, region: Any
) -> None:
    pixels = make(tmp_path, shards=shards)
    counts = fc.count(f"{server.url}/labels.zarr", region=region)
    check(counts, pixels if region is None else pixels[region])
    assert counts.provenance["runs"][0]["sources"] == [f"{server.url}/labels.zarr"]
    if region is None:
        apart = fc.count(f"{server.url}/labels.zarr", missing="separate")
        assert apart.ledger.missing == 16 * 16


def test_server__that_is_overloaded_is_asked_again(tmp_path: Path, server: Server) -> None:
    pixels = make(tmp_path)
    server.status = {"c/1/1": [503, 503], "c/2/2": [500]}
    check(fc.count(f"{server.url}/labels.zarr"), pixels)
    assert server.asked["/labels.zarr/c/1/1"] == 3


def test_server__that_breaks_off_is_asked_again_or_named(tmp_path: Path, server: Server) -> None:
    pixels = make(tmp_path, compressors=None)
    server.cut = {"/labels.zarr/c/1/1"}
    counts = fc.count(f"{server.url}/labels.zarr", on_error="record")
    if counts.ledger.failed:
        (failure,) = counts.provenance["runs"][0]["failures"]
        assert failure["box"] == [[16, 32], [16, 32]]
        assert "c/1/1" in failure["reason"]
    else:
        check(counts, pixels)


@pytest.mark.parametrize("shards", [None, (16, 16)])
def test_server__that_forbids_is_an_error(tmp_path: Path, server: Server, shards: Any) -> None:
    make(tmp_path, shards=shards)
    server.status = {"c/1/1": [403] * 9}
    with pytest.raises(ReadError, match=r"labels\.zarr.*c/1/1"):
        fc.count(f"{server.url}/labels.zarr")
    counts = fc.count(f"{server.url}/labels.zarr", on_error="record")
    assert counts.ledger.failed == 256
    assert "http" in counts.provenance["runs"][0]["failures"][0]["name"]


def test_server__with_nothing_there(server: Server) -> None:
    with pytest.raises(SourceNotFound, match="gone"):
        fc.count(f"{server.url}/gone.zarr")


@pytest.mark.parametrize("damage", [b"", b"<html>not a chunk</html>", bytes(100_000)])
def test_server__with_a_damaged_chunk(tmp_path: Path, server: Server, damage: bytes) -> None:
    make(tmp_path)
    (tmp_path / "labels.zarr/c/2/3").write_bytes(damage)
    with pytest.raises(ReadError, match=r"labels\.zarr: chunk c/2/3"):
        fc.count(f"{server.url}/labels.zarr")
    assert fc.count(f"{server.url}/labels.zarr", on_error="record").ledger.failed == 256


def test_server__is_asked_for_several_chunks_at_once(tmp_path: Path, server: Server) -> None:
    pixels = make(tmp_path)
    under_way, most = [0], [0]
    lock = threading.Lock()
    plain = _Handler._send

    def watched(handler: _Handler, content: bytes) -> None:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.02)
        plain(handler, content)
        with lock:
            under_way[0] -= 1

    _Handler._send = watched  # type: ignore[method-assign]
    try:
        with zarr.config.set({"async.concurrency": 8}):
            check(fc.count(f"{server.url}/labels.zarr", workers=2), pixels)
    finally:
        _Handler._send = plain  # type: ignore[method-assign]
    assert 4 <= most[0] <= 12


def test_server__ome_zarr_needs_no_listing(tmp_path: Path, server: Server) -> None:
    root = zarr.create_group(tmp_path / "image.zarr")
    root.attrs["ome"] = {"multiscales": [{"datasets": [{"path": "0"}]}]}
    group = root.create_group("labels")
    group.attrs["ome"] = {"labels": ["cells"]}
    cells = group.create_group("cells")
    cells.attrs["ome"] = {"multiscales": [{"datasets": [{"path": "0"}]}], "image-label": {}}
    cells.create_array("0", shape=(64, 64), chunks=(16, 16), dtype="u1")[...] = labels()
    check(fc.count(f"{server.url}/image.zarr"), labels())


def test_url__of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(FastcountsError, match="nonsense://"):
        fc.count("nonsense://bucket/labels.zarr")


# ---- an object store ----


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """An S3 server on the loopback interface, with one bucket."""
    pytest.importorskip("obstore")
    server_module = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="masks")
        yield client
        server.stop()


def upload(client: Any, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            client.put_object(
                Bucket="masks", Key=f"{prefix}/{path.relative_to(folder)}", Body=path.read_bytes()
            )


@pytest.mark.filterwarnings("ignore")  # boto3 and moto warn of their own
@pytest.mark.parametrize("shards", [None, (32, 64)])
def test_s3__is_counted(tmp_path: Path, bucket: Any, shards: Any) -> None:
    pixels = make(tmp_path, shards=shards)
    prefix = f"some/place{0 if shards is None else 1}/labels.zarr"
    upload(bucket, tmp_path / "labels.zarr", prefix)
    check(fc.count(f"s3://masks/{prefix}"), pixels)
    region = (slice(10, 60), slice(3, 20))
    check(fc.count(f"s3://masks/{prefix}", region=region), pixels[region])
    apart = fc.count(f"s3://masks/{prefix}", missing="separate")
    assert apart.ledger.missing == 16 * 16
    assert list(apart.covers.sources) == [f"s3://masks/{prefix}"]


@pytest.mark.filterwarnings("ignore")
def test_s3__groups_are_listed(tmp_path: Path, bucket: Any) -> None:
    root = zarr.create_group(tmp_path / "group.zarr")
    root.create_array("deep/labels", shape=(64, 64), chunks=(16, 16), dtype="u1")[...] = labels()
    upload(bucket, tmp_path / "group.zarr", "group.zarr")
    check(fc.count("s3://masks/group.zarr"), labels())
    with pytest.raises(SourceNotFound):
        fc.count("s3://masks/nothing.zarr")
    shutil.rmtree(tmp_path / "group.zarr")
