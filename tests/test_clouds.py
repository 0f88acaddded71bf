"""URLs of other clouds, through the libraries that know them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
import zarr
from stores import Answering, serving
from test_remote import check, labels

import fastcounts as fc
from fastcounts.errors import ForbiddenChunk, MissingExtra, SourceNotFound, UnsupportedSource
from fastcounts.sources.remote import open_url

PAGE = 7
WHEN = "Fri, 01 Nov 2024 12:00:00 GMT"


class Cloud:
    """What a server holds, and what was asked of it.

    Attributes
    ----------
    files : by key.
    forbidden : keys that answer 403.
    asked : method, path and query of every request.
    signatures : the Authorization headers that came.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.forbidden: set[str] = set()
        self.asked: list[tuple[str, str, str]] = []
        self.signatures: set[str | None] = set()

    def keys_asked(self) -> set[str]:
        return {path.rpartition("/labels.zarr/")[2] for _, path, query in self.asked if not query}


def answers(cloud: Cloud, page_of: Callable[[list[str], dict[str, str]], bytes]) -> Any:
    """A server of one container called masks: GET and HEAD of keys, and lists of them."""

    class Handler(Answering):
        def answer(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            cloud.asked.append((self.command, path, parts.query))
            cloud.signatures.add(self.headers.get("Authorization"))
            if path.rstrip("/") == "/masks":
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                start = query.get("continuation-token") or query.get("marker") or ""
                keys = [key for key in sorted(cloud.files) if key > start]
                found = [key for key in keys if key.startswith(query.get("prefix", ""))]
                return 200, {"Content-Type": "application/xml"}, page_of(found, query)
            key = path.removeprefix("/masks/")
            if key in cloud.forbidden:
                return 403, {}, b""
            if key not in cloud.files:
                return 404, {}, b""
            content, status = cloud.files[key], 200
            headers = {"ETag": '"1"', "Last-Modified": WHEN, "x-ms-blob-type": "BlockBlob"}
            wanted = self.headers.get("Range") or self.headers.get("x-ms-range")
            if wanted:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                begin, end = int(first), min(int(last or len(content)) + 1, len(content))
                headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
                content, status = content[begin:end], 206
            return status, headers, content

    return Handler


def google_page(cloud: Cloud) -> Callable[[list[str], dict[str, str]], bytes]:
    """Cloud Storage's list of objects, in XML."""

    def page(keys: list[str], query: dict[str, str]) -> bytes:
        items = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2024-11-01T12:00:00.000Z</LastModified>"
            f"<Size>{len(cloud.files[key])}</Size><ETag>1</ETag></Contents>"
            for key in keys[:PAGE]
        )
        more = keys[PAGE - 1] if len(keys) > PAGE else ""
        token = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
        flag = str(bool(more)).lower()
        return (
            f"<ListBucketResult><IsTruncated>{flag}</IsTruncated>{items}{token}</ListBucketResult>"
        ).encode()

    return page


def azure_page(cloud: Cloud) -> Callable[[list[str], dict[str, str]], bytes]:
    """Blob Storage's list of blobs."""

    def page(keys: list[str], query: dict[str, str]) -> bytes:
        items = "".join(
            f"<Blob><Name>{key}</Name><Properties><Last-Modified>{WHEN}</Last-Modified>"
            f"<Content-Length>{len(cloud.files[key])}</Content-Length><Content-Type/>"
            "<Etag>1</Etag></Properties></Blob>"
            for key in keys[:PAGE]
        )
        more = keys[PAGE - 1] if len(keys) > PAGE else ""
        return (
            f'<?xml version="1.0"?><EnumerationResults><Blobs>{items}</Blobs>'
            f"<NextMarker>{more}</NextMarker></EnumerationResults>"
        ).encode()

    return page


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """gs://masks, found by the file of a service account."""
    cloud = Cloud()
    with serving(answers(cloud, google_page(cloud))) as address:
        account = {
            "gcs_base_url": f"http://{address}",
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "token")
        monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
        yield cloud


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """az://masks, found by the name and key of an account."""
    cloud = Cloud()
    with serving(answers(cloud, azure_page(cloud))) as address:
        for name, value in {
            "AZURE_STORAGE_ACCOUNT_NAME": "account",
            "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0",
            "AZURE_STORAGE_ENDPOINT": f"http://{address}",
            "AZURE_ALLOW_HTTP": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield cloud


def line(folder: Path, **options: Any) -> np.ndarray:
    """An array of 64 chunks or shards, of which every fourth is stored."""
    pixels = np.zeros(64 * 16, np.uint8)
    pixels.reshape(64, 16)[::4] = 5
    array = zarr.create_array(folder / "labels.zarr", shape=1024, dtype="u1", **options)
    array[...] = pixels
    return pixels


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "labels.zarr" in path.parts
    }


@pytest.mark.parametrize("shards", [None, (16,)], ids=["chunks", "shards"])
@pytest.mark.parametrize(
    ("scheme", "signature"), [("gs", "Bearer token"), ("az", "SharedKey account:")]
)
def test_cloud__is_counted_by_its_url(
    tmp_path: Path, request: pytest.FixtureRequest, scheme: str, signature: str, shards: Any
) -> None:
    pytest.importorskip("obstore")
    cloud = request.getfixturevalue({"gs": "google", "az": "azure"}[scheme])
    pixels = line(tmp_path, chunks=(16,) if shards is None else (4,), shards=shards)
    cloud.files = {f"some/{key}": content for key, content in files_of(tmp_path).items()}
    url = f"{scheme}://masks/some/labels.zarr"
    counts = fc.count(url, workers=2)
    check(counts, pixels)
    assert list(counts.covers.sources) == [url]
    chunks = {key for key in cloud.keys_asked() if key.startswith("c/")}
    assert chunks == {f"c/{n}" for n in range(0, 64, 4)} | {"c/1"}  # one of what is missing
    assert sum("prefix" in query for _, _, query in cloud.asked) >= 3  # pages
    assert all(found and found.startswith(signature) for found in cloud.signatures)
    region = slice(5, 90)
    check(fc.count(url, region=region), pixels[region])
    with pytest.raises(SourceNotFound, match="nothing"):
        fc.count(f"{scheme}://masks/nothing.zarr")
    cloud.forbidden = {"some/labels.zarr/c/8"}
    with pytest.raises(ForbiddenChunk, match=rf"{scheme}://masks/some/labels\.zarr: .*c/8"):
        fc.count(url)
    apart = fc.count(url, forbidden="missing", missing="separate")
    assert apart.ledger.missing == 48 * 16 + 16


# ---- fsspec ----


def test_memory__is_that_of_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    pixels = line(tmp_path, chunks=(16,))
    system = fsspec.filesystem("memory")
    for key, content in files_of(tmp_path).items():
        system.pipe_file(f"/counted/{key}", content)
    try:
        counts = fc.count("memory://counted/labels.zarr", missing="separate")
        assert counts.ledger.missing == 48 * 16
        assert counts.pixels.tolist() == [16 * 16]
        check(fc.count("memory://counted/labels.zarr"), pixels)
    finally:
        system.rm("/counted", recursive=True)


def test_scheme__that_only_fsspec_knows(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    from fsspec.implementations.local import LocalFileSystem

    class Shelf(LocalFileSystem):
        """A folder under a scheme of its own."""

        protocol = "shelf"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(tmp_path / path.removeprefix("shelf://"))

    array = zarr.create_array(tmp_path / "labels.zarr", shape=(64, 64), chunks=(16, 16), dtype="u1")
    array[...] = labels()
    fsspec.register_implementation("shelf", Shelf, clobber=True)
    try:
        counts = fc.count("shelf://labels.zarr")
        check(counts, labels())
        assert list(counts.covers.sources) == ["shelf://labels.zarr"]
        with pytest.raises(SourceNotFound, match="shelf://"):
            fc.count("shelf://gone.zarr")
    finally:
        sys.modules["fsspec.registry"]._registry.pop("shelf")


@pytest.mark.parametrize("url", ["s3://masks/a.zarr", "gs://masks/a.zarr", "shelf://a.zarr"])
def test_library__that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("obstore", "obstore.store", "fsspec"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"fsspec.*fastcounts\[cloud\]"):
        open_url(url)


def test_library__that_no_extra_brings_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    fsspec.register_implementation(
        "far", "no_such_library.FarSystem", errtxt="Install no_such_library to go far"
    )
    try:
        with pytest.raises(UnsupportedSource, match=r"far://a\.zarr: .*no_such_library"):
            open_url("far://a.zarr")
    finally:
        sys.modules["fsspec.registry"].known_implementations.pop("far")


@pytest.mark.parametrize("url", ["nonsense://masks/a.zarr", "s3://", "gs:///"])
def test_url__that_names_nothing(url: str) -> None:
    with ExitStack() as stack:
        stack.enter_context(pytest.raises((UnsupportedSource, MissingExtra), match=url))
        open_url(url)
