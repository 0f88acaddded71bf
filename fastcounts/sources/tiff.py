"""TIFF masks through tifffile: one image or a stack, GeoTIFF with its nodata, masks and gaps."""

from __future__ import annotations

import copy
import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, pairwise, product
from math import isnan, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcounts.classes import Meaning, check_label_dtype
from fastcounts.errors import MissingExtra, ReadError, UnsupportedSource
from fastcounts.grid import Box
from fastcounts.messages import argument
from fastcounts.notices import Notice, note, warning
from fastcounts.plan import ArrayInfo
from fastcounts.sources.cf import as_label, nodata_labels
from fastcounts.sources.port import Piece, box_shape, box_slices, digest

__all__ = ["TiffFormat", "is_companion"]

UNIT_BYTES = 32 << 20
"""Pages of a stack are read so many bytes at once: opening it takes the longer the more it has."""

_REDUCED, _MASK = 1, 4
"""Bits of the NewSubfileType tag: an overview, and a transparency mask."""

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _GDAL_NODATA = 254, 255, 42113

_LOSSY = {"JPEG", "OJPEG", "ALT_JPEG", "JPEG_LOSSY", "WEBP", "JPEGXR", "JPEGXR_NDPI"}

_MAX_RATIOS = {1: 1, 5: 2731, 8: 1032, 32946: 1032, 50013: 1032, 32773: 64}
"""Decoded bytes per stored byte that a compression can reach: none, LZW (4096 pixels per 12-bit
code), Deflate under its three numbers, PackBits."""

_MAX_RATIO = 1 << 20
"""The same for compressions without a known limit, such as Zstandard (about 2**15) or LERC."""

_RATIO_SLACK = 64
"""Decoded bytes that any segment may have, because codecs write some bits for nothing."""


class TiffFormat:
    """A TIFF of one channel: one image, or several alike, which are a stack along the first axis.

    Overviews are never counted.  Pixels that a mask inside the file, or a ``.msk`` file beside it,
    marks as invalid are nodata, and so are pixels of the value in the GDAL_NODATA tag.  Strips and
    tiles that are not stored (sparse files) have that value, or 0 if there is none.
    """

    magic = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

    def describe(self, path: Path) -> list[ArrayInfo]:
        """Read the directories of the file."""
        with _open(path) as file:
            image = _find_image(file, path)
            nodata = _Nodata.read(image.keyframe, image.dtype, str(path))
        dtype, shape = image.dtype, image.shape
        lead = shape[: len(shape) - len(image.page_shape)]
        segment = _segment_shape(image.keyframe, path)[-len(image.page_shape) :]
        stored = path.stat().st_size
        extra = [fact for fact in (nodata.text, len(image.masks), _companion_size(path)) if fact]
        return [
            ArrayInfo(
                name=str(path),
                source=path.as_uri(),
                file=path.as_uri(),
                shape=shape,
                dtype=dtype,
                chunks=_pages_per_unit(lead, prod(image.page_shape) * dtype.itemsize)
                + image.page_shape,
                inner=(1,) * len(lead) + tuple(map(min, segment, image.page_shape)),
                digest=digest(shape, dtype.str, stored, *extra),
                stored_bytes=stored,
                meaning=Meaning(
                    nodata=nodata.labels, origins=dict.fromkeys(nodata.labels, "GDAL_NODATA")
                ),
                fill=nodata.fill,
                notices=(*image.notices, *nodata.notices, *_companion_notice(path, image.number)),
            )
        ]

    def read(self, path: Path, info: ArrayInfo, box: Box) -> list[Piece]:
        """Decode the strips or tiles that hold the block."""
        with _open(path) as file:
            image = _find_image(file, path)
            if (image.shape, image.dtype) != (info.shape, info.dtype):
                raise ReadError(f"{path}: the file was changed while it was being counted")
            nodata = _Nodata.read(image.keyframe, image.dtype, str(path))
            axes = len(info.shape) - len(image.page_shape)
            part = box[axes:]
            found = []
            for place in product(*(range(start, stop) for start, stop in box[:axes])):
                number = int(np.ravel_multi_index(place, info.shape[:axes])) if place else 0
                pixels = _read_page(image, number, part, nodata, path)
                found.append((tuple((n, n + 1) for n in place), pixels))
        if not any(pixels.missing for _, pixels in found):
            arrays = [pixels.masked() for _, pixels in found]
            if len(arrays) == 1:
                (whole,) = arrays
            else:
                whole = (
                    np.ma if any(isinstance(one, np.ma.MaskedArray) for one in arrays) else np
                ).stack(arrays)
            return [Piece(box, whole.reshape(box_shape(box)))]
        return [piece for lead, pixels in found for piece in pixels.pieces(lead, part)]


def is_companion(path: Path) -> bool:
    """Return whether GDAL wrote a file as a part of the TIFF beside it: its mask or overviews."""
    return path.suffix.lower() in (".msk", ".ovr") and path.with_suffix("").is_file()


def _companion_size(path: Path) -> int:
    """Return the size of the mask beside a file, or 0 if there is none."""
    mask = _companion(path)
    return mask.stat().st_size if mask.is_file() else 0


def _companion_notice(path: Path, pages: int) -> Iterator[Notice]:
    """Yield a warning if a mask beside a file is not applied."""
    if pages > 1 and _companion(path).is_file():
        yield warning(
            "mask-beside-stack",
            f"{_companion(path)}: the mask is not applied, because the image has {pages} pages and "
            "nothing says which of them it is for; write the masks into the file",
        )


def _companion(path: Path) -> Path:
    return path.with_name(path.name + ".msk")


def _pages_per_unit(lead: tuple[int, ...], page_bytes: int) -> tuple[int, ...]:
    """Return how many pages along each of the leading axes are read at once."""
    if not lead:
        return ()
    pages = max(UNIT_BYTES // max(page_bytes, 1), 1)
    return (1,) * (len(lead) - 1) + (min(pages, lead[-1]),)


def _open(path: Path) -> Any:
    """Open a file; images that a file of a set describes for others are left to those."""
    return _tifffile().TiffFile(path, _multifile=False)


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError:
        raise MissingExtra("reading TIFF masks needs tifffile", "images") from None
    logger = logging.getLogger("tifffile")
    if not logger.handlers:  # what it has to say goes to those who listen, and not to stderr
        logger.addHandler(logging.NullHandler())
    return tifffile


# ---- which pages are the image ----


class _Plane(NamedTuple):
    """One image of a stack.

    Attributes
    ----------
    page : its directory, or that of the first image if only that one has a directory.
    offset : where its pixels begin, if they are stored in order and without compression.
    """

    page: Any
    offset: int | None


class _Image(NamedTuple):
    """What is counted of a file.

    Attributes
    ----------
    shape, dtype : of the array; the last axes are those of one page.
    keyframe : the page that describes all others.
    page_shape : (height, width), or (depth, height, width).
    number : how many pages there are, in the order of the leading axes.
    plane : gives one of them by its number.
    masks : the transparency mask of each page that has one, by its number.
    notices : what the user should know.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    keyframe: Any
    page_shape: tuple[int, ...]
    number: int
    plane: Callable[[int], _Plane]
    masks: dict[int, Any]
    notices: tuple[Notice, ...]


def _find_image(file: Any, path: Path) -> _Image:
    """Tell the pages that hold labels from overviews and masks.

    Raises
    ------
    ReadError
        If the file is damaged.
    UnsupportedSource
        If it holds no single-channel image, or several that differ.
    """
    kinds = _page_kinds(file, path)
    if not kinds:
        raise ReadError(f"{path}: the file has no page")
    images = [number for number, kind in enumerate(kinds) if not kind & (_REDUCED | _MASK)]
    try:
        series = list(file.series)
    except RuntimeError:  # tifffile compared some pages, and others differ: in shape or compression
        series = []
        file.pages._clear()
    if not series and not images:
        raise ReadError(f"{path}: damaged: no page describes an image")
    by_page = not series or (
        len(images) < len(kinds)
        and (series[0].kind in ("generic", "uniform") or any(kind & _MASK for kind in kinds))
    )
    if by_page and images:
        image = _image_of_pages(file, kinds, images, path)
    else:
        kept = [one for one in series if not one.keyframe.subfiletype & _REDUCED] or series
        image = _image_of_series(kept, len(images) or len(kinds), path)
    _check(image, path)
    return image


def _page_kinds(file: Any, path: Path) -> list[int]:
    """Return the NewSubfileType of every page.

    The links between pages are followed here because tifffile leaves out, in silence, the pages
    behind a damaged one.
    """
    kind = file.tiff
    handle = file.filehandle
    place = 4 if kind.version == 42 else 8
    found: list[int] = []
    seen: set[int] = set()
    while True:
        handle.seek(place)
        link = handle.read(kind.offsetsize)
        if len(link) < kind.offsetsize:
            raise ReadError(f"{path}: cut off: the directory after page {len(found)} is missing")
        (offset,) = struct.unpack(kind.offsetformat, link)
        if offset == 0:
            break
        if offset in seen or offset >= handle.size:
            raise ReadError(f"{path}: damaged: the link to page {len(found)} is byte {offset}")
        seen.add(offset)
        handle.seek(offset)
        count = handle.read(kind.tagnosize)
        if len(count) < kind.tagnosize:
            raise ReadError(f"{path}: cut off: the directory of page {len(found)} is missing")
        (tags,) = struct.unpack(kind.tagnoformat, count)
        place = offset + kind.tagnosize + tags * kind.tagsize
        if place > handle.size:
            raise ReadError(f"{path}: cut off: the directory of page {len(found)} has {tags} tags")
        found.append(_subfile_type(handle.read(tags * kind.tagsize), kind))
    if len(found) != len(file.pages):
        raise ReadError(f"{path}: damaged: {len(file.pages)} of {len(found)} pages can be read")
    return found


def _subfile_type(tags: bytes, kind: Any) -> int:
    """Return the NewSubfileType among the tags of a directory, or what the old tag says."""
    order = kind.byteorder
    value = 0
    for start in range(0, len(tags) - kind.tagsize + 1, kind.tagsize):
        code, size = struct.unpack_from(f"{order}HH", tags, start)
        if code not in (_SUBFILE_TYPE, _OLD_SUBFILE_TYPE) or size not in (3, 4):
            continue
        at = start + kind.tagsize - kind.offsetsize
        (number,) = struct.unpack_from(f"{order}{'H' if size == 3 else 'I'}", tags, at)
        if code == _SUBFILE_TYPE:
            return int(number)
        value = _REDUCED if number == 2 else 0
    return value


def _image_of_pages(file: Any, kinds: list[int], images: list[int], path: Path) -> _Image:
    """Take the pages that are neither overview nor mask, and the mask after each."""
    file.pages.useframes = False
    pages = [file.pages[number].aspage() for number in images]
    _check_alike([(page.shape, page.dtype) for page in pages], path)
    masks: dict[int, Any] = {}
    for number, kind in enumerate(kinds):
        if kind & _MASK and not kind & _REDUCED:
            image = max(sum(one < number for one in images) - 1, 0)
            page = file.pages[number].aspage()
            if page.shape != pages[image].shape:
                raise UnsupportedSource(
                    f"{path}: the mask in page {number} is {_times(page.shape)} pixels and the "
                    f"image {_times(pages[image].shape)}; write the image without its mask"
                )
            if image in masks:
                raise UnsupportedSource(
                    f"{path}: page {images[image]} has two masks; write the image with one"
                )
            masks[image] = page
    first = pages[0]
    shape = tuple(first.shape) if len(pages) == 1 else (len(pages), *first.shape)

    def plane(number: int) -> _Plane:
        return _Plane(pages[number], _offset(pages[number]))

    return _Image(
        shape, _dtype(first, path), first, tuple(first.shape), len(pages), plane, masks, ()
    )


def _image_of_series(series: list[Any], pages: int, path: Path) -> _Image:
    """Take one series of pages as tifffile understands them, or several alike as a stack."""
    _check_alike([(one.shape, one.dtype) for one in series], path)
    first = series[0]
    page_shape = tuple(first.keyframe.shape)
    shape = tuple(first.shape)
    _check_size(page_shape, path)
    lead = shape[: len(shape) - len(page_shape)]
    if shape[len(lead) :] != page_shape or 0 in shape:
        raise ReadError(
            f"{path}: damaged: its metadata gives {_times(shape)} pixels, its pages "
            f"{_times(page_shape)}"
        )
    number = prod(lead)
    if number > path.stat().st_size:
        raise ReadError(f"{path}: damaged: its metadata gives {number} pages")
    for one in series:
        if len(one) < number and not _is_in_order(one):
            raise ReadError(f"{path}: damaged: {len(one)} of {number} pages are there")

    def plane(place: int) -> _Plane:
        return _plane(series[place // number], place % number, path)

    count = len(series) * number
    notices = []
    if unsaid := [level for one in series for level in one.levels[1:] if _is_unmarked(level)]:
        notices.append(
            warning(
                "overviews",
                f"{path}: {len(unsaid)} smaller images in the file look like overviews of the "
                "first and are not counted; if they are masks, write each to a file of its own",
            )
        )
    elif count < pages:
        notices.append(
            warning(
                "pages",
                f"{path}: {pages - count} of {pages} pages are not part of the image that "
                "its metadata describes and are not counted; if they are masks, write each to a "
                "file of its own",
            )
        )
    return _Image(
        (len(series), *shape) if len(series) > 1 else shape,
        _dtype(first.keyframe, path),
        first.keyframe,
        page_shape,
        count,
        plane,
        {},
        tuple(notices),
    )


def _is_unmarked(level: Any) -> bool:
    """Return whether nothing but its size says that an image is an overview."""
    return not level.keyframe.is_reduced and not level.keyframe.is_subifd


def _is_in_order(series: Any) -> bool:
    """Return whether the images of a series are stored one after the other.

    Only the first of them needs a directory then.
    """
    return series.dataoffset is not None and _offset(series.keyframe) is not None


def _plane(series: Any, number: int, path: Path) -> _Plane:
    """Return one image of a series."""
    if _is_in_order(series):
        return _Plane(series.keyframe, series.dataoffset + number * series.keyframe.nbytes)
    if (page := series[number]) is None:
        raise ReadError(f"{path}: page {number} is missing")
    if series.kind != "shaped" and not page.is_virtual:
        # tifffile takes pages for equal to the first without reading their tags, other than in
        # the files that it has written itself; they may differ in compression, or in anything
        page = page.aspage()
        _check_codecs(page, path)
        first = series.keyframe
        _check_alike([(first.shape, first.dtype), (page.shape, page.dtype)], path)
    return _Plane(page, _offset(page))


def _offset(page: Any) -> int | None:
    """Return where the pixels of a page begin, if they are stored one after the other."""
    offsets, lengths = page.dataoffsets, page.databytecounts
    keyframe = page.keyframe
    if not offsets or not offsets[0] or not keyframe.is_final or keyframe.is_tiled:
        return None
    if sum(lengths) < keyframe.nbytes:
        return None
    for place in range(len(offsets) - 1):
        if offsets[place] + lengths[place] != offsets[place + 1]:
            return None
    return int(offsets[0])


def _dtype(page: Any, path: Path) -> np.dtype[Any]:
    """Return the type of the labels of a page."""
    if page.dtype is None:
        raise UnsupportedSource(
            f"{path}: its pixels have {page.bitspersample} bits of SampleFormat "
            f"{int(page.sampleformat)}, which is not a type of labels that can be read"
        )
    return check_label_dtype(page.dtype, str(path))


def _check_alike(kinds: Sequence[tuple[tuple[int, ...], Any]], path: Path) -> None:
    if len(set(kinds)) > 1:
        shown = ", ".join(f"{_times(shape)} {dtype}" for shape, dtype in kinds[:6])
        more = ", ..." if len(kinds) > 6 else ""
        raise UnsupportedSource(
            f"{path}: holds {len(kinds)} images that differ in shape or type ({shown}{more}); "
            "images that are alike are counted as a stack; write others to files of their own"
        )


def _check(image: _Image, path: Path) -> None:
    """Refuse pages that hold no labels, and those whose directory cannot be true."""
    page = image.keyframe
    channels = page.samplesperpixel
    if channels > 1 or page.photometric == 2:
        raise UnsupportedSource(f"{path}: the image has {channels} channels; a mask has one")
    _check_codecs(page, path)
    _check_size(image.page_shape, path)
    if min(_segment_shape(page, path)) < 1:
        raise ReadError(
            f"{path}: damaged: its tiles or strips have {_times(_segment_shape(page, path))} pixels"
        )


def _check_size(shape: tuple[int, ...], path: Path) -> None:
    if not shape or min(shape) < 1:
        raise ReadError(f"{path}: damaged: the image has {_times(shape) or 'no'} pixels")


def _check_codecs(page: Any, path: Path) -> None:
    """Refuse compressions that change labels, and those that cannot be decoded here."""
    tifffile = _tifffile()
    try:
        compression, predictor = int(page.compression), int(page.predictor)
    except (TypeError, ValueError):
        raise ReadError(f"{path}: damaged: its compression is not a number") from None
    try:
        name = str(tifffile.COMPRESSION(compression).name)
    except ValueError:
        name = str(compression)
    if name in _LOSSY:
        raise UnsupportedSource(
            f"{path}: {name} compression changes labels; store masks without loss"
        )
    for known, number, what in (
        (tifffile.TIFF.DECOMPRESSORS, compression, f"compression {name}"),
        (tifffile.TIFF.UNPREDICTORS, predictor, f"predictor {predictor}"),
    ):
        try:
            if number != 1:
                known[number]
        except KeyError:
            try:
                import imagecodecs  # noqa: F401
            except ImportError:
                raise MissingExtra(f"{path}: {what} needs imagecodecs", "images") from None
            raise UnsupportedSource(
                f"{path}: {what} cannot be decoded; store the mask with Deflate or LZW"
            ) from None


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


# ---- which values are nodata ----


class _Nodata(NamedTuple):
    """What the GDAL_NODATA tag says.

    Attributes
    ----------
    text : the tag; empty if there is none.
    labels : labels that are nodata.
    number : a value that is nodata and could not be a label, such as -1.8e308 in a float image.
    fill : the value of strips and tiles that are not stored; NaN if it is not a label.
    notices : what the user should know.
    """

    text: str = ""
    labels: tuple[int, ...] = ()
    number: float | None = None
    fill: int | float = 0
    notices: tuple[Notice, ...] = ()

    @classmethod
    def read(cls, page: Any, dtype: np.dtype[Any], where: str) -> _Nodata:
        """Read the tag of a page."""
        said = page.tags.valueof(_GDAL_NODATA)
        if said is None:
            return cls()
        text = str(said).strip("\0 \t\r\n")
        values = {_number(word) for word in text.split()}
        if len(values) != 1 or (value := values.pop()) is None:
            message = (
                f"{where}: its GDAL_NODATA tag is {text[:40]!r}, which is not a number, so no "
                f"label is taken for nodata; if there is one, name it with {argument('ignore')}"
            )
            return cls(text or "-", notices=(note("nodata-tag", message),))
        kind = np.dtype(np.uint8) if dtype.kind == "b" else dtype
        labels = nodata_labels([value], kind)
        if kind.kind != "f":
            return cls(text, labels, fill=labels[0] if labels else _clamped(value, kind))
        if labels:
            return cls(text, labels, fill=labels[0])
        with np.errstate(over="ignore"):
            number = float(kind.type(value))
        return cls(text, number=None if isnan(number) else number, fill=float("nan"))


def _number(word: str) -> int | float | None:
    """Return the number that a text is, exactly if it is a whole one, or None."""
    try:
        return int(word)
    except ValueError:
        pass
    try:
        value = float(word.replace(",", "."))
    except ValueError:
        return None
    label = as_label(value)
    return value if label is None else label


def _clamped(value: int | float, dtype: np.dtype[Any]) -> int:
    """Return the closest value of a type, which is what GDAL gives for gaps in an image."""
    if isnan(value):
        return 0
    limits = np.iinfo(dtype)
    low, high = int(limits.min), int(limits.max)
    return low if value < low else high if value > high else int(value + 0.5)


# ---- pixels ----


class _Pixels(NamedTuple):
    """Pixels of one page.

    Attributes
    ----------
    pixels : of the box that was asked for; the fill value where nothing is stored.
    valid : whether each is data, or None if all are.
    missing : boxes within it, relative to it, in which nothing is stored.
    stored : boxes of the rest.
    """

    pixels: NDArray[Any]
    valid: NDArray[np.bool_] | None = None
    missing: Sequence[Box] = ()
    stored: Sequence[Box] = ()

    def masked(self) -> NDArray[Any]:
        """Return the pixels as an array in which those that are no data are masked."""
        if self.valid is None:
            return self.pixels
        return np.ma.MaskedArray(self.pixels, ~self.valid)

    def pieces(self, lead: Box, part: Box) -> Iterator[Piece]:
        """Yield what is stored and what is not, box by box.

        Parameters
        ----------
        lead, part : where the page is in the array, and the pixels in the page.
        """
        pixels = self.masked()

        def piece(box: Box, *, is_missing: bool) -> Piece:
            at = tuple(
                (start + begin, start + end)
                for (start, _), (begin, end) in zip(part, box, strict=True)
            )
            shape = box_shape((*lead, *box))
            found = None if is_missing else pixels[box_slices(box)].reshape(shape)
            where = ", ".join(str(start) for start, _ in (*lead, *at))
            return Piece((*lead, *at), found, f"at ({where})")

        for box in self.stored:
            yield piece(box, is_missing=False)
        for box in self.missing:
            valid = None if self.valid is None else self.valid[box_slices(box)]
            if valid is None or valid.all():
                yield piece(box, is_missing=True)
            elif not valid.any():
                yield piece(box, is_missing=False)
            else:
                for run, is_valid in _row_runs(box, valid):
                    yield piece(run, is_missing=is_valid)


def _row_runs(box: Box, valid: NDArray[np.bool_]) -> Iterator[tuple[Box, bool]]:
    """Cut a box along its rows where validity changes."""
    *outer, (left, _) = box
    for place in np.ndindex(valid.shape[:-1]):
        rows = tuple((start + n, start + n + 1) for (start, _), n in zip(outer, place, strict=True))
        line = valid[place]
        edges = [0, *(np.flatnonzero(np.diff(line)) + 1).tolist(), line.size]
        for begin, end in pairwise(edges):
            yield (*rows, (left + begin, left + end)), bool(line[begin])


def _read_page(image: _Image, number: int, part: Box, nodata: _Nodata, path: Path) -> _Pixels:
    """Decode a box of one page, and what is known of the validity of its pixels."""
    plane = image.plane(number)
    where = f"{path}: page {number}"
    found = _decode(plane, part, image.dtype, nodata.fill, where)
    if nodata.number is not None and found.pixels.flags.writeable:
        found.pixels[found.pixels == nodata.number] = np.nan
    if (page := image.masks.get(number)) is not None:
        mask = _decode(_Plane(page, _offset(page)), part, page.dtype, 0, f"{where}, its mask")
        return found._replace(valid=mask.pixels != 0)
    outside = _companion(path)
    if image.number > 1 or not outside.is_file():
        return found
    with _open(outside) as file:
        page = file.pages[0].aspage()
        if page.shape != image.page_shape:
            raise ReadError(
                f"{outside}: the mask is {_times(page.shape)} pixels and the image "
                f"{_times(image.page_shape)}; remove the one that is wrong"
            )
        mask = _decode(_Plane(page, _offset(page)), part, page.dtype, 0, str(outside))
    return found._replace(valid=mask.pixels != 0)


def _segment_shape(page: Any, path: Path) -> tuple[int, int, int]:
    """Return depth, height and width of the strips or tiles of a page."""
    try:
        if page.is_tiled:
            return int(page.tiledepth), int(page.tilelength), int(page.tilewidth)
        return 1, int(page.rowsperstrip), int(page.imagewidth)
    except (TypeError, ValueError):
        raise ReadError(f"{path}: damaged: the size of its tiles or strips is no number") from None


def _decode(plane: _Plane, part: Box, dtype: np.dtype[Any], fill: Any, where: str) -> _Pixels:
    """Decode the strips or tiles of a page that a box touches.

    Raises
    ------
    ReadError
        If one of them cannot be decoded, is cut off, or could not be as large as stated.
    """
    keyframe = plane.page.keyframe
    if plane.offset is not None and len(part) == 2:
        return _Pixels(_read_rows(plane, part, dtype, where))
    size = tuple(int(n) for n in keyframe.shaped[1:4])
    segment = _segment_shape(keyframe, Path(where))
    grid = tuple(-(-length // step) for length, step in zip(size, segment, strict=True))
    offsets, lengths = plane.page.dataoffsets, plane.page.databytecounts
    if len(offsets) < prod(grid) or len(lengths) < prod(grid):
        raise ReadError(
            f"{where}: damaged: {min(len(offsets), len(lengths))} of {prod(grid)} strips or tiles "
            "are listed"
        )
    box = part if len(part) == 3 else ((0, 1), *part)
    touched = tuple(
        range(start // step, -(-stop // step))
        for (start, stop), step in zip(box, segment, strict=True)
    )
    numbers = {at: int(np.ravel_multi_index(at, grid)) for at in product(*touched)}
    stored = {}
    for at, n in numbers.items():
        offset, length = int(offsets[n]), int(lengths[n])
        if offset or length:
            extent = tuple(
                min(step, end - place * step)
                for step, end, place in zip(segment, size, at, strict=True)
            )
            _check_segment(keyframe, segment, extent, offset, length, f"{where}, segment {n}")
            stored[at] = n
    if not stored:
        empty = np.broadcast_to(np.array(fill, dtype), box_shape(part))
        return _Pixels(empty, None, [tuple((0, length) for length in box_shape(part))])
    pixels = np.full(box_shape(box), fill, dtype)
    for at, n in stored.items():
        data = _segment(plane.page, n, f"{where}, segment {n}")
        origin = tuple(n * step for n, step in zip(at, segment, strict=True))
        needed = tuple(map(min, segment, (end - n for end, n in zip(size, origin, strict=True))))
        if any(have < want for have, want in zip(data.shape, needed, strict=True)):
            raise ReadError(
                f"{where}, segment {n}: damaged: {_times(data.shape)} of {_times(needed)} pixels "
                "are there"
            )
        if dtype == np.bool_ and data.dtype == np.uint8:  # from the decoders of fax compressions
            data = data != 0
        if data.dtype != dtype:
            raise ReadError(f"{where}, segment {n}: damaged: it holds {data.dtype}, not {dtype}")
        _place(data, origin, pixels, box)
    if len(stored) == len(numbers):
        return _Pixels(pixels.reshape(box_shape(part)))
    boxes: dict[bool, list[Box]] = {True: [], False: []}
    for is_stored, cells in _merge(touched, stored.keys()):
        boxes[is_stored].append(
            tuple(
                (max(begin * step, start) - start, min(end * step, stop) - start)
                for (begin, end), step, (start, stop) in zip(cells, segment, box, strict=True)
            )[-len(part) :]
        )
    return _Pixels(pixels.reshape(box_shape(part)), None, boxes[False], boxes[True])


def _read_rows(plane: _Plane, part: Box, dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    """Read rows that are stored one after the other."""
    (top, bottom), (left, right) = part
    page = plane.page.keyframe
    assert plane.offset is not None
    width = int(page.imagewidth)
    handle = page.parent.filehandle
    stop = plane.offset + bottom * width * dtype.itemsize
    if stop > handle.size:
        raise ReadError(f"{where} is cut off: the file ends at byte {handle.size}")
    rows = np.empty((bottom - top, width), dtype.newbyteorder(page.parent.byteorder))
    handle.seek(plane.offset + top * width * dtype.itemsize)
    if handle.readinto(rows.view(np.uint8).reshape(-1)) != rows.nbytes:
        raise ReadError(f"{where} is cut off: the file ends at byte {handle.size}")
    return rows[:, left:right].astype(dtype, copy=False)


def _check_segment(
    page: Any,
    segment: tuple[int, ...],
    extent: tuple[int, ...],
    offset: int,
    length: int,
    where: str,
) -> None:
    """Refuse a segment that is cut off, or states a size that its bytes cannot hold.

    This comes before memory is allocated, so that a damaged header cannot ask for any amount of it.
    Compressed tiles are stored whole.  Of strips, the last holds what is left of the image, and of
    other tiles only what is in the image may be stored.
    """
    end = page.parent.filehandle.size
    if not offset or not length:
        raise ReadError(f"{where}: damaged: it is listed with {length} bytes at byte {offset}")
    if offset + length > end:
        raise ReadError(f"{where} is cut off: the file ends at byte {end}")
    bits = page.bitspersample if isinstance(page.bitspersample, int) else page.dtype.itemsize * 8
    compression = int(page.compression)
    shape = segment if page.is_tiled and compression != 1 else extent
    limit = _RATIO_SLACK + length * _MAX_RATIOS.get(compression, _MAX_RATIO)
    if prod(shape) * bits // 8 > limit:
        raise ReadError(f"{where}: damaged: {length} bytes cannot hold {_times(shape[1:])} pixels")


def _segment(page: Any, number: int, where: str) -> NDArray[Any]:
    """Decode one strip or tile: (depth, height, width), as large as it is stored."""
    keyframe = page.keyframe
    handle = keyframe.parent.filehandle
    handle.seek(int(page.dataoffsets[number]))
    data = handle.read(int(page.databytecounts[number]))
    try:
        decoded, _, _ = keyframe.decode(data, number)
    except Exception as error:  # codecs have errors of many kinds
        decoded = _decode_padded(keyframe, data, number)
        if decoded is None:
            if isinstance(error, MemoryError):
                raise
            by_codec = type(error).__module__.startswith("imagecodecs")
            reason = f" ({error})" if by_codec else ""
            raise ReadError(f"{where}: damaged: it cannot be decoded{reason}") from None
    if decoded is None or decoded.ndim != 4 or decoded.shape[3] != 1:
        raise ReadError(f"{where}: damaged: it cannot be decoded")
    pixels: NDArray[Any] = decoded[..., 0]
    return pixels


def _decode_padded(page: Any, data: bytes, number: int) -> NDArray[Any] | None:
    """Decode a last strip that is stored as long as the others, as some programs write it.

    None if it is not the last strip of a page, or if it is not longer either.
    """
    if page.is_tiled or page.imagelength % page.rowsperstrip == 0:
        return None
    rows = -(-page.imagelength // page.rowsperstrip) * page.rowsperstrip
    if number % (rows // page.rowsperstrip) != rows // page.rowsperstrip - 1:
        return None
    taller = copy.copy(page)
    for name in ("decode", "hash"):  # what tifffile has derived from the length
        taller.__dict__.pop(name, None)
    taller.imagelength = rows
    taller.shaped = (*page.shaped[:2], rows, *page.shaped[3:])
    try:
        decoded, _, _ = taller.decode(data, number)
    except Exception:  # noqa: BLE001  the first error is reported
        return None
    whole: NDArray[Any] = decoded
    return whole


def _place(data: NDArray[Any], origin: tuple[int, ...], pixels: NDArray[Any], box: Box) -> None:
    """Copy the part of a decoded segment that a box holds to its place."""
    source, target = [], []
    for first, length, (start, stop) in zip(origin, data.shape, box, strict=True):
        low, high = max(first, start), min(first + length, stop)
        source.append(slice(low - first, high - first))
        target.append(slice(low - start, high - start))
    pixels[tuple(target)] = data[tuple(source)]


def _merge(touched: tuple[range, ...], stored: Any) -> Iterator[tuple[bool, Box]]:
    """Merge neighbouring cells of a grid that are all stored, or all not, into boxes."""
    depths, rows, columns = touched
    for depth in depths:
        patterns = []
        for row in rows:
            pattern, left = [], columns.start
            for is_stored, group in groupby((depth, row, column) in stored for column in columns):
                right = left + len(list(group))
                pattern.append((is_stored, (left, right)))
                left = right
            patterns.append(pattern)
        top = rows.start
        for shared, alike in groupby(patterns):
            bottom = top + len(list(alike))
            for is_stored, bounds in shared:
                yield is_stored, ((depth, depth + 1), (top, bottom), bounds)
            top = bottom
