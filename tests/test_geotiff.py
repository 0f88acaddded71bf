"""What GeoTIFF says of its pixels: nodata, masks, blocks that are not stored, overviews."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from test_sources import mask

import fastcounts as fc
from fastcounts.errors import MissingChunk, NonIntegralLabel, ReadError, UnsupportedSource
from fastcounts.sources import open_source

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def tagged(path: Path, array: np.ndarray, nodata: str, **options: Any) -> Path:
    """A TIFF with a GDAL_NODATA tag of any text."""
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(path, array, extratags=[(42113, "s", 0, nodata, True)], **options)
    return path


def geotiff(path: Path, array: np.ndarray, **options: Any) -> Path:
    """A TIFF as GDAL writes it."""
    height, width = array.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=1,
        dtype=array.dtype,
        **options,
    ) as file:
        file.write(array, 1)
    return path


def pixels(counts: fc.Counts) -> dict[int, int]:
    return dict(zip(counts.labels.tolist(), counts.pixels.tolist(), strict=True))


def expected(array: np.ndarray) -> dict[int, int]:
    labels, numbers = np.unique(array, return_counts=True)
    return {int(label): n for label, n in zip(labels.tolist(), numbers.tolist(), strict=True)}


# ---- GDAL_NODATA ----


@pytest.mark.parametrize(
    ("dtype", "text", "label"),
    [
        ("u1", "255", 255),
        ("u1", "255.0", 255),
        ("u1", "2.55e2", 255),
        ("u1", " 255 ", 255),
        ("u1", "0", 0),
        ("i2", "-9999", -9999),
        ("u2", "1e3", 1000),
        ("i4", "-2147483648", -(2**31)),
        ("u8", "18446744073709551615", 2**64 - 1),
        ("f4", "-9999", -9999),
        ("f4", "-9999.0", -9999),
        ("f8", "7", 7),
        ("?", "0", 0),
    ],
)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_nodata__of_the_tag_is_nodata(
    tmp_path: Path, dtype: str, text: str, label: int, byteorder: str
) -> None:
    array = np.ones((20, 30), dtype)
    array[3:7, 4:9] = label
    array[8:, :] = 0 if label else 1
    path = tagged(tmp_path / "a.tif", array, text, byteorder=byteorder)
    counts = fc.count(path)
    assert counts.ledger.nodata == np.count_nonzero(array == label)
    assert pixels(counts) == expected(array[array != label])
    (declared,) = counts.provenance["runs"][0]["nodata"]
    assert (declared["label"], declared["attribute"]) == (label, "GDAL_NODATA")
    assert declared["implicit"] is False
    kept = fc.count(path, nodata="none")
    assert pixels(kept) == expected(array)
    assert kept.ledger.nodata == 0


def test_nodata__is_what_gdal_wrote(tmp_path: Path) -> None:
    array = mask(64, 50)
    path = geotiff(tmp_path / "a.tif", array, nodata=3)
    assert fc.count(path).ledger.nodata == np.count_nonzero(array == 3)
    with rasterio.open(path) as file:
        assert fc.count(path).ledger.nodata == file.read(1, masked=True).mask.sum()


def test_nodata__the_word_of_the_user_wins(tmp_path: Path) -> None:
    array = mask(20, 30)
    path = tagged(tmp_path / "a.tif", array, "3")
    threes = int(np.count_nonzero(array == 3))
    assert fc.count(path).ledger.nodata == threes
    assert fc.count(path, ignore=3).ledger.ignored[3].pixels == threes
    assert pixels(fc.count(path, classes=5)) == expected(array)
    assert fc.count(path, classes={0: "a", 1: "b", 2: "c", 4: "d"}).ledger.nodata == threes


@pytest.mark.parametrize(
    ("dtype", "text"),
    [("u1", "256"), ("u1", "-9999"), ("u1", "nan"), ("u2", "2.5"), ("i4", "1e300"), ("u1", "inf")],
)
def test_nodata__that_cannot_occur_changes_nothing(tmp_path: Path, dtype: str, text: str) -> None:
    array = mask(20, 30, dtype=dtype)
    counts = fc.count(tagged(tmp_path / "a.tif", array, text))
    assert pixels(counts) == expected(array)
    assert counts.ledger.nodata == 0


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        ("f4", "nan"),
        ("f8", "-1.7976931348623157e+308"),
        ("f4", "-3.4028234663852886e+38"),
        ("f4", "-3.40282347e+38"),
        ("f4", "inf"),
        ("f8", "0.5"),
        ("f4", "1e20"),
    ],
)
@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_nodata__of_floats_need_not_be_a_label(
    tmp_path: Path, dtype: str, text: str, tile: Any, byteorder: str
) -> None:
    array = mask(20, 30).astype(dtype)
    array[2:5] = np.dtype(dtype).type(float(text))
    path = tagged(
        tmp_path / "a.tif", array, text, tile=tile, compression="lzw", byteorder=byteorder
    )
    counts = fc.count(path)
    assert counts.ledger.nodata == 3 * 30
    assert pixels(counts) == expected(np.delete(array, [2, 3, 4], 0))


def test_nodata__other_fractions_stay_errors(tmp_path: Path) -> None:
    array = np.full((4, 4), 0.5, "f4")
    with pytest.raises(NonIntegralLabel):
        fc.count(tagged(tmp_path / "a.tif", array, "0.25"))


@pytest.mark.parametrize("text", ["none", "--", "0xFF", "", "1 2", "None\nNone"])
def test_nodata__that_is_not_a_number_is_noted(tmp_path: Path, text: str) -> None:
    array = mask(20, 30)
    counts = fc.count(tagged(tmp_path / "a.tif", array, text))
    assert pixels(counts) == expected(array)
    (notice,) = counts.provenance["runs"][0]["notices"]
    assert (notice["code"], notice["severity"]) == ("nodata-tag", "note")
    assert notice["message"].startswith(f"{tmp_path / 'a.tif'}: ")
    assert "\n" not in notice["message"]
    assert "ignore" in notice["message"]


def test_nodata__makes_other_data(tmp_path: Path) -> None:
    """Counts of one file before and after its tag was changed must not pass for the same data."""
    array = mask(20, 30)
    one = fc.count(tagged(tmp_path / "a.tif", array, "3"), source_id="it")
    other = fc.count(tagged(tmp_path / "a.tif", array, "4"), source_id="it")
    with pytest.raises(fc.errors.IncompatibleCounts):
        one - other


# ---- blocks that are not stored ----

TILES = {"tiled": True, "blockxsize": 16, "blockysize": 32}
STRIPS = {"blockysize": 8}


@pytest.mark.parametrize("layout", [TILES, STRIPS], ids=["tiles", "strips"])
@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_sparse__what_is_not_stored_is_filled(tmp_path: Path, layout: Any, compress: str) -> None:
    array = np.zeros((100, 90), "u1")
    array[33:40, 17:60] = 3
    path = geotiff(tmp_path / "a.tif", array, sparse_ok=True, compress=compress, **layout)
    with tifffile.TiffFile(path) as file:
        assert 0 in file.pages[0].dataoffsets
    counts = fc.count(path)
    assert pixels(counts) == expected(array)
    block = (32, 16) if layout is TILES else (8, 90)
    gone = stored(array, block) == 0
    assert counts.ledger.filled == gone.sum()
    apart = fc.count(path, missing="separate")
    assert apart.ledger.missing == gone.sum()
    assert pixels(apart) == expected(array[~gone])
    with pytest.raises(MissingChunk, match=r"a\.tif: chunk at \(0, 0\)"):
        fc.count(path, missing="raise")
    for axis in (0, 1):
        counts_by_item = fc.count(path, items=axis, keep_items=True)
        by_item = fc.count(array, items=axis, keep_items=True)
        assert counts_by_item.presence.tolist() == by_item.presence.tolist()
        assert counts_by_item.item_table is not None
        assert by_item.item_table is not None
        labels = by_item.labels.tolist()
        assert (
            counts_by_item.item_table.dense(labels).tolist()
            == by_item.item_table.dense(labels).tolist()
        )
    region = (slice(30, 70), slice(5, 33))
    assert pixels(fc.count(path, region=region)) == expected(array[region])
    assert fc.count(path, region=region).ledger.filled == gone[region].sum()
    assert sum(fc.count(path, part=(n, 3)) for n in range(3)) == counts


def stored(array: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """Whether each pixel is in a block with something in it: 1 or 0."""
    result = np.zeros(array.shape, int)
    for top in range(0, array.shape[0], block[0]):
        for left in range(0, array.shape[1], block[1]):
            part = (slice(top, top + block[0]), slice(left, left + block[1]))
            result[part] = array[part].any()
    return result


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("u1", 255), ("f4", -9999), ("f4", 0.5), ("f8", np.nan)]
)
def test_sparse__what_is_not_stored_is_nodata_if_that_is_declared(
    tmp_path: Path, dtype: str, nodata: float
) -> None:
    array = np.full((64, 64), nodata, dtype)
    array[5:9, 5:9] = 2
    path = geotiff(tmp_path / "a.tif", array, sparse_ok=True, nodata=nodata, **TILES)
    counts = fc.count(path)
    assert pixels(counts) == {2: 16}
    assert (counts.ledger.nodata, counts.ledger.filled) == (64 * 64 - 16, 0)
    assert fc.count(path, missing="separate").ledger.missing == 64 * 64 - 32 * 16
    if nodata == 255:
        counts = fc.count(path, ignore=255)
        assert counts.ledger.ignored[255].pixels == 64 * 64 - 16


def test_sparse__nothing_is_stored(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "a.tif",
        "w",
        driver="GTiff",
        height=300,
        width=200,
        count=1,
        dtype="uint16",
        sparse_ok=True,
        **TILES,
    ):
        pass
    counts = fc.count(tmp_path / "a.tif")
    assert pixels(counts) == {0: 60000}
    assert counts.ledger.filled == 60000


def test_sparse__a_nodata_value_out_of_range_fills_as_gdal_fills(tmp_path: Path) -> None:
    for name, text in (("low", "-5"), ("high", "300"), ("none", "nan"), ("part", "2.6")):
        array = mask(64, 64)
        array[:32, :16] = 9
        path = geotiff(tmp_path / f"{name}.tif", array, sparse_ok=True, nodata=9, **TILES)
        with tifffile.TiffFile(path, mode="r+b") as file:
            assert file.pages[0].dataoffsets[0] == 0
            file.pages[0].tags[42113].overwrite(text)
        with rasterio.open(path) as file:
            assert pixels(fc.count(path)) == expected(file.read(1)), text


def test_sparse__an_offset_without_a_length_is_damage(tmp_path: Path) -> None:
    path = geotiff(tmp_path / "a.tif", mask(64, 64) + 1, **TILES)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].tags["TileByteCounts"]
        tag.overwrite([0, *tag.value[1:]])
    with pytest.raises(ReadError, match=r"a\.tif: page 0, segment 0: damaged: .* 0 bytes"):
        fc.count(path)


def test_sparse__unexpected_labels_have_places(tmp_path: Path) -> None:
    array = np.zeros((64, 64), "u1")
    array[40:50, 20:30] = 3
    path = geotiff(tmp_path / "a.tif", array, sparse_ok=True, **TILES)
    counts = fc.count(path, classes={3: "a"})
    assert counts.ledger.unexpected[0].pixels == 64 * 64 - 100
    assert counts.ledger.unexpected[0].places[0][-1] == (0, 0)


# ---- masks ----


def masked(path: Path, array: np.ndarray, valid: np.ndarray, inside: bool, **options: Any) -> Path:
    """A TIFF with a mask, inside the file or beside it."""
    height, width = array.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=1,
            dtype=array.dtype,
            **options,
        ) as file,
    ):
        file.write(array, 1)
        file.write_mask(valid.astype("u1") * 255)
    assert path.with_name(f"{path.name}.msk").exists() != inside
    return path


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "beside"])
@pytest.mark.parametrize("options", [{}, TILES, {**TILES, "compress": "lzw"}, STRIPS])
def test_mask__makes_nodata(tmp_path: Path, inside: bool, options: dict[str, Any]) -> None:
    array, valid = mask(70, 50), mask(70, 50, seed=3, labels=2) != 0
    path = masked(tmp_path / "a.tif", array, valid, inside, **options)
    counts = fc.count(path)
    assert pixels(counts) == expected(array[valid])
    assert counts.ledger.nodata == np.count_nonzero(~valid)
    assert fc.count(path, items=0).presence.tolist() == [
        sum(bool(((row == label) & ok).any()) for row, ok in zip(array, valid, strict=True))
        for label in np.unique(array[valid])
    ]
    region = (slice(11, 60), slice(3, 40))
    assert pixels(fc.count(path, region=region)) == expected(array[region][valid[region]])


def test_mask__of_8_bits_is_one_as_well(tmp_path: Path) -> None:
    """Such a mask has the size and type of the image, and would pass for a second one."""
    array, valid = mask(20, 30), mask(20, 30, labels=2, seed=4)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(array, photometric="minisblack", metadata=None)
        file.write(valid * 200, photometric="minisblack", subfiletype=2, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[1].tags["NewSubfileType"].overwrite(4)
    counts = fc.count(tmp_path / "a.tif")
    assert pixels(counts) == expected(array[valid != 0])
    assert counts.ledger.nodata == np.count_nonzero(valid == 0)


def test_mask__each_image_of_a_stack_has_its_own(tmp_path: Path) -> None:
    arrays, valid = mask(3, 20, 30), mask(3, 20, 30, labels=2, seed=4)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for place in range(3):
            file.write(arrays[place], photometric="minisblack", metadata=None)
            if place != 1:
                file.write(valid[place] != 0, subfiletype=4, metadata=None)
    valid[1] = 1
    counts = fc.count(tmp_path / "a.tif", items=0, keep_items=True)
    assert counts.items == 3
    assert pixels(counts) == expected(arrays[valid != 0])
    assert counts.ledger.nodata == np.count_nonzero(valid == 0)


def test_mask__of_another_size_is_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(mask(20, 30), photometric="minisblack", metadata=None)
        file.write(mask(20, 31) != 0, subfiletype=4, metadata=None)
    with pytest.raises(UnsupportedSource, match=r"mask in page 1 is 20x31 .* image 20x30"):
        fc.count(tmp_path / "a.tif")
    path = masked(tmp_path / "b.tif", mask(20, 30), mask(20, 30) != 0, False)
    masked(tmp_path / "c.tif", mask(20, 31), mask(20, 31) != 0, False)
    (tmp_path / "c.tif.msk").rename(tmp_path / "b.tif.msk")
    with pytest.raises(ReadError, match=r"b\.tif\.msk: .* 20x31 .* 20x30"):
        fc.count(path)


def test_mask__beside_a_stack_is_reported(tmp_path: Path) -> None:
    path = masked(tmp_path / "a.tif", mask(20, 30), mask(20, 30) != 0, False)
    tifffile.imwrite(path, mask(3, 20, 30), photometric="minisblack")
    with pytest.warns(fc.errors.FastcountsWarning, match=r"a\.tif\.msk: the mask is not applied"):
        assert fc.count(path).ledger.nodata == 0


def test_mask__beside_a_gap(tmp_path: Path) -> None:
    """A block that is not stored is kept apart where it is valid, and nodata elsewhere."""
    array, valid = np.zeros((64, 64), "u1"), mask(64, 64, labels=2) != 0
    array[:32, :16] = 7
    path = masked(tmp_path / "a.tif", array, valid, True, sparse_ok=True, **TILES)
    gone = array == 0
    counts = fc.count(path, missing="separate")
    assert counts.ledger.missing == (gone & valid).sum()
    assert counts.ledger.nodata == (~valid).sum()
    assert pixels(counts) == {7: (~gone & valid).sum()}
    assert fc.count(path).ledger.filled == (gone & valid).sum()


def test_folder__masks_and_overviews_beside_an_image_are_part_of_it(tmp_path: Path) -> None:
    array, valid = mask(70, 50), mask(70, 50, seed=3, labels=2) != 0
    path = masked(tmp_path / "a.tif", array, valid, False)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    assert (tmp_path / "a.tif.ovr").exists()
    geotiff(tmp_path / "b.tif", array)
    counts = fc.count(tmp_path)
    assert counts.ledger.total == 2 * array.size
    assert counts.ledger.nodata == np.count_nonzero(~valid)
    skipped = {Path(name).name for name in open_source(tmp_path).skipped}
    assert {"a.tif.msk", "a.tif.ovr"} <= skipped
    assert fc.count(tmp_path / "a.tif.msk").ledger.total == array.size


# ---- overviews and stacks ----


@pytest.mark.parametrize("inside", [True, False], ids=["mask", "plain"])
def test_overviews__are_never_counted(tmp_path: Path, inside: bool) -> None:
    array, valid = mask(200, 150), mask(200, 150, seed=3, labels=2) != 0
    if inside:
        path = masked(tmp_path / "a.tif", array, valid, True, **TILES)
    else:
        path, valid = geotiff(tmp_path / "a.tif", array, **TILES), np.ones_like(valid)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 5])
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 6 if inside else 3
    counts = fc.count(path)
    assert pixels(counts) == expected(array[valid])
    assert counts.ledger.total == array.size
    assert not counts.provenance["runs"][0].get("notices")


def test_cog__is_counted_once(tmp_path: Path) -> None:
    array = mask(600, 700)
    geotiff(tmp_path / "a.tif", array, nodata=4)
    from rasterio.shutil import copy

    copy(tmp_path / "a.tif", tmp_path / "cog.tif", driver="COG", blocksize=128, compress="deflate")
    with tifffile.TiffFile(tmp_path / "cog.tif") as file:
        assert len(file.pages) > 1
    counts = fc.count(tmp_path / "cog.tif")
    assert pixels(counts) == expected(array[array != 4])
    assert counts.ledger.total == array.size


def test_pages__that_are_alike_are_a_stack(tmp_path: Path) -> None:
    arrays = mask(3, 20, 30)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for array in arrays:
            file.write(array, photometric="minisblack", contiguous=False)
    counts = fc.count(tmp_path / "a.tif", items=0, keep_items=True)
    assert (counts.items, pixels(counts)) == (3, expected(arrays))
    assert counts.presence.tolist() == fc.count(arrays, items=0).presence.tolist()


def test_pages__that_differ_are_refused_by_what_differs(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(mask(8, 8), photometric="minisblack", metadata=None)
        file.write(mask(8, 8, dtype="u2"), photometric="minisblack", metadata=None)
    with pytest.raises(UnsupportedSource, match=r"2 images .*\(8x8 uint8, 8x8 uint16\).*stack"):
        fc.count(tmp_path / "a.tif")


def test_pages__in_the_middle_may_differ_in_compression_only(tmp_path: Path) -> None:
    arrays = mask(12, 20, 30)
    for name, odd in (("a", arrays[3]), ("b", arrays[3, :10]), ("c", arrays[3].astype("u2"))):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            for place, array in enumerate(arrays):
                file.write(
                    odd if place == 3 else array,
                    photometric="minisblack",
                    compression="lzw" if place == 3 else "deflate",
                    metadata=None,
                )
    assert pixels(fc.count(tmp_path / "a.tif")) == expected(arrays)
    assert fc.count(tmp_path / "a.tif", items=0).items == 12
    for name in "bc":
        with pytest.raises(UnsupportedSource, match=rf"{name}\.tif: holds .* images that differ"):
            fc.count(tmp_path / f"{name}.tif")


def test_pages__in_the_middle_may_differ_in_the_predictor(tmp_path: Path) -> None:
    """Without a look at its own tags, such a page would decode to other labels."""
    arrays = mask(12, 20, 30)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for place, array in enumerate(arrays):
            file.write(
                array,
                photometric="minisblack",
                compression="lzw",
                predictor=place == 3,
                metadata=None,
            )
    assert pixels(fc.count(tmp_path / "a.tif")) == expected(arrays)


def test_pages__that_only_look_like_overviews_are_reported(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for side in (64, 32, 16):
            file.write(mask(side, side), photometric="minisblack", metadata=None)
    with pytest.warns(fc.errors.FastcountsWarning, match=r"a\.tif: 2 smaller images"):
        counts = fc.count(tmp_path / "a.tif")
    assert counts.ledger.total == 64 * 64


def test_pages__outside_of_what_the_metadata_describes_are_reported(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", ome=True) as file:
        file.write(mask(2, 20, 30), photometric="minisblack", metadata={"axes": "ZYX"})
    data = (tmp_path / "a.tif").read_bytes()
    edited = data.replace(b'SizeZ="2"', b'SizeZ="1"').replace(b'PlaneCount="2"', b'PlaneCount="1"')
    assert edited != data
    (tmp_path / "a.tif").write_bytes(edited)
    with pytest.warns(fc.errors.FastcountsWarning, match=r"a\.tif: 1 of 2 pages"):
        counts = fc.count(tmp_path / "a.tif")
    assert counts.ledger.total == 600


def test_ome__files_of_a_set_count_their_own_pages(tmp_path: Path) -> None:
    """Each file of a set describes the images of all: they must not be counted once per file."""
    planes = mask(2, 20, 30)
    files = [("a", "urn:uuid:00000000-0000-0000-0000-00000000000a")]
    files.append(("b", "urn:uuid:00000000-0000-0000-0000-00000000000b"))
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}.ome.tif">{uuid}'
        "</UUID></TiffData>"
        for z, (name, uuid) in enumerate(files)
    )
    for plane, (name, uuid) in zip(planes, files, strict=True):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            'Type="uint8" SizeX="30" SizeY="20" SizeZ="2" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:0:0"/>{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif",
            plane,
            photometric="minisblack",
            description=xml,
            metadata=None,
        )
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.series[0].shape == (2, 20, 30)
    assert pixels(fc.count(tmp_path / "a.ome.tif")) == expected(planes[0])
    assert pixels(fc.count(tmp_path)) == expected(planes)
