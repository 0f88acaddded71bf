"""The port that every kind of mask comes through: what is there, and one block of it."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from math import prod
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcounts.errors import FastcountsError, ReadError, UnsupportedSource
from fastcounts.grid import Box, Grid, volume
from fastcounts.notices import Notice
from fastcounts.plan import ArrayInfo

__all__ = [
    "Fetched",
    "Found",
    "Known",
    "Piece",
    "Pile",
    "Rows",
    "Source",
    "Unreadable",
    "Way",
    "Weight",
    "digest",
    "explain",
    "one_line",
    "refuse",
]


class Known(NamedTuple):
    """Labels of pixels that need not be looked at again.

    Attributes
    ----------
    labels : int64, distinct, sorted.
    pixels : how many of each, greater than zero.
    nodata : pixels that are NaN.
    repeated : how many chunks were not looked at, being the same as one seen before.
    """

    labels: NDArray[Any]
    pixels: NDArray[Any]
    nodata: int = 0
    repeated: int = 0


class Piece(NamedTuple):
    """A part of a block.

    Attributes
    ----------
    box : where it lies in its array.
    pixels : its elements, of the box's shape (a masked array where elements are masked), or
        None where the chunk that should hold them does not exist.
    key : what the store calls that chunk.
    known : its labels, where they are known without its pixels; ``pixels`` is None then.
    error : why it cannot be read; ``pixels`` is None then.
    """

    box: Box
    pixels: NDArray[Any] | None
    key: str = ""
    known: Known | None = None
    error: ReadError | UnsupportedSource | None = None


class Pile(NamedTuple):
    """Chunks that lie in memory one behind the other, to be counted at once.

    Attributes
    ----------
    boxes : where they lie in their array, all of one shape.
    pixels : (chunks, *shape); None where ``known`` says all.
    known : the labels of all of them together, which lie in one item; None where ``pixels``
        are there.
    """

    boxes: Sequence[Box]
    pixels: NDArray[Any] | None
    known: Known | None = None

    def pieces(self) -> Iterator[Piece]:
        """The chunks one by one; nothing where only their labels are known."""
        if self.pixels is None:
            return
        for box, pixels in zip(self.boxes, self.pixels, strict=True):
            yield Piece(box, pixels)


class Rows(NamedTuple):
    """Chunks of one shape that each lie in another item, and the labels of each.

    Attributes
    ----------
    boxes : where they lie in their array.
    offsets : (chunks + 1,), where the labels of each begin.
    labels, pixels : of all of them, one chunk after the other, sorted within each.
    nodata : pixels of all of them that are NaN.
    repeated : how many were not looked at, being the same as one seen before.
    """

    boxes: Sequence[Box]
    offsets: NDArray[np.int64]
    labels: NDArray[Any]
    pixels: NDArray[np.int64]
    nodata: int = 0
    repeated: int = 0


Found = Piece | Pile | Rows
"""What reading blocks gives, bit by bit."""


class Unreadable(NamedTuple):
    """A file, or a Zarr array in a folder, of which not even the size can be told.

    Attributes
    ----------
    name : its path.
    reason : why it cannot be counted.
    kind : the error that says so.
    message : of that error, if it says more than name and reason.
    advice : what to do instead, if it was found and not named.
    """

    name: str
    reason: str
    kind: type[FastcountsError] = ReadError
    message: str = ""
    advice: str = ""

    def error(self) -> FastcountsError:
        """Return the error that stops a count under ``on_error="raise"``."""
        return self.kind((self.message or f"{self.name}: {self.reason}") + self.advice)


def refuse(unreadable: Sequence[Unreadable]) -> FastcountsError:
    """Return the error of the first of several files that cannot be counted, with their number."""
    first, *others = unreadable
    if not others:
        return first.error()
    more = f"; {len(others)} more cannot be counted either"
    return first._replace(advice=more + first.advice).error()


class Way(NamedTuple):
    """How the blocks of an array are read.

    Attributes
    ----------
    kind : ``"mapped"`` (in memory, or mapped into it), ``"file"`` (a library decodes the file),
        ``"chunks"`` (straight from their store) or ``"zarr-python"``.
    codecs : of its chunks, in the order of encoding, with what matters of their options.
    native : whether chunks are decoded without Python.
    requests : how many may be under way at once, where chunks are asked for from another
        machine; 0 where they are on this one.
    obstacle : why chunks are read through zarr-python; empty where they are not.
    """

    kind: str
    codecs: Sequence[str] = ()
    native: bool = False
    requests: int = 0
    obstacle: str = ""


class Weight(NamedTuple):
    """What is known of some chunks without reading them.

    Attributes
    ----------
    missing : how many do not exist, or None.
    stored_bytes : what the others take, or None.
    """

    missing: int | None = None
    stored_bytes: int | None = None


class Fetched(NamedTuple):
    """Chunks that were fetched and not decoded, and the bytes that they are stored in."""

    chunks: int
    stored_bytes: int


class Source(ABC):
    """Where masks live.

    Attributes
    ----------
    arrays : what is there, in the order in which it is counted.
    unreadable : files that should contain masks and cannot be opened.
    skipped : names of what was found and passed over: files that are not masks, hidden and
        special files, folders that were listed before.
    notices : what the user should know about what was found, such as files passed over.
    """

    arrays: Sequence[ArrayInfo] = ()
    unreadable: Sequence[Unreadable] = ()
    skipped: Sequence[str] = ()
    notices: Sequence[Notice] = ()

    @abstractmethod
    def read(self, array: int, box: Box) -> Iterable[Piece]:
        """Read one block: pieces that together hold every element of ``box`` once.

        Safe to call from several threads.

        Raises
        ------
        ReadError
            If the block cannot be read or decoded; the message names it.
        """

    def read_many(
        self, array: int, boxes: Iterable[Box], axis: int | None = None, *, known: bool = True
    ) -> Iterator[Found]:
        """Read blocks one after the other, ahead of what is asked for where that helps.

        What is yielded may lie in memory that is used again: it is valid until the next is
        asked for.  Nothing is raised for a block that cannot be read; it is a piece with an
        ``error``.

        Parameters
        ----------
        array, boxes : what to read.
        axis : along which items lie, or None; a piece whose labels are ``known`` lies in one.
        known : whether labels will do where they are known without pixels.
        """
        del axis, known
        for box in boxes:
            try:
                pieces = list(self.read(array, box))
            except (ReadError, UnsupportedSource) as error:
                pieces = [Piece(box, None, error=error)]
            yield from pieces

    def way(self, array: int) -> Way:
        """How the blocks of an array are read."""
        return Way("mapped" if self.arrays[array].is_view else "file")

    def fetch(self, array: int, boxes: Iterable[Box]) -> Fetched | None:
        """Fetch the stored bytes of blocks and do nothing with them.

        None, and nothing is fetched, where reading cannot be told from decoding: for every
        way but ``"chunks"``.
        """
        del array, boxes
        return None

    def weigh(self, array: int, grid: Grid, start: int, stop: int) -> Weight:
        """What is known of the chunks ``start`` to ``stop - 1`` without reading them."""
        info = self.arrays[array]
        if info.is_view:
            pixels = sum(map(volume, grid.boxes(start, stop)))
            return Weight(0, pixels * info.dtype.itemsize)
        every = prod(-(-n // chunk) for n, chunk in zip(info.shape, info.chunks, strict=True))
        return Weight(0, info.stored_bytes if stop - start == every else None)

    def chunks_met(self) -> dict[str, int]:
        """How many chunks were read, missing, repeated and broken; empty where none is counted."""
        return {}

    def present(self, array: int, grid: Grid, start: int, stop: int) -> NDArray[np.int64] | None:
        """The chunks of a range that may exist, where finding out is cheaper than reading.

        Parameters
        ----------
        array, grid : which array, and its chunks.
        start, stop : the half-open range of chunks.

        Returns
        -------
        Their numbers in the grid, sorted; None where any may exist.
        """
        del array, grid, start, stop
        return None

    def confirm(self) -> None:  # noqa: B027  most sources have nothing that could go
        """Check that what was opened still exists, and that its metadata is the same.

        Chunks of an array that was deleted would be counted as fill, and those of an array that
        was rewritten would be read with the data type and fill value of before.

        Raises
        ------
        ReadError
            Naming what does not exist, or what is different.
        """

    def keep_within(self, reading_bytes: int) -> None:  # noqa: B027  blocks may be all it holds
        """Read with so much memory in each thread, where more would be faster.

        Parameters
        ----------
        reading_bytes : enough for the blocks that will be asked for; see `Plan`.
        """

    def axis_names(self, array: int) -> tuple[str, ...]:
        """Return the name of each axis, empty for one without; nothing if none has a name."""
        del array
        return ()

    def fill_value(self, array: int) -> Any:
        """What elements of chunks that do not exist are worth; None if that is not known."""
        del array
        return None

    def knows_missing(self, array: int) -> bool:
        """Whether ``read`` tells chunks that do not exist from those that do."""
        del array
        return False


def one_line(reason: object, limit: int = 200) -> str:
    """Return the reason of a failure on one line, of at most ``limit`` characters.

    Parameters
    ----------
    reason : an error, or its text; libraries write several lines, or nothing at all.
    limit : characters that are kept.
    """
    text = str(getattr(reason, "strerror", None) or reason).strip()
    if not text:
        text = "no reason is given" if isinstance(reason, str) else type(reason).__name__
    return shorten(text, limit, placeholder=" ...")


_ACCIDENTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RecursionError,
    TypeError,
    UnicodeError,
    struct.error,
)
"""What code raises that did not expect the data it met, and not on purpose."""


def explain(error: BaseException) -> str:
    """Return the reason of an error that a library raised while it decoded data.

    A library that meets damaged data either raises an error on purpose, whose text is quoted, or
    fails by accident, such as with an ``AttributeError``.  The text of an accident describes the
    inside of the library and not the data, so it is replaced.  A plain ``ValueError`` is taken for
    an accident: NumPy raises most of them.
    """
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, _ACCIDENTS) or type(error) is ValueError:
        return "damaged: it cannot be decoded"
    return one_line(error)


def digest(*facts: object) -> str:
    """A short fingerprint of a source's metadata."""
    return blake2b(repr(facts).encode(), digest_size=8).hexdigest()


def box_shape(box: Box) -> tuple[int, ...]:
    """How many elements a box has along each axis."""
    return tuple(stop - start for start, stop in box)


def box_slices(box: Box) -> tuple[slice, ...]:
    """The box as an index into its array."""
    return tuple(slice(start, stop) for start, stop in box)


def whole_chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """One chunk that holds everything."""
    return tuple(max(length, 1) for length in shape)
