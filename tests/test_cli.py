"""The command line: what it prints, where, and with which exit code it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr

import fastcounts as fc
from fastcounts import cli, commands


@pytest.fixture
def masks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(1).choice([0, 1, 2, 255], (6, 30, 40), p=[0.6, 0.2, 0.1, 0.1])
    np.save("masks.npy", pixels.astype(np.uint8))
    array = zarr.create_array("masks.zarr", shape=(6, 30, 40), chunks=(1, 16, 40), dtype="u1")
    array[...] = pixels
    return pixels.astype(np.uint8)


@pytest.fixture
def run(capsys):
    """Run the command line in this process: (exit code, standard output, standard error)."""

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(list(words))
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return call


def check_refused(result, code, *says):
    """Assert that a command failed with one line on standard error and nothing else."""
    ended, out, err = result
    assert ended == code, err
    assert out == ""
    assert err.startswith("fastcounts: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for text in says:
        assert text in err


def test_count_prints_a_table(run, masks):
    code, out, err = run("count", "masks.npy", "--ignore", "255")
    assert (code, err) == (0, "")
    assert f"{np.count_nonzero(masks == 0):,}" in out
    assert f"{np.count_nonzero(masks == 255):,} ignored as 255" in out
    assert "fill value" not in out
    assert "0 of them are the fill value" in run("count", "masks.zarr")[1]


def test_count_prints_json(run, masks):
    code, out, err = run("count", "masks.zarr", "--ignore", "255", "--items", "0", "--json")
    assert (code, err) == (0, "")
    counts = fc.Counts.from_dict(json.loads(out))
    assert counts == fc.count("masks.zarr", ignore=255, items=0)


def test_count_writes_counts(run, masks):
    for name in ("counts.json", "counts.npz"):
        code, _, err = run(
            *("count", "masks.zarr", "--items", "0", "--keep-items", "--ignore", "255", "-o", name)
        )
        assert (code, err) == (0, "")
        assert fc.load(name) == fc.count("masks.zarr", items=0, keep_items=True, ignore=255)


def test_count_takes_every_option(run, masks, tmp_path):
    (tmp_path / "names.csv").write_text("0,road\n1,car\n2,car\n")
    words = "--classes names.csv --ignore 255 --region 0:2,:,3:20 --workers 2 --memory 64MB"
    code, out, _ = run("count", "masks.zarr", *words.split(), "--missing", "separate", "--json")
    assert code == 0
    part = masks[:2, :, 3:20]
    found = json.loads(out)
    assert found["names"] == {"0": "road", "1": "car"}
    assert found["members"] == {"1": [1, 2]}
    assert found["pixels"] == [int((part == 0).sum()), int(((part == 1) | (part == 2)).sum())]
    assert found["ledger"]["ignored"]["255"]["pixels"] == int((part == 255).sum())


def test_parts_merge_to_the_run(run, masks):
    names = [f"part{i}.json" for i in range(3)]
    for i, name in enumerate(names):
        assert run("count", "masks.zarr", "--items", "0", "--part", f"{i}/3", "-o", name)[0] == 0
    assert run("merge", *names, "-o", "all.json")[0] == 0
    assert fc.load("all.json") == fc.count("masks.zarr", items=0)


def test_merge_refuses_what_does_not_belong_together(run, masks):
    for i in range(3):
        run("count", "masks.zarr", "--part", f"{i}/3", "-o", f"part{i}.json")
    check_refused(run("merge", "part0.json", "part1.json", "-o", "all.json"), 1, "--partial")
    check_refused(run("merge", "part0.json", "part0.json", "-o", "all.json"), 2, "twice")
    assert not os.path.exists("all.json")
    run("count", "masks.npy", "--ignore", "2", "-o", "other.json")
    check_refused(run("merge", "part0.json", "other.json"), 2, "ignore")
    code, out, _ = run("merge", "part0.json", "part1.json", "--partial", "--json")
    assert code == 0
    assert json.loads(out)["covers"]


def test_solve_prints_a_table(run, masks):
    run("count", "masks.npy", "--ignore", "255", "-o", "counts.json")
    code, out, err = run("solve", "counts.json", "--scheme", "equal_cost", "--cap", "10")
    assert (code, err) == (0, "")
    assert "equal_cost" in out
    assert "pixel mean 1" in out


def test_solve_passes_options_to_the_scheme(run, masks):
    run("count", "masks.npy", "--ignore", "255", "-o", "counts.json")
    counts = fc.load("counts.json")
    for words in (["--c", "1.1"], ["--c=1.1"]):
        code, out, _ = run("solve", "counts.json", "--scheme", "enet", *words, "--json")
        assert code == 0
        assert json.loads(out)["weights"] == fc.solve(counts, "enet", c=1.1).values.tolist()
    check_refused(run("solve", "counts.json", "--scheme", "enet", "--d", "1"), 2, "d")
    check_refused(run("solve", "counts.json", "--scheme", "enet", "--c"), 2, "--c has no value")
    check_refused(run("solve", "counts.json", "--scheme", "enet", "1.1"), 2, "1.1")
    check_refused(run("solve", "counts.json", "--scheme", "enett"), 2, "enet")


def test_solve_shows_the_costs_that_were_stated(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.csv").write_text("0,180\n1,90\n2,25\n3,5\n")
    words = ["solve", "c.csv", "--scheme", "equal_cost", "--label-smoothing", "0.1"]
    code, out, _ = run(*words, "--framework", "torch")
    assert code == 0
    assert out.count("5.143266") == 4
    assert "as the options of the scheme state them" in out


def test_solve_reads_csv_and_standard_input(masks, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fastcounts", "solve", "-", "--scheme", "inverse", "--json"],
        input="label,pixels\n0,180\n1,90\n2,25\n3,5\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["weights"] == [1.0, 2.0, 7.2, 36.0]
    assert done.stderr == ""


@pytest.mark.parametrize("form", ["json", "csv", "python", "keras", "torch", "mmseg"])
def test_solve_writes_every_format(run, masks, form):
    run("count", "masks.npy", "--ignore", "255", "-o", "counts.json")
    words = ["solve", "counts.json", "--scheme", "inverse", "--format", form]
    code, out, _ = run(*words)
    assert code == 0
    assert out
    assert run(*words, "-o", "weights.txt")[0] == 0
    with open("weights.txt") as file:
        assert file.read() == out


def test_solve_refuses_incomplete_counts(run, masks):
    run("count", "masks.zarr", "--items", "0", "--part", "0/3", "-o", "part.json")
    check_refused(run("solve", "part.json", "--scheme", "inverse"), 1, "--partial")
    assert run("solve", "part.json", "--scheme", "inverse", "--partial")[0] == 0


def test_schemes_are_listed(run):
    code, out, _ = run("schemes")
    assert code == 0
    listed = json.loads(run("schemes", "--json")[1])
    for scheme in listed:
        assert scheme["name"] in out
    assert {"inverse", "balanced", "median_frequency", "equal_cost", "enet"} <= {
        scheme["name"] for scheme in listed
    }


def test_what_is_wrong_with_the_command_line_ends_with_2(run, masks):
    check_refused(run("count"), 2, "SOURCE")
    check_refused(run("count", "masks.npy", "--bogus"), 2, "--bogus")
    check_refused(run("count", "masks.npy", "--items", "7"), 2, "axis 7")
    check_refused(run("count", "masks.npy", "--items", "banana"), 2, "banana")
    check_refused(run("count", "masks.npy", "--part", "3/3"), 2, "0 <= i < N")
    check_refused(run("count", "masks.npy", "--memory", "lots"), 2, "lots")
    check_refused(run("count", "masks.zarr", "--memory", "1kB"), 2, "would do")
    check_refused(run("count", "masks.npy", "--region", "0:99"), 2, "0:99")
    check_refused(run("count", "masks.npy", "-o", "counts.txt"), 2, ".json or .npz")
    check_refused(run("count", "masks.npy", "-o", "nowhere/counts.json"), 2, "nowhere")
    check_refused(run("frobnicate"), 2, "frobnicate")


def test_what_cannot_be_read_ends_with_3(run, masks, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    np.save("fractions.npy", np.array([[0.0, 1.5]]))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    check_refused(run("count", "nope.npy"), 3, "nope.npy")
    check_refused(run("count", "empty"), 3, "no masks")
    check_refused(run("count", "text.png"), 3, "text.png")
    check_refused(run("count", "fractions.npy"), 3, "1.5", "(0, 1)")
    check_refused(run("count", "objects.npy"), 3, "objects.npy", "Python objects")
    check_refused(run("solve", "masks.npy", "--scheme", "inverse"), 3, "masks.npy")


def test_a_label_of_no_class_under_strict_ends_with_1(run, masks):
    result = run("count", "masks.npy", "--classes", "3", "--strict", "-o", "counts.json")
    first = np.argwhere(masks == 255)[0]
    check_refused(result, 1, "label 255", str(tuple(map(int, first))))
    assert not os.path.exists("counts.json")


def test_unexpected_labels_are_named(run, masks):
    code, out, _ = run("count", "masks.npy", "--classes", "3")
    assert code == 0
    assert f"{np.count_nonzero(masks == 255):,} unexpected: label 255" in out


def test_a_recorded_failure_ends_with_3_and_writes_the_result(run, masks, tmp_path):
    chunk = tmp_path / "masks.zarr" / "c" / "2" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    check_refused(run("count", "masks.zarr", "-o", "counts.json"), 3, "masks.zarr")
    assert not os.path.exists("counts.json")
    code, out, err = run("count", "masks.zarr", "--on-error", "record", "-o", "counts.json")
    assert code == 3
    assert f"{14 * 40:,} failed" in out
    assert "masks.zarr" in err
    counts = fc.load("counts.json")
    assert counts.ledger.failed == 14 * 40
    left = np.delete(masks.reshape(6, -1), 2, 0).size + 16 * 40
    assert counts.ledger.counted == left


def test_debug_shows_where(run, masks):
    code, _, err = run("count", "nope.npy", "--debug")
    assert code == 3
    assert "Traceback" in err


def test_a_fault_of_ours_ends_with_5(run, masks, monkeypatch):
    def broken(*args, **given):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(commands, "run", broken)
    check_refused(run("count", "masks.npy"), 5, "internal error", "ZeroDivisionError", "report")


def test_nothing_is_half_written(run, masks, tmp_path):
    run("count", "masks.npy", "-o", "counts.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "counts.json",
        "masks.npy",
        "masks.zarr",
    ]


def test_a_closed_pipe_is_no_error(masks):
    done = subprocess.run(
        f"{sys.executable} -m fastcounts schemes | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupted_ends_with_4(tmp_path):
    np.save(tmp_path / "big.npy", np.zeros((1,), np.uint8))
    script = (
        "import os, time\n"
        "from fastcounts import cli\n"
        "from fastcounts.sources import files\n"
        "def slow(self, array, box):\n"
        "    os.write(2, b'reading\\n')\n"
        "    time.sleep(0.3)\n"
        "    return read(self, array, box)\n"
        "read, files.FileSource.read = files.FileSource.read, slow\n"
        f"cli.main(['count', *[r'{tmp_path}/' + str(n) + '.npy' for n in range(200)],\n"
        f"    '-o', r'{tmp_path}/counts.json'])\n"
    )
    for number in range(200):
        np.save(tmp_path / f"{number}.npy", np.zeros((100, 100), np.uint8))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stderr.readline() == "reading\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 4
    assert [line for line in err.splitlines() if line != "reading"] == [
        "fastcounts: interrupted; nothing was written"
    ]
    assert not (tmp_path / "counts.json").exists()


def test_progress_is_drawn_on_a_terminal_only(masks):
    command = [sys.executable, "-m", "fastcounts", "count", "masks.zarr", "--ignore", "255"]
    plain = subprocess.run(command, capture_output=True, text=True, check=True)
    assert plain.stderr == ""
    assert "\x1b" not in plain.stdout
    parent, child = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=child)
    os.close(child)
    drawn = b""
    try:
        while part := os.read(parent, 4096):
            drawn += part
    except OSError:
        pass  # the other end was closed
    process.communicate()
    os.close(parent)
    assert process.returncode == 0
    assert b"counting" in drawn


def test_demo_prints_the_answer(run):
    code, out, err = run("demo", "--images", "1")
    assert (code, err) == (0, "")
    assert "equal cost" in out
    assert "px/s" in out
    code, out, _ = run("demo", "--images", "1", "--json")
    found = json.loads(out)
    assert found["counts"]["ledger"]["total"] == 2048 * 2048
    assert found["inverse"]["weights"][0] == 1.0


def test_module_and_script_are_the_same(masks):
    for command in ([sys.executable, "-m", "fastcounts"], ["fastcounts"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.split()[-1] == fc.__version__


def test_every_command_explains_itself(run):
    _, out, _ = run("--help")
    assert set(cli.COMMANDS) == set(commands.__all__)
    for name, summary in cli.COMMANDS.items():
        assert f"{name} " in out
        assert summary in " ".join(out.split())  # click wraps lines to the terminal
        code, text, _ = run(name, "--help")
        assert code == 0
        assert "--json" in text


@pytest.mark.parametrize("words", ["count masks.npy", "plan masks.npy", "schemes", "--help"])
def test_a_reader_that_has_gone_is_no_error(masks, words):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "fastcounts", *words.split()]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_streams_are_no_fault(masks):
    def ended(words: str) -> int:
        return subprocess.run(f"{sys.executable} -m fastcounts {words}", shell=True).returncode

    assert ended("count masks.npy -o counts.json >&- 2>&- <&-") == 0
    assert fc.load("counts.json") == fc.count("masks.npy")
    assert ended("schemes --json >&-") == 3
    assert ended("count masks.npy >&-") == 3
    assert ended("count nope.npy 2>&-") == 3
    assert ended("solve - --scheme inverse <&- 2>&-") == 3


def test_names_that_the_output_cannot_spell(masks, tmp_path):
    (tmp_path / "names.txt").write_text("stra\u00dfe\ncar", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "fastcounts", "count", "masks.npy", "--classes", "names.txt"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"0 stra\xdfe" in done.stdout


def test_without_docstrings_everything_works(masks):
    for words in (["schemes", "--json"], ["count", "masks.npy", "--ignore", "255"]):
        command = [sys.executable, "-OO", "-m", "fastcounts", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_output_where_nothing_can_be(run, masks, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir("gone")
    os.rmdir(tmp_path / "gone")
    words = ["count", str(tmp_path / "masks.npy"), "-o", "counts.json"]
    check_refused(run(*words), 2, "counts.json: cannot be written")


def test_what_cannot_be_is_no_fault(run, masks, tmp_path):
    long = "a" * 300
    check_refused(run("count", long), 3, long, "too long")
    check_refused(run("count", "masks.npy", "-o", f"{long}.json"), 2, long, "too long")
    check_refused(run("count", "masks.npy", "--memory", "1e400"), 2, "memory")
    check_refused(run("bench", "masks.npy", "--seconds", "nan"), 2, "--seconds")
    check_refused(run("demo", "--images", "1", "--keep", "masks.npy"), 2, "--keep", "masks.npy")
    (tmp_path / "c.csv").write_text("0,1\n1,2\n")
    words = ["solve", "c.csv", "--scheme", "inverse", "--num-classes", "999999999999"]
    check_refused(run(*words), 2, "--num-classes 999999999999")
    check_refused(run("solve", "c.csv", "--scheme", "enet", "--c", "[" * 10_000), 2, "--c ")
