"""Accumulators: one thread's counts of arrays of one type."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts import errors
from fastcounts.kernels.layout import check, first_non_integral, native, tiles
from fastcounts.kernels.tally import Tally, interpret, merge

__all__ = ["Table", "table"]

_MOST = 2**63 - 1
_LARGEST_WHOLE = 2**53
_DENSE_BYTES = 2
_FIRST_CAPACITY = 1024


def _address(tile: NDArray[Any]) -> int:
    """Where the first pixel of a contiguous array is in memory."""
    address: int = tile.__array_interface__["data"][0]
    return address


class Table(ABC):
    """Counts of arrays of one type, of one thread.

    Make one with `table`. A table is not shared between threads; the GIL is released
    while it counts.

    Parameters
    ----------
    dtype : the type of every array that will be added, in either byte order.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        check(dtype)
        self.dtype = native(dtype)
        self._constants: dict[int, int] = {}
        self._added = 0

    def add(self, array: NDArray[Any]) -> None:
        """Count every pixel of an array.

        Either the whole array is counted or, when this raises, nothing of it.

        Parameters
        ----------
        array : any shape and layout, either byte order; it is never written to.

        Raises
        ------
        UnsupportedSource
            if the array is of another type than the table, or masked.
        NonIntegralLabel
            if a floating point pixel is a fraction, an infinity or more than 2**53 in
            magnitude; its index is that of the first such pixel in C order.
        OverflowError
            if more than 2**63 - 1 pixels could come together under one label.
        """
        if isinstance(array, np.ma.MaskedArray):
            raise errors.UnsupportedSource("a masked array: count array.compressed() instead")
        if native(array.dtype) != self.dtype or array.dtype.kind != self.dtype.kind:
            raise errors.UnsupportedSource(
                f"an array of {array.dtype} does not belong into a table of {self.dtype}"
            )
        if max(self._constants.values(), default=0) + self._added + array.size > _MOST:
            raise OverflowError("more pixels than an int64 can count")
        if array.size:
            self._add(array)
            self._added += array.size

    def add_constant(self, label: int, pixels: int) -> None:
        """Count a number of pixels of one label, by arithmetic alone.

        Parameters
        ----------
        label : a label that the table's type can hold.
        pixels : how many pixels of it, 0 or more.

        Raises
        ------
        OptionError
            if the type cannot hold the label, or ``pixels`` is negative.
        OverflowError
            if more than 2**63 - 1 pixels could come together under one label.
        """
        label, pixels = int(label), int(pixels)
        if pixels < 0:
            raise errors.OptionError(f"{pixels} pixels of label {label}: it must be 0 or more")
        if not _holds(self.dtype, label):
            raise errors.OptionError(f"label {label} does not fit into {self.dtype}")
        total = self._constants.get(label, 0) + pixels
        if total + self._added > _MOST:
            raise OverflowError(f"more pixels of label {label} than an int64 can count")
        if pixels:
            self._constants[label] = total

    def drain(self) -> Tally:
        """Return what was added since the last drain, and empty the table."""
        labels, pixels, nothing = interpret(*self._patterns(), self.dtype)
        nodata = int(pixels[nothing].sum())
        labels, pixels = labels[~nothing], pixels[~nothing]
        if self._constants:
            constants = np.array(list(self._constants), _label_type(self._constants, labels))
            labels = np.concatenate([labels.astype(constants.dtype), constants])
            pixels = np.concatenate([pixels, np.array(list(self._constants.values()), np.int64)])
        tally = merge(labels, pixels, nodata)
        self._clear()
        self._constants.clear()
        self._added = 0
        return tally

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory that the table holds now, in bytes."""

    @abstractmethod
    def _add(self, array: NDArray[Any]) -> None:
        """Count an array of the right type that is not empty, wholly or not at all."""

    @abstractmethod
    def _patterns(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the patterns with pixels, and their pixels."""

    @abstractmethod
    def _clear(self) -> None:
        """Forget all patterns."""


class _DenseTable(Table):
    """A bin for each of the 2**8 or 2**16 patterns."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__(dtype)
        self._bins = np.zeros(1 << (8 * self.dtype.itemsize), np.int64)

    @property
    def nbytes(self) -> int:
        """Memory that the table holds now, in bytes."""
        return self._bins.nbytes

    def _add(self, array: NDArray[Any]) -> None:
        from fastcounts.kernels import dense

        kernel = dense.count8 if self.dtype.itemsize == 1 else dense.count16
        floating = self.dtype.kind == "f"
        bins = np.zeros_like(self._bins) if floating else self._bins
        for tile in tiles(array):
            kernel(_address(tile), tile.size, bins)
        if floating:
            self._accept(bins, array)

    def _accept(self, bins: NDArray[np.int64], array: NDArray[Any]) -> None:
        """Add the bins of a floating point array, if all its patterns are labels."""
        patterns = np.flatnonzero(bins).astype(np.uint16).view(np.float16)
        whole = np.isnan(patterns) | (np.isfinite(patterns) & (np.trunc(patterns) == patterns))
        if not whole.all():
            error = first_non_integral(array)
            assert error is not None
            raise error
        self._bins += bins

    def _patterns(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        patterns = np.flatnonzero(self._bins)
        return patterns.astype(np.uint64), self._bins[patterns]

    def _clear(self) -> None:
        self._bins[:] = 0


class _SparseTable(Table):
    """A hash table of the patterns that occur."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__(dtype)
        self._clear()

    @property
    def nbytes(self) -> int:
        """Memory that the table holds now, in bytes."""
        return self._keys.nbytes + self._pixels.nbytes

    def _clear(self) -> None:
        self._keys, self._pixels = _hash_table(_FIRST_CAPACITY)
        self._state = np.zeros(2, np.int64)

    def _add(self, array: NDArray[Any]) -> None:
        counted = 0
        try:
            for tile in tiles(array):
                for done in self._count(tile, 1):
                    counted += done
        except _WrongPatternError as error:
            self._undo(array, counted + error.counted)
            wrong = first_non_integral(array)
            assert wrong is not None
            raise wrong from None
        except BaseException:
            self._undo(array, counted)
            raise

    def _count(self, tile: NDArray[Any], weight: int) -> Iterator[int]:
        """Count a tile; yield the pixels counted whenever the kernel comes back."""
        from fastcounts.kernels import sparse

        kernel = sparse.count32 if self.dtype.itemsize == 4 else sparse.count64
        floating = int(self.dtype.kind == "f")
        start = 0
        while start < tile.size:
            address = _address(tile) + start * tile.itemsize
            done = kernel(
                address, tile.size - start, self._keys, self._pixels, self._state, weight, floating
            )
            if self._state[1] == sparse.WRONG:
                raise _WrongPatternError(done)
            start += done
            yield done
            if self._state[1] == sparse.FULL:
                self._grow()

    def _undo(self, array: NDArray[Any], counted: int) -> None:
        """Take away what was counted of an array; its patterns are all in the table."""
        for tile in tiles(array):
            part = tile[: min(tile.size, counted)]
            counted -= sum(self._count(part, -1))

    def _grow(self) -> None:
        """Move to a table of twice the capacity."""
        from fastcounts.kernels import sparse

        keys, pixels = _hash_table(2 * (self._keys.size - 1))
        sparse.rehash(self._keys, self._pixels, keys, pixels)
        self._keys, self._pixels = keys, pixels

    def _patterns(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        places = np.flatnonzero(self._pixels)
        return self._keys[places].view(np.uint64), self._pixels[places]


class _WrongPatternError(Exception):
    """A floating point pattern that is no label; ``counted`` pixels came before it."""

    def __init__(self, counted: int) -> None:
        super().__init__(counted)
        self.counted = counted


def _hash_table(capacity: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the patterns and pixels of an empty hash table."""
    from fastcounts.kernels import sparse

    return np.full(capacity + 1, sparse.EMPTY, np.int64), np.zeros(capacity + 1, np.int64)


def _holds(dtype: np.dtype[Any], label: int) -> bool:
    """Say whether a type can hold a label exactly."""
    if dtype.kind == "b":
        return label in (0, 1)
    if dtype.kind == "f":
        if abs(label) > _LARGEST_WHOLE:
            return False
        with np.errstate(over="ignore"):
            return float(dtype.type(label)) == label
    limits = np.iinfo(dtype)
    return int(limits.min) <= label <= int(limits.max)


def _label_type(constants: Iterable[int], labels: NDArray[Any]) -> type[np.int64 | np.uint64]:
    """Return the type that holds some labels and constants; they are never of both kinds."""
    return np.uint64 if labels.dtype == np.uint64 or max(constants) > _MOST else np.int64


def table(dtype: np.dtype[Any]) -> Table:
    """Make an empty table for arrays of one type, in either byte order.

    Parameters
    ----------
    dtype : bool, an integer of 8 to 64 bits, or a float of 16 to 64 bits.

    Raises
    ------
    UnsupportedSource
        for any other type.

    Examples
    --------
    >>> import numpy as np
    >>> counts = table(np.dtype(np.uint8))
    >>> counts.add(np.array([[0, 3], [3, 3]], np.uint8))
    >>> counts.drain().pixels.tolist()
    [1, 3]
    """
    dtype = np.dtype(dtype)
    check(dtype)
    return _DenseTable(dtype) if dtype.itemsize <= _DENSE_BYTES else _SparseTable(dtype)
