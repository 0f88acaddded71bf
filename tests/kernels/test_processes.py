"""Threads, processes, event loops and caches: right answers, no abort, no deadlock."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fastcounts.kernels import count, table

PACKAGE = Path(__file__).parents[2]


def _masks(seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 40, 40_000), rng.integers(1, 60, 40_000))
    return labels.astype(["u1", "u2", "i4", "u8", "?", "f4"][seed % 6])


def _answer(seed, threads=1):
    tally = count(_masks(seed), threads=threads)
    return tally.labels.tolist(), tally.pixels.tolist()


def _expected(seed):
    labels, pixels = np.unique(_masks(seed), return_counts=True)
    return labels.astype(np.int64).tolist(), pixels.tolist()


def _python(code, **environment):
    """Run code in a new interpreter and return what it prints."""
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE), **environment}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


COUNT = """
import numpy as np
from fastcounts.kernels import count
print(count((np.arange(100000) // 7 % 5).astype(np.uint8)).pixels.tolist())
"""
ANSWER = "[20004, 19999, 19999, 19999, 19999]\n"


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_eight_threads_at_once(threads):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda seed: _answer(seed, threads), range(48)))
    assert answers == [_expected(seed) for seed in range(48)]


def test_threads_that_each_have_a_table():
    def work(seed):
        counts = table(np.dtype(np.uint8))
        for _ in range(20):
            counts.add(_masks(6 * seed))
        return counts.drain().pixels.tolist()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    for seed, answer in enumerate(answers):
        assert answer == [20 * number for number in _expected(6 * seed)[1]]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_child_processes(method):
    _answer(0, threads=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads is the test
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            answers = list(pool.map(_answer, range(6), [2] * 6, timeout=120))
    assert answers == [_expected(seed) for seed in range(6)]


def test_inside_asyncio():
    async def together():
        calls = [asyncio.to_thread(_answer, seed, 2) for seed in range(12)]
        return [*await asyncio.gather(*calls), _answer(12, 2)]

    assert asyncio.run(together()) == [_expected(seed) for seed in range(13)]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_inside_dask_workers():
    """Worker processes of several threads each, on this machine alone."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")

    def work(array):
        from fastcounts.kernels import count

        tally = count(array, threads=2)
        return os.getpid(), (tally.labels.tolist(), tally.pixels.tolist())

    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=4,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        env={"PYTHONPATH": str(PACKAGE)},
    )
    with cluster, distributed.Client(cluster) as client:
        answers = client.gather(client.map(work, [_masks(seed) for seed in range(24)], pure=False))
    assert [answer for _process, answer in answers] == [_expected(seed) for seed in range(24)]
    assert os.getpid() not in {process for process, _answer in answers}


def test_other_threads_run_while_it_counts():
    """The GIL is released: a count of many pixels does not stop another thread."""
    import threading

    array = np.zeros(1 << 28, np.uint8)
    count(array[:100])
    ticks, done = [0], threading.Event()

    def tick():
        while not done.wait(0.0005):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    for _ in range(8):
        count(array)
    seen = ticks[0]
    done.set()
    thread.join()
    assert seen >= 8


@pytest.mark.long
def test_no_cache_directory_can_be_written(tmp_path):
    """Neither the package, nor the home directory, nor a chosen one: it only takes longer."""
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    code = f"""
import numba.core.caching as caching
def fail(self):
    raise PermissionError(13, "read-only")
caching._CacheLocator.ensure_cache_path = fail
{COUNT}"""
    assert _python(code, HOME=str(blocked)) == ANSWER


@pytest.mark.long
def test_a_cache_that_cannot_be_written_or_read(tmp_path):
    assert _python(COUNT, NUMBA_CACHE_DIR=str(tmp_path / "first")) == ANSWER
    files = list((tmp_path / "first").rglob("*.nbc"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    assert _python(COUNT, NUMBA_CACHE_DIR=str(tmp_path / "first")) == ANSWER
    full = f"""
from pathlib import Path
def fail(self, data):
    raise OSError(28, "No space left on device")
Path.write_bytes = fail
{COUNT}"""
    assert _python(full, NUMBA_CACHE_DIR=str(tmp_path / "second")) == ANSWER


@pytest.mark.long
def test_a_cache_is_used_again_and_never_changed(tmp_path):
    _python(COUNT, NUMBA_CACHE_DIR=str(tmp_path))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert before
    _python(COUNT, NUMBA_CACHE_DIR=str(tmp_path))
    after = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert after == before


AT_ONCE = """
import sys, time
from pathlib import Path
from fastcounts.kernels import dense
Path(sys.argv[1], sys.argv[2]).touch()
while not Path(sys.argv[1], "go").exists():
    time.sleep(0.005)
"""
ONE_KERNEL = """
import numpy as np
from fastcounts.kernels import count
print(count(np.arange(100000) % 5 == 0).pixels.tolist())
"""


@pytest.mark.long
def test_twenty_processes_start_at_once_without_a_cache(tmp_path):
    """All compile the same kernel, a small one, in the same moment."""
    cache, ready = tmp_path / "cache", tmp_path / "ready"
    ready.mkdir()
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE), "NUMBA_CACHE_DIR": str(cache)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE + ONE_KERNEL, str(ready), str(number)],
            env=variables,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(20)
    ]
    while len(list(ready.iterdir())) < 20 and all(child.poll() is None for child in started):
        time.sleep(0.01)
    (ready / "go").touch()
    answers = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 20
    assert answers == ["[80000, 20000]\n"] * 20
    files = [file for file in cache.rglob("*") if file.is_file()]
    assert [file.suffix for file in files] == [".nbc"]  # one kernel, no drafts
    before = files[0].read_bytes()
    assert _python(ONE_KERNEL, NUMBA_CACHE_DIR=str(cache)) == answers[0]
    assert [file.read_bytes() for file in cache.rglob("*") if file.is_file()] == [before]


def test_importing_the_kernels_imports_no_numba():
    code = "import sys, fastcounts.kernels; print('numba' in sys.modules)"
    assert _python(code) == "False\n"


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="names of processors differ")
def test_another_processor(tmp_path):
    """Compiled for AVX2 alone, the answers are the same."""
    import platform

    if platform.machine() != "x86_64":
        pytest.skip("AVX2 is an extension of x86-64")
    environment = {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+bmi,+bmi2,+popcnt,+lzcnt,+fma",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    tests = Path(__file__).with_name("test_patterns.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE), **environment}
    done = subprocess.run(
        command, cwd=PACKAGE, env=variables, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout


LOWERED = """
import re
from collections import Counter

import llvmlite.binding as llvm
import numpy as np

from fastcounts.kernels import dense

memory = [np.zeros(size, np.uint8) for size in (8 * dense.BINS8, 4 * dense.PAIRS, dense.SCRATCH8)]
dense.count8(0, 0, *(array.ctypes.data for array in memory))
(code,) = dense.count8.inspect_llvm().values()
triple = "aarch64-unknown-linux-gnu"
code = re.sub('target triple = ".*"', f'target triple = "{triple}"', code)
code = re.sub('target datalayout = ".*"', "", code)
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
machine = llvm.Target.from_triple(triple).create_target_machine(cpu="generic", features="+neon")
text = machine.emit_assembly(llvm.parse_assembly(code))
words = Counter(line.split()[0] for line in text.splitlines() if line[:1] == "\\t")
called = set(re.findall(r"\\bbl\\s+(__\\w+)", text))
print(words["cmeq"], words["cnt"], words["ldrb"], called)
"""


@pytest.mark.long
def test_lowered_for_neon(tmp_path):
    """On AArch64 labels are compared and bits counted by vectors, without a library's help."""
    import llvmlite.binding

    try:
        llvmlite.binding.initialize_all_targets()
        llvmlite.binding.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError:
        pytest.skip("this llvmlite knows no AArch64")
    compared, counted, bytewise, called = _python(LOWERED, NUMBA_CACHE_DIR=str(tmp_path)).split(
        maxsplit=3
    )
    assert int(compared) > 64
    assert int(counted) > 8
    assert int(bytewise) < int(compared)
    assert called.strip() == "set()"


WIDTHS = """
import sys
import numpy as np
from fastcounts import kernels

for dtype in sys.argv[1:]:
    labels = np.repeat(np.arange(90_000) * 7919 % 300, 4).astype(dtype)
    expected = np.unique(labels, return_counts=True)
    found = kernels.count(labels)
    assert found.labels.tolist() == expected[0].tolist(), dtype
    assert found.pixels.tolist() == expected[1].tolist(), dtype
"""


@pytest.mark.parametrize(
    "widths", [("i4", "i8"), ("u1", "u2"), ("u2", "i8")], ids=lambda pair: "-".join(pair)
)
def test_kernels_that_other_processes_compiled_do_not_mix(tmp_path, widths):
    """Each is compiled by a process of its own; then one process takes both from the cache."""
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE), "NUMBA_CACHE_DIR": str(tmp_path)}
    for words in ([widths[0]], [widths[1]], widths, widths[::-1]):
        subprocess.run([sys.executable, "-c", WIDTHS, *words], env=variables, check=True)


NAMES_OF_ALL = """
import collections, importlib, pkgutil
import fastcounts.kernels

for module in pkgutil.iter_modules(fastcounts.kernels.__path__):
    importlib.import_module(f"fastcounts.kernels.{module.name}")
from fastcounts.kernels.jit import NAMES

print(len(NAMES), [name for name, times in collections.Counter(NAMES).items() if times > 1])
"""


def test_compiled_functions_have_names_of_their_own():
    """Names are all that tells functions apart that were compiled by different processes."""
    number, twice = _python(NAMES_OF_ALL).split(maxsplit=1)
    assert int(number) > 20
    assert twice == "[]\n"
