"""TIFF masks through tifffile: one page or many, read page by page."""

from __future__ import annotations

import logging
import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts.classes import check_label_dtype
from fastcounts.errors import FastcountsError, MissingExtra, ReadError, UnsupportedSource
from fastcounts.grid import Box
from fastcounts.plan import ArrayInfo
from fastcounts.sources.port import box_shape, box_slices, digest

__all__ = ["TiffFormat"]

UNIT_BYTES = 32 << 20
"""Pages of a stack are read so many bytes at once: opening it takes the longer the more it has."""

_LOSSY = {"JPEG", "OJPEG", "JPEG_LOSSY", "WEBP", "JPEGXR", "JPEGXR_NDPI"}


class TiffFormat:
    """A TIFF of one image series, of one channel; some pages are a unit."""

    magic = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

    def describe(self, path: Path) -> list[ArrayInfo]:
        """Read the directories of the file."""
        tifffile = _tifffile()
        try:
            with tifffile.TiffFile(path) as file:
                _check_chain(file, path)
                series = _series(file, path)
                shape, page = tuple(series.shape), tuple(series.keyframe.shape)
                _check(series, path)
                dtype = check_label_dtype(series.dtype, str(path))
        except FastcountsError:
            raise
        except Exception as error:  # noqa: BLE001  a parser may fail in any way on damaged bytes
            raise ReadError(f"{path}: cannot be read: {error}") from None
        lead = len(shape) - len(page)
        stored = path.stat().st_size
        return [
            ArrayInfo(
                name=str(path),
                source=path.as_uri(),
                file=path.as_uri(),
                shape=shape,
                dtype=dtype,
                chunks=_pages_of_a_unit(shape[:lead], prod(page) * dtype.itemsize) + page,
                inner=(1,) * lead + page,
                digest=digest(shape, dtype.str, stored),
                stored_bytes=stored,
            )
        ]

    def read(self, path: Path, info: ArrayInfo, box: Box) -> NDArray[Any]:
        """Decode the pages that hold the block."""
        tifffile = _tifffile()
        try:
            with tifffile.TiffFile(path) as file:
                series = _series(file, path)
                if tuple(series.shape) != info.shape:
                    raise ReadError(f"{path}: the file was changed while it was being counted")
                page_axes = len(series.keyframe.shape)
                lead = len(info.shape) - page_axes
                numbers = np.arange(prod(info.shape[:lead])).reshape(info.shape[:lead])
                wanted = numbers[box_slices(box[:lead])]
                part = box_slices(box[lead:])
                pixels = np.stack([_page(series, int(n), path)[part] for n in wanted.flat])
        except FastcountsError:
            raise
        except Exception as error:  # noqa: BLE001  a decoder may fail in any way on damaged bytes
            raise ReadError(f"{path}: cannot be decoded: {error}") from None
        return pixels.reshape(box_shape(box))


def _pages_of_a_unit(lead: tuple[int, ...], page_bytes: int) -> tuple[int, ...]:
    """How many pages along each of the leading axes are read at once."""
    if not lead:
        return ()
    pages = max(UNIT_BYTES // max(page_bytes, 1), 1)
    return (1,) * (len(lead) - 1) + (min(pages, lead[-1]),)


def _page(series: Any, number: int, path: Path) -> NDArray[Any]:
    """Decode one page, having checked that its stored segments are all there."""
    if len(series.pages) == 1 and series.size > prod(tuple(series.keyframe.shape)):
        stack = series.asarray(out="memmap")  # stored as one page's contiguous bytes
        whole: NDArray[Any] = stack.reshape((-1, *series.keyframe.shape))[number]
        return whole
    page = series.pages[number]
    if page is None:
        raise ReadError(f"{path}: page {number} is missing")
    end = page.parent.filehandle.size
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        if length == 0 or offset + length > end:
            raise ReadError(f"{path}: page {number} is cut off: the file ends at byte {end}")
    pixels = page.asarray()
    result: NDArray[Any] = pixels
    return result


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError:
        raise MissingExtra("reading TIFF masks needs tifffile", "images") from None
    logger = logging.getLogger("tifffile")
    if not logger.handlers:  # what it has to say goes to those who listen, and not to stderr
        logger.addHandler(logging.NullHandler())
    return tifffile


def _check_chain(file: Any, path: Path) -> None:
    """Verify that every page can be reached: tifffile leaves out those behind a damaged link."""
    kind = file.tiff
    handle = file.filehandle
    handle.seek(4 if kind.version == 42 else 8)
    place = handle.tell()
    pages = 0
    seen: set[int] = set()
    while True:
        handle.seek(place)
        link = handle.read(kind.offsetsize)
        if len(link) < kind.offsetsize:
            raise ReadError(f"{path}: cut off: the directory after page {pages} is not there")
        (offset,) = struct.unpack(kind.offsetformat, link)
        if offset == 0:
            break
        if offset in seen or offset >= handle.size:
            raise ReadError(f"{path}: damaged: the link to page {pages} leads to byte {offset}")
        seen.add(offset)
        handle.seek(offset)
        count = handle.read(kind.tagnosize)
        if len(count) < kind.tagnosize:
            raise ReadError(f"{path}: cut off: the directory of page {pages} is not there")
        (tags,) = struct.unpack(kind.tagnoformat, count)
        place = offset + kind.tagnosize + tags * kind.tagsize
        pages += 1
    if pages != len(file.pages):
        raise ReadError(f"{path}: damaged: {len(file.pages)} of {pages} pages can be read")


def _series(file: Any, path: Path) -> Any:
    if not file.pages:
        raise ReadError(f"{path}: the file has no page")
    series = list(file.series)
    if len(series) != 1:
        shapes = ", ".join("x".join(map(str, one.shape)) for one in series[:6])
        raise UnsupportedSource(
            f"{path}: holds {len(series)} images of different kinds ({shapes}); "
            "write the mask to a file of its own"
        )
    return series[0]


def _check(series: Any, path: Path) -> None:
    page = series.keyframe
    if page.samplesperpixel > 1:
        raise UnsupportedSource(
            f"{path}: the image has {page.samplesperpixel} channels; a mask has one"
        )
    if page.compression.name in _LOSSY:
        raise UnsupportedSource(
            f"{path}: {page.compression.name} compression changes labels; store masks without loss"
        )
