"""Iterators: counted like the list of what they yield, and not kept in memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_sources import mask

import fastcounts as fc
from fastcounts.engine import streaming
from fastcounts.errors import OptionError, UnexpectedLabel, UnsupportedSource


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a few masks."""
    monkeypatch.setattr(streaming, "BATCH_BYTES", 4000)
    monkeypatch.setattr(streaming, "COPIED_BYTES", 1500)


def masks(number: int = 30) -> list[np.ndarray]:
    return [mask(10 + seed, 9 + 7 * (seed % 5), seed=seed) for seed in range(number)]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"keep_items": True},
    {"items": 0, "keep_items": True},
    {"items": "array", "ignore": 3, "classes": 3},
    {"region": (slice(2, 5),)},
    {"on_error": "record", "workers": 1},
]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_iterator_is_counted_like_its_list(options: dict[str, Any]) -> None:
    listed, streamed = fc.count(masks(), **options), fc.count(iter(masks()), **options)
    assert streamed == listed
    assert streamed.ledger.to_dict() == listed.ledger.to_dict()  # places of unexpected labels too
    if listed.item_table is not None:
        assert streamed.item_table == listed.item_table
    (one,), (other,) = streamed.provenance["runs"], listed.provenance["runs"]
    assert one.keys() == other.keys()
    same = ("arrays", "pixels", "sources", "skipped", "failures", "part", "chunks")
    assert all(one[name] == other[name] for name in same)


@given(
    shapes=st.lists(st.integers(0, 60), max_size=12, min_size=1),
    limit=st.integers(1, 6000),
    copied=st.integers(1, 3000),
)
def test_batches_hold_every_mask_once(shapes: list[int], limit: int, copied: int) -> None:
    given_masks = [np.full((n, 50), n % 7, np.uint8) for n in shapes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "BATCH_BYTES", limit)
        patch.setattr(streaming, "COPIED_BYTES", copied)
        found = list(streaming.batches(iter(given_masks), None))
        assert fc.count(iter(given_masks)) == fc.count(given_masks)
    assert all(found)
    assert [one.tobytes() for batch in found for one in batch] == [
        one.tobytes() for one in given_masks
    ]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("pixels", [50, 5000])
def test_a_buffer_that_is_used_again_is_counted_as_it_was(pixels: int) -> None:
    def reuse() -> Iterator[np.ndarray]:
        buffer = np.empty(pixels, np.uint8)
        for label in range(40):
            buffer[:] = label
            yield buffer

    counts = fc.count(reuse())
    assert counts.labels.tolist() == list(range(40))
    assert set(counts.pixels.tolist()) == {pixels}


def test_arrays_are_not_kept() -> None:
    size = 24 << 20

    def make() -> Iterator[np.ndarray]:
        for seed in range(8):
            yield np.full(size, seed, np.uint8)

    fc.count(np.zeros(3, np.uint8))
    tracemalloc.start()
    try:
        counts = fc.count(make())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counts.ledger.total == 8 * size
    assert peak < 4 * size


@pytest.mark.usefixtures("small")
def test_masked_arrays_and_lists_and_files_between(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", mask(5, 5))
    hidden = np.ma.masked_equal(mask(20, 20), 2)
    targets = [hidden, tmp_path / "a.npy", [mask(30, 30), hidden], *masks(5), hidden]
    assert fc.count(iter(targets)) == fc.count(targets)


@pytest.mark.usefixtures("small")
def test_a_file_that_comes_twice_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", mask(5, 5))
    for targets in (
        [tmp_path / "a.npy", tmp_path / "a.npy"],
        [tmp_path / "a.npy", *masks(20), tmp_path / "a.npy"],
    ):
        with pytest.raises(OptionError, match="twice"):
            fc.count(iter(targets))


@pytest.mark.parametrize("number", [1, 30])
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("option", [{"part": (0, 2)}, {"source_id": "set"}])
def test_arrays_that_pass_by_have_no_names(number: int, option: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(option))}: the arrays of an iterator"):
        fc.count(iter(masks(number)), **option)


def test_paths_have_names(tmp_path: Path) -> None:
    for seed in range(4):
        np.save(tmp_path / f"{seed}.npy", mask(4, 4, seed=seed))
    whole = fc.count(tmp_path.glob("*.npy"))
    assert sum(fc.count(tmp_path.glob("*.npy"), part=(n, 2)) for n in range(2)) == whole
    assert fc.count(tmp_path.glob("*.npy"), scheduler="synchronous") == whole
    assert list(fc.count(tmp_path.glob("0.npy"), source_id="set").covers.sources) == ["set"]


def test_arrays_that_pass_by_are_counted_in_this_process() -> None:
    with pytest.raises(OptionError, match="memory of this process"):
        fc.count(iter(masks()), scheduler="synchronous")


@pytest.mark.usefixtures("small")
def test_errors_name_the_mask(tmp_path: Path) -> None:
    wrong = np.full((3, 3), 0.5)
    with pytest.raises(fc.errors.NonIntegralLabel, match="array 20"):
        fc.count(iter([*masks(20), wrong]))
    with pytest.raises(UnexpectedLabel):
        fc.count(iter(masks()), classes=2, strict=True)
    with pytest.raises(UnsupportedSource, match="int"):
        fc.count(iter([*masks(20), 3]))
    with pytest.raises(OptionError, match="empty"):
        fc.count(iter([]))


@pytest.mark.usefixtures("small")
def test_events_add_up() -> None:
    heard: list[Any] = []
    counts = fc.count(iter(masks()), progress=heard.append)
    begun = [event for event in heard if isinstance(event, fc.engine.events.Started)]
    ended = [event for event in heard if isinstance(event, fc.engine.events.Finished)]
    assert len(begun) == len(ended) > 2
    assert sum(event.pixels for event in begun) == counts.ledger.total


def test_a_small_budget_makes_small_batches() -> None:
    sizes = [len(batch) for batch in streaming.batches(iter(masks()), 8000)]
    assert max(sizes) < 10
    assert fc.count(iter(masks()), memory="64MB") == fc.count(masks())
