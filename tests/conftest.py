"""Profiles, places of real data, and strategies that several test modules draw from."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
for folder in (Path(__file__).resolve().parent, Path(__file__).resolve().parent / "fuzz"):
    sys.path.insert(0, str(folder))  # where reference.py and the like are

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("dev", max_examples=30, deadline=None, suppress_health_check=QUIET)
settings.register_profile("ci", max_examples=60, deadline=None, suppress_health_check=QUIET)
settings.register_profile("long", max_examples=2000, deadline=None, suppress_health_check=QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real masks, named by FASTCOUNTS_DATA; tests skip where it is absent."""
    folder = Path(os.environ.get("FASTCOUNTS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real masks at {folder}; name their folder in FASTCOUNTS_DATA")
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def call(*words: object) -> tuple[int, str, str]:
        from fastcounts import cli

        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in words])
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return call


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """No counting thread outlives the call that started it."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("fastcounts")]
    assert not left


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of a contract for every case of the class that inherits it."""
    if "case" in metafunc.fixturenames:
        cases = metafunc.cls.cases
        metafunc.parametrize("case", list(cases.values()), ids=list(cases))
