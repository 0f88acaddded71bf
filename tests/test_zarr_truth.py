"""Arrays written by other implementations, against counts made with plain NumPy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcounts as fc
from fastcounts.errors import FastcountsError, NonIntegralLabel, SourceError


@pytest.fixture(scope="module")
def truth(real_data: Path) -> dict[str, Any]:
    """What each array holds, by its path."""
    found: dict[str, Any] = json.loads((real_data / "zarr_truth.json").read_text())
    return found


@pytest.fixture(scope="module")
def place(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where an array is.

    Seven arrays share one chunk through symbolic links.  Copies that know no links hold the
    link's text in its place; of such arrays this makes a copy with the links put back.
    """
    copies = tmp_path_factory.mktemp("linked")

    def find(name: str) -> Path:
        links = [
            path
            for path in (real_data / name).rglob("*")
            if path.is_file() and path.read_bytes()[:6] == b"../../"
        ]
        if not links:
            return real_data / name
        copy = copies / name
        if not copy.exists():
            shutil.copytree(real_data / name, copy)
            for path in links:
                linked = copy / path.relative_to(real_data / name)
                linked.parent.chmod(0o755)
                linked.unlink()
                linked.symlink_to((path.parent / path.read_text()).resolve(strict=True))
        return copy

    return find


def label(text: str) -> int:
    return {"False": 0, "True": 1}[text] if text in ("False", "True") else int(text)


def test_truth__has_them_all(truth: dict[str, Any]) -> None:
    assert len(truth) == 95


def test_arrays__have_exactly_the_stated_counts(
    place: Callable[[str], Path], truth: dict[str, Any]
) -> None:
    wrong = {}
    for name, entry in truth.items():
        if "refuse" in entry:
            continue
        try:
            counts = fc.count(place(name), workers=1)
        except FastcountsError as error:
            wrong[name] = str(error)
            continue
        expected = {label(text): pixels for text, pixels in entry["counts"].items() if pixels}
        got = dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))
        total = int(np.prod(entry["shape"], dtype=object))
        nodata = entry.get("nodata", 0)
        if got != expected or counts.ledger.nodata != nodata or counts.ledger.total != total:
            wrong[name] = f"{got} with {counts.ledger.nodata} nodata, not {expected}"
    assert not wrong


def test_arrays__that_are_no_labels_are_refused_by_name(
    real_data: Path, truth: dict[str, Any]
) -> None:
    refused = [name for name, entry in truth.items() if "refuse" in entry]
    assert refused
    for name in refused:
        with pytest.raises((SourceError, NonIntegralLabel)) as caught:
            fc.count(real_data / name, workers=2)
        text = str(caught.value)
        assert name.rpartition("/")[2] in text
        assert "\n" not in text
        assert len(text) < 400


def test_arrays__in_parts_are_the_run(place: Callable[[str], Path], truth: dict[str, Any]) -> None:
    for name, entry in truth.items():
        if "refuse" in entry or not entry["shape"]:
            continue
        array = place(name)
        run = fc.count(array, items=0, workers=2)
        parts = [fc.count(array, items=0, part=(n, 3), workers=1) for n in range(3)]
        assert sum(parts) == run, name
        assert sum(parts[::-1]) == run, name
