"""Chunks declared larger than any memory: arithmetic if they are missing, else an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import zarr
from zarr.storage import MemoryStore

import fastcounts as fc
from fastcounts import cli
from fastcounts.errors import MemoryBudgetError

HUGE = 2**50
MOST = 2**63 - 1

LAYOUTS: dict[str, dict[str, Any]] = {
    "format 3": {"chunks": (HUGE,)},
    "format 2": {"chunks": (HUGE,), "zarr_format": 2},
    "not compressed": {"chunks": (HUGE,), "compressors": None},
    "one": {"chunks": (MOST,)},
    "shards": {"chunks": (HUGE,), "shards": (4 * HUGE,)},
}


@pytest.mark.parametrize("store", ["folder", "memory"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_missing_chunks_are_counted_without_memory(
    tmp_path: Path, layout: dict[str, Any], store: str
) -> None:
    place: Any = tmp_path / "m.zarr" if store == "folder" else MemoryStore()
    array = zarr.create_array(place, shape=(MOST,), dtype="u1", fill_value=3, **layout)
    counts = fc.count(array)
    assert dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True)) == {3: MOST}
    assert counts.ledger.filled == MOST
    assert fc.count(array, missing="separate").ledger.missing == MOST
    part = fc.count(array, region=slice(5, 2**40), on_error="record")
    assert part.ledger.filled == 2**40 - 5


@pytest.mark.parametrize("store", ["folder", "memory"])
@pytest.mark.parametrize("name", ["format 3", "format 2"])
def test_a_chunk_that_exists_is_an_error_in_words(
    tmp_path: Path, name: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place: Any = tmp_path / "m.zarr" if store == "folder" else MemoryStore()
    array = zarr.create_array(place, shape=(MOST,), dtype="u1", **LAYOUTS[name])
    key = "c/0" if name == "format 3" else "0"
    content = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(b"some bytes")
    zarr.core.sync.sync(array.store.set(key, content))
    with pytest.raises(MemoryBudgetError, match=f"a chunk of {HUGE} bytes cannot be read") as e:
        fc.count(array)
    assert "\n" not in str(e.value)
    if store == "folder":
        with pytest.raises(SystemExit) as end:
            cli.main(["count", str(tmp_path / "m.zarr")])
        assert end.value.code in (2, 3)
        assert "cannot be allocated" in capsys.readouterr().err
