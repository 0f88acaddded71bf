"""Zarr arrays: v2, v3, sharded; folder, zip, memory; and chunks that do not exist."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import zarr
from reference import pictures, places, said, said_places
from test_sources import Case, SourceContract, mask
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.storage import LocalStore, MemoryStore, StorePath, ZipStore

import fastcounts as fc
from fastcounts.errors import (
    MissingChunk,
    NonIntegralLabel,
    OptionError,
    ReadError,
    SourceError,
    UnsupportedSource,
)

LABELS = mask(20, 31, labels=6)


def fill(array: Any, data: np.ndarray, skip: bool) -> np.ndarray:
    """Write all of it, or all but the first rows, which then read as the fill value."""
    if data.ndim == 0 or not skip:
        array[...] = data
        return data
    array[9:] = data[9:]
    expected = data.copy()
    expected[:9] = array.metadata.fill_value
    return expected


def stored(data: np.ndarray = LABELS, skip: bool = False, **options: Any) -> Case:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        array = zarr.create_array(
            folder / "labels.zarr", shape=data.shape, dtype=data.dtype, **options
        )
        return folder / "labels.zarr", [fill(array, data, skip)]

    return make


def sharded(skip: bool = False, codecs: Any = None, **options: Any) -> Case:
    codec = ShardingCodec(chunk_shape=(4, 5), codecs=codecs or [BytesCodec()], **options)
    return stored(skip=skip, chunks=(8, 10), serializer=codec, compressors=None, filters=None)


V2 = {"zarr_format": 2, "chunks": (8, 10)}
V3 = {"chunks": (8, 10)}


class TestZarrFolder(SourceContract):
    cases: ClassVar[dict[str, Case]] = {
        "v3": stored(**V3),
        "v3 raw": stored(compressors=None, **V3),
        "v3 gzip": stored(compressors=GzipCodec(), **V3),
        "v3 blosc": stored(compressors=BloscCodec(cname="lz4"), **V3),
        "v3 two codecs": stored(compressors=[ZstdCodec(), GzipCodec()], **V3),
        "v3 checked": stored(compressors=[ZstdCodec(), Crc32cCodec()], **V3),
        "v3 transposed": stored(filters=TransposeCodec(order=(1, 0)), **V3),
        "v3 big-endian": stored(LABELS.astype("u2"), serializer=BytesCodec(endian="big"), **V3),
        "v3 int64": stored(LABELS.astype("i8") - 3, **V3),
        "v3 bool": stored(mask(20, 31, labels=2, dtype=bool), **V3),
        "v3 floats": stored(LABELS.astype("f4"), **V3),
        "v3 aligned": stored(chunks=(10, 31)),
        "v3 one chunk": stored(chunks=(20, 31)),
        "v3 large chunk": stored(chunks=(64, 64)),
        "v3 dots": stored(chunk_key_encoding={"name": "v2", "separator": "."}, **V3),
        "v3 missing": stored(skip=True, **V3),
        "v3 missing, fill 2": stored(skip=True, fill_value=2, **V3),
        "v3 0-d": stored(np.array(3, "u1")),
        "v3 empty": stored(np.zeros((0, 5), "u1"), chunks=(1, 5)),
        "v3 1-d": stored(mask(50), chunks=(7,)),
        "v3 4-d": stored(mask(3, 7, 2, 9), chunks=(2, 3, 2, 4)),
        "v2": stored(**V2),
        "v2 raw": stored(compressors=None, **V2),
        "v2 fortran": stored(order="F", **V2),
        "v2 big-endian": stored(LABELS.astype(">i4"), **V2),
        "v2 slashes": stored(chunk_key_encoding={"name": "v2", "separator": "/"}, **V2),
        "v2 missing": stored(skip=True, fill_value=1, **V2),
        "v2 0-d": stored(np.array(3, ">u2"), zarr_format=2),
        "v2 bool": stored(mask(20, 31, labels=2, dtype=bool), **V2),
        "shards": stored(chunks=(4, 5), shards=(8, 10)),
        "shards missing": stored(skip=True, chunks=(4, 5), shards=(8, 10)),
        "shards missing, fill 4": stored(skip=True, fill_value=4, chunks=(3, 5), shards=(12, 10)),
        "shards transposed": stored(
            chunks=(4, 5), shards=(8, 10), filters=TransposeCodec(order=(1, 0))
        ),
        "index first": sharded(index_location="start"),
        "index first, missing": sharded(skip=True, index_location="start"),
        "index unchecked": sharded(skip=True, index_codecs=[BytesCodec()]),
        "index big-endian": sharded(
            skip=True, index_codecs=[BytesCodec(endian="big"), Crc32cCodec()]
        ),
        "shards compressed": sharded(skip=True, codecs=[BytesCodec(), ZstdCodec()]),
        "one shard": stored(chunks=(5, 31), shards=(20, 31)),
    }


def through(wrap: Callable[[Path], Any], **options: Any) -> Case:
    """An array in a folder, handed over in some other way."""

    def make(folder: Path) -> tuple[Any, list[np.ndarray]]:
        path, arrays = stored(skip=True, **(V3 | options))(folder)
        return wrap(path), arrays

    return make


def grouped(zarr_format: int, name: str, pick: Callable[[Path], Any]) -> Case:
    def make(folder: Path) -> tuple[Any, list[np.ndarray]]:
        group = zarr.open_group(folder / "g.zarr", mode="w", zarr_format=zarr_format)
        group.create_array("raw/image", shape=(5, 5), dtype="f4")
        group.create_array(name, shape=LABELS.shape, dtype="u1", chunks=(8, 10))[...] = LABELS
        (folder / "g.zarr" / "README").write_text("Beside the arrays.")
        return pick(folder / "g.zarr"), [LABELS]

    return make


def zipped(name: str, pick: Callable[[Path], Any]) -> Case:
    def make(folder: Path) -> tuple[Any, list[np.ndarray]]:
        path = folder / "labels.zarr.zip"
        with ZipStore(path, mode="w") as store:
            array = zarr.create_array(
                store, name=name or None, shape=LABELS.shape, dtype="u1", chunks=(8, 10)
            )
            expected = fill(array, LABELS, skip=True)
        return pick(path), [expected]

    return make


class TestZarrOpened(SourceContract):
    cases: ClassVar[dict[str, Case]] = {
        "array": through(zarr.open_array),
        "array v2": through(zarr.open_array, zarr_format=2),
        "store": through(LocalStore),
        "text": through(str),
        "uri": through(Path.as_uri),
        "text/": through(lambda path: f"{path}/"),
        "group v3": grouped(3, "labels", lambda path: path),
        "group v2": grouped(2, "labels", lambda path: path),
        "open group": grouped(3, "deep/er/labels", lambda path: zarr.open_group(path, mode="r")),
        "named in group": grouped(3, "deep/labels", lambda path: f"{path}/deep/labels"),
        "group in group": grouped(2, "deep/labels", lambda path: path / "deep"),
        "zip": zipped("", lambda path: path),
        "group in zip": zipped("a/b", lambda path: path),
        "named in zip": zipped("a/b", lambda path: f"{path}/a/b"),
    }


def in_memory(pick: Callable[[MemoryStore], Any], **options: Any) -> Case:
    def make(folder: Path) -> tuple[Any, list[np.ndarray]]:
        store = MemoryStore()
        array = zarr.create_array(
            store, name="labels", shape=LABELS.shape, dtype="u1", **(V3 | options)
        )
        return pick(store), [fill(array, LABELS, skip=True)]

    return make


class TestZarrMemory(SourceContract):
    anonymous = True
    cases: ClassVar[dict[str, Case]] = {
        "store": in_memory(lambda store: store),
        "store path": in_memory(lambda store: StorePath(store, "labels")),
        "array": in_memory(lambda store: zarr.open_array(store, path="labels")),
        "shards": in_memory(lambda store: store, chunks=(4, 5), shards=(8, 10)),
        "v2": in_memory(lambda store: store, zarr_format=2),
    }


# ---- chunks that do not exist ----

SHARDED = {"chunks": (4, 5), "shards": (8, 10)}


@pytest.fixture(params=[V3, V2, SHARDED], ids=["v3", "v2", "shards"])
def layout(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Ways of storing chunks."""
    options: dict[str, Any] = request.param
    return options


def with_holes(folder: Path, layout: dict[str, Any], dtype: str = "u1", **options: Any) -> Path:
    """An array of 16 x 20 pixels of label 1 whose first 4 rows, right of column 5, are missing."""
    array = zarr.create_array(
        folder / "holes.zarr", shape=(16, 20), dtype=dtype, overwrite=True, **layout, **options
    )
    array[...] = 1
    if "shards" in layout:
        array[:4, 5:] = array.metadata.fill_value
    else:
        for key in ("0.1", "0/1"):
            for path in (folder / "holes.zarr").rglob(key):
                path.unlink()
    return folder / "holes.zarr"


def holes(layout: dict[str, Any]) -> int:
    return 60 if "shards" in layout else 80


def test_missing__fill_counts_the_fill_value_and_says_so(
    tmp_path: Path, layout: dict[str, Any]
) -> None:
    path = with_holes(tmp_path, layout, fill_value=7)
    counts = fc.count(path)
    assert said(counts)["pixels"] == {1: 320 - holes(layout), 7: holes(layout)}
    assert counts.ledger.filled == holes(layout)
    assert counts.ledger.missing == 0


def test_missing__fill_value_that_is_ignored(tmp_path: Path, layout: dict[str, Any]) -> None:
    counts = fc.count(with_holes(tmp_path, layout, fill_value=255), ignore=255)
    assert counts.ledger.ignored[255].pixels == holes(layout)
    assert (counts.ledger.counted, counts.ledger.filled) == (320 - holes(layout), 0)


def test_missing__fill_value_of_no_class(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = with_holes(tmp_path, layout, fill_value=9)
    for items in ("array", 0, 1):
        counts = fc.count(path, classes=3, items=items, source_id="s", workers=2)
        array = np.asarray(zarr.open_array(path)[...])
        assert said_places(counts) == places(pictures(array, items, "s"), classes=3)
        assert counts.ledger.unexpected[9].pixels == holes(layout)
        assert counts.ledger.filled == 0


@pytest.mark.parametrize(
    ("value", "outcome"), [("NaN", "nodata"), (0.5, "error"), ("Infinity", "error"), (3.0, "3")]
)
def test_missing__fill_value_of_floats(
    tmp_path: Path, layout: dict[str, Any], value: Any, outcome: str
) -> None:
    path = with_holes(tmp_path, layout, dtype="f4", fill_value=float(value))
    if outcome == "error":
        with pytest.raises(NonIntegralLabel, match=r"holes\.zarr"):
            fc.count(path)
        return
    counts = fc.count(path)
    if outcome == "nodata":
        assert (counts.ledger.nodata, counts.ledger.filled) == (holes(layout), 0)
    else:
        assert said(counts)["pixels"][3] == counts.ledger.filled == holes(layout)


def test_missing__null_fill_value(tmp_path: Path) -> None:
    path = with_holes(tmp_path, V2)
    metadata = json.loads((path / ".zarray").read_text())
    metadata["fill_value"] = None
    (path / ".zarray").write_text(json.dumps(metadata))
    with pytest.raises(MissingChunk, match=r"0\.1.*no fill value.*separate"):
        fc.count(path)
    assert fc.count(path, missing="separate").ledger.missing == 80
    whole = fc.count(path, region=(slice(8, 16),))
    assert whole.pixels.tolist() == [160]


def test_missing__separate_keeps_them_apart(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = with_holes(tmp_path, layout, fill_value=3)
    for items in ("array", 0, 1):
        counts = fc.count(path, missing="separate", items=items)
        assert counts.ledger.missing == holes(layout)
        assert said(counts)["pixels"] == {1: 320 - holes(layout)}
        assert counts.items == {"array": 1, 0: 16, 1: 20}[items]
        assert not counts.open_items
        parts = [fc.count(path, missing="separate", items=items, part=(n, 3)) for n in range(3)]
        assert sum(parts) == counts


def test_missing__raise_names_the_chunk(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = with_holes(tmp_path, layout)
    with pytest.raises(MissingChunk, match=r"holes\.zarr: chunk .*0.* does not exist") as caught:
        fc.count(path, missing="raise")
    assert isinstance(caught.value, OSError)
    assert fc.count(path, missing="raise", region=(slice(8, 16),)).ledger.total == 160


def test_missing__not_offered_where_it_cannot_be_known(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LABELS)
    nested = ShardingCodec(chunk_shape=(4, 5), codecs=[ShardingCodec(chunk_shape=(2, 5))])
    inner = ShardingCodec(chunk_shape=(4, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python advises against what it can read
        for name, serializer, compressors in (
            ("nested", nested, None),
            ("compressed", inner, GzipCodec()),
        ):
            zarr.create_array(
                tmp_path / name,
                shape=(8, 10),
                dtype="u1",
                chunks=(8, 10),
                serializer=serializer,
                compressors=compressors,
            )
    for target in (LABELS, tmp_path / "a.npy"):
        for policy in ("separate", "raise"):
            with pytest.raises(OptionError, match="fill"):
                fc.count(target, missing=policy)
        assert fc.count(target).ledger.filled == 0
    for name in ("nested", "compressed"):
        try:
            assert fc.count(tmp_path / name, missing="separate").ledger.missing == 80
        except OptionError as error:
            assert "fill" in str(error)  # noqa: PT017  refusing is right as well


# ---- damage ----

HARMLESS = {
    ("raw", "noise"): "nothing protects these bytes",
    ("blosc", "long"): "the frame says where it ends",
}


def chunk_of(path: Path) -> Path:
    return max(
        found for found in path.rglob("*") if found.is_file() and found.name[0] in "0123456789"
    )


def test_damage__is_recorded_with_the_pixels_that_it_costs(tmp_path: Path) -> None:
    path, (array,) = stored(LABELS + 1, **V3)(tmp_path)
    chunk_of(path).write_bytes(b"damaged")
    for items in ("array", 0):
        counts = fc.count(path, on_error="record", items=items, workers=2)
        assert counts.ledger.failed == 4
        assert counts.ledger.total == array.size
        assert not counts.open_items
        (failure,) = counts.provenance["runs"][0]["failures"]
        assert failure["box"] == [[16, 20], [30, 31]]
        parts = [
            fc.count(path, on_error="record", items=items, part=(n, 4), workers=1) for n in range(4)
        ]
        assert sum(parts) == counts


@pytest.mark.parametrize("damage", ["cut", "empty", "long", "noise", "folder", "short content"])
@pytest.mark.parametrize("codec", ["zstd", "gzip", "raw", "blosc", "shards"])
def test_damage__is_an_error_that_names_the_chunk(tmp_path: Path, codec: str, damage: str) -> None:
    codecs: dict[str, Any] = {
        "zstd": {"compressors": ZstdCodec()},
        "gzip": {"compressors": GzipCodec()},
        "raw": {"compressors": None},
        "blosc": {"compressors": BloscCodec()},
        "shards": {"shards": (16, 20)},
    }
    options = V3 | codecs[codec]
    path, (array,) = stored(LABELS + 1, **options)(tmp_path)
    chunk = chunk_of(path)
    content = chunk.read_bytes()
    if damage == "folder":
        chunk.unlink()
        chunk.mkdir()
    elif damage == "short content":
        smaller, _ = stored(
            np.ones((2, 2), "u1"),
            chunks=(2, 2),
            **codecs[codec] | ({"shards": (4, 4)} if codec == "shards" else {}),
        )(tmp_path / "other")
        chunk.write_bytes(chunk_of(smaller).read_bytes())
    else:
        changed = {
            "cut": content[:-3],
            "empty": b"",
            "long": content + b"more",
            "noise": bytes(255 - byte for byte in content),
        }
        chunk.write_bytes(changed[damage])
    if (codec, damage) in HARMLESS:
        assert fc.count(path).ledger.total == array.size
        return
    key = chunk.relative_to(path).as_posix()
    with pytest.raises(ReadError, match=rf"labels\.zarr: .*{key}"):
        fc.count(path, workers=2)
    counts = fc.count(path, on_error="record", workers=2)
    assert counts.ledger.failed > 0
    assert counts.ledger.total == array.size
    assert said(counts)["pixels"].get(0, 0) == counts.ledger.filled  # no zeros out of nothing


# ---- metadata ----


def metadata(folder: Path, name: str, text: str) -> Path:
    path = folder / "lies.zarr"
    path.mkdir()
    (path / name).write_text(text)
    return path


GOOD_V2 = {
    "zarr_format": 2,
    "shape": [4, 4],
    "chunks": [2, 2],
    "dtype": "|u1",
    "order": "C",
    "fill_value": 0,
    "compressor": None,
    "filters": None,
}


@pytest.mark.parametrize(
    "lie",
    [
        {"zarr_format": 7},
        {"shape": [-4, 4]},
        {"shape": ["a", 4]},
        {"shape": None},
        {"chunks": [0, 2]},
        {"chunks": [2]},
        {"dtype": "|O"},
        {"dtype": "<c8"},
        {"dtype": "no type"},
        {"fill_value": 300},
        {"fill_value": "abc"},
        {"compressor": {"id": "no such codec"}},
        {"order": "X"},
    ],
    ids=str,
)
def test_metadata__that_lies_is_refused_by_name(tmp_path: Path, lie: dict[str, Any]) -> None:
    path = metadata(tmp_path, ".zarray", json.dumps(GOOD_V2 | lie))
    with pytest.raises(UnsupportedSource, match=r"lies\.zarr") as caught:
        fc.count(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"zarr_format": 3}'])
@pytest.mark.parametrize("name", ["zarr.json", ".zarray"])
def test_metadata__that_is_none_is_refused_by_name(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(SourceError, match=r"lies\.zarr"):
        fc.count(metadata(tmp_path, name, text))


def test_group__without_integers(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    with pytest.raises(UnsupportedSource, match="empty"):
        fc.count(tmp_path / "g.zarr")
    group.create_array("image", shape=(2, 2), dtype="f4")
    with pytest.raises(UnsupportedSource, match=r"image \(float32\)"):
        fc.count(tmp_path / "g.zarr")
    assert fc.count(tmp_path / "g.zarr" / "image").ledger.filled == 4


def test_zip__that_is_damaged(tmp_path: Path) -> None:
    path, _ = zipped("", lambda path: path)(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    with pytest.raises(ReadError, match=r"labels\.zarr\.zip"):
        fc.count(path)
    path.write_bytes(b"hello")
    with pytest.raises(ReadError, match=r"labels\.zarr\.zip"):
        fc.count(path)
