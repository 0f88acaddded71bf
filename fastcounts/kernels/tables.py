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

__all__ = ["Bytes", "Table", "Words", "address", "table"]

_MOST = 2**63 - 1
_LARGEST_WHOLE = 2**53
_MOST_PAIRED = 2**30
"""As many pairs of pixels may be counted, twice, before they are turned into pixels."""

_MOST_AT_ONCE = 2**24
_NARROWER = 4
_SAMPLE = 4096
_WINDOW = 255
_PATIENT = 32
_LARGE = 2**17


def address(array: NDArray[Any]) -> int:
    """Return where the first element of a contiguous array is in memory."""
    place: int = array.__array_interface__["data"][0]
    return place


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

        Either the whole array is counted or, when this raises, nothing of it. Only an
        exception from outside, such as KeyboardInterrupt, may leave a part: then drop the
        table.

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
        if array.dtype != self.dtype and native(array.dtype) != self.dtype:
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
        self._constants.clear()
        self._added = 0
        return tally

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added since the last drain."""
        return not self._added and not self._constants

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory that the table holds now, in bytes."""

    @abstractmethod
    def _add(self, array: NDArray[Any]) -> None:
        """Count an array of the right type that is not empty, wholly or not at all."""

    @abstractmethod
    def _patterns(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Take out the patterns and their pixels; one may come twice, or without pixels."""


class _BoolTable(Table):
    """How many pixels are true, and how many there are."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__(dtype)
        self._true = 0

    @property
    def nbytes(self) -> int:
        """Memory that the table holds now, in bytes."""
        return 16

    def _add(self, array: NDArray[Any]) -> None:
        from fastcounts.kernels import dense

        self._true += sum(dense.count1(address(tile), tile.size) for tile in tiles(array))

    def _patterns(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        true, self._true = self._true, 0
        return np.arange(2), np.array([self._added - true, true], np.int64)


class Bytes:
    """Bins for each of 256 patterns, four times over, and bins for pairs of pixels.

    Parameters
    ----------
    scratch : bytes of scratch memory that the kernel needs.
    """

    def __init__(self, scratch: int) -> None:
        from fastcounts.kernels import dense

        self._kernels: Any = dense
        self._bins = np.zeros((4, dense.BINS8 // 4), np.int64)
        self._pairs = np.zeros((2, 256, 256), np.uint32)
        self.scratch = np.zeros(scratch, np.uint8)
        self._paired = self.scratch[dense.PAIRED :][:8].view(np.int64)
        self.addresses = address(self._bins), address(self._pairs), address(self.scratch)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self._bins.nbytes + self._pairs.nbytes + self.scratch.nbytes

    def settle(self, most: int) -> None:
        """Turn pairs of pixels into pixels if there are more of them than this."""
        if self._paired[0] > most:
            self._kernels.settle_pairs(*self.addresses)

    def take(self) -> NDArray[np.int64]:
        """Return the pixels of each of 256 patterns, and empty all bins."""
        self.settle(0)
        pixels: NDArray[np.int64] = self._bins.sum(axis=0)
        self._bins[...] = 0
        return pixels

    def drain(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the patterns with pixels and their pixels, and empty all bins."""
        self.settle(0)
        return _collected(self._kernels.collect, 264, self.addresses[0], *self._bins.shape)


class Words:
    """Bins for each of 65536 patterns, and bytes for tiles of labels below 256.

    Parameters
    ----------
    narrow : whether tiles may be counted as bytes.

    Attributes
    ----------
    bins : of the patterns that were not.
    memory : what the kernels ask for.
    """

    def __init__(self, *, narrow: bool = True) -> None:
        from fastcounts.kernels import dense

        self._kernels: Any = dense
        self.bins = np.zeros(dense.BINS16, np.int64)
        self._bytes = Bytes(dense.SCRATCH8)
        self._room = np.zeros(dense.BYTES16, np.uint8)
        bins, pairs, scratch = self._bytes.addresses
        room = address(self._room) if narrow else 0
        self.memory = np.array([address(self.bins), bins, pairs, scratch, room, 0], np.int64)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.bins.nbytes + self._bytes.nbytes + self._room.nbytes

    def count(self, tile: NDArray[Any]) -> None:
        """Count a contiguous array of at most 2**30 labels."""
        self._kernels.count16(address(tile), tile.size, address(self.memory))
        self._bytes.settle(_MOST_PAIRED)

    def drain(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return patterns and their pixels, some twice, and empty all bins."""
        room = self.bins.size + 8
        wide = _collected(self._kernels.collect, room, address(self.bins), 1, self.bins.size)
        patterns, pixels = zip(wide, self._bytes.drain(), strict=True)
        return np.concatenate(patterns), np.concatenate(pixels)


class _Table8(Table):
    """A bin for each of 256 patterns."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        from fastcounts.kernels import dense

        super().__init__(dtype)
        self._kernel: Any = dense.count8
        self._bytes = Bytes(dense.SCRATCH8)

    @property
    def nbytes(self) -> int:
        """Memory that the table holds now, in bytes."""
        return self._bytes.nbytes

    def _add(self, array: NDArray[Any]) -> None:
        for tile in tiles(array):
            for start in range(0, tile.size, _MOST_PAIRED):
                size = min(_MOST_PAIRED, tile.size - start)
                self._kernel(address(tile) + start, size, *self._bytes.addresses)
                self._bytes.settle(_MOST_PAIRED)

    def _patterns(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        return self._bytes.drain()


class _Table16(Table):
    """A bin for each of 65536 patterns, and a table of bytes for tiles of labels below 256."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__(dtype)
        self._words = Words()

    @property
    def nbytes(self) -> int:
        """Memory that the table holds now, in bytes."""
        return self._words.nbytes

    def _add(self, array: NDArray[Any]) -> None:
        if self.dtype.kind == "f":
            self._add_floats(array)
            return
        _count_words(self._words, array)

    def _add_floats(self, array: NDArray[Any]) -> None:
        """Count floating point pixels, if all are labels.

        They are counted apart first, because one fraction means that none may be added.  Their
        patterns are not small numbers, so they are never counted as bytes.
        """
        own = Words(narrow=False)
        _count_words(own, array)
        values = np.flatnonzero(own.bins).astype(np.uint16).view(np.float16)
        whole = np.isnan(values) | (np.isfinite(values) & (np.trunc(values) == values))
        if not whole.all():
            raise _wrong_label(array)
        self._words.bins += own.bins

    def _patterns(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        return self._words.drain()


class _SparseTable(Table):
    """A hash table of the patterns that occur, and bins for a window of 256 of them."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        from fastcounts.kernels import sparse

        super().__init__(dtype)
        width = self.dtype.itemsize
        self._kernels: Any = sparse
        self._kernel: Any = sparse.count32 if width == _NARROWER else sparse.count64
        self._floating = 8 * width if self.dtype.kind == "f" else 0
        self._bytes = Bytes(sparse.SCRATCH)
        recent = self._bytes.scratch[sparse.RECENT :].view(np.int64)
        self._recent = recent.reshape(sparse.RECENT_PLACES, 2)
        self._settled: list[tuple[NDArray[Any], NDArray[np.int64]]] = []
        self._state = np.zeros(sparse.STATE, np.int64)
        bins, pairs, scratch = self._bytes.addresses
        for offset, place in ((sparse.BINS, bins), (sparse.PAIRS, pairs), (sparse.MEMORY, scratch)):
            self._set(offset, place)
        self._use(_hash_table(sparse.LEAST_CAPACITY))

    def _get(self, offset: int) -> int:
        """Read what the kernel says."""
        return int(self._state[offset // 8])

    def _set(self, offset: int, value: int) -> None:
        """Tell the kernel."""
        self._state[offset // 8] = value

    @property
    def nbytes(self) -> int:
        """Memory that the table holds now, in bytes."""
        return self._places.nbytes + self._bytes.nbytes

    def _add(self, array: NDArray[Any]) -> None:
        counted = 0
        try:
            for tile in tiles(array):
                for done in self._count(tile, 1):
                    counted += done
        except _WrongPatternError as error:
            self._undo(array, counted + error.counted)
            raise _wrong_label(array) from None
        except BaseException:
            self._undo(array, counted)
            raise

    def _count(self, tile: NDArray[Any], weight: int) -> Iterator[int]:
        """Count a tile; yield the pixels counted whenever the kernel comes back."""
        start = 0
        while start < tile.size:
            self._bytes.settle(_MOST_PAIRED)
            if not self._added or self._get(self._kernels.MISSES) > _PATIENT:
                self._aim(tile[start : start + _SAMPLE])
            size = min(_MOST_AT_ONCE, tile.size - start)
            place = address(tile) + start * tile.itemsize
            done = self._kernel(place, size, address(self._state), weight, self._floating)
            why = self._get(self._kernels.WHY)
            if why == self._kernels.WRONG:
                raise _WrongPatternError(done)
            start += done
            yield done
            if why == self._kernels.FULL:
                self._grow()

    def _aim(self, sample: NDArray[Any]) -> None:
        """Move the window to where the labels are."""
        signed = sample.view(f"i{self.dtype.itemsize}")
        least, most = int(signed.min()), int(signed.max())
        if most - least > _WINDOW:
            return
        base = 0 if least >= 0 and most <= _WINDOW else least
        if base != self._get(self._kernels.BASE):
            self._settled.append(self._window())
            self._set(self._kernels.BASE, base)
        self._set(self._kernels.MISSES, 0)

    def _window(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the patterns of the window and their pixels, and empty it."""
        offsets, pixels = self._bytes.drain()
        patterns = offsets + self._get(self._kernels.BASE)
        return patterns.astype(f"u{self.dtype.itemsize}").astype(np.uint64), pixels

    def _undo(self, array: NDArray[Any], counted: int) -> None:
        """Take away what was counted of an array; there is room for all its patterns."""
        for tile in tiles(array):
            part = tile[: min(tile.size, counted)]
            counted -= sum(self._count(part, -1))

    def _grow(self) -> None:
        """Move to a larger table."""
        old = self._places
        factor = 4 if len(old) < _LARGE else 2
        places = _hash_table(factor * (len(old) - 1))
        self._kernels.rehash(address(old), _bits(old), address(places), _bits(places))
        self._use(places)

    def _use(self, places: NDArray[np.int64]) -> None:
        """Count into a table from now on."""
        self._places = places
        self._set(self._kernels.TABLE, address(places))
        self._set(self._kernels.TABLE_BITS, _bits(places))

    def _patterns(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        parts = [*self._settled, self._window(), self._take(self._recent)]
        self._settled.clear()
        if self._get(self._kernels.USED) or self._places[-1, 1]:
            parts.append(self._take(self._places))
            self._set(self._kernels.USED, 0)
        if len(self._places) > self._kernels.LEAST_CAPACITY + 1:
            self._use(_hash_table(self._kernels.LEAST_CAPACITY))
        patterns, pixels = zip(*parts, strict=True)
        return np.concatenate(patterns), np.concatenate(pixels)

    def _take(self, places: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Take the patterns with pixels, and their pixels, out of a table."""
        room = self._get(self._kernels.USED) + self._kernels.RECENT_PLACES + 2
        patterns, pixels = _collected(self._kernels.collect, room, address(places), len(places))
        return patterns.view(np.uint64), pixels


def _count_words(words: Words, array: NDArray[Any]) -> None:
    """Count an array of 16-bit patterns in parts that the kernel takes."""
    for tile in tiles(array):
        for start in range(0, tile.size, _MOST_PAIRED):
            words.count(tile[start : start + _MOST_PAIRED])


def _collected(
    collect: Any, room: int, *arguments: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the patterns and pixels that a kernel writes."""
    lists = np.empty((2, room), np.int64)
    found = collect(*arguments, address(lists), address(lists) + 8 * room)
    return lists[0, :found].copy(), lists[1, :found].copy()


def _wrong_label(array: NDArray[Any]) -> errors.NonIntegralLabel:
    """Return the error that names the first pixel that is no label."""
    error = first_non_integral(array)
    assert error is not None
    return error


class _WrongPatternError(Exception):
    """A floating point pattern that is no label; ``counted`` pixels came before it."""

    def __init__(self, counted: int) -> None:
        super().__init__(counted)
        self.counted = counted


def _hash_table(capacity: int) -> NDArray[np.int64]:
    """Return an empty hash table: patterns and pixels."""
    return np.zeros((capacity + 1, 2), np.int64)


def _bits(places: NDArray[np.int64]) -> int:
    """Return the binary logarithm of the capacity of a hash table."""
    return (len(places) - 1).bit_length() - 1


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
    if dtype.kind == "b":
        return _BoolTable(dtype)
    return {1: _Table8, 2: _Table16}.get(dtype.itemsize, _SparseTable)(dtype)
