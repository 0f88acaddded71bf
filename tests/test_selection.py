"""Which files of a folder are counted: patterns, what is passed over, and what is refused."""

from __future__ import annotations

import os
import socket
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image
from test_source_folders import save
from test_sources import mask

import fastcounts as fc
from fastcounts import cli
from fastcounts.errors import (
    FastcountsWarning,
    OptionError,
    SourceNotFound,
    StrictError,
    UnsupportedSource,
)
from fastcounts.sources import open_source
from fastcounts.sources.kinds import mixed_kinds

FILES = ("a_x.png", "b_x.png", "b_y.png", "sub/a_x.png", "sub/old/a_x.png", "old/c_y.png")


def counted(target: Any, **options: Any) -> list[str]:
    """The files that are counted, relative to the folder that all are in."""
    source = open_source(target, **options)
    assert not source.unreadable
    base = Path(os.path.commonpath([target] if isinstance(target, Path) else target))
    return [os.path.relpath(info.name, base) for info in source.arrays]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        save(tmp_path / name, mask(4, 5))
    return tmp_path


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*_x.png",), (), {0, 1, 3, 4}),
        (("*_x.png", "*_y.png"), (), {0, 1, 2, 3, 4, 5}),
        ((), ("*_y.png",), {0, 1, 3, 4}),
        ((), ("old",), {0, 1, 2, 3}),
        ((), ("old/",), {0, 1, 2, 3}),
        ((), ("/old",), {0, 1, 2, 3, 4}),
        ((), ("old/*",), {0, 1, 2, 3, 4}),
        ((), ("sub/old",), {0, 1, 2, 3, 5}),
        ((), ("**/old/*.png",), {0, 1, 2, 3}),
        (("sub",), (), {3, 4}),
        (("sub/*.png",), (), {3}),
        (("sub/**",), (), {3, 4}),
        (("sub/**/a_x.png",), (), {3, 4}),
        (("./sub/*.png",), (), {3}),
        (("[ab]_[xy].png",), ("old",), {0, 1, 2, 3}),
        (("*",), ("*_x.png", "old"), {2}),
    ],
)
def test_patterns(
    folder: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: set[int]
) -> None:
    names = {FILES[place] for place in expected}
    assert set(counted(folder, include=include, exclude=exclude)) == names
    found = open_source(f"{folder}/**/*.png", include=include, exclude=exclude)
    assert {os.path.relpath(info.name, folder) for info in found.arrays} == names


def test_patterns_select_among_named_files_by_the_end_of_their_paths(folder: Path) -> None:
    paths = [folder / name for name in FILES]
    assert counted(paths, exclude=("*_y.png",)) == [FILES[n] for n in (0, 1, 3, 4)]
    assert counted(paths, include=("sub/*.png",)) == ["sub/a_x.png"]
    with pytest.raises(SourceNotFound, match="left out"):
        fc.count(paths, exclude="*.png")
    with pytest.raises(SourceNotFound, match="left out"):
        fc.count(paths[0], exclude="*.png")


def test_patterns_in_python_and_shell(folder: Path, capsys: Any) -> None:
    counts = fc.count(folder, include="*_x.png", exclude=["sub", "b_*"])
    assert counts.items == 1
    words = ["--include", "*_x.png", "--exclude", "sub", "--exclude", "b_*"]
    for command in (["count", "-o", f"{folder}.json"], ["plan"], ["bench"]):
        with pytest.raises(SystemExit) as end:
            cli.main([*command, str(folder), *words])
        assert end.value.code == 0, capsys.readouterr().err
    assert fc.load(f"{folder}.json") == counts
    assert "left out by --include and --exclude: 4 files or folders" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [3, "", ["a", 3], "/", {"a": 1}])
def test_patterns_that_are_none(folder: Path, wrong: Any) -> None:
    for name in ("include", "exclude"):
        with pytest.raises(OptionError, match=f"{name}: expected a pattern"):
            fc.count(folder, **{name: wrong})


def test_patterns_without_files_are_refused() -> None:
    with pytest.raises(OptionError, match="include: patterns select among files"):
        fc.count(mask(3, 3), include="*.png")


def test_patterns_that_match_nothing_are_reported(folder: Path) -> None:
    with pytest.warns(FastcountsWarning, match=r"exclude: no file matches '\*\.PNG'"):
        fc.count(folder, exclude="*.PNG")
    with pytest.raises(SourceNotFound, match="include"):
        fc.count(folder, include="*.tif")


def test_parts_and_processes_see_the_same_selection(folder: Path) -> None:
    whole = fc.count(folder, include="*_x.png")
    assert sum(fc.count(folder, include="*_x.png", part=(n, 3)) for n in range(3)) == whole
    assert fc.count(folder, include="*_x.png", scheduler="synchronous") == whole


# ---- what cannot be counted ----


def test_a_refused_file_is_recorded_with_its_reason(folder: Path) -> None:
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(folder / "c_color.png")
    np.save(folder / "d.npy", np.array(["road"]))
    (folder / "e.zarr").mkdir()
    zarr.create_group(folder / "e.zarr").create_array("f", data=np.ones((2, 2)))
    with pytest.raises(UnsupportedSource) as caught:
        fc.count(folder)
    assert "on_error='record'" in str(caught.value)
    assert "--on-error record" in caught.value.shell_message()
    assert "2 more cannot be counted" in str(caught.value)
    counts = fc.count(folder, on_error="record")
    assert counts.items == 6
    failures = {
        os.path.basename(failure["name"]): failure["reason"]
        for failure in counts.provenance["runs"][0]["failures"]
    }
    assert sorted(failures) == ["c_color.png", "d.npy", "e.zarr"]
    assert "RGB" in failures["c_color.png"]
    assert "text" in failures["d.npy"] or "str" in failures["d.npy"]
    assert "no array of integers" in failures["e.zarr"]
    assert not any("exclude" in reason for reason in failures.values())


def test_the_error_of_a_refused_file_gives_the_pattern_of_its_kind(
    folder: Path, capsys: Any
) -> None:
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(folder / "c_color.png")
    with pytest.raises(UnsupportedSource, match=r"exclude='\*_color\.png'"):
        fc.count(folder)
    with pytest.raises(SystemExit):
        cli.main(["count", str(folder)])
    assert "--exclude '*_color.png'" in capsys.readouterr().err
    assert fc.count(folder, exclude="*_color.png").items == 6


# ---- what is passed over ----


def notices(counts: fc.Counts) -> dict[str, str]:
    return {one["code"]: one["message"] for one in counts.provenance["runs"][0].get("notices", [])}


def test_hidden_files_are_listed(tmp_path: Path) -> None:
    save(tmp_path / "a.png", mask(4, 5))
    save(tmp_path / ".b.png", mask(4, 5))
    save(tmp_path / ".cache" / "c.png", mask(4, 5))
    counts = fc.count(tmp_path)
    assert counts.items == 1
    assert "passed over hidden files and folders" in notices(counts)["skipped-hidden"]
    assert ".b.png" in notices(counts)["skipped-hidden"]
    names = sorted(os.path.basename(name) for name in open_source(tmp_path).skipped)
    assert names == [".b.png", ".cache"]


def test_links_to_folders_that_are_counted_already_are_listed(tmp_path: Path) -> None:
    save(tmp_path / "set" / "a" / "m.png", mask(4, 5))
    (tmp_path / "set" / "b").symlink_to(tmp_path / "set" / "a")
    (tmp_path / "set" / "up").symlink_to(tmp_path / "set")
    counts = fc.count(tmp_path / "set")
    assert counts.items == 1
    assert "(2)" in notices(counts)["skipped-listed-before"]
    names = [os.path.basename(name) for name in open_source(tmp_path / "set").skipped]
    assert names == ["b", "up"]
    assert fc.count(f"{tmp_path}/set/**/*.png") == counts


def test_folders_that_a_glob_matches_are_listed(tmp_path: Path) -> None:
    save(tmp_path / "a.png", mask(4, 5))
    save(tmp_path / "sub" / "b.png", mask(4, 5))
    assert "sub" in notices(fc.count(f"{tmp_path}/*"))["skipped-folder"]
    assert "skipped-folder" not in notices(fc.count(f"{tmp_path}/**"))


@pytest.fixture
def special(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder with a mask, a named pipe, a socket, and a link to a device."""
    (tmp_path / "m").mkdir()
    monkeypatch.chdir(tmp_path / "m")  # the path of a socket may not be long
    save(Path("a.png"), mask(4, 5))
    os.mkfifo("pipe.png")
    Path("null.png").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        yield tmp_path / "m"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_special_files_are_passed_over(special: Path) -> None:
    for target in (special, f"{special}/*.png"):
        counts = fc.count(target)
        assert counts.items == 1
        assert "(3)" in notices(counts)["skipped-special-file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize(
    ("name", "what"), [("pipe.png", "named pipe"), ("socket.png", "socket"), ("null.png", "device")]
)
def test_special_files_are_refused_if_named(special: Path, name: str, what: str) -> None:
    for target in (special / name, [special / "a.png", special / name]):
        with pytest.raises(UnsupportedSource, match=f"is a {what}; .*regular files"):
            fc.count(target)


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_counts_files_are_passed_over(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / "a.png", mask(4, 5))
    first = fc.count(tmp_path, keep_items=True)
    first.save(tmp_path / f"counts.{suffix}")
    for target in (tmp_path, f"{tmp_path}/*"):
        again = fc.count(target, keep_items=True)
        assert again == first
        assert f"counts.{suffix}" in notices(again)["skipped-counts-file"]
    with pytest.raises(UnsupportedSource, match=r"is a counts file .*fastcounts merge"):
        fc.count(tmp_path / f"counts.{suffix}")
    with pytest.raises(UnsupportedSource, match="is a counts file"):
        fc.count([tmp_path / "a.png", tmp_path / f"counts.{suffix}"])


def test_an_archive_with_an_array_named_header_is_no_counts_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", header=mask(4, 5))
    assert fc.count(tmp_path).ledger.total == 20


def test_folders_deeper_than_the_longest_path(tmp_path: Path) -> None:
    save(tmp_path / "m" / "a.png", mask(4, 5))
    here = os.getcwd()
    try:
        os.chdir(tmp_path / "m")
        for _ in range(22):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
        np.save("deep.npy", mask(4, 5))
    finally:
        os.chdir(here)
    with pytest.raises(SourceNotFound, match="more than the system can open"):
        fc.count(tmp_path / "m")
    counts = fc.count(tmp_path / "m", on_error="record")
    assert counts.items == 1
    (failure,) = counts.provenance["runs"][0]["failures"]
    assert "more than the system can open" in failure["reason"]
    assert fc.count(tmp_path / "m", exclude="d*").items == 1


# ---- files of several kinds ----


def test_kinds_of_one_image_are_reported(tmp_path: Path) -> None:
    for city in ("ulm", "bonn"):
        for kind in ("labelIds", "instanceIds"):
            save(tmp_path / city / f"{city}_000_gtFine_{kind}.png", mask(4, 5))
    with pytest.warns(FastcountsWarning) as caught:
        counts = fc.count(tmp_path)
    (message,) = (str(one.message) for one in caught)
    assert "2 *_labelIds.png, 2 *_instanceIds.png" in message
    assert "count one kind with include='*_labelIds.png'" in message
    assert notices(counts)["mixed-kinds"] == message
    with pytest.raises(StrictError, match="include="):
        fc.count(tmp_path, strict=True)
    with pytest.raises(StrictError):
        fc.count(sorted(tmp_path.rglob("*.png")), strict=True)
    assert fc.count(tmp_path, include="*_labelIds.png", strict=True).items == 2


@pytest.mark.parametrize(
    ("names", "mixed"),
    [
        (("a.png", "a_mask.png"), True),
        (("a_image.tif", "a_label.tif"), True),
        (("a_trainIds.png", "a_labelIds.png"), True),
        (("1.png", "2.png", "10_color.png"), False),
        (("a_labelIds.png", "b_instanceIds.png"), False),
        (("x/a_labelIds.png", "y/a_instanceIds.png"), False),
        (("a.png", "a.tif"), False),
        (("a_mask.png", "a_mask.tif"), False),
        (("a.png", "a_parts.png"), False),
        (("mask.png", "label.png"), False),
    ],
)
def test_names_of_kinds(names: tuple[str, ...], mixed: bool) -> None:
    assert bool(mixed_kinds(f"file:///data/{name}" for name in names)) == mixed


def test_one_archive_is_no_second_kind(tmp_path: Path) -> None:
    np.savez(tmp_path / "a_mask.npz", x=mask(3, 3), y=mask(3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fc.count(tmp_path, all_arrays=True).ledger.total == 18
