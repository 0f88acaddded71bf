"""Negative labels beside labels of 2**63 or more are refused, however they come together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcounts as fc
from fastcounts.errors import FormatError, LabelRangeError

LARGE = np.full(3, 2**63, np.uint64)
NEGATIVE = np.full(5, -1, np.int64)


@pytest.mark.parametrize(
    "options",
    [{}, {"classes": 3}, {"ignore": -1}, {"classes": 1, "ignore": -1}],
    ids=["classes", "unexpected", "ignored beside a class", "ignored beside an unexpected one"],
)
def test_one_run_and_the_sum_of_its_parts_agree(options: dict[str, Any]) -> None:
    with pytest.raises(LabelRangeError, match="from -1 to 9223372036854775808"):
        fc.count([LARGE, NEGATIVE], **options)
    large, negative = fc.count(LARGE, **options), fc.count(NEGATIVE, **options)
    for left, right in ((large, negative), (negative, large)):
        with pytest.raises(LabelRangeError, match="from -1 to 9223372036854775808"):
            left + right


def test_an_ignored_label_without_pixels_is_no_obstacle() -> None:
    counts = fc.count(LARGE, ignore=-1)
    assert counts.labels.tolist() == [2**63]
    assert (counts + counts).pixels.tolist() == [6]


def test_a_class_without_pixels_is_no_obstacle() -> None:
    counts = fc.count(LARGE, classes={-1: "road", 3: "car"})
    assert counts.pixels.tolist() == [0, 0]
    assert counts.ledger.unexpected[2**63].pixels == 3


def test_a_file_that_holds_both_is_refused(tmp_path: Path) -> None:
    data = fc.count(NEGATIVE, classes=3).to_dict()
    other = fc.count(LARGE, classes=3).to_dict()
    data["ledger"]["total"] += other["ledger"]["total"]
    data["ledger"]["unexpected"] |= other["ledger"]["unexpected"]
    (tmp_path / "counts.json").write_text(json.dumps(data))
    with pytest.raises(FormatError, match=r"counts\.json: labels run from -1"):
        fc.load(tmp_path / "counts.json")
