"""Counting in threads: progress, errors, interruption, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strategies import units

import fastcounts as fc
from fastcounts.engine import Advanced, BlockFailed, Event, Finished, Started
from fastcounts.errors import (
    MemoryBudgetError,
    NonIntegralLabel,
    OptionError,
    ReadError,
    UnexpectedLabel,
)

ROOT = Path(__file__).resolve().parent.parent


def script(text: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a process that runs this code."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


# ---- progress ----


@pytest.mark.parametrize("workers", [1, 3])
def test_progress__accounts_for_every_pixel(workers: int) -> None:
    events: list[Event] = []
    threads = set()

    def listen(event: Event) -> None:
        events.append(event)
        threads.add(threading.current_thread())

    stack = np.zeros((40, 50), np.uint8)
    with units(64):
        fc.count(stack, progress=listen, workers=workers)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert events[0].pixels == events[-1].pixels == stack.size
    assert sum(event.pixels for event in events if isinstance(event, Advanced)) == stack.size
    assert events[0].workers <= workers
    assert events[0].peak_bytes > 0
    assert events[-1].seconds >= 0
    assert threads == {threading.current_thread()}


def test_progress__of_nothing_begins_and_ends() -> None:
    events: list[Event] = []
    fc.count(np.zeros((0, 4), np.uint8), progress=events.append)
    assert [type(event) for event in events] == [Started, Finished]


def test_progress__tells_of_failures(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY but no more")
    np.save(tmp_path / "b.npy", np.zeros(4, np.uint8))
    events: list[Event] = []
    fc.count(tmp_path, on_error="record", progress=events.append)
    (failure,) = [event for event in events if isinstance(event, BlockFailed)]
    assert failure.name.endswith("a.npy")
    assert failure.reason


def test_progress__that_raises_stops_the_run() -> None:
    def listen(event: Event) -> None:
        if isinstance(event, Advanced):
            raise ZeroDivisionError

    with units(8), pytest.raises(ZeroDivisionError):
        fc.count(np.zeros((100, 8), np.uint8), progress=listen, items=0, workers=3)


# ---- errors ----


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_errors__stop_every_worker(workers: int) -> None:
    array = np.zeros((500, 16))
    array[250, 3] = 0.5
    with units(16), pytest.raises(NonIntegralLabel) as caught:
        fc.count(array, items=0, workers=workers)
    assert caught.value.index == (250, 3)
    with units(16), pytest.raises(UnexpectedLabel):
        fc.count(np.arange(5000, dtype=np.uint16).reshape(50, 100), classes=9, strict=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"missing": "ignore"},
        {"missing": None},
        {"on_error": "skip"},
        {"workers": 0},
        {"workers": -1},
        {"workers": 1.5},
        {"workers": "2"},
        {"memory": 0},
        {"memory": "many"},
        {"memory": -5},
        {"memory": 1.5},
        {"part": (2, 2), "source_id": "s"},
        {"part": (0.5, 2), "source_id": "s"},
        {"part": 3, "source_id": "s"},
        {"part": (1, 2, 3), "source_id": "s"},
        {"part": "0/2", "source_id": "s"},
        {"region": "0:3"},
        {"region": (slice(0, 99),)},
        {"items": 5},
        {"items": "file"},
        {"items": "image"},
        {"classes": -1},
        {"ignore": "void"},
        {"source_id": ""},
    ],
    ids=str,
)
def test_options__that_are_wrong_are_named_before_anything_is_read(wrong: dict[str, Any]) -> None:
    array = np.full((4, 4), 0.5)  # an error of its own, if it were read
    with pytest.raises(OptionError) as caught:
        fc.count(array, **wrong)
    text = str(caught.value)
    assert next(iter(wrong)) in text
    assert "\n" not in text
    assert caught.value.exit_code == 2


def test_options__that_do_not_exist() -> None:
    with pytest.raises(TypeError):
        fc.count(np.zeros(3, np.uint8), klasses=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        fc.count(np.zeros(3, np.uint8), 255)  # type: ignore[misc]


def test_memory__is_a_budget() -> None:
    array = np.zeros((64, 64), np.uint8)
    with pytest.raises(MemoryBudgetError, match="would do"):
        fc.count(array, memory="1 kB")
    for budget in ("64MB", "64 MiB", 64_000_000):
        assert fc.count(array, memory=budget).ledger.total == 4096


# ---- interruption ----

SLOW = """
import os, sys, time
import numpy as np
import fastcounts as fc
from fastcounts.sources import memory
memory.UNIT_PIXELS = 16
read = memory.MemorySource.read
def slow(self, array, box):
    os.write(1, b"reading\\n")
    time.sleep(0.05)
    return read(self, array, box)
memory.MemorySource.read = slow
import fastcounts.plan
fastcounts.plan.VIEW_PIXELS = 16
try:
    fc.count(np.zeros((10_000, 16), np.uint8), items=0, workers=int(sys.argv[1]))
except KeyboardInterrupt:
    import threading
    left = [t.name for t in threading.enumerate() if t.name.startswith("fastcounts")]
    print("interrupted", left, flush=True)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupt__stops_soon_and_cleanly(workers: int) -> None:
    process = script(SLOW, str(workers))
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "reading\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert output.splitlines()[-1] == "interrupted []"
    assert errors == ""
    assert process.returncode == 0
    assert time.monotonic() - begun < 10  # all of it would take minutes


# ---- what libraries say ----

DAMAGED = """
import sys
import fastcounts as fc
for path in sys.argv[1:]:
    for workers in (1, 2):
        try:
            fc.count(path, workers=workers)
        except fc.errors.FastcountsError as error:
            print(type(error).__name__, str(error).count(chr(10)))
    counts = fc.count(path, workers=2, on_error="record")
    assert counts.ledger.counted == 0, counts.ledger
"""


def damaged(folder: Path) -> list[str]:
    """Files of every kind whose content is damaged everywhere."""
    import tifffile
    import zarr
    from zarr.codecs import BytesCodec, ShardingCodec

    mask = np.random.default_rng(0).integers(1, 9, (128, 128)).astype(np.uint8)
    options: list[dict[str, Any]] = [
        {"chunks": (16, 16)},
        {"chunks": (16, 16), "zarr_format": 2},
        {"chunks": (8, 8), "shards": (64, 64)},
        {
            "chunks": (64, 64),
            "serializer": ShardingCodec(
                chunk_shape=(8, 8), codecs=[BytesCodec()], index_location="start"
            ),
            "compressors": None,
        },
    ]
    paths = []
    for number, layout in enumerate(options):
        path = folder / f"{number}.zarr"
        zarr.create_array(path, data=None, shape=mask.shape, dtype="u1", **layout)[...] = mask
        for chunk in path.rglob("*"):
            if chunk.is_file() and chunk.name[0].isdigit():
                content = chunk.read_bytes()
                keep = 64 * 16 + 4 if number == 3 else 0
                tail = 64 * 16 + 4 if number == 2 else 0
                middle = b"" if number == 3 else b"\x00" * (len(content) - tail)
                chunk.write_bytes(content[:keep] + middle + content[len(content) - tail :])
        paths.append(path)
    pages = folder / "pages.tif"
    tifffile.imwrite(pages, np.stack([mask] * 4), compression="deflate", photometric="minisblack")
    content = pages.read_bytes()
    pages.write_bytes(content[: len(content) // 2])
    paths.append(pages)
    return [str(path) for path in paths]


def test_errors__are_all_that_is_heard(tmp_path: Path) -> None:
    """Neither zarr-python nor tifffile writes to stderr when many reads fail at once."""
    paths = damaged(tmp_path)
    process = script(DAMAGED, *paths)
    output, errors = process.communicate(timeout=120)
    assert errors == ""
    assert process.returncode == 0
    assert output.splitlines() == ["ReadError 0"] * 2 * len(paths)


def test_errors__of_one_block_do_not_hide_the_others(tmp_path: Path) -> None:
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.full(8, number, np.uint8))
    (tmp_path / "3.npy").write_bytes((tmp_path / "3.npy").read_bytes()[:-1])
    counts = fc.count(tmp_path, on_error="record", workers=2)
    assert counts.labels.tolist() == [0, 1, 2, 4, 5]
    with pytest.raises(ReadError, match=r"3\.npy"):
        fc.count(tmp_path, workers=2)


def test_provenance__says_how_it_came_about(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(8, np.uint8))
    counts = fc.count(tmp_path / "a.npy", part=(0, 1), workers=1)
    (run,) = counts.provenance["runs"]
    assert run["version"] == fc.__version__
    assert run["part"] == [0, 1]
    assert run["sources"] == [str(tmp_path / "a.npy")]
    both = counts + fc.count(np.zeros(3, np.uint8))
    assert len(both.provenance["runs"]) == 2
