"""What cannot be read is named on a terminal while the count goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from terminals import terminal, text_of


@pytest.mark.parametrize("width", [40, 200])
def test_a_file_that_fails_is_named(tmp_path: Path, width: int) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / name)
    bad = tmp_path / "a file with a long name that is empty.png"
    bad.touch()
    command = [sys.executable, "-m", "fastcounts", "count", str(tmp_path), "--on-error", "record"]
    with terminal(width) as (child, printed):
        environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm"}
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=child, check=False, env=environment
        )
    assert done.returncode == 3
    lines = [line for line in text_of(printed).splitlines() if "the file is empty" in line]
    assert lines
    assert all(f"failed: {bad}: the file is empty" in line for line in lines), lines
