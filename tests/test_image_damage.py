"""Damaged, changed and unusual image files: right counts, or an error that says what is wrong."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from pngs import GREY, PALETTE, chunk, png, rows
from test_sources import mask

import fastcounts as fc
from fastcounts.errors import FastcountsError, LabelError, ReadError, SourceError, UnsupportedSource
from fastcounts.sources import open_source

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def pixels(counts: fc.Counts) -> dict[int, int]:
    return dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))


def expected(array: np.ndarray) -> dict[int, int]:
    labels, numbers = np.unique(array, return_counts=True)
    return {int(label): n for label, n in zip(labels.tolist(), numbers.tolist(), strict=True)}


def tiff(**options: Any) -> Callable[[np.ndarray], bytes]:
    def make(array: np.ndarray) -> bytes:
        file = BytesIO()
        tifffile.imwrite(file, array, **{"photometric": "minisblack", **options})
        return file.getvalue()

    return make


def npy(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.savez_compressed(file, array)
    return file.getvalue()


def as_png(array: np.ndarray) -> bytes:
    return png(array, 16 if array.dtype == np.uint16 else 8)


# ---- files that change ----


@pytest.mark.parametrize(
    "make",
    [as_png, tiff(), tiff(compression="deflate", tile=(16, 16)), npy, npz],
    ids=["png", "tiff", "tiled", "npy", "npz"],
)
@pytest.mark.parametrize(
    ("other", "now"),
    [
        (mask(20, 30, dtype="u2") + 300, "20 x 30 uint16"),
        (mask(21, 30), "21 x 30 uint8"),
        (mask(30, 20), "30 x 20 uint8"),
    ],
    ids=["dtype", "height", "turned"],
)
def test_changed__since_it_was_opened(
    tmp_path: Path, make: Callable[[np.ndarray], bytes], other: np.ndarray, now: str
) -> None:
    path = tmp_path / "mask"
    path.write_bytes(make(mask(20, 30)))
    source = open_source(path)
    path.write_bytes(make(other))
    with pytest.raises(ReadError) as caught:
        list(source.read(0, ((0, 20), (0, 30))))
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "changed while it was being counted" in message
    assert f"20 x 30 uint8 pixels, and now {now}" in message


@pytest.mark.parametrize("make", [as_png, tiff(), npy, npz], ids=["png", "tiff", "npy", "npz"])
def test_changed__to_pixels_of_the_same_kind(
    tmp_path: Path, make: Callable[[np.ndarray], bytes]
) -> None:
    path = tmp_path / "mask"
    path.write_bytes(make(mask(20, 30)))
    os.utime(path, ns=(1, 1))
    source = open_source(path)
    path.write_bytes(make(mask(20, 30, seed=1)))
    with pytest.raises(ReadError, match="changed while it was being counted"):
        list(source.read(0, ((0, 20), (0, 30))))
    path.unlink()
    with pytest.raises(ReadError, match=r"changed .* cannot be opened again"):
        list(source.read(0, ((0, 20), (0, 30))))


def test_changed__with_the_time_and_size_of_before(tmp_path: Path) -> None:
    """What decodes is compared with what was announced, whatever the file system says."""
    path = tmp_path / "mask"
    first, second = as_png(mask(20, 30)), as_png(mask(20, 30, dtype="u2") + 300)
    size = max(len(first), len(second))
    for data in (first, second):
        path.write_bytes(data.ljust(size, b"\0"))
        os.utime(path, ns=(1, 1))
        if data is first:
            source = open_source(path)
    with pytest.raises(ReadError, match=r"20 x 30 uint8 .* expected .* 20 x 30 uint16 decoded"):
        list(source.read(0, ((0, 20), (0, 30))))


def test_changed__a_mapped_file_is_looked_at_again_at_the_end(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", mask(20, 30))
    source = open_source(tmp_path / "a.npy")
    (piece,) = source.read(0, ((0, 20), (0, 30)))
    source.confirm()
    os.utime(tmp_path / "a.npy", ns=(1, 1))
    with pytest.raises(ReadError, match=r"a\.npy.*changed while it was being counted"):
        source.confirm()
    assert piece.pixels is not None


def test_changed__can_be_recorded(tmp_path: Path) -> None:
    """One file of many that changes costs its own pixels and not the run."""
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(png(mask(20, 30)))

    def change(event: Any) -> None:
        if type(event).__name__ == "Started":
            (tmp_path / "b.png").write_bytes(png(mask(20, 30, dtype="u2"), 16))

    counts = fc.count(tmp_path, on_error="record", progress=change)
    assert (counts.ledger.counted, counts.ledger.failed) == (1200, 600)
    (failure,) = counts.provenance["runs"][0]["failures"]
    assert "changed" in failure["reason"]


# ---- PNG ----


def ihdr(width: int, height: int, *rest: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, *(rest or (8, 0, 0, 0, 0))))


def test_png__with_two_headers(tmp_path: Path) -> None:
    data = chunk(b"IDAT", zlib.compress(rows(mask(4, 4), 8)))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + ihdr(4, 4) + ihdr(2, 2) + data + chunk(b"IEND", b"")
    )
    with pytest.raises(ReadError, match=r"a\.png: damaged: a second header .* byte 33"):
        fc.count(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ((3, 0, 0, 0, 0), "3 bits per pixel"),
        ((16, 3, 0, 0, 0), "16 bits per pixel"),
        ((8, 0, 1, 0, 0), "compression 1"),
        ((8, 0, 0, 4, 0), "filter 4"),
        ((8, 0, 0, 0, 2), "interlace 2"),
    ],
)
def test_png__with_a_header_that_cannot_be(
    tmp_path: Path, facts: tuple[int, ...], message: str
) -> None:
    data = chunk(b"IDAT", zlib.compress(rows(mask(4, 4), 8)))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + ihdr(4, 4, *facts) + data + chunk(b"IEND", b"")
    )
    with pytest.raises(ReadError, match=rf"a\.png: the PNG header is damaged.*{message}"):
        fc.count(tmp_path / "a.png")


def test_png__that_expands_to_more_than_its_size(tmp_path: Path) -> None:
    data = zlib.compress(bytes(5 * 4 + 50_000_000))
    (tmp_path / "a.png").write_bytes(png(mask(4, 4), data=data))
    with pytest.raises(ReadError, match=r"a\.png: damaged: .* bytes of pixels, not 20") as caught:
        fc.count(tmp_path / "a.png")
    found = int(str(caught.value).partition("it holds ")[2].split()[0])
    assert 20 < found < 5_000_000  # the rest was not decompressed


@pytest.mark.parametrize("interlace", [False, True])
def test_png__with_a_wrong_checksum_within_its_data(tmp_path: Path, interlace: bool) -> None:
    data = bytearray(zlib.compress(rows(np.zeros((8, 8), "u1"), 8)))
    data[-1] ^= 1
    (tmp_path / "a.png").write_bytes(png(mask(8, 8), data=bytes(data), interlace=interlace))
    with pytest.raises(ReadError, match=r"a\.png: "):
        fc.count(tmp_path / "a.png")


def test_png__transparency_is_not_a_label(tmp_path: Path) -> None:
    array = mask(20, 30)
    for name, kind, entry in (("grey", GREY, struct.pack(">H", 2)), ("palette", PALETTE, b"\0\7")):
        data = png(array, 8, kind)
        at = data.index(b"IDAT") - 4
        (tmp_path / f"{name}.png").write_bytes(data[:at] + chunk(b"tRNS", entry) + data[at:])
        assert pixels(fc.count(tmp_path / f"{name}.png")) == expected(array)


# ---- TIFF ----


def directory(tags: list[tuple[int, int, int, int]], data: bytes, order: str = ">") -> bytes:
    """A TIFF of one directory, written tag by tag, with its data at byte 200."""
    body = struct.pack(f"{order}H", len(tags))
    for code, kind, count, value in tags:
        packed = (
            struct.pack(f"{order}H", value) + b"\0\0"
            if kind == 3
            else struct.pack(f"{order}I", value)
        )
        body += struct.pack(f"{order}HHI", code, kind, count) + packed
    head = b"MM\0*" if order == ">" else b"II*\0"
    return (head + struct.pack(f"{order}I", 8) + body + bytes(4)).ljust(200, b"\0") + data


def plain(width: int = 32, height: int = 32, **changes: int) -> list[tuple[int, int, int, int]]:
    """The tags of an uncompressed 8-bit image without a Compression tag, as ImageJ writes them."""
    facts = {"rows": height, "bytes": width * height, "offset": 200, "bits": 8, **changes}
    return [
        (254, 4, 1, 0),
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, facts["bits"]),
        (262, 3, 1, 1),
        (273, 4, 1, facts["offset"]),
        (277, 3, 1, 1),
        (278, 4, 1, facts["rows"]),
        (279, 4, 1, facts["bytes"]),
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff__without_a_compression_tag(tmp_path: Path, order: str) -> None:
    array = mask(32, 32)
    (tmp_path / "a.tif").write_bytes(directory(plain(), array.tobytes(), order))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert 259 not in file.pages[0].tags
    assert pixels(fc.count(tmp_path / "a.tif")) == expected(array)


@pytest.mark.parametrize(("width", "height"), [(0, 8), (8, 0), (0, 0)])
def test_tiff__without_pixels(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "a.tif").write_bytes(directory(plain(width, height, rows=6), bytes(64)))
    with pytest.raises(ReadError, match=rf"a\.tif: damaged: the image has {height}x{width} pixels"):
        fc.count(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "strips have 1x0x32 pixels"),
        ({"offset": 5000}, "cut off: the file ends at byte 1224"),
        ({"bytes": 0, "compression": 5}, "damaged: it is listed with 0 bytes at byte 200"),
        ({"bits": 99}, "its pixels have 99 bits of SampleFormat 1"),
        ({"compression": 4711}, "compression 4711 cannot be decoded"),
        ({"predictor": 77, "compression": 5}, "predictor 77 cannot be decoded"),
    ],
)
def test_tiff__with_a_header_that_cannot_be(
    tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    changes = dict(changes)
    extra = [
        (code, 3, 1, changes.pop(name))
        for name, code in (("compression", 259), ("predictor", 317))
        if name in changes
    ]
    tags = sorted([*plain(**changes), *extra])
    (tmp_path / "a.tif").write_bytes(directory(tags, mask(32, 32).tobytes()))
    with pytest.raises(SourceError, match=rf"a\.tif: .*{message}") as caught:
        fc.count(tmp_path / "a.tif")
    check_message(caught.value, tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize("side", [40_000, 2**31 - 1])
def test_tiff__that_states_more_pixels_than_its_bytes_hold(
    tmp_path: Path, compression: int, side: int
) -> None:
    """Nothing is allocated for what a damaged header asks for."""
    import tracemalloc

    tags = sorted([*plain(side, side, bytes=64), (259, 3, 1, compression)])
    (tmp_path / "a.tif").write_bytes(directory(tags, bytes(64)))
    tracemalloc.start()
    try:
        with pytest.raises(ReadError, match=r"a\.tif: page 0.*(bytes cannot hold|cut off)"):
            fc.count(tmp_path / "a.tif")
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_tiff__last_strip_as_long_as_the_others(tmp_path: Path) -> None:
    """Some programs pad the last strip to the length of the others before they compress it."""
    array = mask(20, 30)
    for predictor in (1, 2):
        stored = np.concatenate([array, np.full((8, 30), 9, "u1")])
        if predictor == 2:
            stored = np.diff(stored, axis=1, prepend=np.zeros((28, 1), "u1"))
        strips = [zlib.compress(stored[top : top + 14].tobytes()) for top in (0, 14)]
        tags = [tag for tag in plain(30, 20, rows=14) if tag[0] not in (273, 279)]
        tags += [(259, 3, 1, 8), (273, 4, 2, 190), (279, 4, 2, 198), (317, 3, 1, predictor)]
        data = bytearray(directory(sorted(tags), b"".join(strips), "<").ljust(200))
        first = len(strips[0])
        data[190:198] = struct.pack("<II", 206, 206 + first)
        data[198:206] = struct.pack("<II", first, len(strips[1]))
        data[206:] = b"".join(strips)
        (tmp_path / "a.tif").write_bytes(data)
        assert pixels(fc.count(tmp_path / "a.tif")) == expected(array)


def test_tiff__strip_that_is_too_short_is_an_error_and_never_zeros(tmp_path: Path) -> None:
    short = zlib.compress(mask(20, 30)[:19].tobytes())
    tags = sorted([*plain(30, 20, bytes=len(short)), (259, 3, 1, 8)])
    (tmp_path / "a.tif").write_bytes(directory(tags, short))
    with pytest.raises(ReadError, match=r"a\.tif: page 0, segment 0: damaged: it cannot be"):
        fc.count(tmp_path / "a.tif")


def test_tiff__strip_of_another_type_is_an_error_and_never_cast(tmp_path: Path) -> None:
    """A PNG within a TIFF has a header of its own."""
    (tmp_path / "a.tif").write_bytes(tiff(compression="png")(mask(20, 30, dtype="u2") + 300))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["BitsPerSample"].overwrite(8)
    with pytest.raises(ReadError, match=r"a\.tif: .* damaged: it holds uint16, not uint8"):
        fc.count(tmp_path / "a.tif")


def test_tiff__fewer_strips_than_rows_ask_for(tmp_path: Path) -> None:
    tags = plain(rows=4, bytes=4 * 32)
    (tmp_path / "a.tif").write_bytes(directory(tags, mask(32, 32).tobytes()))
    with pytest.raises(ReadError, match=r"a\.tif: page 0: damaged: 1 of 8 strips or tiles"):
        fc.count(tmp_path / "a.tif")


def test_tiff__more_pages_than_bytes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", mask(3, 20, 30), imagej=True)
    data = (tmp_path / "a.tif").read_bytes()
    for count in (b"9", b"4"):
        edited = data.replace(b"images=3", b"images=" + count).replace(
            b"slices=3", b"slices=" + count
        )
        assert edited != data
        (tmp_path / "a.tif").write_bytes(edited)
        counts = fc.count(tmp_path / "a.tif")  # what the metadata adds is not there
        assert counts.ledger.total in (600, 1800)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_tiff__of_few_bits_holds_indices(tmp_path: Path, bits: int) -> None:
    array = mask(40, 50, labels=1 << bits)
    for name, options in (("plain", {}), ("lzw", {"compress": "lzw"}), ("tiled", {"tiled": True})):
        path = tmp_path / f"{name}.tif"
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=40,
            width=50,
            count=1,
            dtype="uint8",
            nbits=bits,
            **options,
        ) as file:
            file.write(array, 1)
            file.write_colormap(1, {n: (n, 255 - n, 7, 255) for n in range(1 << bits)})
        assert pixels(fc.count(path)) == expected(array)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_tiff__of_a_palette_holds_indices(tmp_path: Path, bits: int) -> None:
    """The colours of the palette are all one, so that they cannot be what is counted."""
    array = mask(40, 50, labels=min(1 << bits, 7))
    packed = np.unpackbits(array[:, :, None], axis=2)[:, :, 8 - bits :].reshape(40, -1)
    data = np.packbits(packed, axis=1).tobytes()
    colours = bytes([7]) * 6 * (1 << bits)
    tags = [tag for tag in plain(50, 40, bits=bits, bytes=len(data)) if tag[0] != 262]
    tags = [(code, kind, n, v + len(colours) * (code == 273)) for code, kind, n, v in tags]
    tags += [(262, 3, 1, 3), (320, 3, 3 << bits, 200)]
    (tmp_path / "a.tif").write_bytes(directory(sorted(tags), colours + data))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].photometric.name == "PALETTE"
    assert pixels(fc.count(tmp_path / "a.tif")) == expected(array)


@pytest.mark.parametrize("white", ["miniswhite", "minisblack"])
def test_tiff__of_a_fax_compression(tmp_path: Path, white: str) -> None:
    array = mask(40, 50, labels=2)
    for name in ("ccittrle", "ccittfax3", "ccittfax4"):
        path = tmp_path / f"{name}.tif"
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=40,
            width=50,
            count=1,
            dtype="uint8",
            nbits=1,
            compress=name,
            photometric=white,
        ) as file:
            file.write(array, 1)
        with rasterio.open(path) as file:
            assert pixels(fc.count(path)) == expected(file.read(1))


def test_tiff__a_large_page_is_read_tile_by_tile(tmp_path: Path) -> None:
    """A page that is larger than the budget is counted all the same."""
    array = mask(900, 800)
    for options in ({"tile": (64, 128)}, {"rowsperstrip": 50}):
        path = tmp_path / "a.tif"
        path.write_bytes(tiff(compression="lzw", **options)(array))
        counts = fc.count(path, memory=(5 << 20) + 200_000, workers=1)
        assert pixels(counts) == expected(array)


# ---- reasons ----


def check_message(error: Exception, path: Path) -> None:
    """One line, which begins with the path and does not speak of the inside of a library."""
    text = str(error)
    assert text.startswith(str(path)), text
    assert len(text.splitlines()) == 1
    said = text.removeprefix(str(path))
    for leak in (
        "object has",
        "too many",
        "index out of",
        "operand",
        "argument",
        "literal for",
        "None",
    ):
        assert leak not in said, text


def test_errors__of_sources_are_one_line() -> None:
    for kind in (ReadError, UnsupportedSource, SourceError):
        assert str(kind("a.png: first\n  second\r\nthird")) == "a.png: first second third"
        assert str(kind("a  b")) == "a  b"


def test_reasons__that_a_library_gives_by_accident_are_replaced() -> None:
    from fastcounts.sources.port import explain

    accidents = [
        AttributeError("'int' object has no attribute 'name'"),
        IndexError("too many indices for array"),
        IndexError("string index out of range"),
        TypeError("unsupported operand type(s)"),
        ValueError("zip() argument 2 is shorter than argument 1"),
        ZeroDivisionError("integer division or modulo by zero"),
        struct.error("unpack requires a buffer of 4 bytes"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ]
    assert {explain(error) for error in accidents} == {"damaged: it cannot be decoded"}
    assert explain(MemoryError()) == "there is not enough memory to decode it"
    assert explain(OSError("image file is truncated\n(3 bytes)")) == (
        "image file is truncated (3 bytes)"
    )
    assert explain(OSError()) != ""


# ---- many damaged files ----


def seeds() -> dict[str, bytes]:
    """Valid files of many kinds, by name."""
    found: dict[str, bytes] = {}
    for depth, colour in [(d, GREY) for d in (1, 2, 4, 8, 16)] + [
        (d, PALETTE) for d in (1, 2, 4, 8)
    ]:
        for interlace in (False, True):
            array = mask(19, 21, labels=min(1 << depth, 7), dtype="u2" if depth == 16 else "u1")
            found[f"{depth}-{colour}-{interlace}.png"] = png(
                array, depth, colour, interlace=interlace, split=2
            )
    layouts: list[dict[str, Any]] = [{}, {"rowsperstrip": 7}, {"tile": (16, 16)}]
    for number, layout in enumerate(layouts):
        for codec in (None, "lzw", "deflate", "zstd", "lzma", "packbits", "jpegxl", "png", "lerc"):
            for dtype in ("u1", "u2", "i4", "f4", "u8"):
                if codec in ("jpegxl", "png", "lerc") and dtype != "u1":
                    continue
                for order in "<>":
                    predictor = codec in ("lzw", "deflate", "zstd", "lzma") and order == "<"
                    predictor &= dtype in ("u1", "u2", "i4")
                    options = {**layout, "predictor": predictor, "byteorder": order}
                    found[f"{codec}-{number}-{dtype}-{order}.tif"] = tiff(
                        compression=codec, **options
                    )(mask(20, 30, dtype=dtype))
    for name, options in {
        "stack": {},
        "imagej": {"imagej": True},
        "ome": {"ome": True},
        "big": {"bigtiff": True, "compression": "lzw", "metadata": None},
    }.items():
        found[f"{name}.tif"] = tiff(**options)(mask(3, 20, 30))
    found["bilevel.tif"] = tiff()(mask(20, 30) > 2)
    return found


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A file with a few bytes changed, cut out, or added, more often near its ends."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        if not found:
            break
        near = chance.randrange(min(len(found), 400))
        at = chance.choice((chance.randrange(len(found)), near, len(found) - 1 - near))
        kind = chance.random()
        if kind < 0.5:
            found[at] = chance.choice((0, 1, 255, found[at] ^ 1 << chance.randrange(8)))
        elif kind < 0.6:
            del found[at:]
        elif kind < 0.75:
            del found[at : at + chance.randrange(1, 9)]
        elif kind < 0.9:
            found[at:at] = chance.randbytes(chance.randrange(1, 9))
        else:
            value = chance.choice((0, 1, 2**31 - 1, 2**32 - 1, 65536))
            found[at : at + 4] = value.to_bytes(4, chance.choice(("little", "big")))
    return bytes(found)


def with_checksums(data: bytes) -> bytes:
    """A PNG in which every checksum is right, so that the damage gets as far as the decoder."""
    found, at = bytearray(data), 8
    while at + 12 <= len(found):
        end = at + 12 + int.from_bytes(found[at : at + 4], "big")
        if end > len(found):
            break
        found[end - 4 : end] = zlib.crc32(bytes(found[at + 4 : end - 4])).to_bytes(4, "big")
        at = end
    return bytes(found)


def by_library(path: Path) -> np.ndarray:
    """The pixels as Pillow or tifffile read them; grey of 2 and 4 bits without Pillow's scale."""
    if path.suffix == ".tif":
        array = np.asarray(tifffile.imread(path))
        return array[~np.isnan(array)] if array.dtype.kind == "f" else array
    depth, colour = path.read_bytes()[24:26]
    with Image.open(path) as image:
        array = np.asarray(image)
    return array // (255 // (2**depth - 1)) if colour == GREY and depth in (2, 4) else array


def check_damaged(folder: Path, number: int, chance: random.Random) -> int:
    """Damage ``number`` files, and return how many could be counted."""
    files, counted = seeds(), 0
    names = sorted(files)
    for _ in range(number):
        name = chance.choice(names)
        data = damaged(files[name], chance)
        path = folder / f"file{name[-4:]}"
        if name.endswith(".png") and chance.random() < 0.7:
            data = with_checksums(data)
        path.write_bytes(data)
        try:
            counts = fc.count(path, workers=1)
        except SourceError as error:
            check_message(error, path)
            continue
        except LabelError:
            continue
        counted += 1
        if counts.ledger.nodata == 0:
            assert pixels(counts) == expected(by_library(path)), name
    return counted


@pytest.mark.filterwarnings("ignore::fastcounts.errors.FastcountsWarning")
def test_damaged__files_are_counted_right_or_refused_in_words(tmp_path: Path) -> None:
    assert 0 < check_damaged(tmp_path, 300, random.Random(5)) < 300


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::fastcounts.errors.FastcountsWarning")
def test_damaged__many_files(tmp_path: Path) -> None:
    assert check_damaged(tmp_path, 6000, random.Random(6))


def test_valid__files_of_every_kind_are_counted_as_their_library_reads_them(tmp_path: Path) -> None:
    for name, data in seeds().items():
        (tmp_path / name).write_bytes(data)
        try:
            counts = fc.count(tmp_path / name, workers=1)
        except FastcountsError as error:
            pytest.fail(f"{name}: {error}")
        assert pixels(counts) == expected(by_library(tmp_path / name)), name
