"""A terminal of any width that the command line prints to, in this process or in another."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from fastcounts import cli


@contextmanager
def terminal(width: int) -> Iterator[tuple[int, list[bytes]]]:
    """Open a terminal; yield its descriptor, and a list that holds its output afterwards."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    printed: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(parent, 4096):
                printed.append(part)
        except OSError:
            pass  # the other end was closed

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield child, printed
    finally:
        os.close(child)
        reader.join()
        os.close(parent)


def run_in_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int, words: Sequence[str]
) -> tuple[int, str]:
    """Run the command line with a terminal as standard output: (exit code, what it shows)."""
    with terminal(width) as (child, printed), monkeypatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        patch.setenv("TERM", "xterm")
        with os.fdopen(os.dup(child), "w", encoding="utf-8") as stream:
            patch.setattr(sys, "stdout", stream)
            with pytest.raises(SystemExit) as end:
                cli.main(list(words))
    return end.value.code, text_of(printed)


def text_of(printed: Sequence[bytes]) -> str:
    """Return the text that a terminal got, without its carriage returns and styles."""
    text = b"".join(printed).decode().replace("\r\n", "\n")
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
