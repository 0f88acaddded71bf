"""Zarr arrays whose metadata changes after they were opened, or while they are counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore, ZipStore

import fastcounts as fc
from fastcounts.errors import ReadError
from fastcounts.sources import open_source, zarr_arrays

BASE: dict[str, Any] = {
    "shape": (16, 16), "chunks": (8, 8), "dtype": "u1", "fill_value": 0, "compressors": None
}  # fmt: skip

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "dtype": ({"dtype": "i1"}, r'd(ata_)?type: "[|]?u(int8|1)" -> "[|]?i(nt8|1)"'),
    "fill value": ({"fill_value": 9}, "fill_value: 0 -> 9"),
    "shape": ({"shape": (16, 8)}, r"shape: \[16, 16\] -> \[16, 8\]"),
    "chunks": ({"chunks": (4, 8)}, r"chunk(s|_grid): .*8, 8.* -> .*4, 8"),
    "codecs": (
        {"compressors": "auto"},
        r"(codecs|compressor): .* -> .*(checksum|zstd)",
    ),
    "dtype, fill value": ({"dtype": "i2", "fill_value": -1}, r"type: .*; fill_value: 0 -> -1"),
}


def write(store: Any, **changes: Any) -> zarr.Array[Any]:
    array = zarr.create_array(store, overwrite=True, **BASE | changes)
    array[...] = 1
    return array


def change_while_counting(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Have the array changed when its first chunk is asked for."""
    read_many = zarr_arrays.ZarrSource.read_many
    done: list[bool] = []

    def changing(self: Any, *given: Any, **options: Any) -> Any:
        if not done:
            done.append(True)
            change()
        return read_many(self, *given, **options)

    monkeypatch.setattr(zarr_arrays.ZarrSource, "read_many", changing)


@pytest.mark.parametrize("scheduler", [None, "synchronous"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=list(CHANGES))
def test_an_array_rewritten_while_it_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, words: str, version: int,
    scheduler: Any,
) -> None:  # fmt: skip
    path = tmp_path / "m.zarr"
    write(path, zarr_format=version)
    change_while_counting(monkeypatch, lambda: write(path, zarr_format=version, **change))
    with pytest.raises(ReadError, match=rf"m\.zarr: .*(changed since|cannot be read).*{words}"):
        fc.count(path, scheduler=scheduler, on_error="record", workers=1)
    assert fc.count(path).pixels.tolist() == [np.prod(change.get("shape", (16, 16)))]


@pytest.mark.parametrize("shards", [(8, 8), (16, 16)])
def test_other_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: Any) -> None:
    path = tmp_path / "m.zarr"
    write(path, chunks=(4, 4), shards=shards)
    change_while_counting(
        monkeypatch, lambda: write(path, chunks=(2, 4), shards=shards, fill_value=3)
    )
    with pytest.raises(ReadError, match=r"codecs: .*; fill_value: 0 -> 3"):
        fc.count(path, on_error="record", workers=1)


def test_another_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.zarr"
    write(path)

    def rewrite() -> None:
        shutil.rmtree(path)
        write(path, zarr_format=2)

    change_while_counting(monkeypatch, rewrite)
    with pytest.raises(ReadError, match="zarr_format: 3 -> 2"):
        fc.count(path, workers=1)


def test_metadata_that_cannot_be_read_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "m.zarr")
    change_while_counting(
        monkeypatch, lambda: (tmp_path / "m.zarr" / "zarr.json").write_text('{"zarr')
    )
    with pytest.raises(ReadError, match=r"m\.zarr: its metadata changed .*it cannot be read") as e:
        fc.count(tmp_path / "m.zarr", workers=1)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("scheduler", [None, "threads", "synchronous", "processes"])
def test_an_open_array_that_was_rewritten(tmp_path: Path, scheduler: Any) -> None:
    array = write(tmp_path / "m.zarr")
    lazy = da.from_zarr(str(tmp_path / "m.zarr"))
    write(tmp_path / "m.zarr", dtype="i1")
    for given in (array, lazy):
        with pytest.raises(ReadError, match=r"data_type: .*Count it again"):
            fc.count(given, scheduler=scheduler)


def in_memory() -> Any:
    return MemoryStore()


def in_fsspec() -> Any:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    fsspec.filesystem("memory").store.clear()
    return zarr.storage.FsspecStore.from_url("memory://changed.zarr")


def in_obstore() -> Any:
    obstore = pytest.importorskip("obstore.store", reason="obstore is not installed")
    return zarr.storage.ObjectStore(obstore.MemoryStore())


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("make", [in_memory, in_fsspec, in_obstore])
def test_other_stores(monkeypatch: pytest.MonkeyPatch, make: Any, version: int) -> None:
    store = make()
    array = write(store, zarr_format=version)
    assert fc.count(array).pixels.tolist() == [256]
    change_while_counting(monkeypatch, lambda: write(store, zarr_format=version, dtype="i1"))
    with pytest.raises(ReadError, match=r"type: .* -> "):
        fc.count(array, workers=1)


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, changes in (("old", {}), ("same", {}), ("new", {"fill_value": 9})):
        with ZipStore(tmp_path / f"{name}.zip", mode="w") as store:
            zarr.create_array(store, **BASE | changes)[:8] = 1
    path = tmp_path / "m.zip"
    for name in ("same", "new"):
        shutil.copy(tmp_path / "old.zip", path)
        with monkeypatch.context() as patch:
            change_while_counting(patch, lambda name=name: (tmp_path / f"{name}.zip").replace(path))
            if name == "same":
                assert fc.count(path, workers=1).pixels.tolist() == [128, 128]
                continue
            with pytest.raises(ReadError, match=r"m\.zip: .*fill_value: 0 -> 9"):
                fc.count(path, workers=1)
            shutil.copy(tmp_path / "old.zip", path)
            change_while_counting(patch, path.unlink)
            with pytest.raises(ReadError, match=r"m\.zip: "):
                fc.count(path, workers=1)


@pytest.mark.parametrize("version", [2, 3])
def test_attributes_that_say_what_labels_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    path = tmp_path / "m.zarr"
    write(path, zarr_format=version).attrs["history"] = "made"
    array = zarr.open_array(path)
    with monkeypatch.context() as patch:
        change_while_counting(patch, lambda: array.update_attributes({"history": "checked"}))
        assert fc.count(path, workers=1).pixels.tolist() == [256]
    change_while_counting(monkeypatch, lambda: array.update_attributes({"_FillValue": 1}))
    with pytest.raises(ReadError, match=r"attributes\._FillValue: null -> 1"):
        fc.count(path, workers=1)


def test_attributes_that_are_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "m.zarr", zarr_format=2).attrs["_FillValue"] = 1
    change_while_counting(monkeypatch, (tmp_path / "m.zarr" / ".zattrs").unlink)
    with pytest.raises(ReadError, match=r"attributes\._FillValue: 1 -> null"):
        fc.count(tmp_path / "m.zarr", workers=1)


class Closed(LocalStore):
    """A store that forbids to read attributes."""

    closed = False

    async def get(self, key: str, *given: Any, **options: Any) -> Any:
        if self.closed and key.endswith(".zattrs"):
            raise PermissionError(403, "Forbidden")
        return await super().get(key, *given, **options)


def test_attributes_that_may_not_be_read(tmp_path: Path) -> None:
    store = Closed(tmp_path / "m.zarr")
    array = write(store, zarr_format=2)
    array.attrs["_FillValue"] = 9
    store.closed = True
    assert fc.count(array).pixels.tolist() == [256]


def test_metadata_is_parsed_once_while_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "m.zarr")
    source = open_source(tmp_path / "m.zarr")
    source.confirm()
    parsed: list[object] = []
    monkeypatch.setattr(json, "loads", lambda *text: parsed.append(text))
    source.confirm()
    assert parsed == []
