"""What every source promises, and how a source is found for what a user gives."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from reference import answer, check_ledger, pictures, said
from strategies import units

import fastcounts as fc
from fastcounts.errors import (
    AmbiguousSource,
    FastcountsError,
    IncompatibleCounts,
    OptionError,
    SourceNotFound,
    UnsupportedSource,
)
from fastcounts.grid import volume
from fastcounts.plan import make_plan
from fastcounts.sources import open_source
from fastcounts.sources.port import box_slices

Case = Callable[[Path], tuple[Any, list[np.ndarray]]]
"""Makes something to count in a folder; returns it, and the arrays that it holds, in order."""


def mask(*shape: int, dtype: Any = np.uint8, labels: int = 5, seed: int = 0) -> np.ndarray:
    """A mask of contiguous regions, as masks are."""
    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, labels, tuple(-(-length // 3) for length in shape))
    for axis in range(len(shape)):
        coarse = np.repeat(coarse, 3, axis=axis)
    return coarse[tuple(slice(0, length) for length in shape)].astype(dtype)


def fingerprint(folder: Path) -> str:
    """Of every file in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


class SourceContract:
    """Every test runs for every one of ``cases``; a new source lists its own."""

    cases: ClassVar[dict[str, Case]] = {}
    anonymous: ClassVar[bool] = False
    """Whether the source has no name, so that it can be added to itself."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Path:
        """A folder for the case, apart from whatever else a test writes."""
        folder = tmp_path / "store"
        folder.mkdir()
        return folder

    def test_count__equals_the_oracle(self, case: Case, store: Path) -> None:
        target, arrays = case(store)
        counts = fc.count(target, items="array", ignore=3, classes=4, keep_items=True)
        expected = answer([one for array in arrays for one in pictures(array)], (3,), 4)
        assert expected["total"] == sum(array.size for array in arrays)
        got = said(counts)
        assert got.keys() == expected.keys()
        rows = [sorted(row for _, row in table.pop("rows")) for table in (got, expected)]
        assert got == expected
        assert rows[0] == rows[1]
        check_ledger(counts)

    def test_arrays__are_what_is_there(self, case: Case, store: Path) -> None:
        target, arrays = case(store)
        source = open_source(target)
        assert [info.shape for info in source.arrays] == [array.shape for array in arrays]
        for info, array in zip(source.arrays, arrays, strict=True):
            assert info.dtype == array.dtype.newbyteorder("=") or info.dtype == array.dtype
            assert info.name
            assert bool(info.source) != self.anonymous
            assert len(info.chunks) == array.ndim
            assert min(info.chunks, default=1) > 0

    def test_blocks__hold_every_element_once(self, case: Case, store: Path) -> None:
        target, arrays = case(store)
        with units(7):
            source = open_source(target)
            plan = make_plan(source.arrays, items="array")
            seen = [np.zeros(array.shape, int) for array in arrays]
            for block in plan.blocks():
                pieces = list(source.read(block.array, block.box))
                assert sum(volume(piece.box) for piece in pieces) == volume(block.box)
                for piece in pieces:
                    self.check_piece(source, block.array, piece, arrays[block.array])
                    seen[block.array][box_slices(piece.box)] += 1
        assert all((array == 1).all() for array in seen)

    def check_piece(self, source: Any, number: int, piece: Any, array: np.ndarray) -> None:
        expected = array[box_slices(piece.box)]
        if piece.pixels is None:
            assert source.knows_missing(number)
            assert (expected == source.fill_value(number)).all()
            return
        assert piece.pixels.shape == expected.shape
        assert np.array_equal(np.ma.getdata(piece.pixels), np.ma.getdata(expected))
        assert np.array_equal(np.ma.getmaskarray(piece.pixels), np.ma.getmaskarray(expected))

    def test_weight__of_parts_adds_up_and_ways_say_what_is_told_apart(
        self, case: Case, store: Path
    ) -> None:
        target, _ = case(store)
        source = open_source(target)
        plan = make_plan(source.arrays, items="array")
        for number, start, stop in plan.shares():
            grid, way = plan.grids[number], source.way(number)
            units = [source.weigh(number, grid, n, n + 1) for n in range(start, stop)]
            whole = source.weigh(number, grid, start, stop)
            if whole.missing is not None:
                assert whole.missing == sum(unit.missing or 0 for unit in units)
                assert 0 <= whole.missing <= stop - start
            if all(unit.stored_bytes is not None for unit in units):
                assert whole.stored_bytes == sum(unit.stored_bytes or 0 for unit in units)
            fetched = source.fetch(number, [grid.box(n) for n in range(start, stop)])
            assert way.kind in ("mapped", "file", "chunks", "zarr-python")
            assert (fetched is not None) == (way.kind == "chunks")
            assert (way.obstacle != "") == (way.kind == "zarr-python")

    def test_count__independent_of_workers_and_parts(self, case: Case, store: Path) -> None:
        target, _ = case(store)
        options: dict[str, Any] = {"items": "array", "keep_items": True}
        options |= {"source_id": "it"} if self.anonymous else {}
        with units(11):
            run = fc.count(target, workers=1, **options)
            assert fc.count(target, workers=3, **options) == run
            parts = [fc.count(target, part=(n, 3), workers=1, **options) for n in (2, 0, 1)]
        assert sum(parts) == run
        assert sum(parts).incomplete is None

    def test_items__lie_along_any_axis(self, case: Case, store: Path) -> None:
        target, arrays = case(store)
        for axis in range(min(array.ndim for array in arrays)):
            counts = fc.count(target, items=axis, keep_items=True)
            stacks = [one for array in arrays for one in pictures(array, axis)]
            expected = answer(stacks)
            got = said(counts)
            rows = [sorted(row for _, row in table.pop("rows")) for table in (got, expected)]
            assert got == expected
            assert rows[0] == rows[1]

    def test_names__tell_the_same_data_from_other_data(self, case: Case, store: Path) -> None:
        target, arrays = case(store)
        counts = fc.count(target)
        if self.anonymous or not counts.ledger.total:
            assert (counts + counts).ledger.total == 2 * counts.ledger.total
            return
        with pytest.raises(IncompatibleCounts, match="twice"):
            counts + fc.count(target)
        other = fc.count(target, source_id="another")
        assert (counts + other).ledger.total == 2 * sum(array.size for array in arrays)
        assert (counts + other) - counts == other

    def test_region__is_cut_out(self, case: Case, store: Path) -> None:
        target, arrays = case(store)
        region = tuple(slice(min(1, n), n) for n in arrays[0].shape)
        if any(array.shape != arrays[0].shape for array in arrays):
            return
        counts = fc.count(target, region=region)
        expected = answer([one for array in arrays for one in pictures(array, region=region)])
        assert said(counts)["pixels"] == expected["pixels"]
        assert counts.ledger.total == expected["total"]

    def test_reading__changes_nothing(self, case: Case, store: Path) -> None:
        target, _ = case(store)
        before = fingerprint(store)
        fc.count(target)
        assert fingerprint(store) == before

    def test_counts__travel(self, case: Case, store: Path, tmp_path: Path) -> None:
        target, _ = case(store)
        counts = fc.count(target, keep_items=True)
        assert pickle.loads(pickle.dumps(counts)) == counts
        for name in ("counts.json", "counts.npz"):
            counts.save(tmp_path / name)
            assert fc.load(tmp_path / name) == counts


# ---- from what a user gives to a source ----


def test_open__refuses_what_is_no_source() -> None:
    class Quantity:
        """Converts itself, and loses its unit on the way."""

        def __array__(self) -> np.ndarray:
            return np.zeros(3)

    for target in (3, 3.5, None, object(), {"a": 1}, {1, 2}, lambda: 0, Quantity(), [[1, 2], [3]]):
        with pytest.raises(UnsupportedSource) as caught:
            fc.count(target)
        assert isinstance(caught.value, TypeError)
    with pytest.raises(UnsupportedSource, match=r"Quantity.*convert it yourself"):
        fc.count(Quantity())


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, complex),
        np.array(["road"]),
        np.array([b"road"]),
        np.array([1, "a"], object),
        np.zeros(3, "M8[s]"),
        np.zeros(3, "m8[s]"),
        np.zeros(3, [("label", "u1")]),
        np.zeros(3, np.longdouble),
    ],
    ids=lambda array: array.dtype.name,
)
def test_open__refuses_types_that_hold_no_labels_by_name(array: np.ndarray) -> None:
    with pytest.raises(UnsupportedSource, match=r"^array: dtype .* no labels"):
        fc.count(array)


def test_open__nothing_there() -> None:
    for target in ("nothing.png", Path("no/such/folder"), "no*such?glob", "/no/such.zarr/a"):
        with pytest.raises(SourceNotFound) as caught:
            fc.count(target)
        assert isinstance(caught.value, FileNotFoundError)
        assert str(target) in str(caught.value)
    for target in ("", []):
        with pytest.raises(OptionError):
            fc.count(target)


def test_open__far_away_is_told_what_to_do() -> None:
    with pytest.raises(FastcountsError):
        fc.count("gopher://bucket/labels.zarr")


def test_list__is_one_run_of_many_kinds(tmp_path: Path) -> None:
    from PIL import Image

    first, second, third = mask(6, 5), mask(4, 4, seed=1), mask(3, 7, seed=2)
    np.save(tmp_path / "first.npy", first)
    Image.fromarray(second).save(tmp_path / "second.png")
    counts = fc.count([tmp_path / "first.npy", str(tmp_path / "second.png"), third])
    assert counts.items == 3
    assert said(counts)["pixels"] == answer(map_pictures(first, second, third))["pixels"]
    assert counts.ledger.total == 30 + 16 + 21


def map_pictures(*arrays: np.ndarray) -> list[Any]:
    return [one for array in arrays for one in pictures(array)]


def test_list__may_be_an_iterator(tmp_path: Path) -> None:
    for seed in range(3):
        np.save(tmp_path / f"{seed}.npy", mask(4, 4, seed=seed))
    assert fc.count(tmp_path.glob("*.npy")).items == 3


def test_list__refuses_one_file_twice(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", mask(4, 4))
    for again in (tmp_path / "a.npy", f"{tmp_path}/../{tmp_path.name}/a.npy"):
        with pytest.raises(OptionError, match="twice"):
            fc.count([tmp_path / "a.npy", again])


def test_names__do_not_depend_on_the_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", mask(4, 4))
    monkeypatch.chdir(tmp_path)
    spelled = [
        fc.count(target)
        for target in ("a.npy", "./a.npy", tmp_path / "a.npy", (tmp_path / "a.npy").as_uri(), ".")
    ]
    assert all(one == spelled[0] for one in spelled)
    assert len({repr(one.covers.to_list()) for one in spelled}) == 1
    assert fc.count("*.npy") == spelled[0]


def test_source_id__takes_the_place_of_the_path(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "deep").mkdir(parents=True)
        np.save(tmp_path / place / "deep" / "a.npy", mask(4, 4))
        np.save(tmp_path / place / "b.npy", mask(5, 4))
    here, there = (fc.count(tmp_path / place, source_id="set") for place in ("here", "there"))
    assert here == there
    assert sorted(here.covers.sources) == ["set/b.npy", "set/deep/a.npy"]
    half = fc.count(tmp_path / "here", source_id="set", part=(0, 2))
    assert half + fc.count(tmp_path / "there", source_id="set", part=(1, 2)) == here
    for wrong in ("", 3):
        with pytest.raises(OptionError, match="source_id"):
            fc.count(tmp_path / "here", source_id=wrong)


def test_part__needs_a_name() -> None:
    with pytest.raises(OptionError, match="source_id"):
        fc.count(mask(4, 4), part=(0, 2))


def test_group__of_several_is_ambiguous(tmp_path: Path) -> None:
    import zarr

    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    for name in ("road", "car"):
        group.create_array(name, shape=(2, 2), dtype="u1")
    with pytest.raises(AmbiguousSource, match=r"car.*road") as caught:
        fc.count(tmp_path / "g.zarr")
    assert isinstance(caught.value, ValueError)
    assert fc.count(tmp_path / "g.zarr" / "car").ledger.total == 4
