"""The project's own papers agree with the package and with each other."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

import fastcounts

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / ".github").glob("*.md"), *(ROOT / "docs").rglob("*.md")]
)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


def links(text: str) -> list[str]:
    """Return the targets of the Markdown links in a text that are not addresses of the web."""
    found = LINK.findall(CODE.sub("`code`", FENCE.sub("", text)))
    return [target for target in found if not re.match(r"(https?|mailto):", target)]


def anchors(text: str) -> set[str]:
    """Return the anchors that hosting sites make of the headings of a text."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken_links(page: Path) -> list[str]:
    """Return the links of a page to files and headings that do not exist."""
    broken = []
    for target in links(page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (
            anchor and anchor not in anchors(file.read_text(encoding="utf-8"))
        ):
            broken.append(target)
    return broken


def project() -> dict[str, object]:
    """Return the tables of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def minimums() -> dict[str, str]:
    """Return the lowest version of each requirement that pyproject.toml declares."""
    data = project()["project"]
    assert isinstance(data, dict)
    requirements = [*data["dependencies"]]
    for extra in data["optional-dependencies"].values():
        requirements += extra
    parsed = (re.match(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)", line) for line in requirements)
    return {match[1].lower(): match[2] for match in parsed if match}


# ---- links ----


def test_pages__are_found() -> None:
    names = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/glossary.md"} <= names
    assert "docs/decisions/README.md" in names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links__lead_to_files_and_headings(page: Path) -> None:
    assert broken_links(page) == []


def test_links__that_are_broken_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One `two`, three\n## Again\n## Again\n", "utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n"
        "[a](other.md#one-two-three) [b](other.md#again-1) [c](#here) [d](https://e.org/#f)\n"
        "[e](lost.md) [f](other.md#again-2) [g](#there) `[h](code.md)`\n"
        "```md\n# There\n[i](fence.md)\n```\n",
        "utf-8",
    )
    assert broken_links(page) == ["lost.md", "other.md#again-2", "#there"]


# ---- decisions ----


def decisions() -> list[Path]:
    return sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def test_decisions__the_index_lists_every_page_under_its_title() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    titles = [page.read_text(encoding="utf-8").partition("\n")[0] for page in decisions()]
    wanted = [
        (title.removeprefix("# "), page.name)
        for title, page in zip(titles, decisions(), strict=True)
    ]
    assert re.findall(r"^\| \[([^\n]+)\]\(([^)]+)\)", index, re.MULTILINE) == wanted


def test_decisions__are_numbered_without_gaps() -> None:
    pages = decisions()
    assert pages
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for number, page in enumerate(pages, start=1):
        assert page.read_text(encoding="utf-8").startswith(f"# {number}. ")


@pytest.mark.parametrize("page", decisions(), ids=lambda page: page.stem)
def test_decisions__state_context_decision_consequences_and_evidence(page: Path) -> None:
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:3] == ["Context", "Decision", "Consequences"]
    assert headings[3:] in (["How it was measured"], ["How it is tested"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages__name_tests_and_benchmarks_that_exist(page: Path) -> None:
    named = re.findall(r"\b((?:tests|benchmarks)/[\w/]+\.py)\b", page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


# ---- the glossary ----


def test_glossary__has_every_term_once_with_a_meaning() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", text, re.MULTILINE)
    terms = [
        term for names, _ in rows if names not in ("term", "---") for term in names.split(", ")
    ]
    assert len(terms) > 40
    assert [term for term, times in Counter(terms).items() if times > 1] == []
    assert all(meaning.strip() for _, meaning in rows)


# ---- versions ----


def test_citation__has_the_version_and_license_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == fastcounts.__version__
    data = project()["project"]
    assert isinstance(data, dict)
    assert citation["title"] == data["name"]
    assert citation["license"] == data["license"]


def test_lowest_versions__are_those_that_the_project_declares() -> None:
    text = (ROOT / ".ci" / "lowest.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==([\w.]+)$", text, re.MULTILINE))
    declared = minimums()
    assert set(pinned) <= set(declared)
    for name, version in pinned.items():
        assert f"{version}.".startswith(f"{declared[name]}."), f"{name}=={version}"
    data = project()["project"]
    assert isinstance(data, dict)
    core = {re.split(r"[\[>]", line)[0] for line in data["dependencies"]}
    assert core <= set(pinned)


def test_workflow__runs_the_checks_without_rights_or_secrets() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    assert {"run": "bash .ci/run"} in workflow["jobs"]["checks"]["steps"]
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert "permissions" not in job
    oldest = min(
        workflow["jobs"]["checks"]["strategy"]["matrix"]["python"],
        key=lambda version: int(version.partition(".")[2]),
    )
    data = project()["project"]
    assert isinstance(data, dict)
    assert data["requires-python"] == f">={oldest}"


@pytest.mark.parametrize(
    "path",
    [".pre-commit-config.yaml", *(f".github/ISSUE_TEMPLATE/{n}.yml" for n in ("bug", "feature"))],
)
def test_forms__are_yaml_mappings(path: str) -> None:
    assert isinstance(yaml.safe_load((ROOT / path).read_text(encoding="utf-8")), dict)


def test_bug_report__asks_for_what_the_commands_print() -> None:
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    for command in ("fastcounts --version", "fastcounts plan SOURCE --json", "--debug"):
        assert command in text
