"""What a process that is limited is told: no traceback, no foreign exception, no empty reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

resource = pytest.importorskip("resource", reason="limits of processes are a matter of POSIX")


def _count(path: Path, *, limit: int | None = None, **variables: str) -> tuple[int, str, str]:
    """Count a file in a process of its own, with at most ``limit`` bytes of address space."""

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-m", "fastcounts", "count", str(path)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **variables},
        preexec_fn=restrict,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A file of masks."""
    np.save(tmp_path / "masks.npy", np.ones((10, 10), np.uint8))
    return tmp_path / "masks.npy"


@pytest.mark.parametrize("mebibytes", [64, 150, 250, 400])
def test_an_address_space_that_is_too_small_is_named(masks: Path, mebibytes: int) -> None:
    code, out, err = _count(masks, limit=mebibytes << 20)
    assert code in (2, 3), err
    assert not out
    assert "Traceback" not in err
    assert f"{mebibytes} MiB" in err
    assert "ulimit -v" in err


@pytest.mark.parametrize("mebibytes", [450, 500, 550])
def test_an_address_space_that_may_do_is_counted_in_or_named(masks: Path, mebibytes: int) -> None:
    code, out, err = _count(masks, limit=mebibytes << 20)
    assert (code == 0 and "100 pixels" in out) or (code in (2, 3) and f"{mebibytes} MiB" in err)


def test_memory_that_runs_out_has_a_reason(tmp_path: Path) -> None:
    """An array in an archive needs memory of its own; the message never ends in a colon."""
    np.savez_compressed(tmp_path / "large.npz", np.zeros(3 << 29, np.uint8))
    code, out, err = _count(tmp_path / "large.npz", limit=3 << 29)
    assert code == 3
    assert not out
    assert "Traceback" not in err
    assert "memory" in err.lower()
    assert not any(line.rstrip().endswith(":") for line in err.splitlines())


def test_a_disabled_compiler_is_named(masks: Path) -> None:
    code, out, err = _count(masks, NUMBA_DISABLE_JIT="1")
    assert (code, out) == (2, "")
    assert "NUMBA_DISABLE_JIT" in err
    assert "Traceback" not in err
