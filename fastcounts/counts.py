"""Counts: how often every label occurs, and what became of every pixel."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastcounts.classes import (
    Labels,
    Names,
    Options,
    Pixels,
    as_integer,
    as_labels,
    check_label_range,
    is_number,
    join_names,
    labels_from_integers,
    read_labels,
    read_names,
    spell_names,
    sum_by_label,
)
from fastcounts.consistency import (
    contradiction,
    coverage_contradiction,
    exact_sum,
    unaccounted,
)
from fastcounts.covers import Covers
from fastcounts.errors import (
    CountsError,
    CountsOverflow,
    FormatError,
    IncompatibleCounts,
    LabelRangeError,
    LedgerError,
    MissingExtra,
    OptionError,
    SourceNotFound,
    UnknownClass,
)
from fastcounts.files import once, whole_number, whole_numbers, write_whole
from fastcounts.items import ItemTable, OpenItem
from fastcounts.ledger import MOST_PIXELS, Ignored, Ledger
from fastcounts.messages import argument, shown
from fastcounts.presence import Presence, PresenceSums
from fastcounts.tabular import classes_csv, column_names, counts_html, items_csv

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Counts", "from_mapping", "load", "parse"]

FORMAT_VERSION = 1
_COLUMNS = ("pixels", "presence", "presence_pixels", "presence_pixels_total")
_SUMS = (*_COLUMNS, "unplaced")
"""Columns that are added and subtracted."""

_TABLE_ARRAYS = ("source", "items", "offsets", "labels", "pixels")


_MAX_PARTS = 1 << 16
"""Parts of a run whose numbers are looked up to name those that are missing."""

_MAX_NAMED = 8
"""Labels or names that an error lists."""

_DERIVED: Pixels = np.empty(0, np.int64)
"""Stands for ``unplaced`` where it is not given."""


def _empty() -> Pixels:
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Counts:
    """How often every label occurs, and what became of every pixel.

    A value: its arrays are read-only, and ``+`` and ``-`` make new ones.  ``sum(parts)`` works,
    and merging all parts of a run equals the run.

    Counts can be read like a mapping from label to pixels: ``counts[0]`` and ``counts["road"]`` are
    the pixels of a class, ``len(counts)`` is the number of classes, ``for label in counts`` yields
    their labels in ascending order, and ``"road" in counts`` says whether there is such a class.
    :meth:`as_dict` makes a dict of it.  ``bool(counts)`` is always True: Counts without classes may
    still contain pixels, see ``counts.ledger.total``.

    Attributes
    ----------
    labels : (K,) the classes by label, sorted; int64, or uint64 where a label is 2**63 or more.
    pixels : (K,) int64, pixels of each class.
    items : how many items (images) were seen whole; 0 where that is not known.
    presence : (K,) int64, items that contain the class.
    presence_pixels : (K,) int64, class pixels of those items, of any class.
    presence_pixels_total : (K,) int64, the same with ignored pixels.
    ledger : what became of every pixel.
    options : what decides the meaning: ``ignore``, ``classes``, ``items``.
    open_items : items of which some pixels have not been seen.
    item_table : pixels by item and label, where ``keep_items`` was asked for, or None.
    covers : which parts of which sources were seen; empty for arrays in memory.
    provenance : how the counts came about; says nothing about what they are.
    data_names : what the data calls its labels, also those that were not met; several names where
        its parts differ.  Like ``provenance`` it is no part of equality.
    unplaced : (K,) int64, those of ``pixels`` of which it is not known in which items they are;
        all of them if there are no items.  If it is not given, none are where there are items.

    Raises
    ------
    LedgerError
        If the numbers do not add up.
    LabelRangeError
        For pixels of a negative label beside pixels of a label of 2**63 or more.

    Examples
    --------
    >>> import fastcounts as fc
    >>> counts = fc.Counts.from_pixels({0: 12, 1: 7}, ignored={255: 3})
    >>> (counts + counts).pixels.tolist()
    [24, 14]
    >>> counts[1], len(counts), 255 in counts, counts.as_dict()
    (7, 2, False, {0: 12, 1: 7})
    """

    __array_ufunc__ = None  # without it, numpy.int64(0) + counts would add to the labels

    labels: Labels = field(default_factory=_empty)
    pixels: Pixels = field(default_factory=_empty)
    items: int = 0
    presence: Pixels = field(default_factory=_empty)
    presence_pixels: Pixels = field(default_factory=_empty)
    presence_pixels_total: Pixels = field(default_factory=_empty)
    ledger: Ledger = field(default_factory=Ledger)
    options: Options = field(default_factory=Options)
    open_items: tuple[OpenItem, ...] = ()
    item_table: ItemTable | None = None
    covers: Covers = field(default_factory=Covers)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    data_names: Names = field(default_factory=dict)
    unplaced: Pixels = field(default_factory=lambda: _DERIVED)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", as_labels(np.asarray(self.labels)))
        if self.unplaced is _DERIVED:
            self._derive_unplaced()
        for name in ("labels", *_SUMS):
            array = np.array(getattr(self, name))  # a copy: the caller's may change
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for name in ("provenance", "data_names"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if fault := contradiction(self):
            raise LedgerError(fault)
        # Counting looks at class, ignored and unexpected labels together, so merging does as well:
        # otherwise one run would refuse what its parts, added up, accept.
        found = self.labels[self.pixels > 0]
        ends = [int(found[0]), int(found[-1])] if found.size else []
        ignored = (label for label, entry in self.ledger.ignored.items() if entry.pixels)
        check_label_range([*ends, *ignored, *self.ledger.unexpected])

    def _derive_unplaced(self) -> None:
        """Without items every pixel is unplaced; with items, none is."""
        items = bool(self.items or self.open_items)
        pixels = np.asarray(self.pixels)
        object.__setattr__(self, "unplaced", np.zeros_like(pixels) if items else pixels)
        if not items and self.ledger.ignored:
            ignored = {
                label: replace(entry, unplaced=entry.pixels)
                for label, entry in self.ledger.ignored.items()
            }
            object.__setattr__(self, "ledger", replace(self.ledger, ignored=ignored))

    # ---- construction ----

    @classmethod
    def from_pixels(
        cls,
        pixels: Mapping[int, int],
        *,
        ignored: Mapping[int, int | Ignored] | None = None,
        classes: Any = None,
        items: int = 0,
        presence: Mapping[int, int] | None = None,
        presence_pixels: Mapping[int, int] | None = None,
        presence_pixels_total: Mapping[int, int] | None = None,
    ) -> Counts:
        """Start from counts that are there already.

        Parameters
        ----------
        pixels : pixels of each label, whole numbers of at least 0.  A label of 0 pixels is a
            class that is absent; where one is given and ``classes`` is not, exactly the labels
            given are the classes.
        ignored : pixels of each ignored label.
        classes : as for :func:`fastcounts.count`; every label of ``pixels`` must be one.
        items : how many images the counts are of; 0 if that is not known.
        presence, presence_pixels, presence_pixels_total : by label, see :class:`Counts`;
            needed by the schemes that look at presence, together with ``items``.  Pixels of a label
            for which one of them is left out are ``unplaced``.

        Raises
        ------
        OptionError
            For a label or number that cannot be one.
        LedgerError
            If the numbers contradict each other.
        """
        given, voids = _given(pixels, ignored or {})
        if classes is None and not all(given.values()):
            classes = dict.fromkeys(given)
        options = Options.parse(tuple(voids), classes)
        labels = labels_from_integers(sorted(given))
        columns = [_column(given, labels, "pixels")]
        for name, column in (
            ("presence", presence),
            ("presence_pixels", presence_pixels),
            ("presence_pixels_total", presence_pixels_total or presence_pixels),
        ):
            columns.append(_column(column or {}, labels, name))
        needed = [presence, presence_pixels]
        if any(entry.pixels for entry in voids.values()):
            needed.append(presence_pixels_total)
        columns.append(_unplaced(labels, columns[0], needed if items else [None]))
        sorted_labels = options.sort(labels, columns[0])
        if sorted_labels.unexpected_labels.size:
            raise OptionError(
                f"pixels: label {sorted_labels.unexpected_labels[0]} belongs to no class"
            )
        if presence and options.classes is not None and options.classes.members:
            raise OptionError(
                "presence: give it by class: where labels share a name, add up their pixels "
                "before, since an image may contain several of them"
            )
        labels, columns = spread(options, labels, columns)
        voids = {
            label: entry if items and entry.presence else replace(entry, unplaced=entry.pixels)
            for label, entry in voids.items()
        }
        counted = exact_sum(columns[0])
        ledger = Ledger(
            total=counted + sum(entry.pixels for entry in voids.values()),
            counted=counted,
            ignored=voids,
        )
        return cls(
            labels=labels,
            pixels=columns[0],
            items=_natural(items, "items"),
            presence=columns[1],
            presence_pixels=columns[2],
            presence_pixels_total=columns[3],
            unplaced=columns[4],
            ledger=ledger,
            options=options,
        )

    # ---- reading ----

    @property
    def names(self) -> dict[int, str]:
        """The name of each class that has one, by label.

        Where ``classes`` were given, theirs; else what the data calls its labels, ``a or b`` where
        its parts differ.  Two labels may then have one name: only ``classes`` folds.
        """
        if self.options.classes is not None:
            return self.options.classes.names
        if not self.data_names:
            return {}
        met = [label for label in self.labels.tolist() if self.data_names.get(label)]
        return {label: spell_names(self.data_names[label]) for label in met}

    @property
    def members(self) -> dict[int, tuple[int, ...]]:
        """For each class into which several labels were folded, all of them."""
        return self.options.classes.members if self.options.classes else {}

    def frequencies(self) -> NDArray[np.float64]:
        """Pixels of each class over those of all classes: (K,), NaN where nothing was counted."""
        if self.ledger.counted == 0:
            return np.full(self.labels.shape, np.nan)
        return self.pixels / self.ledger.counted

    @cached_property
    def incomplete(self) -> str | None:
        """What is missing to make the counts whole, in words, or None."""
        if reason := self.covers.incomplete():
            return _lost_parts(self.covers, self.provenance) or reason
        if self.open_items:
            first = self.open_items[0]
            return (
                f"{len(self.open_items)} items are not complete, the first {first.key.source} "
                f"item {first.key.item} with {first.seen} of {first.total} pixels"
            )
        return None

    # ---- reading like a mapping ----

    def __len__(self) -> int:
        return int(self.labels.size)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[int]:
        return iter(self.labels.tolist())

    def __contains__(self, key: object) -> bool:
        return bool(self._find(key))

    def __getitem__(self, key: int | str) -> int:
        found = self._find(key)
        if len(found) != 1:
            raise UnknownClass(_unknown_class(self, key, found))
        return int(self.pixels[self._rows[found[0]]])

    @cached_property
    def _rows(self) -> dict[int, int]:
        """The row of each class, by label."""
        return {label: row for row, label in enumerate(self.labels.tolist())}

    def _find(self, key: object) -> list[int]:
        """Return the classes that a label or name stands for: none, one, or several of one name."""
        if isinstance(key, str):
            return [label for label, name in self.names.items() if name == key]
        try:
            label = as_integer(key, "label")
        except OptionError:
            return []
        if self.options.classes is not None:
            label = self.options.classes.representatives.get(label, label)
        return [label] if label in self._rows else []

    def as_dict(self, *, names: bool = False) -> dict[Any, int]:
        """Return the pixels of each class as Python integers, by label.

        Parameters
        ----------
        names : whether the keys are the names; a class without a name keeps its label as key.

        Raises
        ------
        OptionError
            If ``names`` is set and two classes have one name.

        Examples
        --------
        >>> import fastcounts as fc
        >>> counts = fc.Counts.from_pixels({0: 12, 1: 7}, classes=["road", "car"])
        >>> counts.as_dict(), counts.as_dict(names=True)
        ({0: 12, 1: 7}, {'road': 12, 'car': 7})
        """
        pixels: dict[Any, int] = dict(zip(self.labels.tolist(), self.pixels.tolist(), strict=True))
        if not names:
            return pixels
        named = self.names
        found: dict[str, int] = {}
        for label, name in named.items():
            if (first := found.setdefault(name, label)) != label:
                raise OptionError(
                    f"names=True: labels {first} and {label} are both called {shown(name)}; use "
                    "the labels, or name the classes when counting with classes="
                )
        return {named.get(label, label): number for label, number in pixels.items()}

    # ---- algebra ----

    def _is_identity(self) -> bool:
        return (
            not (
                self.ledger.total
                or self.items
                or self.open_items
                or self.covers
                or self.labels.size
                or self.item_table
                or self.data_names
            )
            and self.options == Options()
        )

    def __add__(self, other: object) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        if self._is_identity():
            return other
        if other._is_identity():
            return self
        self._check_compatible(other)
        covers = self.covers.union(other.covers)
        labels, columns = sum_by_label(
            [self.labels, other.labels],
            [[getattr(self, name), getattr(other, name)] for name in _SUMS],
        )
        if any(column.size and column.min() < 0 for column in columns):
            raise CountsOverflow("the sum of both counts is more than int64 holds")
        table = self.item_table if self.items or self.open_items else other.item_table
        if self.item_table is not None and other.item_table is not None:
            table = self.item_table.join(other.item_table)
        done: list[OpenItem] = []
        still_open: list[OpenItem] = []
        for item in self._join_open(other):
            (done if item.seen == item.total else still_open).append(item)
        presence = Presence(self.options, table is not None)
        presence.add_open(done)
        return with_presence(
            {
                "labels": labels,
                **dict(zip(_SUMS, columns, strict=True)),
                "items": self.items + other.items,
                "ledger": self.ledger.plus(other.ledger),
                "options": self.options,
                "item_table": table,
                "covers": covers,
                "provenance": _join_provenance(self.provenance, other.provenance),
                "data_names": join_names([self.data_names, other.data_names]),
            },
            presence.result(),
            still_open,
        )

    def _join_open(self, other: Counts) -> list[OpenItem]:
        """The open items of both, each once."""
        items = {item.key: item for item in self.open_items}
        for item in other.open_items:
            if (mine := items.get(item.key)) is None:
                items[item.key] = item
            elif self.covers.meets(other.covers, item.key.source):
                items[item.key] = mine.join(item)
            else:
                raise IncompatibleCounts(
                    f"{item.key.source} item {item.key.item}: the two counts have seen parts of it "
                    "in different regions, which make no whole; merge the parts of each region "
                    "first"
                )
        return list(items.values())

    def __radd__(self, other: object) -> Counts:
        if isinstance(other, int | np.integer) and other == 0:
            return self
        return NotImplemented

    def __sub__(self, other: object) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        if other._is_identity():
            return self
        self._check_compatible(other)
        if other.open_items:
            raise IncompatibleCounts("counts with open items cannot be taken away")
        covers = self.covers.difference(other.covers)
        labels, columns = sum_by_label(
            [self.labels, other.labels],
            [[getattr(self, name), -getattr(other, name)] for name in _SUMS],
        )
        if any(column.size and column.min() < 0 for column in columns):
            raise IncompatibleCounts("more would be taken away than was counted")
        if self.options.classes is None:
            left = columns[0] > 0
            if any(column[~left].any() for column in columns):
                raise IncompatibleCounts("more would be taken away than was counted")
            labels, columns = as_labels(labels[left]), [column[left] for column in columns]
        table = self.item_table
        if table is not None and other.item_table is not None:
            table = table.without(other.item_table)
        try:
            return Counts(
                labels=labels,
                pixels=columns[0],
                items=self.items - other.items,
                presence=columns[1],
                presence_pixels=columns[2],
                presence_pixels_total=columns[3],
                unplaced=columns[4],
                ledger=self.ledger.plus(other.ledger, -1),
                options=self.options,
                open_items=self.open_items,
                item_table=table,
                covers=covers,
                provenance=self.provenance,
                data_names=self.data_names,
            )
        except LedgerError as error:
            raise IncompatibleCounts(
                f"more would be taken away than was counted: {error}"
            ) from None

    def _check_compatible(self, other: Counts) -> None:
        if difference := self.options.difference(other.options):
            raise IncompatibleCounts(
                f"the counts differ in {difference}; count one of them again with the "
                "option of the other"
            )
        both = all(counts.items or counts.open_items for counts in (self, other))
        if (self.item_table is None) != (other.item_table is None) and both:
            raise IncompatibleCounts(
                "one of the counts has a table of items and the other has not; "
                f"count the other again with {argument('keep_items', True)}"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counts):
            return NotImplemented
        return (
            np.array_equal(self.labels, other.labels)
            and all(np.array_equal(getattr(self, n), getattr(other, n)) for n in _SUMS)
            and self.items == other.items
            and self.ledger == other.ledger
            and self.options == other.options
            and self.open_items == other.open_items
            and self.item_table == other.item_table
            and self.covers == other.covers
        )

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def __reduce__(self) -> tuple[Any, ...]:
        names = [field.name for field in fields(self)]
        values = {name: getattr(self, name) for name in names}
        plain = {name: dict(values[name]) for name in ("provenance", "data_names")}
        return _rebuild, (values | plain,)

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{self.names.get(label, label)}: {pixels}"
            for label, pixels in zip(
                self.labels[:6].tolist(), self.pixels[:6].tolist(), strict=True
            )
        )
        more = ", ..." if self.labels.size > 6 else ""
        return (
            f"<Counts of {self.ledger.total} pixels, {self.items} items, "
            f"{self.labels.size} labels ({shown}{more})>"
        )

    def _repr_html_(self) -> str:
        return counts_html(self)

    def to_pandas(self, *, items: bool = False) -> pd.DataFrame:
        """Return a table with a row per class: name, pixels, frequency, presence.

        Parameters
        ----------
        items : whether to return the table of the images instead: a row per image, with its source
            and its number in it as the index, and a column of pixels per class.  A column is called
            as its class, or by its label if the class has no name or not one of its own.  The
            counts need their table of items: count with ``keep_items=True``.  Ignored labels have
            no column; see :meth:`fastcounts.items.ItemTable.dense` for those.

        Raises
        ------
        OptionError
            If ``items`` is set and the counts have no table of items.
        MissingExtra
            If pandas is not installed.
        """
        table = self._kept_items() if items else None
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtra("a pandas table of counts", "report") from None
        if table is not None:
            keys = pd.MultiIndex.from_arrays(
                [[key.source for key in table.keys], table.items], names=["source", "item"]
            )
            columns = pd.Index(column_names(self), dtype=object, name="class")
            return pd.DataFrame(table.dense(self.labels.tolist()), index=keys, columns=columns)
        return pd.DataFrame(
            {
                "name": [self.names.get(label, "") for label in self.labels.tolist()],
                "frequency": self.frequencies(),
                **{name: getattr(self, name) for name in _COLUMNS},
            },
            index=pd.Index(self.labels, name="label"),
        )

    def to_csv(self, *, items: bool = False) -> str:
        """Return a table of the counts as CSV text.

        The text is for spreadsheets and other tools, and does not contain the ledger: save counts
        as JSON or NPZ to load or merge them.

        Parameters
        ----------
        items : whether the rows are images, with their pixels per class, and not classes; see
            :meth:`to_pandas`.

        Raises
        ------
        OptionError
            If ``items`` is set and the counts have no table of items.

        Examples
        --------
        >>> import fastcounts as fc
        >>> counts = fc.Counts.from_pixels({0: 12, 1: 4}, classes=["road", "car"])
        >>> print(counts.to_csv())
        label,name,pixels,share,presence,presence_pixels,presence_pixels_total
        0,road,12,0.75,0,0,0
        1,car,4,0.25,0,0,0
        <BLANKLINE>
        """
        return items_csv(self, self._kept_items()) if items else classes_csv(self)

    def _kept_items(self) -> ItemTable:
        """Return the table of items; raises OptionError if the counts have none."""
        if self.item_table is None:
            raise OptionError(
                "items=True: the counts have no table of items; count with keep_items=True"
            )
        return self.item_table

    # ---- files ----

    def to_dict(self) -> dict[str, Any]:
        """The counts as they stand in ``counts.json``; see ``docs/counts.schema.json``."""
        data: dict[str, Any] = {"fastcounts": FORMAT_VERSION, "labels": self.labels.tolist()}
        data["pixels"] = self.pixels.tolist()
        data["names"] = {str(label): name for label, name in self.names.items()}
        data["members"] = {str(label): list(group) for label, group in self.members.items()}
        data["items"] = self.items
        for name in _SUMS[1:]:
            data[name] = getattr(self, name).tolist()
        data["open_items"] = [item.to_dict() for item in self.open_items]
        data["options"] = self.options.to_dict()
        data["covers"] = self.covers.to_list()
        data["ledger"] = self.ledger.to_dict()
        if self.item_table is not None:
            data["item_table"] = self.item_table.to_dict()
        if self.data_names:
            data["data_names"] = {str(n): list(names) for n, names in self.data_names.items()}
        data["provenance"] = dict(self.provenance)
        return data

    @classmethod
    def from_dict(cls, data: Any) -> Counts:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        FormatError
            Naming the field that is missing or wrong.
        LedgerError
            If the numbers do not add up.
        """
        if not isinstance(data, Mapping) or "fastcounts" not in data:
            raise FormatError("no counts file: it has no field 'fastcounts'")
        if data["fastcounts"] != FORMAT_VERSION:
            raise FormatError(
                f"fastcounts: format version {data['fastcounts']!r} is not "
                f"{FORMAT_VERSION}, the one this release reads"
            )
        missing = [name for name in _FIELDS if name not in data]
        if missing:
            raise FormatError(f"{missing[0]}: the field is missing")
        _check_runs(data["provenance"])
        if not isinstance(data["open_items"], list):
            raise FormatError("open_items: expected a list")
        table = data.get("item_table")
        given = {
            "labels": read_labels(data["labels"], "labels"),
            **{name: whole_numbers(data[name], name) for name in _SUMS if name in data},
            "items": whole_number(data["items"], "items"),
            "ledger": Ledger.from_dict(data["ledger"]),
            "options": Options.from_dict(data["options"]),
            "open_items": tuple(OpenItem.from_dict(item) for item in data["open_items"]),
            "item_table": None if table is None else ItemTable.from_dict(table),
            "covers": Covers.from_list(data["covers"]),
            "provenance": data["provenance"],
            "data_names": read_names(data.get("data_names", {}), "data_names"),
        }
        counts = cls(**given) if "unplaced" in given else _of_first_release(given)
        counts._check_names(data)
        if fault := coverage_contradiction(counts):
            raise LedgerError(fault)
        return counts

    def _check_names(self, data: Mapping[str, Any]) -> None:
        """Refuse names that were edited without that from which they follow."""
        names = {str(label): name for label, name in self.names.items()}
        groups = {str(label): list(group) for label, group in self.members.items()}
        for field_name, expected in (("names", names), ("members", groups)):
            if data.get(field_name, expected) != expected:
                raise FormatError(
                    f"{field_name}: they are not those of options.classes or data_names"
                )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``.json``, or ``.npz`` for a large table of items; the suffix decides.

        The file appears whole or not at all.

        Raises
        ------
        OptionError
            For another suffix, or a place that cannot be written to.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".npz":
            data = self.to_dict()
            table = data.pop("item_table", None)
            arrays: dict[str, NDArray[Any]] = {}
            if table is not None and self.item_table is not None:
                data["item_table"] = {"sources": table["sources"]}
                arrays = {name: getattr(self.item_table, name) for name in _TABLE_ARRAYS}
            header = np.frombuffer(json.dumps(data).encode(), np.uint8)
            buffer = io.BytesIO()
            np.savez_compressed(buffer, allow_pickle=False, header=header, **arrays)
            write_whole(path, buffer.getvalue())
        elif suffix == ".json":
            write_whole(path, json.dumps(self.to_dict(), indent=1).encode() + b"\n")
        else:
            raise OptionError(f"{path}: counts are saved as .json or .npz")


_FIELDS = (
    "labels",
    "pixels",
    "items",
    "presence",
    "presence_pixels",
    "presence_pixels_total",
    "open_items",
    "options",
    "covers",
    "ledger",
    "provenance",
)


def load(path: str | os.PathLike[str]) -> Counts:
    """Read counts that :meth:`Counts.save` wrote.

    Raises
    ------
    SourceNotFound
        If there is no such file.
    FormatError
        If it is no counts file; the message names the field.
    LedgerError
        If its numbers do not add up.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise SourceNotFound(f"{path}: there is no such file") from None
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror}") from None
    return parse(content, str(path))


def parse(content: bytes, name: str) -> Counts:
    """Read the content of a counts file; ``name`` is what messages call it.

    Raises
    ------
    FormatError
        If it holds no counts, or counts that do not add up.
    """
    try:
        return Counts.from_dict(_parse(content))
    except (CountsError, LabelRangeError) as error:
        raise FormatError(f"{name}: {error}") from None


def _parse(content: bytes) -> Any:
    """The data of a counts file, JSON or NPZ, told apart by content."""
    try:
        if not content.startswith(b"PK"):
            return json.loads(content, object_pairs_hook=once)
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            data = json.loads(archive["header"].tobytes(), object_pairs_hook=once)
            if "item_table" in data:
                data["item_table"] |= {name: archive[name] for name in _TABLE_ARRAYS}
            return data
    except FormatError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged archive may fail in any way
        raise FormatError(f"no counts file: {error}") from None


def _rebuild(values: dict[str, Any]) -> Counts:
    """Unpickle."""
    return Counts(**values)


def _of_first_release(given: dict[str, Any]) -> Counts:
    """Make Counts of a file without ``unplaced``, as the first release wrote them.

    Such a file does not say which pixels came without presence (``Counts.from_pixels``), beside
    others whose items are known.  All of them are taken to have, if the numbers contradict each
    other otherwise.
    """
    try:
        return Counts(**given)
    except LedgerError as error:
        first = error
    ledger: Ledger = given["ledger"]
    pixels, void = unaccounted(
        given["labels"], given["pixels"], ledger, given["open_items"], given["item_table"]
    )
    ignored = {
        label: replace(entry, unplaced=number)
        for (label, entry), number in zip(ledger.ignored.items(), void.tolist(), strict=True)
    }
    try:
        return Counts(**{**given, "unplaced": pixels, "ledger": replace(ledger, ignored=ignored)})
    except LedgerError:
        raise first from None


def with_presence(
    given: Mapping[str, Any], sums: PresenceSums, open_items: Sequence[OpenItem]
) -> Counts:
    """Make Counts of fields whose statistics do not have some complete items yet.

    Parameters
    ----------
    given : the fields of :class:`Counts`, with the pixels of all items in ``pixels`` and
        ``ledger`` already.
    sums : what the complete items add to the statistics.
    open_items : all items that are not complete.
    """
    options: Options = given["options"]
    ignored = options.is_ignored(sums.labels)
    added = (sums.presence, sums.pixels, sums.pixels_total)
    zeros = np.zeros(np.count_nonzero(~ignored), np.int64)
    labels, columns = sum_by_label(
        [given["labels"], as_labels(sums.labels[~ignored])],
        [
            [given[name], column]
            for name, column in zip(
                _SUMS, [zeros, *(column[~ignored] for column in added), zeros], strict=True
            )
        ],
    )
    voids = {
        int(label): Ignored(0, int(sums.presence[place]), int(sums.pixels_total[place]))
        for place, label in enumerate(sums.labels)
        if ignored[place]
    }
    table: ItemTable | None = given["item_table"]
    if sums.table is not None:
        table = sums.table if table is None else table.join(sums.table)
    changed = {
        "labels": labels,
        **dict(zip(_SUMS, columns, strict=True)),
        "items": given["items"] + sums.items,
        "ledger": given["ledger"].plus(Ledger(ignored=voids)),
        "open_items": tuple(sorted(open_items, key=lambda item: item.key)),
        "item_table": table,
    }
    return Counts(**{**given, **changed})


def spread(
    options: Options, labels: Labels, columns: Sequence[Pixels]
) -> tuple[Labels, list[Pixels]]:
    """Fold ``labels`` into classes and give every class a row, also those without pixels."""
    if options.classes is None:
        return labels, list(columns)
    _, folded = options.classes.fold(labels)
    zeros = np.zeros(options.classes.labels.size, np.int64)
    return sum_by_label([options.classes.labels, folded], [[zeros, column] for column in columns])


def _unknown_class(counts: Counts, key: object, found: Sequence[int]) -> str:
    """Return why a key is not that of one class, and which keys there are."""
    if len(found) > 1:
        return f"labels {_listed(found)} are all called {shown(key)}; use one of the labels"
    if isinstance(key, str):
        names = list(map(repr, counts.names.values()))
        known = f"the names are {_listed(names)}" if names else "the classes have no names"
        return f"no class is called {shown(key)}; {known}, and the labels are {_labels_of(counts)}"
    for name in ("ignored", "unexpected"):
        if isinstance(key, int | np.integer) and int(key) in getattr(counts.ledger, name):
            return (
                f"label {key} is {name} and not a class; its pixels are "
                f"counts.ledger.{name}[{key}].pixels"
            )
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return f"label {shown(int(key))} is not a class; the labels are {_labels_of(counts)}"
    return f"expected the label or the name of a class, got {shown(key)}"


def _labels_of(counts: Counts) -> str:
    return _listed(counts.labels.tolist()) or "none"


def _listed(values: Sequence[object]) -> str:
    more = f", ... ({len(values)} in all)" if len(values) > _MAX_NAMED else ""
    return ", ".join(map(str, values[:_MAX_NAMED])) + more


def _check_runs(provenance: Any) -> None:
    """Refuse a provenance that cannot be joined to another, or whose failures cannot be named."""
    if not isinstance(provenance, Mapping):
        raise FormatError("provenance: expected an object")
    runs = provenance.get("runs", [])
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise FormatError("provenance.runs: expected a list of objects")
    for run in runs:
        failures = run.get("failures", [])
        if not isinstance(failures, list) or not all(map(_is_failure, failures)):
            raise FormatError("provenance.runs: failures: expected objects with name, box, reason")
        declared = run.get("nodata", [])
        if not isinstance(declared, list) or not all(map(_is_declared, declared)):
            raise FormatError(
                "provenance.runs: nodata: expected objects with label, pixels, attribute, array, "
                "arrays"
            )


def _is_declared(entry: Any) -> bool:
    texts, numbers = ("attribute", "array"), ("label", "pixels", "arrays")
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(name), str) for name in texts)
        and all(type(entry.get(name)) is int for name in numbers)
    )


def _is_failure(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("reason"), str)
        and isinstance(entry.get("box", 0), list | None)
    )


def _lost_parts(covers: Covers, provenance: Mapping[str, Any]) -> str | None:
    """Name the parts of runs that are missing, as far as the provenance knows their numbers.

    Parts may be cut into parts again; then only the number of missing units is known.
    """
    lost: list[tuple[int, int]] = []
    runs = provenance.get("runs", [])
    for digest, run in covers.runs.items():
        if not run.left:
            continue
        seen = {
            tuple(entry["part"])
            for entry in runs
            if _is_part(entry.get("part")) and entry.get("run", digest) == digest
        }
        numbers = {parts for _, parts in seen}
        if len(numbers) != 1 or (parts := numbers.pop()) > _MAX_PARTS or len(seen) >= parts:
            return None
        lost += [(part, parts) for part in range(parts) if (part, parts) not in seen]
    if not lost:
        return None
    spelled = [f"{part}/{parts}" for part, parts in lost[:8]]
    more = f" and {len(lost) - 8} more" if len(lost) > 8 else ""
    left = sum(run.left for run in covers.runs.values())
    units = sum(run.units for run in covers.runs.values())
    what = "part" if len(lost) == 1 else "parts"
    are = "is" if len(lost) == 1 else "are"
    return (
        f"{what} {', '.join(spelled)}{more} (numbered from 0) {are} missing, {left} of {units} "
        f"blocks; count with part={lost[0]} (--part {spelled[0]}), and add what is missing"
    )


def _is_part(part: Any) -> bool:
    """Return whether an entry of the provenance is the number of a part, and how many there are."""
    return (
        isinstance(part, list | tuple)
        and len(part) == 2
        and all(isinstance(number, int) for number in part)
        and 0 <= part[0] < part[1]
    )


def _join_provenance(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    return {"runs": [*left.get("runs", []), *right.get("runs", [])]}


def from_mapping(pixels: Mapping[Any, int]) -> Counts:
    """Make counts of the pixels of each class.

    Parameters
    ----------
    pixels : by label, or by name: names are those of the labels 0, 1, ... in this order.  A key
        that is a number in text, as in JSON, is a label.

    Raises
    ------
    OptionError
        If labels and names are mixed, or a label is given twice.
    """
    texts = [key for key in pixels if isinstance(key, str)]
    numbers = [key for key in pixels if not isinstance(key, str) or is_number(key)]
    if texts and not numbers:
        return Counts.from_pixels(dict(enumerate(pixels.values())), classes=texts)
    if len(numbers) < len(pixels):
        name = next(key for key in texts if not is_number(key))
        raise OptionError(
            f"pixels: {shown(numbers[0])} is a label and {shown(name)} is a name; give one of them"
        )
    labels = {int(key) if isinstance(key, str) else key: number for key, number in pixels.items()}
    if len(labels) < len(pixels):
        raise OptionError("pixels: a label is given twice, spelled differently")
    return Counts.from_pixels(labels)


def _given(
    pixels: Mapping[int, int], ignored: Mapping[int, int | Ignored]
) -> tuple[dict[int, int], dict[int, Ignored]]:
    """The pixels of class labels and of ignored ones, checked."""
    given = {
        as_integer(label, "pixels, label"): _natural(number, f"pixels of label {label}")
        for label, number in pixels.items()
    }
    voids = {
        as_integer(label, "ignored, label"): entry
        if isinstance(entry, Ignored)
        else Ignored(_natural(entry, f"ignored pixels of label {label}"))
        for label, entry in ignored.items()
    }
    if both := sorted(set(given) & set(voids)):
        raise OptionError(f"pixels: label {both[0]} is given as ignored as well")
    if (exact := sum(given.values())) > MOST_PIXELS:
        raise CountsOverflow(f"pixels: {exact} in all are more than int64 holds")
    return given, voids


def _natural(value: Any, what: str) -> int:
    number = as_integer(value, what)
    if number < 0:
        raise OptionError(f"{what}: expected at least 0, got {number}")
    return number


def _unplaced(labels: Labels, pixels: Pixels, given: Sequence[Mapping[int, int] | None]) -> Pixels:
    """The pixels of each label for which not all statistics were given."""
    complete = [all(label in (column or ()) for column in given) for label in labels.tolist()]
    return np.where(complete, 0, pixels)


def _column(values: Mapping[int, int], labels: Labels, name: str) -> Pixels:
    strangers = sorted(set(map(int, values)) - set(labels.tolist()))
    if strangers:
        raise OptionError(f"{name}: label {strangers[0]} has no pixels given")
    numbers = [_natural(values.get(label, 0), f"{name} of {label}") for label in labels.tolist()]
    return np.array(numbers, np.int64)
