"""What only counts can show: one-hot stacks, labels to ignore, labels of no class."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import fastcounts as fc
from fastcounts.errors import FastcountsWarning, StrictError

MASK = np.random.default_rng(5).integers(0, 5, (24, 30))


def notices(source: Any, **options: Any) -> list[str]:
    counts = fc.count(source, **options)
    return [one["code"] for one in counts.provenance["runs"][0].get("notices", [])]


def message(source: Any, **options: Any) -> str:
    counts = fc.count(source, **options)
    (one,) = counts.provenance["runs"][0]["notices"]
    return str(one["message"])


ONE_HOT = np.eye(5, dtype=np.uint8)[MASK]


@pytest.mark.parametrize(
    ("stack", "options", "axis"),
    [
        (ONE_HOT, {}, -1),
        (ONE_HOT.astype(bool), {}, -1),
        (ONE_HOT.astype(np.float32), {"classes": 5}, -1),
        (ONE_HOT.transpose(2, 0, 1), {}, 0),
        (np.stack([ONE_HOT, ONE_HOT]), {"items": 0}, -1),
        (np.stack([ONE_HOT, ONE_HOT]).transpose(0, 3, 1, 2), {"items": 0}, 1),
        ([ONE_HOT, ONE_HOT[:10]], {}, -1),
        (ONE_HOT, {"region": (slice(0, 12),)}, -1),
    ],
    ids=range(8),
)
def test_one_hot__is_a_warning(stack: Any, options: dict[str, Any], axis: int) -> None:
    with pytest.warns(FastcountsWarning, match=r"one-hot stack of 5 classes") as caught:
        assert notices(stack, **options) == ["one-hot"]
    assert f"argmax(axis={axis})" in str(caught[0].message)
    with pytest.raises(StrictError, match="one-hot"):
        fc.count(stack, strict=True, **options)


def test_one_hot__of_files(tmp_path: Path) -> None:
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", ONE_HOT)
    with pytest.warns(FastcountsWarning, match=r"a\.npy: the labels are 0 and 1"):
        fc.count(tmp_path)


@pytest.mark.parametrize(
    "stack",
    [
        MASK == 1,
        (MASK % 2)[None],
        np.stack([MASK == 1, MASK == 2]),
        np.eye(5, dtype=np.uint8)[MASK[:3, :3]],
        ONE_HOT * 2,
        ONE_HOT.reshape(-1, 5),
        np.ma.masked_array(ONE_HOT, np.broadcast_to(MASK[..., None] == 1, ONE_HOT.shape)),
        np.zeros((24, 30, 5), np.uint8),
        MASK,
    ],
    ids=range(9),
)
def test_one_hot__is_nothing_else(stack: np.ndarray) -> None:
    assert notices(stack.astype(np.uint8) if stack.dtype == bool else stack) == []


def test_one_hot__is_not_looked_for_along_the_axis_of_images() -> None:
    """As many ones as one image has pixels, in five images."""
    assert notices(ONE_HOT.transpose(2, 0, 1).copy(), items=0) == []


@pytest.mark.parametrize(
    ("labels", "alone"),
    [
        ([*range(19), 255], 255),
        ([*range(150), 255], 255),
        ([0, 1, 255], 255),
        ([0, 2, 3, 65535], 65535),
        ([-1, 0, 1, 2], -1),
        ([-100, 0, 1], -100),
        ([1, 2, 3, 99], 99),
        ([0, 1, 2, 2**64 - 1], 2**64 - 1),
    ],
)
def test_likely_ignored__is_a_note(labels: list[int], alone: int) -> None:
    array = np.array(labels, np.uint64 if alone >= 2**63 else np.int64)
    assert f"count with ignore={alone}" in message(array)
    assert notices(array, strict=True) == ["likely-ignored"]
    assert notices(array, ignore=alone) == []


@pytest.mark.parametrize(
    "labels",
    [
        [0, 255],
        [255],
        [0, 128, 255],
        [0, 85, 170, 255],
        [*range(256)],
        [1, 50, 4000, 9000],
        [0, 1, 2],
        [-2, -1, 0, 1],
        [*range(250), 255],
    ],
    ids=str,
)
def test_likely_ignored__is_nothing_else(labels: list[int]) -> None:
    assert notices(np.array(labels)) == []


def test_likely_ignored__gives_way_to_what_the_user_said() -> None:
    array = np.array([0, 1, 2, 255])
    assert notices(array, ignore=7) == []
    assert notices(array, classes=3) == []


# ---- labels of no class, when weights are solved ----


@pytest.fixture
def counts() -> fc.Counts:
    return fc.count(np.repeat(np.arange(4, dtype=np.uint8), [40, 30, 20, 10]), classes=2)


SCHEMA = json.loads(
    (Path(__file__).parent.parent / "docs" / "weights.schema.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("scheme", ["inverse", "logit_adjustment", "pos_weight", "ldam"])
def test_unexpected__is_a_flag_of_weights(counts: fc.Counts, scheme: str) -> None:
    (flag,) = [
        flag
        for flag in fc.solve(counts, scheme).diagnostics["flags"]
        if flag["flag"] == "unexpected"
    ]
    assert flag["labels"] == [2, 3]
    assert flag["message"].startswith("30 pixels (0.3 of those with a label) have labels that")
    data = json.loads(json.dumps(fc.solve(counts, scheme).to_dict()))
    assert list(Draft202012Validator(SCHEMA).iter_errors(data)) == []
    clean = fc.solve(fc.Counts.from_pixels({0: 4, 1: 3}), scheme).diagnostics
    assert "unexpected" not in [flag["flag"] for flag in clean.get("flags", [])]


@pytest.mark.parametrize("more", [[], ["--json"], ["--format", "torch"]], ids=str)
def test_unexpected__is_said_in_the_shell(
    counts: fc.Counts, tmp_path: Path, more: list[str]
) -> None:
    counts.save(tmp_path / "c.json")
    command = [sys.executable, "-m", "fastcounts", "solve", "c.json", "--scheme", "inverse", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.startswith("fastcounts: warning: c.json: 30 pixels")
    assert not more or "of those with a label" not in done.stdout or json.loads(done.stdout)
    strict = subprocess.run(
        [*command, "--strict"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert strict.returncode == 1
    assert strict.stdout == ""
    assert "c.json: 30 pixels" in strict.stderr
