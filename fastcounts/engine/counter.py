"""Count masks as they come, batch by batch, at the cost of the kernel.

Counting a mask that is already in memory takes some ten microseconds.  Opening a source, planning
and starting threads, as :func:`fastcounts.count` does, takes a hundred times as long.  The counter
calls the kernels in the caller's thread instead, and puts off the rest: the pixels of each label
and image wait in a list, which is added up when it is long, or when the counts are asked for.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts import kernels
from fastcounts.classes import (
    Labels,
    Options,
    as_labels,
    check_label_dtype,
    check_label_range,
    concatenate_labels,
    labels_from_integers,
)
from fastcounts.counts import Counts
from fastcounts.engine.collecting import Collector
from fastcounts.engine.places import Places
from fastcounts.engine.tallying import Partial, fold_rows
from fastcounts.errors import NonIntegralLabel, OptionError, UnexpectedLabel, UnsupportedSource
from fastcounts.items import ItemKey
from fastcounts.messages import argument
from fastcounts.plan import make_plan
from fastcounts.sources import Piece
from fastcounts.sources.refusals import refuse_object
from fastcounts.version import __version__

__all__ = ["Counter"]

_MAX_PENDING = 1 << 16
"""Labels of images, in all, that wait to be added up: about 1 MiB."""

_MAX_UPDATES = 1 << 12
"""Updates that wait to be added up, however few labels they contain."""


class Counter:
    """Count masks as they come, for example those of a training loop.

    Parameters
    ----------
    classes, ignore : as for :func:`fastcounts.count`.
    items : what one image is: ``"auto"`` or ``"array"`` takes each mask that is passed to
        :meth:`update` for one image; a number is the axis of a batch along which its images lie,
        so that ``items=0`` takes batches (N, H, W).
    keep_items : keep the pixels of every image and label.  Images are numbered in the order of the
        updates.
    strict : whether an unexpected label is an error.

    Raises
    ------
    OptionError
        If an argument is wrong.

    Notes
    -----
    The counts are those of :func:`fastcounts.count` for the list of the masks, or for the batches
    joined along the axis of the images.  Notices, such as that a label looks like one to ignore,
    are not given.

    Several threads may call :meth:`update`; they take turns.  To count in parallel, give every
    thread or process a counter of its own, and add their ``counts``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastcounts as fc
    >>> counter = fc.Counter(classes=["road", "car"], ignore=255, items=0)
    >>> for batch in (np.zeros((2, 4, 4), np.uint8), np.ones((1, 4, 4), np.uint8)):
    ...     counter.update(batch)
    >>> counter.counts["road"], counter.counts.items
    (32, 3)
    """

    def __init__(
        self,
        *,
        classes: Any = None,
        ignore: Any = None,
        items: int | str = "auto",
        keep_items: bool = False,
        strict: bool = False,
    ) -> None:
        self._options = options = Options.parse(ignore, classes, items)
        self._axis = options.item_axis
        if options.items == "file" or (self._axis is not None and self._axis < 0):
            raise OptionError(
                f"{argument('items')}: expected the number of an axis from 0 on, 'array' or "
                f"'auto', got {items!r}"
            )
        self._strict = strict
        self._lock = Lock()
        self._begun = datetime.now(UTC)
        self._collector = Collector(make_plan((), items="auto"), options, keep_items)
        self._places = Places(self._axis)
        self._tables: dict[np.dtype[Any], kernels.Table] = {}
        self._pending: list[tuple[int, int, kernels.ItemTally]] = []
        self._pending_labels = 0
        self._updates = self._images = self._total = 0
        given = options.classes
        self._known = None if given is None else {*given.assigned, *options.ignore}
        self._ends = (0, 0) if given is None else (int(given.labels[0]), int(given.labels[-1]))

    def __repr__(self) -> str:
        return f"<Counter of {self._total} pixels in {self._updates} updates>"

    def update(self, mask: Any) -> None:
        """Count a mask, or a batch of masks.

        If this raises, the counter is as it was.

        Parameters
        ----------
        mask : an array, a masked array, or a torch tensor in the memory of the CPU; of any shape,
            or one that has the axis that ``items`` names.  It is neither kept nor written to.

        Raises
        ------
        UnsupportedSource
            If it is something else, or its elements cannot be labels.
        OptionError
            If it does not have the axis of the images.
        NonIntegralLabel
            For a floating point pixel that is no label; names its index in the mask.
        LabelRangeError
            For negative labels beside labels of 2**63 or more, also in different masks.
        UnexpectedLabel
            For a label of no class, if the counter is strict.
        """
        array = mask if type(mask) is np.ndarray else _as_array(mask)
        check_label_dtype(array.dtype, "mask")
        axis = self._axis
        if axis is not None and axis >= array.ndim:
            raise OptionError(
                f"{argument('items', axis)}: the mask has the shape {array.shape}, and no axis "
                f"{axis}; pass a batch, or leave {argument('items')} out to count single masks"
            )
        with self._lock:
            self._update(array)

    def _update(self, array: NDArray[Any]) -> None:
        """Count an array; everything that may fail comes before anything is changed."""
        images = 1 if self._axis is None else array.shape[self._axis]
        tally = None
        if array.size:
            try:
                tally = self._tally(array)
            except NonIntegralLabel as error:
                where = f"update {self._updates}"
                raise NonIntegralLabel(error.value, error.index, where) from None
            self._check(array, tally.labels)
            self._pending.append((self._images, array.size, tally))
            self._pending_labels += tally.labels.size
        self._updates += 1
        self._images += images
        self._total += array.size
        if self._pending_labels > _MAX_PENDING or len(self._pending) > _MAX_UPDATES:
            self._flush()

    def _tally(self, array: NDArray[Any]) -> kernels.ItemTally:
        """Count the pixels of each label in each image of an array."""
        axis = self._axis
        if isinstance(array, np.ma.MaskedArray):
            return self._tally_masked(array)
        if axis is not None and array.shape[axis] != 1:
            return kernels.count_items(array, axis)
        tally = self._drained(array)
        return kernels.ItemTally(
            np.array([0, tally.labels.size]), tally.labels, tally.pixels, np.array([tally.nodata])
        )

    def _tally_masked(self, array: np.ma.MaskedArray[Any, Any]) -> kernels.ItemTally:
        """Count what a mask leaves of each image; masked elements are nodata."""
        axis = self._axis
        valid = ~np.ma.getmaskarray(array)
        images = [(array.data, valid)]
        if axis is not None:
            data = np.moveaxis(array.data, axis, 0)
            images = list(zip(data, np.moveaxis(valid, axis, 0), strict=True))
        tallies = []
        for number, (data, kept) in enumerate(images):
            left = data[kept]
            try:
                tally = self._drained(left)
            except NonIntegralLabel as error:
                index = [int(n) for n in np.argwhere(kept)[error.index[0]]]
                if axis is not None:
                    index.insert(axis, number)
                raise NonIntegralLabel(error.value, tuple(index)) from None
            tallies.append(tally._replace(nodata=tally.nodata + kept.size - left.size))
        offsets = np.cumsum([0, *(tally.labels.size for tally in tallies)])
        return kernels.ItemTally(
            offsets,
            concatenate_labels([as_labels(tally.labels) for tally in tallies]),
            np.concatenate([tally.pixels for tally in tallies]),
            np.array([tally.nodata for tally in tallies]),
        )

    def _drained(self, array: NDArray[Any]) -> kernels.Tally:
        """Count one image in the table of its type, which stays allocated."""
        table = self._tables.get(array.dtype)
        if table is None:
            table = self._tables[array.dtype] = kernels.table(array.dtype)
        elif not table.is_empty:  # an interrupt came between adding and draining
            table.drain()
        table.add(array)
        return table.drain()

    def _check(self, array: NDArray[Any], labels: Labels) -> None:
        """Refuse labels that do not fit the others, and locate those of no class."""
        if not labels.size:
            return
        low, high = self._ends
        if labels.dtype == np.uint64 or array.dtype.kind in "if":
            low, high = min(low, int(labels.min())), max(high, int(labels.max()))
            check_label_range((low, high))
        if self._known is not None and not self._known.issuperset(found := set(labels.tolist())):
            self._locate(array, labels_from_integers(sorted(found - self._known)))
        self._ends = low, high

    def _locate(self, array: NDArray[Any], labels: Labels) -> None:
        """Note where labels of no class are."""
        axis, number = self._axis, self._images
        box = tuple(
            (number, number + length) if place == axis else (0, length)
            for place, length in enumerate(array.shape)
        )
        piece = Piece(box, array)
        if self._strict:
            places = Places(axis)
            places.look(labels[:1], piece, ItemKey("", number))
            _, image, at = places.found[int(labels[0])][0]
            raise UnexpectedLabel(
                f"update {self._updates}: label {labels[0]} at {at}, image {image}, belongs to no "
                f"class and is not ignored; add it to {argument('classes')} or to "
                f"{argument('ignore')}, or count without {argument('strict')}"
            )
        self._places.look(labels, piece, ItemKey("", number))

    def _flush(self) -> None:
        """Add up what is pending."""
        if not self._pending:
            return
        firsts, sizes, tallies = zip(*self._pending, strict=True)
        images = [tally.nodata.size for tally in tallies]
        numbers = np.concatenate(
            [np.arange(first, first + n) for first, n in zip(firsts, images, strict=True)]
        )
        lengths = np.concatenate([np.diff(tally.offsets) for tally in tallies])
        partial = Partial(
            array=0,
            numbers=numbers,
            seen=np.repeat(np.array(sizes) // np.array(images), images),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            labels=concatenate_labels([as_labels(tally.labels) for tally in tallies]),
            pixels=np.concatenate([tally.pixels for tally in tallies]),
            nodata=sum(int(tally.nodata.sum()) for tally in tallies),
        )
        if self._options.classes is not None:
            fold_rows(partial, self._options)
        self._collector.add_complete(partial)
        self._pending, self._pending_labels = [], 0

    @property
    def counts(self) -> Counts:
        """The counts of all updates so far; the counter goes on from there."""
        with self._lock:
            self._flush()
            self._collector.set_places(self._places)
            run = {
                "version": __version__,
                "sources": [],
                "arrays": self._updates,
                "part": None,
                "pixels": self._total,
                "begun": self._begun.isoformat(timespec="seconds"),
                "failures": [],
            }
            return self._collector.finish({"runs": [run]})


def _as_array(mask: Any) -> NDArray[Any]:
    """Return the array in a mask, without a copy.

    Raises
    ------
    UnsupportedSource
        If the mask is no array, or a tensor that has none.
    """
    if isinstance(mask, np.matrix):
        return np.asarray(mask)
    if isinstance(mask, np.ndarray):
        return mask
    torch = sys.modules.get("torch")  # a tensor exists only if torch was imported
    if torch is None or not isinstance(mask, torch.Tensor):
        raise UnsupportedSource(refuse_object(mask).replace("fc.count(", "counter.update("))
    if mask.device.type != "cpu":
        raise UnsupportedSource(
            f"torch.Tensor on {mask.device}: only tensors in the memory of the CPU are counted; "
            "pass mask.cpu(), or count the masks before they are moved"
        )
    if mask.requires_grad:
        raise UnsupportedSource(
            "torch.Tensor that requires gradients: labels do not, so this may be the output of "
            "the network; pass the mask, or mask.detach()"
        )
    try:
        array: NDArray[Any] = mask.numpy()
    except (TypeError, RuntimeError) as error:
        raise UnsupportedSource(
            f"torch.Tensor of {mask.dtype}, {mask.layout}: NumPy has no such array ({error}); pass "
            "a dense tensor of integers, such as mask.to_dense().long()"
        ) from None
    return array
