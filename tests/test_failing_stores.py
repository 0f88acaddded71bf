"""Stores that refuse, fail or do not list: the chunks are read, or the error names them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from stores import Answering, Bucket, bucket_server, serving
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, LoggingStore, MemoryStore, WrapperStore, ZipStore

import fastcounts as fc
from fastcounts.errors import OptionError, ReadError, SourceNotFound
from fastcounts.grid import Grid
from fastcounts.sources import open_source

quiet = pytest.mark.filterwarnings("ignore")  # boto3 and moto warn of their own


def labels(shape: tuple[int, ...] = (64, 64)) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) // 5 % 7 + 1).astype(np.uint8)


def check(counts: fc.Counts, pixels: np.ndarray) -> None:
    found, numbers = np.unique(pixels, return_counts=True)
    assert counts.labels.tolist() == found.tolist()
    assert counts.pixels.tolist() == numbers.tolist()


# ---- listings ----


class Refusing(WrapperStore[Store]):
    """A store that refuses to list when it is called."""

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError(prefix)


class Nothing(WrapperStore[Store]):
    """A store that gives no iterator."""

    def list_prefix(self, prefix: str) -> Any:
        return None


class Unlisted(WrapperStore[Store]):
    """A store that says that it cannot list."""

    listed = 0
    supports_listing = False

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        type(self).listed += 1
        return super().list_prefix(prefix)


class Unsure(WrapperStore[Store]):
    """A store that fails when it is asked whether it can list."""

    @property
    def supports_listing(self) -> bool:
        raise RuntimeError("the connection is closed")


@pytest.mark.parametrize("kind", [Refusing, Nothing, Unlisted, Unsure])
@pytest.mark.parametrize("around", [False, True], ids=["", "wrapped"])
def test_listing__that_fails_is_done_without(tmp_path: Path, kind: Any, around: bool) -> None:
    pixels = labels()
    pixels[:8] = 0
    zarr.create_array(tmp_path, data=pixels, chunks=(4, 4), config={"write_empty_chunks": False})
    store = kind(LocalStore(tmp_path, read_only=True))
    if around:
        store = LoggingStore(store, log_level="CRITICAL")
    check(fc.count(store), pixels)
    assert fc.count(store, missing="separate").ledger.missing == 8 * 64


def test_listing__is_not_tried_on_a_wrapper_that_has_none() -> None:
    array = zarr.create_array(held := MemoryStore(), shape=(64, 64), chunks=(4, 4), dtype="u1")
    grid = Grid(array.shape, array.chunks)
    for store, listed in (
        (LoggingStore(held, log_level="CRITICAL"), True),
        (Unlisted(held), False),
    ):
        found = open_source(store).present(0, grid, 0, grid.size)
        assert (found is not None) is listed
    assert Unlisted.listed == 0


# ---- values ----


class Failing(WrapperStore[Store]):
    """A store that raises an error of its own for chunks; zarr makes read-only copies of it."""

    error: Exception | None = None

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if self.error is not None and "json" not in key:
            raise self.error
        return await super().get(key, prototype, byte_range)


class ForeignError(Exception):
    """An error of a library that nobody knows."""


LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (16, 16)},
    "shards": {"chunks": (16, 16), "shards": (32, 64)},
    "two compressors": {
        "chunks": (16, 16),
        "compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.GzipCodec()],
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("c/0/0"), "KeyError: 'c/0/0'"),
        (
            ForeignError("  x the node is gone\n  | \n  | context:\n  |   0: get"),
            "the node is gone",
        ),
        (ForeignError("one line\nand another"), "one line and another"),
        (ForeignError(), "ForeignError"),
        (TimeoutError(), "TimeoutError"),
        (NotImplementedError(), "NotImplementedError"),
    ],
    ids=["key", "icechunk", "lines", "empty", "time", "not implemented"],
)
def test_value__that_cannot_be_read_is_named_on_one_line(
    monkeypatch: pytest.MonkeyPatch, layout: str, error: Exception, text: str
) -> None:
    held = MemoryStore()
    zarr.create_array(held, name="nuclei", data=labels(), **LAYOUTS[layout])
    store = Failing(held)
    source = zarr.open_array(store, path="nuclei", mode="r")
    monkeypatch.setattr(Failing, "error", error)
    for region in (None, (slice(0, 10), slice(0, 10))):
        with pytest.raises(ReadError) as caught:
            fc.count(source, region=region, workers=1)
        said = str(caught.value)
        assert "\n" not in said
        assert "nuclei: " in said
        assert "c/0/0" in said
        assert said.endswith(text)
    assert fc.count(source, on_error="record").ledger.failed == 64 * 64


class Shy(WrapperStore[Store]):
    """A store that has no name and no sizes, such as one of a session."""

    def __str__(self) -> str:
        return object.__repr__(self)

    async def getsize(self, key: str) -> int:
        return 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_store__without_names_and_sizes(layout: str) -> None:
    held, pixels = MemoryStore(), labels()
    pixels[32:] = 0
    zarr.create_array(
        held, name="nuclei", data=pixels, config={"write_empty_chunks": False}, **LAYOUTS[layout]
    )
    source = zarr.open_array(Shy(held), path="nuclei", mode="r")
    (info,) = open_source(source).arrays
    assert (info.name, info.source) == ("Shy/nuclei", "")
    check(fc.count(source), pixels)
    region = (slice(20, 50), slice(0, 10))
    check(fc.count(source, region=region), pixels[region])
    assert fc.count(source, region=region, missing="separate").ledger.missing == 18 * 10


# ---- Icechunk, VirtualiZarr, kerchunk ----


@pytest.fixture
def icechunk_store() -> Any:
    icechunk = pytest.importorskip("icechunk", reason="icechunk is not installed")
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    return repository.writable_session("main").store


@quiet
@pytest.mark.parametrize("layout", LAYOUTS)
def test_icechunk__is_counted(icechunk_store: Any, layout: str) -> None:
    pixels = labels()
    pixels[32:] = 0
    array = zarr.create_array(
        icechunk_store,
        name="label",
        shape=pixels.shape,
        dtype="u1",
        config={"write_empty_chunks": False},
        **LAYOUTS[layout],
    )
    array[...] = pixels
    region = (slice(20, 50), slice(3, 40))
    for part in (None, region):
        taken = pixels if part is None else pixels[part]
        check(fc.count(array, region=part), taken)
        separate = fc.count(array, region=part, missing="separate")
        assert separate.ledger.missing == np.count_nonzero(taken == 0)
    check(fc.count(array, items=0, memory="64MB"), pixels)
    check(fc.count(icechunk_store), pixels)
    with pytest.raises(SourceNotFound):
        fc.count(zarr.storage.StorePath(icechunk_store, "nothing"))


@quiet
def test_icechunk__of_many_chunks_is_read_without_a_listing(icechunk_store: Any) -> None:
    pixels = labels()
    array = zarr.create_array(
        icechunk_store, name="label", shape=pixels.shape, dtype="u1", chunks=(4, 4)
    )
    array[...] = pixels
    for missing in ("fill", "separate", "raise"):
        check(fc.count(array, missing=missing), pixels)


@quiet
def test_icechunk__that_was_deleted_under_the_array(icechunk_store: Any) -> None:
    array = zarr.create_array(icechunk_store, name="label", data=labels(), chunks=(16, 16))
    sync(icechunk_store.delete_dir("label"))
    with pytest.raises(ReadError) as caught:
        fc.count(array)
    assert "label" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def hdf5(tmp_path: Path) -> tuple[Path, np.ndarray]:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    pixels = labels((6, 64, 96))
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        file.create_dataset("label", data=pixels, chunks=(1, 16, 16), compression="gzip")
    return tmp_path / "labels.h5", pixels


@quiet
def test_virtualizarr__store_is_counted(hdf5: tuple[Path, np.ndarray]) -> None:
    parsers = pytest.importorskip("virtualizarr.parsers", reason="virtualizarr is not installed")
    registry = pytest.importorskip("obspec_utils.registry", reason="obspec-utils is not installed")
    obstore = pytest.importorskip("obstore.store", reason="obstore is not installed")
    path, pixels = hdf5
    stores = registry.ObjectStoreRegistry({"file://": obstore.LocalStore()})
    store = parsers.HDFParser()(f"file://{path}", registry=stores)
    array = zarr.open_array(store, path="label", mode="r")
    check(fc.count(array), pixels)
    check(fc.count(array, items=0, region=(slice(1, 3), slice(5, 50))), pixels[1:3, 5:50])


@quiet
def test_kerchunk__references_are_counted(hdf5: tuple[Path, np.ndarray]) -> None:
    hdf = pytest.importorskip("kerchunk.hdf", reason="kerchunk is not installed")
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    path, pixels = hdf5
    references = hdf.SingleHdf5ToZarr(str(path), f"file://{path}", inline_threshold=0).translate()
    files = fsspec.filesystem("reference", fo=references, asynchronous=True, remote_protocol="file")
    store = zarr.storage.FsspecStore(files, path="", read_only=True)
    array = zarr.open_array(store, path="label", mode="r", zarr_format=2)
    check(fc.count(array), pixels)
    path.unlink()
    with pytest.raises(ReadError, match=r"label: chunk \d\.\d\.\d cannot be fetched: .*labels\.h5"):
        fc.count(array)


# ---- values that are larger than any chunk ----

LARGE = 8 << 20


class Watching(Answering):
    """Serves files, and counts the bytes that clients take."""

    files: dict[str, bytes]
    sent: dict[str, int]

    def answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        content = self.files.get(self.path.lstrip("/"))
        return (404, {}, b"") if content is None else (200, {}, content)

    def do_GET(self) -> None:  # noqa: N802  the base class calls it so
        status, _, content = self.answer(b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            for start in range(0, len(content), 1 << 16) if self.command == "GET" else ():
                self.wfile.write(content[start : start + (1 << 16)])
                self.sent[self.path] = self.sent.get(self.path, 0) + (1 << 16)
        except OSError:
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815  the base class calls it so


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_server__is_not_asked_for_all_of_a_value_that_is_too_large(tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    zarr.create_array(tmp_path / "a.zarr", data=labels(), chunks=(16, 16))
    large = {**files_of(tmp_path), "a.zarr/c/1/2": bytes(LARGE)}
    served = type("Served", (Watching,), {"files": large, "sent": {}})
    with serving(served) as address:
        with pytest.raises(ReadError, match=rf"chunk c/1/2: it is stored in {LARGE} bytes"):
            fc.count(f"http://{address}/a.zarr", workers=1)
        counts = fc.count(f"http://{address}/a.zarr", on_error="record", workers=1)
    assert counts.ledger.failed == 16 * 16
    assert served.sent["/a.zarr/c/1/2"] < LARGE  # of two requests; sockets buffer some of each


@pytest.mark.parametrize("kind", ["zip", "fsspec", "memory"])
def test_store__is_not_asked_for_all_of_a_value_that_is_too_large(
    tmp_path: Path, kind: str
) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=labels(), chunks=(16, 16))
    (tmp_path / "a.zarr/c/1/2").write_bytes(bytes(LARGE))
    files = files_of(tmp_path / "a.zarr")
    buffer = default_buffer_prototype().buffer
    store: Store = MemoryStore({name: buffer.from_bytes(value) for name, value in files.items()})
    if kind == "zip":
        import zipfile

        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        store = ZipStore(tmp_path / "a.zip", mode="r")
    elif kind == "fsspec":
        fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
        system = fsspec.filesystem("memory", skip_instance_cache=True)
        for name, content in files.items():
            system.pipe_file(f"/large/{name}", content)
        store = zarr.storage.FsspecStore.from_url("memory://large", read_only=True)
    taken: list[int] = []

    class Weighing(type(store)):  # type: ignore[misc]
        """The same store, which notes the sizes of what it gives."""

        async def get(self, *arguments: Any, **options: Any) -> Any:
            found = await super().get(*arguments, **options)
            taken.append(0 if found is None else len(found))
            return found

    Weighing.__name__ = type(store).__name__
    store.__class__ = Weighing
    with pytest.raises(ReadError, match=r"chunk c/1/2: it is stored in .* bytes"):
        fc.count(store)
    assert fc.count(store, on_error="record").ledger.failed == 16 * 16
    assert kind == "memory" or max(taken) < LARGE


def test_chunk__that_is_empty_is_an_error_of_the_chunk(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=labels(), chunks=(16, 16))
    (tmp_path / "a.zarr/c/1/2").write_bytes(b"")
    stores = [LocalStore(tmp_path / "a.zarr", read_only=True)]
    obstore = pytest.importorskip("obstore.store", reason="obstore is not installed")
    stores.append(zarr.storage.ObjectStore(obstore.LocalStore(tmp_path / "a.zarr"), read_only=True))
    stores.append(LoggingStore(stores[-1], log_level="CRITICAL"))
    for store in stores:
        with pytest.raises(ReadError, match=r"chunk c/1/2"):
            fc.count(store)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with bucket_server() as running:
        yield running


@quiet
@pytest.mark.parametrize("extra", [0, 3 << 20])
def test_shard__with_bytes_that_its_index_does_not_name_is_read_in_ranges(
    tmp_path: Path, bucket: Bucket, extra: int
) -> None:
    pixels = labels()
    zarr.create_array(tmp_path / "a.zarr", data=pixels, chunks=(16, 16), shards=(32, 64))
    files = files_of(tmp_path / "a.zarr")
    files["c/1/0"] = bytes(0) + files["c/1/0"]
    if extra:
        files["c/1/0"] = padded(files["c/1/0"], extra, 8)
    bucket.reset()
    bucket.put({f"holes{extra}/a.zarr/{name}": content for name, content in files.items()})
    check(fc.count(f"s3://masks/holes{extra}/a.zarr"), pixels)
    asked = [path for method, path in bucket.asked if method == "GET" and path.endswith("c/1/0")]
    assert len(asked) == (1 if not extra else 3)  # all of it; its size, its index and its chunks


def padded(shard: bytes, extra: int, chunks: int) -> bytes:
    """The same shard with bytes at its begin that belong to no chunk."""
    import google_crc32c

    size = 16 * chunks + 4
    index = np.frombuffer(shard[-size:-4], "<u8").reshape(chunks, 2).copy()
    index[:, 0] += extra
    checksum = int(google_crc32c.value(index.tobytes())).to_bytes(4, "little")
    return bytes(extra) + shard[:-size] + index.tobytes() + checksum


# ---- servers that cannot be reached ----


def test_server__that_cannot_be_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    monkeypatch.setenv("FASTCOUNTS_RETRY_SECONDS", "1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/labels.zarr"
        with pytest.raises(ReadError, match=r"labels\.zarr.*retry_timeout: 1s"):
            fc.count(url)
        monkeypatch.delenv("FASTCOUNTS_RETRY_SECONDS")
        with pytest.raises(ReadError, match=r"labels\.zarr.*retry_timeout: 10s"):
            fc.count(url)


@quiet
@pytest.mark.parametrize(("seconds", "asked"), [("0", 1), ("60", 4)])
def test_server__is_asked_again_as_long_as_the_user_says(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, seconds: str, asked: int
) -> None:
    monkeypatch.setenv("FASTCOUNTS_RETRY_SECONDS", seconds)
    zarr.create_array(tmp_path / "a.zarr", data=labels(), chunks=(16, 16))
    bucket.reset()
    files = files_of(tmp_path / "a.zarr")
    bucket.put({f"again{seconds}/a.zarr/{name}": value for name, value in files.items()})
    bucket.status = {"c/1/1$": [503] * 3}
    counts = fc.count(f"s3://masks/again{seconds}/a.zarr", on_error="record")
    assert counts.ledger.failed == (0 if asked == 4 else 256)
    assert len(bucket.chunks_asked("c/1/1$")) == asked


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "1e9"])
def test_retry__that_is_no_number_of_seconds(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    pytest.importorskip("obstore", reason="obstore is not installed")
    monkeypatch.setenv("FASTCOUNTS_RETRY_SECONDS", text)
    with pytest.raises(OptionError, match=r"FASTCOUNTS_RETRY_SECONDS: expected .* got"):
        fc.count("http://127.0.0.1:9/labels.zarr")
