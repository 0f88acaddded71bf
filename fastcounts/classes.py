"""Which labels count as what: label types, class names, ignored labels, folding."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fastcounts.class_files import read_class_file, understand
from fastcounts.errors import FormatError, LabelRangeError, OptionError, UnsupportedSource
from fastcounts.messages import argument, shown

__all__ = [
    "FILL_VALUE",
    "ITEM_WORDS",
    "MOST_CLASSES",
    "Classes",
    "Meaning",
    "Options",
    "Sorted",
    "among",
    "as_integer",
    "as_labels",
    "check_label_dtype",
    "check_label_range",
    "comparable",
    "concatenate_labels",
    "is_number",
    "join_names",
    "labels_from_integers",
    "read_label",
    "read_labels",
    "read_names",
    "spell_names",
    "sum_by_label",
]

Labels = NDArray[np.int64] | NDArray[np.uint64]
Pixels = NDArray[np.int64]
Names = Mapping[int, tuple[str, ...]]
"""For each label that has any, its names, sorted."""

MOST_CLASSES = 1 << 24
"""Classes that a number may ask for; a larger one is a slip, and would fill the memory."""

FILL_VALUE = "fill_value"
"""The origin of nodata that nobody declared: the fill value of a Zarr array of format 2.

xarray reads it as nodata.  Other writers set it to 0 by default.
"""

ITEM_WORDS = ("auto", "file", "array")
"""What ``items`` may be beside the number of an axis; names of axes become numbers first."""

MOST_NAMES = 4
"""Names of one label that are kept; of more the first in the order of the alphabet."""

_SIGNED_END = 2**63
_LABEL_KINDS = "biuf"
_KIND_NAMES = {
    "c": "complex numbers",
    "O": "Python objects",
    "S": "byte strings",
    "U": "strings",
    "T": "strings",
    "V": "structured records",
    "M": "dates",
    "m": "durations",
}


def check_label_dtype(dtype: Any, where: str) -> np.dtype[Any]:
    """Return ``dtype`` as a NumPy dtype if its values can be labels.

    Booleans, integers of every width and floats (whose values have to be whole numbers) can.

    Raises
    ------
    UnsupportedSource
        For complex, object, string, structured and datetime types.
    """
    resolved: np.dtype[Any] = np.dtype(dtype)
    if resolved.kind in _LABEL_KINDS and resolved.itemsize <= 8:
        return resolved
    what = _KIND_NAMES.get(resolved.kind, "numbers of that width")
    raise UnsupportedSource(
        f"{where}: dtype {resolved} holds {what}, which are no labels; "
        "labels are booleans, integers, or floats with whole values"
    )


def as_labels(labels: NDArray[Any]) -> Labels:
    """Give labels their one canonical type: int64, or uint64 where one is 2**63 or more."""
    if labels.dtype == np.uint64 and labels.size and int(labels.max()) >= _SIGNED_END:
        unsigned: NDArray[np.uint64] = labels.astype(np.uint64, copy=False)
        return unsigned
    signed: NDArray[np.int64] = labels.astype(np.int64, copy=False)
    return signed


def labels_from_integers(values: Sequence[int]) -> Labels:
    """Turn Python integers, in their order, into a canonical label array."""
    if not values:
        return np.empty(0, np.int64)
    low, high = min(values), max(values)
    if high >= 2 * _SIGNED_END or low < -_SIGNED_END:
        raise LabelRangeError(
            f"label {shown(high if high >= 2 * _SIGNED_END else low)} does not fit any "
            "integer type; labels run from -2**63 to 2**64 - 1"
        )
    if high < _SIGNED_END and low >= -_SIGNED_END:
        return np.array(values, np.int64)
    if low < 0:
        raise LabelRangeError(_range_message(low, high))
    return np.array(values, np.uint64)


def read_labels(values: Any, field: str) -> Labels:
    """Labels from a file: a list, or an array of an archive; raises FormatError."""
    if isinstance(values, np.ndarray):
        if values.dtype not in (np.int64, np.uint64) or values.ndim != 1:
            raise FormatError(f"{field}: expected a column of integers, got {values.dtype}")
        return as_labels(values)
    if not isinstance(values, list):
        raise FormatError(f"{field}: expected a list of whole numbers, got {type(values).__name__}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int):
            raise FormatError(f"{field}: expected whole numbers, got {value!r}")
    try:
        return labels_from_integers(values)
    except LabelRangeError as error:
        raise FormatError(f"{field}: {error}") from None


def read_label(key: Any, field: str) -> int:
    """Return the label that is the name of an entry of a file; raises FormatError."""
    try:
        label = int(key)
        if str(label) != str(key) or not -_SIGNED_END <= label < 2 * _SIGNED_END:
            raise ValueError
    except (TypeError, ValueError):
        raise FormatError(f"{field}: expected a label, got {str(key)[:40]!r}") from None
    return label


def check_label_range(labels: Iterable[int]) -> None:
    """Check that one integer type holds all labels.

    Raises
    ------
    LabelRangeError
        For a negative label beside one of 2**63 or more.
    """
    found = list(labels)
    if found and min(found) < 0 and max(found) >= _SIGNED_END:
        raise LabelRangeError(_range_message(min(found), max(found)))


def _range_message(low: int, high: int) -> str:
    return (
        f"labels run from {low} to {high}: negative labels and labels of 2**63 or more do not "
        "fit one integer type; map one of them to another value first"
    )


def concatenate_labels(parts: Sequence[Labels]) -> Labels:
    """Join label arrays end to end, exactly; raises LabelRangeError if no type holds all."""
    filled = [as_labels(part) for part in parts if part.size]
    if not filled:
        return np.empty(0, np.int64)
    if any(part.dtype != filled[0].dtype for part in filled):
        low, high = min(int(part.min()) for part in filled), max(int(part.max()) for part in filled)
        if low < 0:
            raise LabelRangeError(_range_message(low, high))
        filled = [part.astype(np.uint64) for part in filled]
    return cast("Labels", np.concatenate(filled))


def sum_by_label(
    labels: Sequence[Labels], columns: Sequence[Sequence[Pixels]]
) -> tuple[Labels, list[Pixels]]:
    """Add up columns of integers that stand under equal labels.

    Parameters
    ----------
    labels : arrays of labels, in any order, repeats allowed.
    columns : for each column, one int64 array beside each array of ``labels``.

    Returns
    -------
    The distinct labels, sorted, and each column summed under them.  Sums wrap around; callers
    that could pass 2**63 check the total.
    """
    joined = concatenate_labels(labels)
    distinct, inverse = np.unique(joined, return_inverse=True)
    sums = []
    for column in columns:
        total = np.zeros(distinct.size, np.int64)
        if joined.size:
            np.add.at(total, inverse, np.concatenate(column))
        sums.append(total)
    return as_labels(distinct), sums


def as_integer(value: Any, what: str) -> int:
    """Return ``value`` as an int, refusing booleans, floats and everything else."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise OptionError(f"{what}: expected a whole number, got {shown(value)}") from None


def is_number(text: Any) -> bool:
    """Return whether text is a number that could be meant: Python refuses thousands of digits."""
    return isinstance(text, str) and re.fullmatch(r"-?[0-9]{1,40}", text.strip()) is not None


def _understood(read: Callable[..., Any], *arguments: Any) -> Any:
    """Read classes; errors name the argument."""
    try:
        return read(*arguments)
    except OptionError as error:
        raise OptionError(f"{argument('classes')}: {str(error).removeprefix(': ')}") from None


@dataclass(frozen=True)
class Classes:
    """The classes that labels belong to.

    Attributes
    ----------
    assigned : the name of every label that belongs to a class (None: a class without a name),
        by label, sorted.  Labels of one name fold into the smallest of them.
    """

    assigned: Mapping[int, str | None]

    @classmethod
    def parse(cls, classes: Any) -> Classes | None:
        """Understand the ``classes`` argument: a number, names, a mapping, a file, or None.

        Raises
        ------
        OptionError
            For anything else, and for what could mean two things.
        """
        if classes is None or isinstance(classes, Classes):
            return classes
        if isinstance(classes, str | os.PathLike):
            text = os.fspath(classes)
            classes = int(text) if is_number(text) else _understood(read_class_file, text)
        if isinstance(classes, list) and any(isinstance(one, Mapping) for one in classes):
            classes = _understood(understand, classes, "")
        if isinstance(classes, Mapping):
            if any(isinstance(key, str) for key in classes):
                classes = _understood(understand, classes, "")
            if isinstance(classes, Mapping):
                return cls._of_mapping(classes)
        if isinstance(classes, set | frozenset):
            raise OptionError(
                f"{argument('classes')}: a set has no order; give the names as a list"
            )
        if isinstance(classes, Iterable) and not isinstance(classes, str | bytes):
            names = list(classes)
            if not all(isinstance(name, str) for name in names):
                raise OptionError(f"{argument('classes')}: expected names, got {shown(names)}")
            return cls._of_mapping(dict(enumerate(names)))
        count = as_integer(classes, argument("classes"))
        if not 0 < count <= MOST_CLASSES:
            raise OptionError(
                f"{argument('classes')}: expected 1 to {MOST_CLASSES} classes, got {shown(count)}"
            )
        return cls(dict.fromkeys(range(count)))

    @classmethod
    def _of_mapping(cls, mapping: Mapping[Any, Any]) -> Classes:
        if not mapping:
            raise OptionError(
                f"{argument('classes')}: no class is given; leave it out to count every label"
            )
        assigned: dict[int, str | None] = {}
        for key, name in mapping.items():
            label = as_integer(key, f"{argument('classes')}, label")
            if name is not None and not isinstance(name, str):
                raise OptionError(
                    f"{argument('classes')}: label {shown(label)}: expected a name, "
                    f"got {shown(name)}"
                )
            assigned[label] = name
        labels_from_integers(list(assigned))
        return cls(dict(sorted(assigned.items())))

    def without(self, ignored: Sequence[int]) -> Classes:
        """The classes that are left when ``ignored`` labels are taken out."""
        away = set(ignored)
        left = {label: name for label, name in self.assigned.items() if label not in away}
        if not left:
            raise OptionError(f"{argument('classes')}: every class is ignored")
        return Classes(left)

    @cached_property
    def representatives(self) -> Mapping[int, int]:
        """For every label, the smallest label of its class."""
        first: dict[str, int] = {}
        return {
            label: label if name is None else first.setdefault(name, label)
            for label, name in self.assigned.items()
        }

    @cached_property
    def labels(self) -> Labels:
        """The classes by their smallest label, sorted: (K,)."""
        return labels_from_integers(sorted(set(self.representatives.values())))

    @property
    def names(self) -> dict[int, str]:
        """The name of each class that has one, by its smallest label."""
        return {
            label: name
            for label, name in self.assigned.items()
            if name is not None and self.representatives[label] == label
        }

    @property
    def members(self) -> dict[int, tuple[int, ...]]:
        """For each class of several labels, all of them, by the smallest."""
        groups: dict[int, list[int]] = {}
        for label, representative in self.representatives.items():
            groups.setdefault(representative, []).append(label)
        return {label: tuple(group) for label, group in groups.items() if len(group) > 1}

    @cached_property
    def _lookup(self) -> tuple[Labels, Labels]:
        keys = labels_from_integers(list(self.representatives))
        values: Labels = labels_from_integers(list(self.representatives.values()))
        return keys, values if values.dtype == keys.dtype else values.astype(np.uint64)

    def fold(self, labels: Labels) -> tuple[NDArray[np.bool_], Labels]:
        """Say which of ``labels`` belong to a class, and the class of those that do."""
        keys, representatives = self._lookup
        wanted, given = comparable(keys, labels)
        place = np.minimum(np.searchsorted(wanted, given), wanted.size - 1)
        known = wanted[place] == given
        return known, as_labels(representatives[place[known]])


def comparable(left: Labels, right: Labels) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two label arrays as one type in which they compare exactly."""
    if left.dtype == right.dtype:
        return left, right
    if (left.size and left.min() < 0) or (right.size and right.min() < 0):
        return left.astype(object), right.astype(object)
    return left.astype(np.uint64), right.astype(np.uint64)


@dataclass(frozen=True)
class Meaning:
    """What data says of its own labels.

    Attributes
    ----------
    names : the names of labels; they are nothing but names, and make no label a class.
    nodata : labels that stand for no data, sorted.
    origins : for a label of ``nodata``, the attribute that declares it, such as ``_FillValue``.
    is_masked : whether the array that was given has NaN in place of these labels.
    numbers : values of a floating point array that are nodata and could not be labels, sorted.
    """

    names: Names = field(default_factory=dict)
    nodata: tuple[int, ...] = ()
    origins: Mapping[int, str] = field(default_factory=dict)
    is_masked: bool = False
    numbers: tuple[float, ...] = ()

    def origin(self, label: int) -> str:
        """Return the attribute that declares a label of ``nodata``."""
        return self.origins.get(label, "metadata")


def join_names(several: Iterable[Names]) -> dict[int, tuple[str, ...]]:
    """The names of all, whatever their order; a label may have several."""
    joined: dict[int, tuple[str, ...]] = {}
    for names in several:
        for label, found in names.items():
            known = joined.get(label, found)
            joined[label] = known if known == found else _first_names((*known, *found))
    return dict(sorted(joined.items()))


def _first_names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names))[:MOST_NAMES])


def read_names(data: Any, what: str) -> dict[int, tuple[str, ...]]:
    """Names from a file; raises FormatError."""
    try:
        read = {read_label(label, what): _first_names(names) for label, names in data.items()}
        for label, names in data.items():
            if list(read[int(label)]) != names or not all(isinstance(n, str) for n in names):
                raise ValueError("expected a few names for each label, sorted")
    except (AttributeError, TypeError, ValueError) as error:
        raise FormatError(f"{what}: {error}") from None
    return read


def spell_names(names: Sequence[str]) -> str:
    """Names that one label has in different places, as one."""
    shown = names[: MOST_NAMES - 1]
    return " or ".join([*shown, "..."] if len(names) > len(shown) else shown)


def among(labels: Labels, wanted: Labels) -> NDArray[np.bool_]:
    """Say which of ``labels`` are one of ``wanted``: (n,)."""
    if not wanted.size:
        return np.zeros(labels.size, bool)
    return np.isin(*comparable(labels, wanted))


class Sorted(NamedTuple):
    """Labels and pixels of one tally, told apart."""

    labels: Labels
    """Class labels (folded, sorted) and ignored labels, together, sorted: (n,)."""
    pixels: Pixels
    unexpected_labels: Labels
    unexpected_pixels: Pixels


@dataclass(frozen=True)
class Options:
    """What decides the meaning of a count; only Counts of equal options may be added.

    Attributes
    ----------
    ignore : labels that belong to no class and are kept in the ledger, sorted.
    classes : the classes, or None where every label is one.
    items : what one image is: an axis, ``"file"``, ``"array"``, or ``"auto"``.
    """

    ignore: tuple[int, ...] = ()
    classes: Classes | None = None
    items: int | str = "auto"

    @classmethod
    def parse(cls, ignore: Any = None, classes: Any = None, items: Any = "auto") -> Options:
        """Understand the arguments of the same names.

        Raises
        ------
        OptionError
            Naming the argument and what it should be.
        """
        if ignore is None:
            ignore = ()
        elif isinstance(ignore, np.ndarray):
            ignore = ignore.ravel().tolist()
        elif isinstance(ignore, str | bytes) or not isinstance(ignore, Iterable):
            ignore = (ignore,)
        labels = [int(label) if is_number(label) else label for label in ignore]
        ignored = tuple(sorted({as_integer(label, argument("ignore")) for label in labels}))
        labels_from_integers(ignored)
        parsed = Classes.parse(classes)
        if parsed is not None:
            parsed = parsed.without(ignored)
        if isinstance(items, str):
            if items not in ITEM_WORDS:
                raise OptionError(
                    f"{argument('items')}: expected an axis number, 'file', 'array' or 'auto', "
                    f"got {shown(items)}"
                )
        else:
            items = as_integer(items, argument("items"))
        return cls(ignored, parsed, items)

    @property
    def item_axis(self) -> int | None:
        """The axis along which items lie, or None where an item is a whole array or file."""
        return None if isinstance(self.items, str) else self.items

    @cached_property
    def _ignored_labels(self) -> Labels:
        return labels_from_integers(self.ignore)

    def is_ignored(self, labels: Labels) -> NDArray[np.bool_]:
        """Say which of ``labels`` are ignored: (n,)."""
        return among(labels, self._ignored_labels)

    def unclaimed(self, labels: Sequence[int]) -> Labels:
        """Those of ``labels`` that are neither ignored nor of a class that was given: (n,)."""
        given = {*self.ignore, *(self.classes.assigned if self.classes is not None else ())}
        return labels_from_integers([label for label in labels if label not in given])

    def sort(self, labels: Labels, pixels: Pixels) -> Sorted:
        """Tell class and ignored labels from unexpected ones, and fold the classes."""
        if self.classes is None:
            return Sorted(labels, pixels, np.empty(0, np.int64), np.empty(0, np.int64))
        ignored = self.is_ignored(labels)
        known, folded = self.classes.fold(labels[~ignored])
        kept, (kept_pixels,) = sum_by_label(
            [folded, labels[ignored]], [[pixels[~ignored][known], pixels[ignored]]]
        )
        return Sorted(
            kept, kept_pixels, as_labels(labels[~ignored][~known]), pixels[~ignored][~known]
        )

    def difference(self, other: Options) -> str | None:
        """Name the first option in which two counts differ, or None."""
        for name in ("ignore", "classes", "items"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name}: {_short(mine)} and {_short(theirs)}"
        return None

    def to_dict(self) -> dict[str, Any]:
        """The options as they stand in ``counts.json``."""
        classes = self.classes and {str(k): v for k, v in self.classes.assigned.items()}
        return {"ignore": list(self.ignore), "classes": classes, "items": self.items}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Options:
        """Read what :meth:`to_dict` wrote; raises FormatError that names the field."""
        try:
            classes = data["classes"]
            if classes is not None:
                classes = {
                    read_label(label, "options: classes"): name for label, name in classes.items()
                }
            if not isinstance(data["ignore"], list):
                raise TypeError("ignore: expected a list")
            return cls.parse(data["ignore"], classes, data["items"])
        except KeyError as error:
            raise FormatError(f"options: {error} is missing") from None
        except (AttributeError, TypeError, ValueError) as error:
            raise FormatError(f"options: {error}") from None


def _short(value: object) -> str:
    if isinstance(value, Classes):
        names = list(value.assigned.items())
        shown = ", ".join(f"{k}: {v}" if v else str(k) for k, v in names[:4])
        return f"{len(names)} labels ({shown}{', ...' if len(names) > 4 else ''})"
    return "none" if value in (None, ()) else str(value)
