"""What became of every pixel: numbers that add up, or cannot exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fastcounts.classes import read_label
from fastcounts.errors import CountsOverflow, FormatError, LedgerError
from fastcounts.files import text, whole_number, whole_numbers

__all__ = ["Ignored", "Ledger", "Place", "Unexpected"]

MOST_PIXELS = 2**63 - 1
PLACES = 3
PLACED_LABELS = 256

_IGNORED = ("pixels", "presence", "presence_pixels_total", "unplaced")

Place = tuple[str, int, tuple[int, ...]]
"""Where a pixel stands: source, item, coordinate in the source's array."""


@dataclass(frozen=True)
class Ignored:
    """What is known of one ignored label.

    Attributes
    ----------
    pixels : how many pixels carry it.
    presence : items that contain it.
    presence_pixels_total : class and ignored pixels of those items.
    unplaced : those of ``pixels`` of which it is not known in which items they are.
    """

    pixels: int = 0
    presence: int = 0
    presence_pixels_total: int = 0
    unplaced: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Unexpected:
    """A label of no class.

    Attributes
    ----------
    pixels : how many pixels carry it.
    places : the smallest places where it stands, at most three, for the 256 smallest labels.
    """

    pixels: int = 0
    places: tuple[Place, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Ledger:
    """What became of every pixel; a ledger that does not add up cannot be made.

    Attributes
    ----------
    total : pixels in all.
    counted : pixels of classes.
    filled : the part of ``counted`` that came from the fill value of chunks that do not exist.
    ignored : ignored labels.
    nodata : masked elements and NaN.
    unexpected : labels of no class.
    missing : pixels of chunks that do not exist, where they are kept apart.
    failed : pixels of blocks that could not be read.

    Raises
    ------
    LedgerError
        If ``counted + ignored + nodata + unexpected + missing + failed != total``, or if
        anything is negative.
    """

    total: int = 0
    counted: int = 0
    filled: int = 0
    ignored: Mapping[int, Ignored] = field(default_factory=dict)
    nodata: int = 0
    unexpected: Mapping[int, Unexpected] = field(default_factory=dict)
    missing: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ignored", MappingProxyType(dict(sorted(self.ignored.items()))))
        object.__setattr__(
            self, "unexpected", MappingProxyType(dict(sorted(self.unexpected.items())))
        )
        parts = {
            "counted": self.counted,
            "ignored": self.ignored_pixels,
            "nodata": self.nodata,
            "unexpected": self.unexpected_pixels,
            "missing": self.missing,
            "failed": self.failed,
        }
        if self.total > MOST_PIXELS:
            raise CountsOverflow(f"{self.total} pixels are more than int64 holds")
        numbers = [*parts.values(), self.filled, self.total]
        for number, entry in self.ignored.items():
            columns = [getattr(entry, name) for name in _IGNORED]
            if (most := max(columns)) > MOST_PIXELS:
                raise CountsOverflow(f"ledger.ignored.{number}: {most} is more than int64 holds")
            numbers += columns
        numbers += [label.pixels for label in self.unexpected.values()]
        if min(numbers) < 0 or sum(parts.values()) != self.total or self.filled > self.counted:
            spelled = " + ".join(f"{name} {pixels}" for name, pixels in parts.items())
            raise LedgerError(
                f"the ledger does not add up: {spelled} should be the total {self.total}, "
                f"nothing negative and filled {self.filled} a part of counted"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        names = (
            "total",
            "counted",
            "filled",
            "ignored",
            "nodata",
            "unexpected",
            "missing",
            "failed",
        )
        values = (getattr(self, name) for name in names)
        return type(self), tuple(dict(v) if isinstance(v, Mapping) else v for v in values)

    @property
    def ignored_pixels(self) -> int:
        """Pixels of all ignored labels."""
        return sum(label.pixels for label in self.ignored.values())

    @property
    def unexpected_pixels(self) -> int:
        """Pixels of all unexpected labels."""
        return sum(label.pixels for label in self.unexpected.values())

    def plus(self, other: Ledger, sign: int = 1) -> Ledger:
        """The sum of two ledgers, or their difference with ``sign=-1``."""
        ignored = {
            label: Ignored(
                *(
                    getattr(self.ignored.get(label, Ignored()), name)
                    + sign * getattr(other.ignored.get(label, Ignored()), name)
                    for name in _IGNORED
                )
            )
            for label in {*self.ignored, *other.ignored}
        }
        return Ledger(
            total=self.total + sign * other.total,
            counted=self.counted + sign * other.counted,
            filled=self.filled + sign * other.filled,
            ignored=ignored,
            nodata=self.nodata + sign * other.nodata,
            unexpected=_join_unexpected(self.unexpected, other.unexpected, sign),
            missing=self.missing + sign * other.missing,
            failed=self.failed + sign * other.failed,
        )

    def to_dict(self) -> dict[str, Any]:
        """The ledger as it stands in ``counts.json``."""
        return {
            "total": self.total,
            "counted": self.counted,
            "filled": self.filled,
            "ignored": {
                str(label): {
                    "pixels": entry.pixels,
                    "presence": entry.presence,
                    "presence_pixels_total": entry.presence_pixels_total,
                    "unplaced": entry.unplaced,
                }
                for label, entry in self.ignored.items()
            },
            "nodata": self.nodata,
            "unexpected": {
                str(label): {
                    "pixels": entry.pixels,
                    "places": [[source, item, list(at)] for source, item, at in entry.places],
                }
                for label, entry in self.unexpected.items()
            },
            "missing": self.missing,
            "failed": self.failed,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ledger:
        """Read what :meth:`to_dict` wrote; raises FormatError or LedgerError."""
        try:
            numbers = {
                name: whole_number(data[name], f"ledger.{name}")
                for name in ("total", "counted", "filled", "nodata", "missing", "failed")
            }
            ignored = {
                read_label(label, "ledger.ignored"): _ignored_from_dict(
                    entry, f"ledger.ignored.{label}"
                )
                for label, entry in data["ignored"].items()
            }
            unexpected = {
                read_label(label, "ledger.unexpected"): Unexpected(
                    whole_number(entry["pixels"], f"ledger.unexpected.{label}.pixels"),
                    tuple(
                        (
                            text(source, f"ledger.unexpected.{label}.places"),
                            whole_number(item, f"ledger.unexpected.{label}.places"),
                            tuple(whole_numbers(at, f"ledger.unexpected.{label}.places").tolist()),
                        )
                        for source, item, at in entry["places"]
                    ),
                )
                for label, entry in data["unexpected"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"ledger: {error!r}") from None
        return cls(ignored=ignored, unexpected=unexpected, **numbers)


def _ignored_from_dict(data: Mapping[str, Any], field_name: str) -> Ignored:
    """Read an ignored label; files of the first release do not have ``unplaced``."""
    given = {"unplaced": 0, **data}
    return Ignored(*(whole_number(given[name], f"{field_name}.{name}") for name in _IGNORED))


def _join_unexpected(
    left: Mapping[int, Unexpected], right: Mapping[int, Unexpected], sign: int
) -> dict[int, Unexpected]:
    """Both, with at most three places for each of the 256 smallest labels."""
    joined: dict[int, Unexpected] = {}
    for label in sorted({*left, *right}):
        mine, other = left.get(label, Unexpected()), right.get(label, Unexpected())
        pixels = mine.pixels + sign * other.pixels
        if pixels == 0:
            continue
        placed = len(joined) < PLACED_LABELS
        places = (
            mine.places + other.places
            if sign > 0
            else tuple(place for place in mine.places if place not in other.places)
        )
        joined[label] = Unexpected(pixels, tuple(sorted(set(places))[:PLACES]) if placed else ())
    return joined
