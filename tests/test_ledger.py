"""Ledgers add up, or do not exist."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcounts.errors import CountsOverflow, FormatError, LedgerError
from fastcounts.ledger import Ignored, Ledger, Unexpected

NUMBER = st.integers(0, 50)
PLACE = st.tuples(st.sampled_from("ab"), NUMBER, st.tuples(NUMBER, NUMBER))


@st.composite
def ledgers(draw: st.DrawFn) -> Ledger:
    """Ledgers that add up."""
    ignored = draw(st.dictionaries(st.integers(-1, 3), st.builds(Ignored, NUMBER, NUMBER, NUMBER)))
    unexpected = draw(
        st.dictionaries(
            st.integers(5, 9),
            st.builds(
                Unexpected,
                st.integers(1, 50),
                st.lists(PLACE, max_size=3, unique=True).map(lambda found: tuple(sorted(found))),
            ),
        )
    )
    counted, nodata, missing, failed = (draw(NUMBER) for _ in range(4))
    rest = [entry.pixels for entry in (*ignored.values(), *unexpected.values())]
    return Ledger(
        total=counted + nodata + missing + failed + sum(rest),
        counted=counted,
        filled=draw(st.integers(0, counted)),
        ignored=ignored,
        nodata=nodata,
        unexpected=unexpected,
        missing=missing,
        failed=failed,
    )


@given(ledgers(), ledgers(), ledgers())
def test_ledgers__are_added_and_taken_away(a: Ledger, b: Ledger, c: Ledger) -> None:
    assert a.plus(b) == b.plus(a)
    assert a.plus(b).plus(c) == a.plus(b.plus(c))
    both = a.plus(b)
    back = both.plus(b, -1)
    assert back.total == a.total
    assert back.unexpected == a.unexpected
    assert {k: v for k, v in back.ignored.items() if v != Ignored()} == {
        k: v for k, v in a.ignored.items() if v != Ignored()
    }
    for label, entry in both.unexpected.items():
        given_places = [
            place
            for ledger in (a, b)
            for place in ledger.unexpected.get(label, Unexpected()).places
        ]
        assert list(entry.places) == sorted(set(given_places))[:3]


@given(ledgers())
def test_ledgers__travel(ledger: Ledger) -> None:
    for other in (pickle.loads(pickle.dumps(ledger)), Ledger.from_dict(ledger.to_dict())):
        assert other == ledger
        assert [entry.places for entry in other.unexpected.values()] == [
            entry.places for entry in ledger.unexpected.values()
        ]


@given(
    ledgers(),
    st.sampled_from(["total", "counted", "nodata", "missing", "failed"]),
    st.integers(-3, 3).filter(bool),
)
def test_ledgers__that_do_not_add_up_cannot_exist(ledger: Ledger, name: str, off: int) -> None:
    data = ledger.to_dict()
    data[name] += off
    with pytest.raises(LedgerError, match="add up"):
        Ledger.from_dict(data)


@pytest.mark.parametrize(
    "numbers",
    [
        {"total": -1, "counted": -1},
        {"total": 1, "counted": 2, "nodata": -1},
        {"total": 1, "counted": 1, "filled": 2},
        {"total": 1, "counted": 1, "filled": -1},
        {"total": 0, "ignored": {1: Ignored(1), 2: Ignored(-1)}},
        {"total": 0, "ignored": {1: Ignored(0, -1)}},
        {"total": 0, "ignored": {1: Ignored(0, 0, -1)}},
        {"total": 0, "unexpected": {1: Unexpected(1), 2: Unexpected(-1)}},
    ],
)
def test_ledgers__have_nothing_negative(numbers: dict[str, Any]) -> None:
    with pytest.raises(LedgerError):
        Ledger(**numbers)


def test_ledgers__do_not_overflow() -> None:
    most = Ledger(total=2**63 - 1, counted=2**63 - 1)
    with pytest.raises(CountsOverflow):
        most.plus(Ledger(total=1, nodata=1))
    assert most.plus(Ledger()) == most


def test_ledgers__are_frozen() -> None:
    ledger = Ledger(total=1, ignored={5: Ignored(1)})
    with pytest.raises(AttributeError):
        ledger.total = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        ledger.ignored[6] = Ignored(1)  # type: ignore[index]


@pytest.mark.parametrize("data", [None, [], {}, {"total": 1}, 3], ids=str)
def test_ledgers__from_nonsense(data: Any) -> None:
    with pytest.raises(FormatError, match="ledger"):
        Ledger.from_dict(data)
