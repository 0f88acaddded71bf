"""Counts as values and as files."""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from reference import said
from strategies import arrays, meanings, units
from test_laws import feasible

import fastcounts as fc
from fastcounts.classes import join_names
from fastcounts.errors import (
    CountsError,
    CountsOverflow,
    FormatError,
    LedgerError,
    OptionError,
    SourceNotFound,
)
from fastcounts.ledger import Ignored, Ledger

SCHEMA = json.loads(
    (Path(__file__).parent.parent / "docs" / "counts.schema.json").read_text(encoding="utf-8")
)


def rich() -> fc.Counts:
    """Counts with something in every field."""
    stack = np.arange(48, dtype=np.uint16).reshape(4, 12) % 11
    with units(5):
        return fc.count(
            [stack, stack[:2] + 1],
            classes={0: "road", 1: "car", 2: "car", 3: None, 4: "sky"},
            ignore=[9, 10],
            items="array",
            keep_items=True,
            source_id="set",
            part=(0, 2),
            workers=1,
        ) + fc.count(
            stack,
            classes={0: "road", 1: "car", 2: "car", 3: None, 4: "sky"},
            ignore=[9, 10],
            items="array",
            keep_items=True,
            source_id="apart",
        )


def test_rich__has_something_in_every_field() -> None:
    data = rich().to_dict()
    assert all(data[name] for name in data if name != "fastcounts")
    assert all(data["item_table"].values())
    assert {key for entry in data["covers"] for key in entry} >= {"source", "pieces", "run"}


# ---- the schema ----


def test_schema__is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@given(st.data(), arrays(min_dims=1), meanings().filter(feasible))
def test_schema__holds_for_every_count(
    data: st.DataObject, array: np.ndarray, meaning: dict[str, Any]
) -> None:
    with units(4):
        counts = fc.count(
            array,
            items=data.draw(st.sampled_from(["auto", 0])),
            keep_items=data.draw(st.booleans()),
            source_id="a/b",
            part=(0, data.draw(st.integers(1, 3))),
            workers=1,
            **meaning,
        )
    faults = Draft202012Validator(SCHEMA).iter_errors(json.loads(json.dumps(counts.to_dict())))
    assert list(faults) == []


def test_schema__holds_for_folders_and_rich_counts(tmp_path: Path) -> None:
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, np.zeros((2, 2), np.uint8))
    np.savez(tmp_path / "c.npz", x=np.zeros(3, np.uint8))
    folder = fc.count(tmp_path)
    assert {"folder"} <= {key for entry in folder.covers.to_list() for key in entry}
    for counts in (folder, rich(), fc.Counts(), fc.Counts.from_pixels({0: 2**63 - 1})):
        Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(counts.to_dict())))
        assert fc.Counts.from_dict(json.loads(json.dumps(counts.to_dict()))) == counts


# ---- files ----


@pytest.mark.parametrize("suffix", ["json", "npz", "JSON"])
def test_save__and_load_keep_everything(tmp_path: Path, suffix: str) -> None:
    counts = rich()
    counts.save(tmp_path / f"counts.{suffix}")
    loaded = fc.load(str(tmp_path / f"counts.{suffix}"))
    assert loaded == counts
    assert said(loaded) == said(counts)
    assert loaded.to_dict() == counts.to_dict()
    assert [path.name for path in tmp_path.iterdir()] == [f"counts.{suffix}"]


def test_save__content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    rich().save(tmp_path / "a.npz")
    (tmp_path / "a.npz").rename(tmp_path / "a.json")
    assert fc.load(tmp_path / "a.json") == rich()


def test_save__refuses_other_suffixes(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"\.json or \.npz"):
        rich().save(tmp_path / "counts.txt")
    (tmp_path / "x.json").mkdir()
    with pytest.raises(OptionError, match="folder"):
        rich().save(tmp_path / "x.json")


def test_load__huge_labels_and_counts(tmp_path: Path) -> None:
    counts = fc.Counts.from_pixels({2**64 - 1: 2**62, 5: 1})
    for name in ("c.json", "c.npz"):
        counts.save(tmp_path / name)
        assert fc.load(tmp_path / name) == counts
        assert fc.load(tmp_path / name).labels.dtype == np.uint64


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of nested data with one entry replaced."""
    copy = json.loads(json.dumps(data))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


FIELDS: list[tuple[Any, ...]] = [
    (name,) for name in SCHEMA["required"] if name not in ("fastcounts", "provenance")
]
FIELDS += [("ledger", name) for name in SCHEMA["properties"]["ledger"]["required"]]
FIELDS += [("item_table", name) for name in SCHEMA["properties"]["item_table"]["required"]]
FIELDS += [("open_items", 0, name) for name in ("item", "seen", "total", "labels", "pixels")]
FIELDS += [("covers", 0), ("labels", 0), ("pixels", 0), ("ledger", "ignored", "9")]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: ".".join(map(str, field)))
def test_load__refuses_nonsense_by_field(tmp_path: Path, field: tuple[Any, ...]) -> None:
    good = rich().to_dict()
    for value in (None, "many", 1.5, True, -(2**70), {"a": 1}, [None], [0.5], [[]]):
        path = tmp_path / "counts.json"
        path.write_text(json.dumps(replaced(good, field, value)))
        with pytest.raises(FormatError) as caught:
            fc.load(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: ")
        assert str(field[0]) in text or "ledger" in text, (value, text)
        assert "\n" not in text


@pytest.mark.parametrize("name", [name for name in SCHEMA["required"] if name != "fastcounts"])
def test_load__names_the_field_that_is_missing(name: str) -> None:
    data = rich().to_dict()
    del data[name]
    if name in ("names", "members"):
        assert fc.Counts.from_dict(data) == rich()  # they follow from the options
        return
    with pytest.raises(FormatError, match=rf"^{name}: the field is missing"):
        fc.Counts.from_dict(data)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"null", b"PK\x03\x04 and so on", b"\xff\xfe", b'{"a": 1}', b"{}"],
)
def test_load__refuses_what_is_no_counts_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "counts.json").write_bytes(content)
    with pytest.raises(FormatError, match=r"counts\.json: no counts file"):
        fc.load(tmp_path / "counts.json")


def test_load__refuses_another_version() -> None:
    with pytest.raises(FormatError, match="version 2"):
        fc.Counts.from_dict(rich().to_dict() | {"fastcounts": 2})


def test_load__refuses_damaged_archives(tmp_path: Path) -> None:
    rich().save(tmp_path / "counts.npz")
    content = (tmp_path / "counts.npz").read_bytes()
    for place in range(40, len(content), max(len(content) // 60, 1)):
        damaged = bytearray(content)
        damaged[place] ^= 255
        (tmp_path / "counts.npz").write_bytes(damaged)
        try:
            assert fc.load(tmp_path / "counts.npz") == rich()
        except FormatError as error:
            assert "counts.npz" in str(error)  # noqa: PT017  either is right, at each place
    (tmp_path / "counts.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError):
        fc.load(tmp_path / "counts.npz")


def test_load__nothing_there(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound):
        fc.load(tmp_path / "none.json")
    with pytest.raises(FormatError, match="directory"):
        fc.load(tmp_path)


def test_load__refuses_ledgers_that_do_not_add_up(tmp_path: Path) -> None:
    for field, value in (
        (("ledger", "total"), 71),
        (("ledger", "nodata"), 1),
        (("ledger", "filled"), 10**6),
        (("pixels", 0), 99),
        (("items",), 0),
    ):
        (tmp_path / "c.json").write_text(json.dumps(replaced(rich().to_dict(), field, value)))
        with pytest.raises(FormatError, match=r"c\.json"):
            fc.load(tmp_path / "c.json")


# ---- from pixels ----


def test_from_pixels__says_what_it_was_given() -> None:
    counts = fc.Counts.from_pixels(
        {0: 12, 1: 7},
        ignored={255: 3},
        items=4,
        presence={0: 4, 1: 2},
        presence_pixels={0: 19, 1: 9},
        presence_pixels_total={0: 22, 1: 9},
    )
    assert counts.ledger == Ledger(total=22, counted=19, ignored={255: Ignored(3)})
    assert said(counts)["presence_pixels_total"] == {0: 22, 1: 9}
    assert counts.frequencies().tolist() == [12 / 19, 7 / 19]
    assert counts.incomplete is None


def test_from_pixels__zero_is_a_class_that_is_absent() -> None:
    counts = fc.Counts.from_pixels({0: 3, 1: 0})
    assert counts.labels.tolist() == [0, 1]
    assert fc.Counts.from_pixels({0: 3}, classes=3).pixels.tolist() == [3, 0, 0]
    folded = fc.Counts.from_pixels({1: 3, 2: 4}, classes={1: "a", 2: "a"})
    assert said(folded)["pixels"] == {1: 7}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"pixels": {0: -1}}, OptionError, "label 0"),
        ({"pixels": {0: 1.5}}, OptionError, "whole number"),
        ({"pixels": {"a": 1}}, OptionError, "label"),
        ({"pixels": {True: 1}}, OptionError, "label"),
        ({"pixels": {0: 1}, "ignored": {0: 2}}, OptionError, "ignored as well"),
        ({"pixels": {0: 1, 9: 1}, "classes": 3}, OptionError, "label 9 belongs to no class"),
        ({"pixels": {0: 1}, "presence": {1: 1}}, OptionError, "label 1 has no pixels"),
        ({"pixels": {0: 1}, "presence": {0: 2}, "items": 1}, LedgerError, "presence"),
        ({"pixels": {0: 2**63}}, CountsOverflow, "int64"),
        ({"pixels": {0: 1}, "items": -1}, OptionError, "items"),
        ({"pixels": {-1: 1, 2**63: 1}}, OverflowError, "labels"),
    ],
)
def test_from_pixels__refuses(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        fc.Counts.from_pixels(**arguments)


def test_counts__that_contradict_themselves_cannot_exist() -> None:
    column = np.array([1], np.int64)
    good: dict[str, Any] = {
        "labels": np.array([5]),
        "pixels": column,
        "items": 1,
        "presence": column,
        "presence_pixels": column,
        "presence_pixels_total": column,
        "ledger": Ledger(total=1, counted=1),
    }
    assert fc.Counts(**good).pixels.tolist() == [1]
    for wrong in (
        {"pixels": np.array([2])},
        {"pixels": np.array([-1])},
        {"pixels": np.array([1.0])},
        {"pixels": np.array([1, 0])},
        {"items": 0},
        {"presence_pixels": np.array([2])},
        {"ledger": Ledger(total=2, counted=2)},
        {"options": fc.count(np.zeros(1, np.uint8), ignore=5).options},
        {"options": fc.count(np.zeros(1, np.uint8), classes=2).options},
    ):
        with pytest.raises(CountsError):
            fc.Counts(**(good | wrong))


def test_counts__are_shown_briefly() -> None:
    text = repr(fc.count(np.arange(100, dtype=np.uint8)))
    assert len(text) < 200
    assert "100 pixels" in text
    assert "<table" in fc.count(np.array([1, 2], np.uint8), classes=["a", "b", "c"])._repr_html_()


def test_counts__of_nothing_have_no_frequencies() -> None:
    assert np.isnan(fc.count(np.zeros((0, 3), np.uint8), classes=2).frequencies()).all()


def test_counts__add_to_nothing_but_counts() -> None:
    counts = fc.Counts.from_pixels({0: 1})
    for other in (1, None, "0", [1]):
        with pytest.raises(TypeError):
            counts + other
        with pytest.raises(TypeError):
            counts - other
        assert counts != other
    with pytest.raises(TypeError):
        hash(counts)


def test_labels_beyond_every_integer_type_are_named() -> None:
    for wrong in ({"ignore": 2**64}, {"classes": {2**64: "x"}}, {"ignore": -(2**63) - 1}):
        with pytest.raises(fc.errors.LabelRangeError, match="does not fit any integer type"):
            fc.count(np.zeros(3, np.uint8), **wrong)


def test_arguments_of_the_wrong_kind_are_named() -> None:
    array = np.zeros(3, np.uint8)
    assert fc.count(array, ignore=np.array(0)).ledger.ignored_pixels == 3
    with pytest.raises(fc.errors.OptionError, match="strict"):
        fc.count(array, strict="no")  # type: ignore[arg-type]
    with pytest.raises(fc.errors.OptionError, match="progress"):
        fc.count(array, progress=5)  # type: ignore[arg-type]


def test_a_table_of_items_is_never_dropped() -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    kept = fc.count(array, items=0, keep_items=True)
    bare = fc.count(array, items=0)
    with pytest.raises(fc.errors.IncompatibleCounts, match="keep_items"):
        kept + bare
    nothing = fc.count(array[:0], items=0)
    for joined in (kept + nothing, nothing + kept):
        assert joined == kept


# ---- names that come from the data ----

_NAMES = st.dictionaries(
    st.sampled_from([0, 1, 2, 2**63, -1]),
    st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=6),
    max_size=3,
).map(lambda found: join_names({label: (name,)} for label in found for name in found[label]))


def called(names: Any, labels: tuple[int, ...] = (0, 1)) -> fc.Counts:
    return replace(fc.Counts.from_pixels(dict.fromkeys(labels, 3)), data_names=names)


@given(_NAMES, _NAMES, _NAMES)
def test_data_names__merge_in_any_order(first: Any, second: Any, third: Any) -> None:
    a, b, c = called(first), called(second, (1, 2)), called(third, ())
    names = ((a + b) + c).data_names
    assert names == (a + (b + c)).data_names == ((c + b) + a).data_names
    assert (a + a).data_names == (a + fc.Counts()).data_names == (fc.Counts() + a).data_names
    assert (a + a).data_names == a.data_names
    assert a + b == called({}) + called({}, (1, 2))
    assert (a + b) - b == a
    assert set((a + b).names) == ({*first, *second} & {0, 1, 2})


@given(_NAMES)
def test_data_names__survive_files_and_pickle(names: Any) -> None:
    counts = called(names)
    Draft202012Validator(SCHEMA).validate(counts.to_dict())
    for other in (
        fc.Counts.from_dict(json.loads(json.dumps(counts.to_dict()))),
        pickle.loads(pickle.dumps(counts)),
    ):
        assert other.data_names == counts.data_names
        assert other.names == counts.names


def test_data_names__are_spelled() -> None:
    counts = called({0: ("car",), 1: ("a", "b", "c", "d"), 2: ("not met",)})
    assert counts.names == {0: "car", 1: "a or b or c or ..."}
    assert called({0: ("car", "van")}).names == {0: "car or van"}


def test_data_names__give_way_to_classes() -> None:
    given = fc.Counts.from_pixels({0: 3, 1: 4}, classes={0: "road", 1: None})
    assert replace(given, data_names={0: ("car",), 1: ("van",)}).names == {0: "road"}


@pytest.mark.parametrize(
    "wrong", [3, {"x": ["a"]}, {"0": "a"}, {"0": [1]}, {"0": ["b", "a"]}, {"0": list("abcde")}]
)
def test_data_names__that_were_edited_are_refused(wrong: Any) -> None:
    data = called({0: ("car",)}).to_dict()
    with pytest.raises(FormatError, match="data_names"):
        fc.Counts.from_dict(data | {"data_names": wrong})
    with pytest.raises(FormatError, match="names: they are not"):
        fc.Counts.from_dict(data | {"data_names": {"0": ["bus"]}})


# ---- files that were edited ----


@pytest.mark.parametrize("runs", [None, 1, [1], [{"failures": 1}], [{"failures": [{}]}]])
def test_provenance__that_was_edited_is_refused(runs: Any) -> None:
    with pytest.raises(FormatError, match="provenance"):
        fc.Counts.from_dict(
            fc.Counts.from_pixels({0: 1}).to_dict() | {"provenance": {"runs": runs}}
        )


def test_load__refuses_what_stands_twice(tmp_path: Path) -> None:
    text = json.dumps(fc.Counts.from_pixels({0: 1}).to_dict())
    (tmp_path / "c.json").write_text(text[:-1] + ', "items": 3}')
    with pytest.raises(FormatError, match="items: it stands twice"):
        fc.load(tmp_path / "c.json")


def test_counts__are_shown_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    counts = fc.Counts.from_pixels({0: 1})
    assert "<table" in counts._repr_html_()
    with pytest.raises(fc.errors.MissingExtra, match="report"):
        counts.to_pandas()
