"""Where labels of no class stand: the smallest few places of the smallest few labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcounts.classes import Labels
from fastcounts.grid import Box
from fastcounts.items import ItemKey
from fastcounts.ledger import PLACED_LABELS, PLACES, Place
from fastcounts.sources import Piece

__all__ = ["Places"]


class Places:
    """The smallest places seen so far of each unexpected label.

    Parameters
    ----------
    axis : along which items lie, or None.
    """

    def __init__(self, axis: int | None) -> None:
        self._axis = axis
        self.found: dict[int, list[Place]] = {}

    def look(self, labels: Labels, piece: Piece, key: ItemKey) -> None:
        """Find ``labels`` (sorted) in a piece.

        Parameters
        ----------
        labels : unexpected labels that may stand in it.
        piece : with pixels.
        key : of the item it belongs to, where it is of one; else of the first one.
        """
        pixels = piece.pixels
        assert pixels is not None
        origin = tuple(start for start, _ in piece.box)
        first = (key.source, key.item, origin)
        for label in labels[:PLACED_LABELS].tolist():
            known = self.found.get(label, [])
            if len(known) == PLACES and known[-1] < first:
                continue
            hits = np.asarray(pixels == pixels.dtype.type(label))
            if isinstance(pixels, np.ma.MaskedArray):
                hits &= ~np.ma.getmaskarray(pixels)
            self._note(label, self._smallest(hits, origin, key))

    def wants(self, labels: Labels, key: ItemKey, box: Box) -> bool:
        """Whether a box may hold a place of ``labels`` that comes before those that are known."""
        first = (key.source, key.item, tuple(start for start, _ in box))
        for label in labels[:PLACED_LABELS].tolist():
            known = self.found.get(label, [])
            if len(known) < PLACES or known[-1] >= first:
                return True
        return False

    def _smallest(self, hits: np.ndarray, origin: tuple[int, ...], key: ItemKey) -> list[Place]:
        """The first places in the order of item, then coordinate."""
        axis = self._axis
        order: NDArray[Any] = hits if axis is None else np.moveaxis(hits, axis, 0)
        flat = np.flatnonzero(order)[:PLACES]
        places: list[Place] = []
        for index in (
            zip(*np.unravel_index(flat, order.shape), strict=True) if order.ndim else ((),)
        ):
            local = [int(n) for n in index]
            if axis is not None:
                local.insert(axis, local.pop(0))
            at = tuple(n + start for n, start in zip(local, origin, strict=True))
            places.append((key.source, key.item if axis is None else at[axis], at))
        return places if flat.size else []

    def _note(self, label: int, places: Iterable[Place]) -> None:
        merged = sorted({*self.found.get(label, []), *places})[:PLACES]
        if merged:
            self.found[label] = merged
        if len(self.found) > 2 * PLACED_LABELS:
            self.found = {kept: self.found[kept] for kept in sorted(self.found)[:PLACED_LABELS]}

    def shifted(self, offset: tuple[int, ...]) -> Places:
        """The same places, moved by ``offset``."""
        moved = Places(self._axis)
        for label, places in self.found.items():
            moved.found[label] = [
                (
                    source,
                    item if self._axis is None else item + offset[self._axis],
                    tuple(n + start for n, start in zip(at, offset, strict=True)),
                )
                for source, item, at in places
            ]
        return moved

    def join(self, other: Places) -> None:
        """Take over what another has found."""
        for label, places in other.found.items():
            self._note(label, places)
