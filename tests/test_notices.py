"""Notices reach listener, provenance, shell and Python; strict makes warnings errors."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastcounts as fc
from fastcounts.cli import main
from fastcounts.engine import noticing
from fastcounts.engine.events import Notice
from fastcounts.errors import FastcountsWarning, StrictError
from fastcounts.notices import note, warning

PACKAGE = Path(fc.__file__).parent


@pytest.fixture
def rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that finds one note and one warning in every count."""
    found = [note("seen", "seen."), warning("doubtful", "doubtful; do this.")]
    monkeypatch.setattr(noticing, "_RULES", (lambda counts, plan: found,))


@pytest.mark.usefixtures("rule")
def test_a_warning_is_raised_emitted_and_kept() -> None:
    events: list[object] = []
    with pytest.warns(FastcountsWarning, match="^doubtful; do this.$") as caught:
        counts = fc.count(np.ones((3, 4), np.uint8), progress=events.append)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert [event.code for event in events if isinstance(event, Notice)] == ["seen", "doubtful"]
    assert [one["severity"] for one in counts.provenance["runs"][0]["notices"]] == [
        "note",
        "warning",
    ]


@pytest.mark.usefixtures("rule")
def test_strict_makes_a_warning_an_error() -> None:
    with pytest.raises(StrictError, match="doubtful"):
        fc.count(np.ones((3, 4), np.uint8), strict=True)


def test_a_count_without_notices_has_none_in_its_provenance(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(5, np.uint8))
    assert "notices" not in fc.count(tmp_path / "a.npy", strict=True).provenance["runs"][0]


def test_a_notice_names_arguments_in_python_and_options_in_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = tmp_path / "m.npy"
    np.save(mask, np.array([0, 1, 2, 255], np.uint8))
    events: list[object] = []
    counts = fc.count(mask, progress=events.append)
    (seen,) = [event.message for event in events if isinstance(event, Notice)]
    (kept,) = counts.provenance["runs"][0]["notices"]
    assert seen == kept["message"]
    assert seen.endswith("count with ignore=255")
    for command in ["count", str(mask)], ["count", str(mask), "--json"]:
        with pytest.raises(SystemExit):
            main(command)
        printed = capsys.readouterr().err
        assert printed.endswith("count with --ignore 255\n")
        assert "ignore=" not in printed


def test_a_warning_under_strict_names_options_in_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a_labelIds.png", "a_instanceIds.png"):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / name)
    with pytest.raises(StrictError, match=r"with include='\*_labelIds.png'$"):
        fc.count(tmp_path, strict=True)
    with pytest.raises(SystemExit) as end:
        main(["count", str(tmp_path), "--strict"])
    assert end.value.code == 1
    assert capsys.readouterr().err.endswith("with --include '*_labelIds.png'\n")
    with pytest.raises(SystemExit):
        main(["plan", str(tmp_path)])
    printed = capsys.readouterr().err
    assert printed.startswith("fastcounts: warning: ")
    assert printed.endswith("with --include '*_labelIds.png'\n")


def test_no_notice_has_both_spellings() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("note", "warning"):
                texts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
                assert not any("--" in text for text in texts if isinstance(text, str)), texts
