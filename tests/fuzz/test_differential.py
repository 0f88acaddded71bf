"""The differential fuzzer, for as long as FASTCOUNTS_FUZZ_SECONDS says in all."""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

import differential
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from reference import answer, pictures, said

import fastcounts as fc
from fastcounts.errors import NonIntegralLabel, UnsupportedSource

pytestmark = pytest.mark.fuzz

SECONDS = float(os.environ.get("FASTCOUNTS_FUZZ_SECONDS", "100"))
EACH = SECONDS / (len(differential.CASES) + 1)


@pytest.mark.parametrize("kind", differential.CASES)
def test_cases_of_one_kind(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = time.time_ns() % 2**40  # other cases at every run; a failure names its seed
    done, failures = differential.run_for([kind], EACH, first)
    with capsys.disabled():
        print(f" {done[kind]} cases of {kind}", end="")
    assert done[kind] > 0
    assert not failures, "\n".join(failures)


def test_arrays_of_zarr_itself(capsys: pytest.CaptureFixture[str]) -> None:
    strategies = pytest.importorskip("zarr.testing.strategies")
    end, number = time.monotonic() + EACH, time.time_ns() % 2**32
    done = 0

    def law(array: Any) -> None:
        nonlocal done
        done += 1
        check_stored(array)

    quiet = settings(
        max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    while time.monotonic() < end:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seed(number)(quiet(given(array=strategies.arrays())(law)))()
        number += 1
    with capsys.disabled():
        print(f" {done} arrays of zarr.testing.strategies", end="")
    assert done > 0


def check_stored(array: Any) -> None:
    """Compare the count of a stored array with what zarr-python reads of it."""
    pixels = np.asarray(array[...])
    countable = pixels.dtype.kind in "bui" or (
        pixels.dtype.kind == "f" and pixels.dtype.itemsize <= 8
    )
    try:
        counts = fc.count(array, missing="zero")
    except UnsupportedSource:
        assert not countable, pixels.dtype
        return
    except NonIntegralLabel:
        assert pixels.dtype.kind == "f"
        valid = pixels[~np.isnan(pixels)]
        assert (~np.isfinite(valid) | (valid != np.trunc(valid)) | (np.abs(valid) > 2**53)).any()
        return
    assert countable, pixels.dtype
    expected = answer(pictures(pixels))
    found = said(counts)
    for name in ("pixels", "presence", "nodata", "total", "items"):
        assert found[name] == expected[name], (name, array.metadata)
