"""Notices reach listener, provenance, shell and Python; strict makes warnings errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastcounts as fc
from fastcounts.engine import noticing
from fastcounts.engine.events import Notice
from fastcounts.errors import FastcountsWarning, StrictError
from fastcounts.notices import note, warning


@pytest.fixture
def rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that finds one note and one warning in every count."""
    found = [note("seen", "seen."), warning("doubtful", "doubtful; do this.")]
    monkeypatch.setattr(noticing, "_RULES", (lambda counts, plan: found,))


@pytest.mark.usefixtures("rule")
def test_a_warning_is_raised_emitted_and_kept() -> None:
    events: list[object] = []
    with pytest.warns(FastcountsWarning, match="^doubtful; do this.$") as caught:
        counts = fc.count(np.ones((3, 4), np.uint8), progress=events.append)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert [event.code for event in events if isinstance(event, Notice)] == ["seen", "doubtful"]
    assert [one["severity"] for one in counts.provenance["runs"][0]["notices"]] == [
        "note",
        "warning",
    ]


@pytest.mark.usefixtures("rule")
def test_strict_makes_a_warning_an_error() -> None:
    with pytest.raises(StrictError, match="doubtful"):
        fc.count(np.ones((3, 4), np.uint8), strict=True)


def test_a_count_without_notices_has_none_in_its_provenance(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(5, np.uint8))
    assert "notices" not in fc.count(tmp_path / "a.npy", strict=True).provenance["runs"][0]
