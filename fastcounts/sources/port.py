"""The port that every kind of mask comes through: what is there, and one block of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from math import prod
from typing import Any, NamedTuple

from numpy.typing import NDArray

from fastcounts.grid import Box
from fastcounts.plan import ArrayInfo

__all__ = ["Piece", "Source", "Unreadable", "digest"]


class Piece(NamedTuple):
    """A part of a block.

    Attributes
    ----------
    box : where it lies in its array.
    pixels : its elements, of the box's shape (a masked array where elements are masked), or
        None where the chunk that should hold them does not exist.
    key : what the store calls that chunk.
    """

    box: Box
    pixels: NDArray[Any] | None
    key: str = ""


class Unreadable(NamedTuple):
    """A file of which not even the size could be read."""

    name: str
    reason: str


class Source(ABC):
    """Where masks live.

    Attributes
    ----------
    arrays : what is there, in the order in which it is counted.
    unreadable : files that should hold masks and cannot be opened.
    skipped : names of files that were passed over because they are no masks.
    """

    arrays: Sequence[ArrayInfo] = ()
    unreadable: Sequence[Unreadable] = ()
    skipped: Sequence[str] = ()

    @abstractmethod
    def read(self, array: int, box: Box) -> Iterable[Piece]:
        """Read one block: pieces that together hold every element of ``box`` once.

        Safe to call from several threads.

        Raises
        ------
        ReadError
            If the block cannot be read or decoded; the message names it.
        """

    def fill_value(self, array: int) -> Any:
        """What elements of chunks that do not exist are worth; None if that is not known."""
        del array
        return None

    def knows_missing(self, array: int) -> bool:
        """Whether ``read`` tells chunks that do not exist from those that do."""
        del array
        return False


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


def size_of(shape: tuple[int, ...]) -> int:
    """How many elements an array of that shape has."""
    return prod(shape)
