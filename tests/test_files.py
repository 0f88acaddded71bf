"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fastcounts import files
from fastcounts.errors import OptionError, OutputError
from fastcounts.files import write_whole


def test_write__replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_whole(path, b"first")
    write_whole(str(path), b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_write__that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    write_whole(path, b"first")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_whole(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_write__never_changes_a_file_that_is_being_read(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_whole(path, b"first")
    with path.open("rb") as reader:
        write_whole(path, b"second")
        assert reader.read() == b"first"


def test_write__keeps_mode_and_link(tmp_path: Path) -> None:
    path, link = tmp_path / "out.json", tmp_path / "link.json"
    path.write_bytes(b"first")
    path.chmod(0o640)
    link.symlink_to(path)
    write_whole(link, b"second")
    assert link.is_symlink()
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_write__follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_whole(tmp_path / "out.json", b"first")
        assert stat.S_IMODE((tmp_path / "out.json").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(old)


def test_write__into_nowhere(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"out\.json: cannot be written"):
        write_whole(tmp_path / "no" / "out.json", b"")
    with pytest.raises(OptionError, match="folder"):
        write_whole(tmp_path, b"")


def test_write__to_a_device(tmp_path: Path) -> None:
    write_whole(os.devnull, b"gone")
    assert not Path(os.devnull).is_file()
