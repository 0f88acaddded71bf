"""An interruption while the command line is being loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WAYS = (
    [sys.executable, "-m", "fastcounts", "--help"],
    [str(Path(sys.executable).with_name("fastcounts")), "--help"],
)


def test_an_interruption_while_loading_ends_with_4(tmp_path: Path) -> None:
    """The first library that the command line needs sends SIGINT when it is imported."""
    (tmp_path / "click.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(5)\n"
    )
    for command in WAYS:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 4, done.stderr
        assert done.stderr == "fastcounts: interrupted; nothing was written\n"
        assert done.stdout == ""
