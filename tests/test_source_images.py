"""PNG and TIFF files: labels as they are stored, not as they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tifffile
from PIL import Image
from pngs import GREY, PALETTE, png
from test_sources import Case, SourceContract, mask

import fastcounts as fc
from fastcounts.errors import ReadError, UnsupportedSource


def written(array: np.ndarray, depth: int, colour: int, **options: Any) -> Case:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        (folder / "mask.png").write_bytes(png(array, depth, colour, **options))
        return folder / "mask.png", [array]

    return make


def by_pillow(array: np.ndarray, **options: Any) -> Case:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        image = Image.fromarray(array)
        if options:
            image = Image.frombytes("P", array.shape[::-1], array.tobytes())
            image.putpalette([value for n in range(256) for value in (n, 255 - n, 7)])
        image.save(folder / "mask.png", **options)
        return folder / "mask.png", [array.astype(np.uint8) if array.dtype == bool else array]

    return make


class TestPng(SourceContract):
    cases: ClassVar[dict[str, Case]] = {
        **{
            f"{name} {depth}{' interlaced' * interlace}": written(
                mask(19, 21, labels=min(1 << depth, 7), dtype="u2" if depth == 16 else "u1"),
                depth,
                colour,
                interlace=interlace,
            )
            for name, colour, depths in (
                ("grey", GREY, (1, 2, 4, 8, 16)),
                ("palette", PALETTE, (1, 2, 4, 8)),
            )
            for depth in depths
            for interlace in (False, True)
        },
        "grey 4 of all values": written(np.arange(16, dtype="u1").reshape(4, 4), 4, GREY),
        "grey 16 of large values": written(
            np.array([[0, 255, 256], [65535, 257, 1]], "u2"), 16, GREY
        ),
        "one pixel interlaced": written(np.array([[3]], "u1"), 8, GREY, interlace=True),
        "in many chunks": written(mask(30, 40), 8, GREY, split=9),
        "background below": written(np.pad(mask(8, 9), ((0, 5), (0, 0))), 8, PALETTE, split=3),
        "pillow palette": by_pillow(mask(20, 30), bits=4),
        "pillow palette, see-through": by_pillow(mask(20, 30), bits=8, transparency=1),
        "pillow grey": by_pillow(mask(20, 30)),
        "pillow grey 16": by_pillow(mask(20, 30, dtype=np.uint16) * 1000),
        "pillow bilevel": by_pillow(mask(20, 30, labels=2, dtype=bool)),
    }


def tiff(array: np.ndarray, **options: Any) -> Case:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        tifffile.imwrite(folder / "mask.tif", array, **{"photometric": "minisblack", **options})
        return folder / "mask.tif", [array]

    return make


def page_by_page(array: np.ndarray, bigtiff: bool = False, **options: Any) -> Case:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        options.update(photometric="minisblack", contiguous=False, metadata=None)
        with tifffile.TiffWriter(folder / "mask.tif", bigtiff=bigtiff) as file:
            for page in array:
                file.write(page, **options)
        return folder / "mask.tif", [array]

    return make


COLOURS = np.random.default_rng(0).integers(0, 65536, (3, 256), dtype=np.uint16)


class TestTiff(SourceContract):
    cases: ClassVar[dict[str, Case]] = {
        "plain": tiff(mask(20, 30)),
        "strips": tiff(mask(20, 30), rowsperstrip=7),
        "tiles": tiff(mask(40, 50), tile=(16, 32)),
        "tiles deflate": tiff(mask(40, 50), tile=(16, 16), compression="deflate"),
        "deflate": tiff(mask(20, 30), compression="deflate", predictor=True),
        "lzw": tiff(mask(20, 30), compression="lzw", rowsperstrip=6),
        "packbits": tiff(mask(20, 30), compression="packbits"),
        "zstd": tiff(mask(20, 30), compression="zstd"),
        "bilevel": tiff(mask(20, 30, labels=2, dtype=bool)),
        "bilevel, white is 0": tiff(mask(20, 30, labels=2, dtype=bool), photometric="miniswhite"),
        "white is 0": tiff(mask(20, 30), photometric="miniswhite"),
        "uint16": tiff(mask(20, 30, dtype=np.uint16) * 300),
        "big-endian": tiff(mask(20, 30, dtype=np.uint16), byteorder=">"),
        "int16": tiff(mask(20, 30, dtype=np.int16) - 2),
        "uint32": tiff(mask(20, 30, dtype=np.uint32) * 100_000, compression="deflate"),
        "int32": tiff(mask(20, 30, dtype=np.int32) - 2, tile=(16, 16)),
        "floats": tiff(mask(20, 30).astype(np.float32)),
        "palette": tiff(mask(20, 30), photometric="palette", colormap=COLOURS),
        "pages": tiff(mask(6, 20, 30)),
        "pages deflate": tiff(mask(6, 20, 30), compression="deflate", metadata=None),
        "pages apart": page_by_page(mask(6, 20, 30)),
        "pages apart lzw": page_by_page(mask(6, 20, 30), compression="lzw"),
        "bigtiff": page_by_page(mask(6, 20, 30), bigtiff=True, compression="deflate"),
        "imagej": tiff(mask(6, 20, 30), imagej=True),
        "4d": tiff(mask(2, 3, 20, 30)),
        "ome": tiff(mask(3, 20, 30), ome=True),
    }


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_png__of_colours_is_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "colours.png")
    with pytest.raises(UnsupportedSource, match=r"colours\.png.*one channel"):
        fc.count(tmp_path / "colours.png")


def test_png__that_moves_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(mask(8, 8, seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / "moves.png", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedSource, match="animated"):
        fc.count(tmp_path / "moves.png")


@pytest.mark.parametrize("shape", [(8, 9, 3), (3, 8, 9)])
def test_tiff__of_colours_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tifffile.imwrite(tmp_path / "c.tif", np.zeros(shape, np.uint8), photometric="rgb")
    with pytest.raises(UnsupportedSource, match="3 channels"):
        fc.count(tmp_path / "c.tif")


def test_tiff__of_jpeg_is_refused(tmp_path: Path) -> None:
    Image.fromarray(mask(16, 16)).save(tmp_path / "lossy.tif", compression="jpeg")
    with pytest.raises(UnsupportedSource, match="JPEG"):
        fc.count(tmp_path / "lossy.tif")


def test_tiff__of_unlike_pages_is_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "p.tif") as file:
        file.write(mask(8, 8), metadata=None)
        file.write(mask(9, 9), metadata=None)
    with pytest.raises(UnsupportedSource, match="2 images"):
        fc.count(tmp_path / "p.tif")


@pytest.mark.parametrize("suffix", ["jpg", "gif"])
def test_pictures__are_refused_by_kind(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(mask(16, 16)).save(tmp_path / f"picture.{suffix}")
    with pytest.raises(UnsupportedSource, match=rf"picture\.{suffix}.*(JPEG|GIF)"):
        fc.count(tmp_path / f"picture.{suffix}")


def test_content__decides_and_not_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "mask.dat").write_bytes(png(mask(8, 8)))
    assert fc.count(tmp_path / "mask.dat").ledger.total == 64
    np.save(tmp_path / "a.npy", mask(8, 8))
    (tmp_path / "a.npy").rename(tmp_path / "a.tif")
    assert fc.count(tmp_path / "a.tif").ledger.total == 64
    Image.fromarray(mask(16, 16)).save(tmp_path / "j.jpg")
    (tmp_path / "j.jpg").rename(tmp_path / "j.png")
    with pytest.raises(UnsupportedSource, match="JPEG"):
        fc.count(tmp_path / "j.png")


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("kept", [0, 1, 17])
def test_png__that_ends_early_is_an_error_and_never_zeros(
    tmp_path: Path, interlace: bool, kept: int
) -> None:
    """Every checksum is right, and rows are missing: Pillow fills them with 0, which is a label."""
    import zlib

    from pngs import rows

    array = mask(18, 9) + 1
    short = zlib.compress(rows(array[:kept], 8))
    (tmp_path / "a.png").write_bytes(png(array, data=short, interlace=interlace))
    with pytest.raises(ReadError, match=r"a\.png"):
        fc.count(tmp_path / "a.png")
    counts = fc.count(tmp_path / "a.png", on_error="record")
    assert counts.ledger.failed == counts.ledger.total == array.size


def test_tiff__a_stack_is_not_opened_for_every_page(tmp_path, monkeypatch):
    from fastcounts.sources import tiff

    stack = np.random.default_rng(5).integers(0, 9, (2, 40, 16, 24)).astype(np.uint16)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", compression="zlib")
    opened = []
    kept = tifffile.TiffFile
    monkeypatch.setattr(tifffile, "TiffFile", lambda *a, **k: opened.append(1) or kept(*a, **k))
    monkeypatch.setattr(tiff, "UNIT_BYTES", 13 * 16 * 24 * 2)
    for items in ("file", 0, 1, 2):
        expected = fc.count(stack, items="array" if items == "file" else items)
        opened.clear()
        counts = fc.count(path, items=items)
        assert counts.pixels.tolist() == expected.pixels.tolist()
        assert counts.presence.tolist() == expected.presence.tolist()
        assert len(opened) < 20
    parts = [fc.count(path, items=1, part=(i, 5)) for i in range(5)]
    assert sum(parts) == fc.count(path, items=1)
    region = (1, slice(3, 30), slice(2, 9))
    assert fc.count(path, region=region).pixels.tolist() == fc.count(stack[region]).pixels.tolist()
