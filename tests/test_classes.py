"""Labels, classes and what is ignored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import class_of
from strategies import meanings
from test_laws import feasible

from fastcounts.classes import (
    Classes,
    Options,
    as_labels,
    concatenate_labels,
    labels_from_integers,
    sum_by_label,
)
from fastcounts.errors import FormatError, LabelRangeError, OptionError

LABEL = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**64 - 1) | st.integers(-3, 9)


def fits(values: list[int]) -> bool:
    return not values or min(values) >= 0 or max(values) < 2**63


@given(st.lists(LABEL))
def test_labels__are_exact_or_refused(values: list[int]) -> None:
    if not fits(values):
        with pytest.raises(LabelRangeError) as caught:
            labels_from_integers(values)
        assert isinstance(caught.value, OverflowError)
        return
    labels = labels_from_integers(values)
    assert labels.tolist() == values
    assert labels.dtype == (np.uint64 if values and max(values) >= 2**63 else np.int64)
    assert as_labels(labels).dtype == labels.dtype


@given(st.lists(st.lists(LABEL).filter(fits), max_size=4), st.data())
def test_sums__are_by_label(parts: list[list[int]], data: st.DataObject) -> None:
    flat = [value for part in parts for value in part]
    arrays = [labels_from_integers(part) for part in parts]
    if not fits(flat):
        with pytest.raises(LabelRangeError):
            concatenate_labels(arrays)
        return
    assert concatenate_labels(arrays).tolist() == flat
    columns = [
        np.array(
            data.draw(st.lists(st.integers(0, 99), min_size=len(part), max_size=len(part))),
            np.int64,
        )
        for part in parts
    ]
    labels, (sums,) = sum_by_label(arrays, [columns])
    expected: dict[int, int] = {}
    for value, number in zip(flat, [n for one in columns for n in one.tolist()], strict=True):
        expected[value] = expected.get(value, 0) + number
    assert dict(zip(labels.tolist(), sums.tolist(), strict=True)) == expected
    assert labels.tolist() == sorted(expected)


def test_concatenate__small_labels_in_a_wide_type_are_small() -> None:
    joined = concatenate_labels([np.array([5], np.uint64), np.array([-1], np.int64)])
    assert joined.dtype == np.int64
    assert joined.tolist() == [5, -1]


@given(meanings().filter(feasible), st.lists(LABEL, unique=True).filter(fits))
def test_fold__equals_the_oracle(meaning: dict[str, Any], values: list[int]) -> None:
    options = Options.parse(**meaning)
    mapping = class_of(meaning["classes"], meaning["ignore"])
    values = sorted({*values, *range(-2, 9)}) if fits([*values, -2]) else sorted(values)
    labels = labels_from_integers(values)
    found = options.sort(labels, np.ones(labels.size, np.int64))
    kept = dict(zip(found.labels.tolist(), found.pixels.tolist(), strict=True))
    expected: dict[int, int] = {}
    strangers = []
    for value in values:
        if value in meaning["ignore"] or mapping is None:
            expected[value] = 1
        elif value in mapping:
            expected[mapping[value]] = expected.get(mapping[value], 0) + 1
        else:
            strangers.append(value)
    assert kept == expected
    assert found.unexpected_labels.tolist() == strangers
    assert options.classes is None or options.classes.labels.tolist() == sorted(
        set(mapping.values() if mapping else ())
    )


@given(meanings().filter(feasible))
def test_options__travel(meaning: dict[str, Any]) -> None:
    options = Options.parse(**meaning)
    assert Options.from_dict(options.to_dict()) == options
    assert options.difference(options) is None


def test_fold__of_huge_labels_beside_negative_ones() -> None:
    options = Options.parse(classes={2**63: "far", 2**64 - 1: "far", 3: "near"})
    found = options.sort(np.array([-1, 3], np.int64), np.array([4, 5]))
    assert found.labels.tolist() == [3]
    assert found.unexpected_labels.tolist() == [-1]


@pytest.mark.parametrize(
    ("classes", "names", "members"),
    [
        (3, {}, {}),
        (["road", "car"], {0: "road", 1: "car"}, {}),
        (("road", "car", "road"), {0: "road", 1: "car"}, {0: (0, 2)}),
        ({7: "car", 3: "car", 5: None}, {3: "car"}, {3: (3, 7)}),
        ({np.int16(4): "car"}, {4: "car"}, {}),
        (iter(["a", "b"]), {0: "a", 1: "b"}, {}),
    ],
)
def test_classes__in_all_their_forms(classes: Any, names: Any, members: Any) -> None:
    parsed = Classes.parse(classes)
    assert parsed is not None
    assert parsed.names == names
    assert parsed.members == members


NO_NUMBERS = [0, -1, True, 2.5, 2**25, ...]
NO_NAMES = ["road", b"road", [1, 2], [], {"road"}]
NO_MAPPINGS = [{}, {"a": "b"}, {1: 2}, {1.5: "a"}, {-1: "a", 2**63: "b"}, {2**64: "a"}]


@pytest.mark.parametrize("classes", [*NO_NUMBERS, *NO_NAMES, *NO_MAPPINGS], ids=repr)
def test_classes__refuses(classes: Any) -> None:
    with pytest.raises((OptionError, LabelRangeError)) as caught:
        Options.parse(classes=classes)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "ignore", ["void", "1.5", 1.5, True, [None], [1.5], b"1", object(), [2**64]], ids=str
)
def test_ignore__refuses(ignore: Any) -> None:
    with pytest.raises((OptionError, LabelRangeError)):
        Options.parse(ignore=ignore)


@pytest.mark.parametrize("items", ["files", 1.5, None, True, (0,)], ids=str)
def test_items__refuses(items: Any) -> None:
    with pytest.raises(OptionError, match="items"):
        Options.parse(items=items)


def test_ignore__of_every_class_is_refused() -> None:
    with pytest.raises(OptionError, match="every class is ignored"):
        Options.parse(ignore=[0, 1], classes=2)


@pytest.mark.parametrize(
    "data",
    [
        None,
        3,
        [],
        {},
        {"ignore": [], "classes": None},
        {"ignore": 3, "classes": None, "items": 0},
        {"ignore": [], "classes": [], "items": 0},
        {"ignore": [], "classes": None, "items": "x"},
        {"ignore": [], "classes": {"a": "b"}, "items": 0},
    ],
    ids=str,
)
def test_options__from_nonsense(data: Any) -> None:
    with pytest.raises(FormatError, match="options"):
        Options.from_dict(data)
