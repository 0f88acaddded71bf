"""What a scheme may know of the counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastcounts.errors import OptionError, PresenceNeeded
from fastcounts.weights import Floats, Integers, Labels

if TYPE_CHECKING:
    from fastcounts.counts import Counts
    from fastcounts.items import ItemTable

__all__ = ["Tally"]


@dataclass(frozen=True)
class Tally:
    """What a scheme may know of the counts: its classes in label order, and the rest summed.

    Attributes
    ----------
    labels : (K,) int64 or uint64, sorted.
    pixels : (K,) int64, 0 for a class that was not seen.
    items : how many images were counted; 0 where that is not known.
    presence : (K,) int64, images that contain the class.
    presence_pixels : (K,) int64, pixels of any class in those images.
    presence_pixels_total : (K,) int64, ignored pixels included.
    ignored : pixels of each ignored label, with its ``presence_pixels_total``.
    table : pixels of every label in every image, or None; see ``keep_items``.
    names : label to name, where names are known.
    """

    labels: Labels
    pixels: Integers
    items: int
    presence: Integers
    presence_pixels: Integers
    presence_pixels_total: Integers
    ignored: tuple[tuple[int, int], ...] = ()
    table: ItemTable | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Counts) -> Tally:
        """Read the counts."""
        if not hasattr(counts, "ledger"):
            raise OptionError(
                f"a {type(counts).__name__} is no Counts: make one with "
                "Counts.from_pixels({label: pixels, ...})"
            )
        return cls(
            labels=counts.labels,
            pixels=counts.pixels,
            items=counts.items,
            presence=counts.presence,
            presence_pixels=counts.presence_pixels,
            presence_pixels_total=counts.presence_pixels_total,
            ignored=tuple(
                (int(entry.pixels), int(entry.presence_pixels_total))
                for entry in counts.ledger.ignored.values()
            ),
            table=counts.item_table,
            names=dict(counts.names),
        )

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(K,) which classes have pixels."""
        return self.pixels > 0

    @property
    def classes(self) -> int:
        """How many classes have pixels."""
        return int(np.count_nonzero(self.pixels))

    @property
    def counted(self) -> int:
        """Pixels of all classes, exact."""
        return sum(self.pixels.tolist())

    @property
    def void(self) -> int:
        """Pixels of all ignored labels, exact."""
        return sum(pixels for pixels, _ in self.ignored)

    @property
    def frequencies(self) -> Floats:
        """(K,) float64, pixels of the class over pixels of all classes."""
        return np.asarray(self.pixels / self.counted)

    @property
    def others(self) -> Floats:
        """(K,) float64, pixels of all other classes, subtracted as whole numbers."""
        counted = self.counted
        return np.array([counted - count for count in self.pixels.tolist()], dtype=np.float64)

    def need_presence(self, why: str) -> None:
        """Refuse counts that do not say in how many images each class is."""
        if self.items < 2:
            raise PresenceNeeded(
                f"{why} needs to know in which images each class occurs, and these counts know "
                f"{self.items or 'no'} image{'' if self.items == 1 else 's'}: count with items= "
                "(an axis number or 'file'), or give items=, presence= and presence_pixels= to "
                "Counts.from_pixels"
            )

    def images(self, why: str) -> Integers:
        """(items, K) pixels of every class in every image."""
        if self.table is None or not len(self.table):
            raise PresenceNeeded(
                f"{why} needs the pixels of every class in every image: count with items= and "
                "keep_items=True"
            )
        return np.asarray(self.table.dense(self.labels.tolist()))

    def under_label_smoothing(self, alpha: float) -> Floats:
        """(K,) pixels under the label smoothing of torch: ``(1 - alpha) n + alpha N / K``."""
        return np.asarray((1 - alpha) * self.pixels + alpha * self.counted / self.labels.size)

    def called(self) -> list[str]:
        """Names of the classes for errors."""
        return [
            f"{label} ({self.names[label]})" if label in self.names else str(label)
            for label in self.labels.tolist()
        ]

    def with_classes(self, num_classes: int) -> Tally:
        """Take the labels 0 to ``num_classes - 1``, with zeros where none were seen."""
        if isinstance(num_classes, bool) or int(num_classes) != num_classes or num_classes < 1:
            raise OptionError(f"num_classes={num_classes!r}: give a whole number, 1 or more")
        outside = [label for label in self.labels.tolist() if not 0 <= label < num_classes]
        if outside:
            raise OptionError(
                f"label {outside[0]} is none of the num_classes={num_classes} labels 0.."
                f"{num_classes - 1}: ignore it when counting, or give a larger num_classes"
            )
        places = self.labels.astype(np.int64)

        def spread(values: Integers) -> Integers:
            wide = np.zeros(int(num_classes), dtype=np.int64)
            wide[places] = values
            return wide

        return replace(
            self,
            labels=np.arange(int(num_classes), dtype=np.int64),
            pixels=spread(self.pixels),
            presence=spread(self.presence),
            presence_pixels=spread(self.presence_pixels),
            presence_pixels_total=spread(self.presence_pixels_total),
        )

    def smoothed(self, pixels: float) -> Tally:
        """As if one more image held so many pixels of every class."""
        image = pixels * self.labels.size
        return replace(
            self,
            pixels=_grown(self.pixels, pixels),
            items=self.items + 1 if self.items else 0,
            presence=self.presence + 1,
            presence_pixels=_grown(self.presence_pixels, image),
            presence_pixels_total=_grown(self.presence_pixels_total, image),
        )


def _grown(counts: Integers, pixels: float) -> Any:
    """Add pixels to counts; whole numbers stay exact."""
    return counts + (int(pixels) if float(pixels).is_integer() else pixels)
