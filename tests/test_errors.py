"""Every bad input gets one clear error: of the right class, with what, where and what to do."""

from __future__ import annotations

import builtins
import os
import pickle
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from pngs import png, rows
from test_sources import mask

import fastcounts as fc
from fastcounts import errors
from fastcounts.errors import (
    AmbiguousSource,
    FastcountsError,
    IncompatibleCounts,
    MissingChunk,
    NonIntegralLabel,
    OptionError,
    ReadError,
    SourceNotFound,
    UnexpectedLabel,
    UnsupportedSource,
)

# ---- the tree ----


def test_tree__in_the_docstring_is_the_real_one() -> None:
    assert errors.__doc__ is not None
    path: list[str] = []
    found = set()
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([│ ├└─]*)(\w+)( \((\w+)\))?", line)
        if match is None or not hasattr(errors, match[2]):
            continue
        depth = len(match[1]) // 4
        path[depth:] = [match[2]]
        kind = getattr(errors, match[2])
        found.add(match[2])
        if depth:
            assert issubclass(kind, getattr(errors, path[depth - 1])), line
        if match[4]:
            assert issubclass(kind, getattr(builtins, match[4])), line
    assert found == set(errors.__all__)


def test_tree__has_a_known_exit_code_everywhere() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, Warning) or kind.exit_code in (1, 2, 3, 5)


@pytest.mark.parametrize("name", sorted(errors.__all__))
def test_errors__travel_between_processes(name: str) -> None:
    kind = getattr(errors, name)
    arguments: dict[str, tuple[Any, ...]] = {
        "NonIntegralLabel": (0.5, (1, 2), "labels.zarr"),
        "MissingExtra": ("reading TIFF masks needs tifffile", "images"),
    }
    error = kind(*arguments.get(name, ("a message",)))
    assert str(kind.__new__(kind, *error.args)) == str(error)  # as Dask's helpers restore it
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)


# ---- bad input ----

Make = Callable[[Path], Any]
BAD: dict[str, tuple[Make, type[FastcountsError]]] = {}


def bad(name: str, kind: type[FastcountsError]) -> Callable[[Make], Make]:
    """A way to spoil a mask: the path it returns must be refused with this error."""

    def note(make: Make) -> Make:
        BAD[name] = make, kind
        return make

    return note


def changed(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


def a_png(folder: Path) -> Path:
    (folder / "a.png").write_bytes(png(mask(20, 30)))
    return folder / "a.png"


def an_npy(folder: Path, array: Any = None) -> Path:
    np.save(folder / "a.npy", mask(20, 30) if array is None else array, allow_pickle=True)
    return folder / "a.npy"


def an_npz(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", a=mask(120, 70))
    return folder / "a.npz"


def a_tif(folder: Path, **options: Any) -> Path:
    array = np.random.default_rng(0).integers(0, 9, (5, 20, 30)).astype(np.uint8)
    tifffile.imwrite(folder / "a.tif", array, photometric="minisblack", **options)
    return folder / "a.tif"


for place in (10, 14, 18, 22, 24, 25, 28, 31):
    bad(f"png header flip {place}", ReadError)(
        lambda folder, place=place: changed(a_png(folder), lambda c: flipped(c, place))
    )
for place in (2, -3, -10, -14, -20):
    bad(f"png flip {place}", ReadError)(
        lambda folder, place=place: changed(a_png(folder), lambda c: flipped(c, place % len(c)))
    )
for kept in (1, 9, 20, 32, 40, -1, -13):
    bad(f"png cut {kept}", ReadError)(
        lambda folder, kept=kept: changed(a_png(folder), lambda c: c[:kept])
    )
for kept in (0, 4, 9, 60, 127, 128, -1):
    bad(f"npy cut {kept}", ReadError)(
        lambda folder, kept=kept: changed(an_npy(folder), lambda c: c[:kept])
    )
for old, new in (
    (b"(20, 30)", b"(-2, 30)"),
    (b"(20, 30)", b"(20, 31)"),
    (b"(20, 30)", b"(20, 29)"),
    (b"(20, 30)", b"(20,30.)"),
    (b"(20, 30)", b"(2e9,9) "),
    (b"(20, 30)", b"(20, 30 "),
    (b"'|u1'", b"'|u9'"),
    (b"descr", b"dascr"),
):
    bad(f"npy header {new!r}", ReadError)(
        lambda folder, old=old, new=new: changed(an_npy(folder), lambda c: c.replace(old, new))
    )
for kept in (1, 30, 200, -1, -100):
    bad(f"npz cut {kept}", ReadError)(
        lambda folder, kept=kept: changed(an_npz(folder), lambda c: c[:kept])
    )
for place in (90, 130, 200, 250):
    bad(f"npz flip {place}", ReadError)(
        lambda folder, place=place: changed(an_npz(folder), lambda c: flipped(c, place))
    )


@bad("npz flip of stored pixels", ReadError)
def _(folder: Path) -> Path:
    np.savez(folder / "a.npz", a=mask(60, 70))
    return changed(folder / "a.npz", lambda content: flipped(content, len(content) // 2))


for kept in (4, 8, 20, 200, 600, 1500, -2000):
    for codec in ("none", "deflate", "lzw"):
        bad(f"tif {codec} cut {kept}", ReadError)(
            lambda folder, kept=kept, codec=codec: changed(
                a_tif(folder, compression=None if codec == "none" else codec), lambda c: c[:kept]
            )
        )


@bad("png without rows", ReadError)
def _(folder: Path) -> Path:
    short = zlib.compress(rows(mask(3, 30) + 1, 8))
    (folder / "a.png").write_bytes(png(mask(20, 30), data=short))
    return folder / "a.png"


def reheaded(folder: Path, place: int, value: bytes) -> Path:
    """A PNG whose header says something else, with the right checksum."""
    content = bytearray(a_png(folder).read_bytes())
    content[place : place + len(value)] = value
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    (folder / "a.png").write_bytes(bytes(content))
    return folder / "a.png"


@bad("png of absurd size", ReadError)
def _(folder: Path) -> Path:
    return reheaded(folder, 16, b"\x40\0\0\0\x40\0\0\0")


@bad("png of more rows than it has", ReadError)
def _(folder: Path) -> Path:
    return reheaded(folder, 20, b"\0\0\0\x20")


@bad("png of unknown depth", ReadError)
def _(folder: Path) -> Path:
    return reheaded(folder, 24, b"\x03")


@bad("png of unknown colours", UnsupportedSource)
def _(folder: Path) -> Path:
    return reheaded(folder, 25, b"\x05")


@bad("png in colour", UnsupportedSource)
def _(folder: Path) -> Path:
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    return folder / "a.png"


@bad("jpeg", UnsupportedSource)
def _(folder: Path) -> Path:
    Image.new("L", (4, 4)).save(folder / "a.jpg")
    return folder / "a.jpg"


@bad("text", UnsupportedSource)
def _(folder: Path) -> Path:
    (folder / "a.txt").write_text("0 0 1\n")
    return folder / "a.txt"


@bad("empty file", ReadError)
def _(folder: Path) -> Path:
    (folder / "a.txt").touch()
    return folder / "a.txt"


@bad("empty folder", SourceNotFound)
def _(folder: Path) -> Path:
    (folder / "a").mkdir()
    return folder / "a"


@bad("nothing", SourceNotFound)
def _(folder: Path) -> Path:
    return folder / "a"


@bad("pipe", UnsupportedSource)
def _(folder: Path) -> Path:
    os.mkfifo(folder / "a")
    return folder / "a"


@bad("npy of objects", UnsupportedSource)
def _(folder: Path) -> Path:
    return an_npy(folder, np.array([1, "a"], object))


@bad("npy of fractions", NonIntegralLabel)
def _(folder: Path) -> Path:
    return an_npy(folder, np.array([1, 0.5]))


@bad("one file twice", OptionError)
def _(folder: Path) -> Any:
    return [a_png(folder), folder / "." / "a.png"]


@bad("group without arrays", UnsupportedSource)
def _(folder: Path) -> Path:
    zarr.open_group(folder / "a.zarr", mode="w")
    return folder / "a.zarr"


@bad("group of several", AmbiguousSource)
def _(folder: Path) -> Path:
    group = zarr.open_group(folder / "a.zarr", mode="w")
    for name in "xy":
        group.create_array(name, shape=(2,), dtype="u1")
    return folder / "a.zarr"


@bad("zarr without metadata", FastcountsError)
def _(folder: Path) -> Path:
    zarr.create_array(folder / "a.zarr", data=mask(8, 8), chunks=(4, 4))
    (folder / "a.zarr" / "zarr.json").unlink()
    return folder / "a.zarr"


@bad("zarr chunk of nothing", ReadError)
def _(folder: Path) -> Path:
    zarr.create_array(folder / "a.zarr", data=mask(8, 8) + 1, chunks=(4, 4))
    (folder / "a.zarr" / "c" / "1" / "0").write_bytes(b"")
    return folder / "a.zarr"


@bad("zarr chunk that is a folder", ReadError)
def _(folder: Path) -> Path:
    zarr.create_array(folder / "a.zarr", data=mask(8, 8) + 1, chunks=(4, 4))
    (folder / "a.zarr" / "c" / "1" / "0").unlink()
    (folder / "a.zarr" / "c" / "1" / "0").mkdir()
    return folder / "a.zarr"


@bad("zarr chunks under a file", FastcountsError)
def _(folder: Path) -> Path:
    zarr.create_array(folder / "a.zarr", data=mask(8, 8) + 1, chunks=(4, 4))
    shutil.rmtree(folder / "a.zarr" / "c")
    (folder / "a.zarr" / "c").write_text("no folder")
    return zarr.open_array(folder / "a.zarr", mode="r")


@pytest.mark.parametrize("name", BAD)
def test_bad_input__gets_one_clear_error(name: str, tmp_path: Path, capfd: Any) -> None:
    make, kind = BAD[name]
    target = make(tmp_path)
    if name == "zarr chunks under a file":  # no chunk exists, which is no error by itself
        assert fc.count(target).ledger.filled == 64
        return
    with pytest.raises(FastcountsError) as caught:
        fc.count(target, workers=2)
    assert isinstance(caught.value, kind), repr(caught.value)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    assert re.search(r"\ba\b|/a", text), text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert capfd.readouterr() == ("", "")


def test_strict__stops_with_a_gate(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(np.arange(9, dtype="u1").reshape(1, 9)))
    with pytest.raises(UnexpectedLabel, match=r"a\.png: label 3 at \(0, 3\), item 0"):
        fc.count(tmp_path / "a.png", classes=3, strict=True)


def test_null_fill_value__with_missing_chunks(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "a.zarr", shape=(4,), chunks=(2,), dtype="u1", zarr_format=2, fill_value=None
    )
    text = (tmp_path / "a.zarr" / ".zarray").read_text()
    (tmp_path / "a.zarr" / ".zarray").write_text(
        re.sub(r'"fill_value": [^,\n]*', '"fill_value": null', text)
    )
    with pytest.raises(MissingChunk, match="separate"):
        fc.count(tmp_path / "a.zarr")


def test_permission__denied(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything: permission cannot be denied here")
    path = a_png(tmp_path)
    path.chmod(0)
    with pytest.raises(ReadError, match="Permission denied"):
        fc.count(path)


def test_permission__denied_by_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for whoever is not root."""
    path = a_png(tmp_path)

    def deny(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(ReadError, match=r"a\.png: Permission denied"):
        fc.count(path)
    counts = fc.count(path, on_error="record")
    assert counts.provenance["runs"][0]["failures"][0]["reason"] == "Permission denied"


def test_change__between_opening_and_reading(tmp_path: Path) -> None:
    from fastcounts.sources import open_source

    for make, other in (
        (a_png, lambda path: path.write_bytes(png(mask(5, 5)))),
        (an_npy, lambda path: np.save(path, mask(5, 5))),
        (a_tif, lambda path: tifffile.imwrite(path, mask(5, 5))),
        (an_npz, lambda path: np.savez(path, a=mask(5, 5))),
    ):
        path = make(tmp_path)  # type: ignore[operator]
        source = open_source(path)
        other(path)
        box = tuple((0, n) for n in source.arrays[0].shape)
        with pytest.raises(ReadError, match=path.name):
            list(source.read(0, box))
        path.unlink()
        with pytest.raises(ReadError, match=path.name):
            list(source.read(0, box))


def test_parts__of_a_source_that_changed(tmp_path: Path) -> None:
    path = an_npy(tmp_path)
    first = fc.count(path, part=(0, 1))
    an_npy(tmp_path, mask(21, 30))
    with pytest.raises(IncompatibleCounts, match=r"a\.npy: it was changed"):
        first + fc.count(path)
