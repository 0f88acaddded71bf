"""What a scheme may know of the counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastcounts.errors import OptionError, PresenceNeeded
from fastcounts.messages import argument, variants
from fastcounts.weights import Floats, Integers, Labels, class_count, total_of

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
    ignored : pixels of each ignored label that was seen, with its ``presence_pixels_total``.
    ignore : all ignored labels.
    table : pixels of every label in every image, or None; see ``keep_items``.
    drawn : rows of the table that are taken, some of them more than once; None for all.
    names : label to name, where names are known.
    weighted : the numbers are sums over weighted images, no whole numbers, of counts that were
        checked before.
    """

    labels: Labels
    pixels: Integers
    items: int
    presence: Integers
    presence_pixels: Integers
    presence_pixels_total: Integers
    ignored: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    ignore: tuple[int, ...] = ()
    table: ItemTable | None = None
    drawn: npt.NDArray[np.intp] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    weighted: bool = False

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
            ignored={
                label: (int(entry.pixels), int(entry.presence_pixels_total))
                for label, entry in counts.ledger.ignored.items()
            },
            ignore=tuple(counts.options.ignore),
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
    def left_out(self) -> npt.NDArray[np.bool_]:
        """(K,) which labels are ignored; they are here only where ``num_classes`` asks for them."""
        return np.array([label in self.ignore for label in self.labels.tolist()], dtype=np.bool_)

    @property
    def counted(self) -> float:
        """Pixels of all classes, exact before it is rounded."""
        return total_of(self.pixels)

    @property
    def void(self) -> float:
        """Pixels of all ignored labels, exact before it is rounded."""
        return float(sum(pixels for pixels, _ in self.ignored.values()))

    @property
    def frequencies(self) -> Floats:
        """(K,) float64, pixels of the class over pixels of all classes."""
        return np.asarray(self.pixels / self.counted)

    @property
    def others(self) -> Floats:
        """(K,) float64, pixels of all other classes, subtracted as whole numbers."""
        pixels = self.pixels.tolist()
        counted = sum(pixels)
        return np.array([counted - count for count in pixels], dtype=np.float64)

    def need_presence(self, why: str, *columns: str) -> None:
        """Refuse counts that do not say in which images each class is, or how large those are."""
        if self.weighted:
            return
        if self.items < 2:
            raise PresenceNeeded(
                f"{why} needs to know in which images each class occurs, and these counts know "
                f"{self.items or 'no'} image{'' if self.items == 1 else 's'}: count with "
                f"{argument('items')} (an axis number or 'file')"
                + variants(
                    ", or give items, presence and presence_pixels to Counts.from_pixels", ""
                )
            )
        for name in ("presence", *columns):
            numbers = getattr(self, name)
            short = self.present & (numbers < (self.pixels if name in columns else 1))
            if short.any():
                place = int(short.argmax())
                raise PresenceNeeded(
                    f"{why} needs {name}: class {self.called()[place]} has {self.pixels[place]} "
                    f"pixels and {name} {numbers[place]}; give {name}= to Counts.from_pixels"
                )

    def images(self, why: str) -> Integers:
        """(items, K) pixels of every class in every image."""
        if self.table is None or not len(self.table):
            raise PresenceNeeded(
                f"{why} needs the pixels of every class in every image: count with "
                f"{argument('items')} and {argument('keep_items', True)}"
            )
        return self.images_of(self.labels.tolist())

    def images_of(self, labels: list[int]) -> Integers:
        """(items, len(labels)) pixels of labels, ignored ones too, in every image."""
        assert self.table is not None
        dense = np.asarray(self.table.dense(labels))
        return dense if self.drawn is None else dense[self.drawn]

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
        size = class_count(num_classes)
        outside = [label for label in self.labels.tolist() if not 0 <= label < num_classes]
        if outside:
            raise OptionError(
                f"label {outside[0]} is not one of the labels 0..{size - 1} of "
                f"{argument('num_classes', size)}: ignore it when counting, or give a larger "
                "number"
            )
        places = self.labels.astype(np.int64)

        def spread(values: Integers) -> Integers:
            wide = np.zeros(size, dtype=np.int64)
            wide[places] = values
            return wide

        return replace(
            self,
            labels=np.arange(size, dtype=np.int64),
            pixels=spread(self.pixels),
            presence=spread(self.presence),
            presence_pixels=spread(self.presence_pixels),
            presence_pixels_total=spread(self.presence_pixels_total),
        )

    def smoothed(self, pixels: float) -> Tally:
        """Add an image of the usual size that contains so many pixels of every absent class."""
        new = ~self.present & ~self.left_out
        images = max(self.items, 1)
        inside = self.counted / images
        return replace(
            self,
            pixels=_grown(self.pixels, pixels, new),
            items=self.items + 1 if self.items else 0,
            presence=self.presence + new,
            presence_pixels=_grown(self.presence_pixels, max(pixels, inside), new),
            presence_pixels_total=_grown(
                self.presence_pixels_total, max(pixels, inside + self.void / images), new
            ),
        )


def _grown(counts: Integers, pixels: float, inside: npt.NDArray[np.bool_]) -> Any:
    """Add pixels to counts: exact where they are whole numbers that an int64 holds."""
    whole = float(pixels).is_integer()
    more = int(pixels) if whole else pixels
    grown = [n + more * add for n, add in zip(counts.tolist(), inside.tolist(), strict=True)]
    exact = whole and max(grown, default=0) < 2**63
    return np.array(grown, dtype=np.int64 if exact else np.float64)
