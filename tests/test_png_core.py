"""PNG masks are counted by the core dependencies; TIFF masks name the extra that they need."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastcounts as fc

PROJECT = Path(__file__).parent.parent / "pyproject.toml"

WITHOUT_EXTRAS = """
import sys

sys.modules["imagecodecs"] = sys.modules["tifffile"] = None  # importing them fails
import fastcounts as fc

try:
    counts = fc.count(sys.argv[1])
    print(dict(zip(counts.labels.tolist(), counts.pixels.tolist())))
except fc.errors.MissingExtra as error:
    print("MissingExtra:", error)
"""


def count_without_extras(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_needs_no_extra(tmp_path, dtype):
    mask = np.array([[0, 1, 1], [2, 2, 2]], dtype) * (100 if dtype == np.uint8 else 1000)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    expected = {int(label): int((mask == label).sum()) for label in np.unique(mask)}
    assert count_without_extras(tmp_path / "mask.png") == str(expected)
    assert fc.count(tmp_path / "mask.png").pixels.tolist() == list(expected.values())


def test_palette_png_needs_no_extra(tmp_path):
    image = Image.new("P", (3, 1))
    image.putdata([0, 1, 1])
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.save(tmp_path / "mask.png")
    assert count_without_extras(tmp_path / "mask.png") == "{0: 1, 1: 2}"


def test_tiff_names_its_extra(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "mask.tif")
    found = count_without_extras(tmp_path / "mask.tif")
    assert found.startswith("MissingExtra: ")
    assert "fastcounts[images]" in found


def test_pillow_is_a_core_dependency():
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    assert any(line.startswith("pillow") for line in project["dependencies"])
    assert not any(line.startswith("pillow") for line in project["optional-dependencies"]["images"])
