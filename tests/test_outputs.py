"""What a command writes: never over what it reads, whole, and reported truly when it fails."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts.errors import OptionError, OutputError
from fastcounts.files import write_whole

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an archive, a folder of masks, a Zarr array and a Zarr group."""
    monkeypatch.chdir(tmp_path)
    pixels = np.tile(np.arange(4, dtype=np.uint8), (6, 5))
    np.savez("masks.npz", a=pixels)
    Path("folder/below").mkdir(parents=True)
    np.savez("folder/below/b.npz", a=pixels)
    for name, version in (("three.zarr", 3), ("two.zarr", 2)):
        array = zarr.create_array(
            name, shape=(6, 20), chunks=(6, 20), dtype="u1", zarr_format=version
        )
        array[...] = pixels
    group = zarr.create_group("group.zarr")
    group.create_array("labels", shape=(6, 20), chunks=(6, 20), dtype="u1")[...] = pixels
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def in_shell(words: str) -> subprocess.CompletedProcess[str]:
    """Run fastcounts with redirections."""
    command = f"{sys.executable} -m fastcounts {words}"
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=False)


# ---- sources are never written to ----


@pytest.mark.parametrize(
    ("source", "output", "says"),
    [
        ("masks.npz", "masks.npz", "is the source"),
        ("masks.npz", "./folder/../masks.npz", "is the source"),
        ("masks.npz", "linked.npz", "is the source"),
        ("masks.npz", "hard.npz", "is the source"),
        ("linked.npz", "masks.npz", "is the source"),
        ("three.zarr", "three.zarr/zarr.json", "Zarr array"),
        ("three.zarr", "three.zarr/counts.json", "Zarr array"),
        ("two.zarr", "two.zarr/counts.json", "Zarr array"),
        ("masks.npz", "two.zarr/counts.json", "Zarr array"),
        ("masks.npz", "three.zarr/c/0/counts.json", "Zarr array"),
        ("group.zarr", "group.zarr/labels/zarr.json", "Zarr array"),
        ("group.zarr/labels", "group.zarr/counts.json", "Zarr array"),
        ("folder", "folder/counts.json", "lies in the source"),
        ("folder", "folder/below/b.npz", "lies in the source"),
        ("folder", "below.npz", "lies in the source"),
        (".", "counts.json", "lies in the source"),
        ("folder/", "way/counts.npz", "lies in the source"),
        ("folder/**/*.npz", "folder/counts.npz", "matches the source"),
        ("folder/**/*.npz", "folder/below/new.npz", "matches the source"),
        ("*.npz", "counts.npz", "matches the source"),
        ("m*.npz", "hard.npz", "the source"),
        ("[a-c]*", "counts.json", "matches the source"),
    ],
)
def test_an_output_that_is_or_lies_in_a_source_is_refused(
    run: Run, place: Path, source: str, output: str, says: str
) -> None:
    Path("linked.npz").symlink_to("masks.npz")
    Path("below.npz").symlink_to("folder/below/b.npz")
    Path("way").symlink_to("folder")
    Path("hard.npz").hardlink_to("masks.npz")
    before = contents(place)
    for words in (["count", source, "-o", output], ["count", "masks.npz", source, "-o", output]):
        code, out, err = run(*words)
        assert (code, out) == (2, ""), err
        assert says in err
        assert output in err
        assert err.count("\n") == 1
    assert contents(place) == before


def test_an_output_is_refused_before_anything_is_read(run: Run, place: Path) -> None:
    Path("masks.npz").write_bytes(b"not an archive")
    code, _, err = run("count", "masks.npz", "-o", "masks.npz")
    assert (code, "is the source" in err) == (2, True)


def test_a_source_that_is_a_uri_is_known(run: Run, place: Path) -> None:
    code, _, err = run("count", Path("masks.npz").resolve().as_uri(), "-o", "masks.npz")
    assert (code, "is the source" in err) == (2, True)


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("masks.npz", "counts.npz"),
        ("folder", "folder.json"),
        ("folder/*/*.npz", "folder/counts.npz"),
        ("*.npz", "counts.json"),
        ("*.npz", ".counts.npz"),
        ("three.zarr", "zarr2.json"),
    ],
)
def test_an_output_beside_a_source_is_written_twice(
    run: Run, place: Path, source: str, output: str
) -> None:
    before = contents(place)
    for _ in range(2):
        code, _, err = run("count", source, "-o", output)
        assert (code, err) == (0, "")
    assert fc.load(output).ledger.total == 120
    after = contents(place)
    assert after.pop(output)
    assert after == before


def test_solve_and_merge_and_their_inputs(run: Run, place: Path) -> None:
    for source in ("masks.npz", "three.zarr"):
        assert run("count", source, "-o", f"{source}.json")[0] == 0
    kept = Path("masks.npz.json").read_bytes()
    code, _, err = run("solve", "masks.npz.json", "--scheme", "inverse", "-o", "masks.npz.json")
    assert (code, "is the source" in err) == (2, True)
    words = ["solve", "masks.npz.json", "--scheme", "inverse", "-o", "two.zarr/zarr.json"]
    assert run(*words)[0] == 2
    assert Path("masks.npz.json").read_bytes() == kept
    total = fc.load("masks.npz.json") + fc.load("three.zarr.json")
    assert run("merge", "masks.npz.json", "three.zarr.json", "-o", "masks.npz.json")[0] == 0
    assert fc.load("masks.npz.json") == total
    code, _, err = run("merge", "masks.npz.json", "-o", "three.zarr/zarr.json")
    assert (code, "Zarr array" in err) == (2, True)


def test_a_demonstration_is_not_kept_in_an_array(run: Run, place: Path) -> None:
    before = contents(place)
    code, _, err = run("demo", "--images", "1", "--keep", "three.zarr")
    assert (code, "Zarr array" in err) == (2, True)
    assert contents(place) == before


# ---- names ----


@pytest.mark.parametrize(
    "command", ["count masks.npz", "merge c.json", "solve c.json --scheme inverse"]
)
@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("", "-o: the name is empty"),
        ("counts.npy", ".json"),
        ("counts", ".json"),
        ("folder", "is a folder"),
        ("nowhere/counts.json", "its folder does not exist"),
    ],
)
def test_outputs_that_cannot_be(
    run: Run, place: Path, command: str, output: str, says: str
) -> None:
    fc.Counts.from_pixels({0: 3, 1: 1}).save("c.json")
    before = contents(place)
    code, out, err = run(*command.split(), "-o", output)
    assert (code, out) == (2, "")
    assert says in err
    assert contents(place) == before


def test_suffixes_name_the_format_of_weights(run: Run, place: Path) -> None:
    fc.Counts.from_pixels({0: 3, 1: 1}).save("c.json")
    solve = ["solve", "c.json", "--scheme", "inverse"]
    for name, begin in (("w.json", "{"), ("w.csv", "label,"), ("w.py", "# ")):
        assert run(*solve, "-o", name)[0] == 0
        assert Path(name).read_text().startswith(begin)
    for form, name in (("torch", "w.npy"), ("json", "w.csv"), ("csv", "w.json"), ("keras", "w.h5")):
        code, _, err = run(*solve, "--format", form, "-o", name)
        assert (code, form in err) == (2, True)
    for form, name in (("torch", "t.py"), ("csv", "t.txt"), ("keras", "t")):
        assert run(*solve, "--format", form, "-o", name)[0] == 0
        assert Path(name).read_text() == run(*solve, "--format", form)[1]


def test_a_dash_is_standard_output_and_takes_the_data_only(run: Run, place: Path) -> None:
    wanted = json.loads(run("count", "masks.npz", "--json")[1])
    code, out, err = run("count", "masks.npz", "-o", "-")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert fc.Counts.from_dict(found) == fc.Counts.from_dict(wanted)
    Path("c.json").write_text(out)
    assert fc.Counts.from_dict(json.loads(run("merge", "c.json", "-o", "-")[1])) == fc.load(
        "c.json"
    )
    solve = ["solve", "c.json", "--scheme", "inverse"]
    assert run(*solve, "-o", "-")[1] == run(*solve, "--json")[1]
    assert run(*solve, "-o", "-", "--format", "csv")[1] == run(*solve, "--format", "csv")[1]
    assert not Path("-").exists()


def test_counts_are_piped(place: Path) -> None:
    program = f"{sys.executable} -m fastcounts"
    done = in_shell(
        f"count masks.npz -o - | {program} merge - -o - | {program} solve - --scheme inverse --json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights"] == [1.0] * 4


# ---- what cannot be written ----


@pytest.mark.parametrize(
    "words", ["schemes", "schemes --json", "plan masks.npz", "count masks.npz", "demo"]
)
def test_a_result_that_nothing_takes_is_an_error(place: Path, words: str) -> None:
    done = in_shell(f"{words} >&-")
    assert done.returncode == 3
    assert done.stderr.startswith("fastcounts: ")
    assert "standard output is closed" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_saved_result_needs_no_standard_output(place: Path) -> None:
    done = in_shell("count masks.npz -o counts.json >&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert fc.load("counts.json") == fc.count("masks.npz")


@pytest.fixture
def full(tmp_path: Path) -> str:
    """The name of an output on a device that is always full."""
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    link = tmp_path / "full.json"
    link.symlink_to("/dev/full")
    return str(link)


def test_a_full_disk_ends_with_3_and_the_counts_are_printed(
    run: Run, place: Path, full: str
) -> None:
    shown = run("count", "masks.npz")[1]
    code, out, err = run("count", "masks.npz", "-o", full)
    assert code == 3
    assert out == shown
    assert full in err
    assert "No space left" in err
    assert err.count("\n") == 1
    Path("c.json").write_bytes(run("count", "masks.npz", "--json")[1].encode())
    assert run("merge", "c.json", "-o", full)[0] == 3
    assert run("solve", "c.json", "--scheme", "inverse", "-o", full)[0] == 3


def test_a_full_standard_output_ends_with_3_and_says_what_was_saved(place: Path, full: str) -> None:
    done = in_shell("count masks.npz -o counts.json > /dev/full")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr
    assert "counts.json was written" in done.stderr
    assert fc.load("counts.json") == fc.count("masks.npz")
    done = in_shell("count masks.npz > /dev/full")
    assert done.returncode == 3
    assert "nothing was written" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_file_system_keeps_what_was_there(run: Run, place: Path, small_disk: Path) -> None:
    np.save("many.npy", np.arange(20_000, dtype=np.uint32))
    output = small_disk / "counts.json"
    assert run("count", "masks.npz", "-o", output)[0] == 0
    kept = output.read_bytes()
    code, out, err = run("count", "many.npy", "-o", output)
    assert (code, "No space left" in err) == (3, True)
    assert "19999" in out
    assert output.read_bytes() == kept
    assert list(small_disk.iterdir()) == [output]


def test_a_limit_on_the_size_of_files_is_a_full_disk(place: Path) -> None:
    write_whole("out.json", b"first")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(OutputError, match=r"out\.json: cannot be written: File too large"):
            write_whole("out.json", b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Path("out.json").read_bytes() == b"first"
    with pytest.raises(OptionError, match="is a folder"):
        write_whole("folder", b"x")


def test_readers_that_leave_early_are_no_error(place: Path) -> None:
    np.save("many.npy", np.arange(50_000, dtype=np.uint32))
    for words in ("count many.npy", "count many.npy -o -", "count many.npy -o many.json"):
        done = subprocess.run(
            f"{sys.executable} -m fastcounts {words} | head -n 1; exit ${{PIPESTATUS[0]}}",
            shell=True,
            executable="/bin/bash",
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert fc.load("many.json").labels.size == 50_000


# ---- interrupted ----


def test_interrupted_after_saving_says_what_was_written(place: Path) -> None:
    np.save("many.npy", np.arange(30_000, dtype=np.uint32))
    reading, writing = os.pipe()  # nobody reads: printing waits once the pipe is full
    command = [sys.executable, "-m", "fastcounts", "count", "many.npy", "-o", "counts.json"]
    process = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    while not os.path.exists("counts.json"):
        time.sleep(0.02)
        assert process.poll() is None
    os.read(reading, 1)  # the table has begun
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    os.close(reading)
    assert process.returncode == 4
    assert err == "fastcounts: interrupted; counts.json was written before\n"
    assert fc.load("counts.json").labels.size == 30_000
