"""The examples of README and docs are run as they stand, and name only what exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n+)?^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks of one language; one under a comment `not run: reason` is left out."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [code for opted_out, kind, code in found if kind == language and not opted_out]


@pytest.fixture
def workshop(tmp_path, monkeypatch, request):
    """A folder with the files that the examples name."""
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_examples_run(page, workshop):
    ran = 0
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if not words or words[0] != "fastcounts":
                continue
            done = subprocess.run(
                [sys.executable, "-m", *words], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            assert done.stderr == "", line
            ran += 1
    assert page.name != "README.md" or ran > 5


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
    assert between(ROOT / "README.md", "speed").splitlines() == rows


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
