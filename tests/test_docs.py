"""The examples of README and docs are run as they stand, and name only what exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from fastcounts.demo import demonstrate

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n+)?^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks of one language; one under a comment `not run: reason` is left out."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [code for opted_out, kind, code in found if kind == language and not opted_out]


DEMO_PAGES = {"README.md", "quickstart.md", "cookbook.md"}
"""Pages whose examples use what ``fastcounts demo --images 20 --keep demo`` leaves behind."""


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    """The data of the demo, drawn once; tests work on copies."""
    folder = tmp_path_factory.mktemp("drawn") / "demo"
    folder.mkdir()
    demonstrate(folder, 20, keep=True)
    return folder


@pytest.fixture
def kitchen(demo_folder, tmp_path, monkeypatch):
    """A copy of the demo's folder, with the other files that the cookbook names."""
    folder = shutil.copytree(demo_folder, tmp_path / "demo")
    mask = np.arange(64, dtype=np.uint8).reshape(8, 8) % 19
    for split in ("train", "val"):
        (folder / "gtFine" / split / "ulm").mkdir(parents=True)
        for kind in ("labelIds", "labelTrainIds", "instanceIds"):
            name = f"gtFine/{split}/ulm/ulm_000000_000019_gtFine_{kind}.png"
            Image.fromarray(mask).save(folder / name)
    (folder / "new").mkdir()
    Image.fromarray(mask).save(folder / "new" / "020.png")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def workshop(tmp_path, monkeypatch, request):
    """A folder with the files that the examples name."""
    if any(page in request.node.name for page in DEMO_PAGES):
        return request.getfixturevalue("kitchen")
    masks = np.random.default_rng(0).choice([0, 1, 2, 255], (4, 64, 64), p=[0.6, 0.2, 0.1, 0.1])
    array = zarr.create_array(
        tmp_path / "labels.zarr", shape=masks.shape, chunks=(1, 32, 64), dtype="u1"
    )
    array[...] = masks
    np.save(tmp_path / "masks.npy", masks.astype(np.uint8))
    if "classes.md" in request.node.name:  # elsewhere it would be a file that is no mask
        (tmp_path / "names.csv").write_text("id,name\n0,road\n1,car\n2,sky\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page, workshop):
    examples = blocks(page, "python")
    namespace: dict[str, object] = {"__name__": "example"}
    for example in examples:
        exec(compile(example, page.name, "exec"), namespace)
    assert page.name != "README.md" or "weights" in namespace


def run(words: list[str], folder: Path) -> str:
    """Run a command of fastcounts; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONUTF8": "1"},
        encoding="utf-8",
    )
    assert done.returncode == 0, f"{words}\n{done.stderr}"
    notes = [line for line in done.stderr.splitlines() if "left out by --include" not in line]
    assert notes == [], words  # a recipe that selects files says how many it leaves out
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_examples_run(page, workshop):
    printed = []
    commands = [
        words
        for block in blocks(page, "sh")
        for line in block.splitlines()
        if (words := shlex.split(line, comments=True))
    ]
    folder = workshop.parent if ["cd", "demo"] in commands else workshop
    if folder != workshop:
        shutil.rmtree(workshop)  # the page makes it
    for words in commands:
        if words[0] == "cd":
            folder /= words[1]
        elif words[0] == "fastcounts":
            printed.append(run(words, folder))
    assert page.name != "README.md" or len(printed) > 5
    check_samples(page, "".join(printed).splitlines())


NUMBER = re.compile(r"[0-9][0-9,.]*")


def is_sample(sample: str, line: str) -> bool:
    """Return whether two lines have the same words, and numbers that differ by 5 % at most.

    Other processors may draw a few pixels differently.
    """
    if NUMBER.sub("0", sample).split() != NUMBER.sub("0", line).split():
        return False
    pairs = zip(*(map(value, NUMBER.findall(text)) for text in (sample, line)), strict=True)
    return all(abs(given - found) <= 0.05 * found for given, found in pairs)


def value(number: str) -> float:
    return float(number.replace(",", "").rstrip("."))


def check_samples(page: Path, printed: list[str]) -> None:
    """Check that the page's samples of output consist of lines that its commands printed."""
    for sample in blocks(page, "text"):
        for line in sample.splitlines():
            if line.strip() not in ("", "...") and not line.startswith("$"):
                assert any(is_sample(line, found) for found in printed), line


@pytest.mark.parametrize(
    ("line", "alike"),
    [
        ("0  3,146,353  60.1 %", True),
        ("0 3,200,353  60.0 %", True),
        ("0 4,146,353 60.0 %", False),
        ("1 3,146,353 60.0 %", False),
        ("0 3,146,353 60.0", False),
    ],
)
def test_samples_are_compared_by_words_and_numbers(line, alike):
    assert is_sample("0 3,146,353 60.0 %", line) is alike


def test_the_snakemake_recipe_makes_weights(kitchen):
    """Run the rules in their order; Snakemake itself is not installed with the tests."""
    (recipe,) = blocks(ROOT / "docs" / "cookbook.md", "snakemake")
    rules = dict(re.findall(r"rule (\w+):\n((?:    .+\n)+)", recipe))
    assert list(rules) == ["all", "count", "merge", "solve"]
    shell = {
        name: match[1]
        for name, text in rules.items()
        if (match := re.search(r'shell: "(.+)"', text))
    }
    parts = [f"parts/{part}.json" for part in range(4)]
    assert 'expand("parts/{part}.json", part=range(4))' in rules["merge"]
    (kitchen / "parts").mkdir()  # as Snakemake does
    for part, output in enumerate(parts):
        line = shell["count"].replace("{wildcards.part}", str(part))
        run(shlex.split(line.format(input="masks.zarr", output=output)), kitchen)
    run(shlex.split(shell["merge"].format(input=" ".join(parts), output="merged.json")), kitchen)
    run(shlex.split(shell["solve"].format(input="merged.json", output="weights.json")), kitchen)
    assert len(json.loads((kitchen / "weights.json").read_text())["weights"]) == 31


def test_the_cron_recipe_counts(kitchen):
    (recipe,) = blocks(ROOT / "docs" / "cookbook.md", "crontab")
    *when, command = recipe.strip().split(" ", 5)
    assert when == ["0", "3", "*", "*", "*"]
    change, _, count = command.partition(" && ")
    assert change == "cd /data/demo"
    words, log = shlex.split(count)[:-2], shlex.split(count)[-2:]
    assert log == [">>", "nightly.log"]
    json.loads(run(words, kitchen))
    assert json.loads((kitchen / "nightly.json").read_text())["items"] == 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_readme_states_both_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "pip install . && fastcounts demo\n" in readme
    assert "pip install -e '.[test]' && pytest\n" in readme


def test_architecture_names_every_module():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = {
        path.stem if path.suffix else path.name
        for path in (ROOT / "fastcounts").iterdir()
        if (path.suffix == ".py" and path.stem[:2] != "__") or (path / "__init__.py").exists()
    }
    unnamed = {name for name in modules if f"`{name}`" not in text and f"`{name}/`" not in text}
    assert unnamed <= {"version"}


def between(page: Path, name: str) -> str:
    return (
        page.read_text(encoding="utf-8")
        .partition(f"<!-- begin: {name} -->\n")[2]
        .partition(f"<!-- end: {name} -->")[0]
    )


def test_the_speed_in_the_readme_is_that_of_the_benchmarks():
    table = between(ROOT / "docs" / "benchmarks.md", "kernels")
    rows = [line for line in table.splitlines() if line.startswith(("| input", "|---", "| uint8"))]
    assert rows[2:]
    shown = [cells(line) for line in between(ROOT / "README.md", "speed").splitlines()]
    assert shown == [cells(line)[:-1] for line in rows]  # without the speed of reading


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_zarr_figures_in_the_readme_are_those_of_its_page():
    rows = between(ROOT / "docs" / "zarr.md", "zarr").splitlines()
    shown = between(ROOT / "README.md", "zarr").splitlines()
    assert len(shown) > 5
    assert set(shown) <= set(rows)


@pytest.mark.parametrize("name", ["constants", "arithmetic"])
def test_the_page_about_scale_has_its_tables(name):
    rows = between(ROOT / "docs" / "scale.md", name).splitlines()
    assert len(rows) > 5


def test_extras_that_messages_name_exist():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    named = set()
    for path in (ROOT / "fastcounts").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r"MissingExtra\([^)]*?\"(\w+)\"\s*\)", text))
        named |= set(re.findall(r"fastcounts\[(\w+)\]", text))
    assert {"images", "distributed"} <= named
    assert named <= extras
