"""What the attributes of an array say of its labels, after the CF conventions as xarray reads them.

``_FillValue`` and ``missing_value`` stand for no data; ``flag_meanings`` are the names of
``flag_values``.  Numbers that were packed, or that stand for others, are no labels.
"""

from __future__ import annotations

import logging
import struct
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite, isnan
from typing import Any

import numpy as np

from fastcounts.classes import Meaning, join_names
from fastcounts.errors import UnsupportedSource

__all__ = ["as_label", "clean_name", "nodata_labels", "nodata_numbers", "read_attributes"]

_LOG = logging.getLogger("fastcounts")

_FILLS = ("_FillValue", "missing_value")
_MOST = 2**53


def read_attributes(attributes: Mapping[str, Any], dtype: Any, where: str) -> Meaning:
    """What attributes say of the labels of an array.

    Parameters
    ----------
    attributes : of the array.
    dtype : of its elements.
    where : what messages call it.

    Raises
    ------
    UnsupportedSource
        If they say that the elements are no labels before they are decoded: ``scale_factor``,
        ``add_offset``, ``_Unsigned``.
    """
    _refuse_packed(attributes, np.dtype(dtype).kind, where)
    origins: dict[int, str] = {}
    numbers: set[float] = set()
    for name in _FILLS:
        fills = list(_numbers(attributes.get(name)))
        for label in nodata_labels(fills, dtype):
            origins.setdefault(label, name)
        numbers.update(nodata_numbers(fills, dtype))
    names = _flag_names(attributes, where)
    return Meaning(names, tuple(sorted(origins)), origins, numbers=tuple(sorted(numbers)))


def nodata_labels(fills: Iterable[Any], dtype: Any) -> tuple[int, ...]:
    """Return the fill values that are labels of a type, sorted.

    NaN is always nodata, a fraction is not a label (see `nodata_numbers`), and each truth value
    is one.  A fill value of a floating point array is the number that the array can hold.
    """
    kind = np.dtype(dtype).kind
    if kind == "f":
        fills = _cast(fills, dtype)
    labels = {label for label in map(as_label, fills) if label is not None}
    if kind in "iu":
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        labels = {label for label in labels if low <= label <= high}
    return () if kind == "b" else tuple(sorted(labels))


def nodata_numbers(fills: Iterable[Any], dtype: Any) -> tuple[float, ...]:
    """Return the fill values of a floating point type that could not be labels, sorted.

    They are fractions, infinities and numbers beyond 2**53, such as the default of netCDF,
    9.969209968386869e+36.  NaN is not among them, because it is always nodata.
    """
    if np.dtype(dtype).kind != "f":
        return ()
    return tuple(sorted({number for number in _cast(fills, dtype) if as_label(number) is None}))


def _cast(fills: Iterable[Any], dtype: Any) -> Iterator[float]:
    """Yield fill values as a floating point array of a type holds them, without NaN."""
    kind = np.dtype(dtype).type
    for value in fills:
        if isinstance(value, bool | np.bool_) or not isinstance(
            value, int | float | np.integer | np.floating
        ):
            continue
        try:
            with np.errstate(over="ignore"):
                number = float(kind(value))
        except OverflowError:  # an integer beyond every float
            continue
        if not isnan(number) and isfinite(number) == isfinite(value):
            yield number


def as_label(value: Any) -> int | None:
    """A number from metadata as a label, or None if it is none."""
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, int | np.integer):
        return int(value)
    if not isinstance(value, float | np.floating) or not isfinite(value):
        return None
    number = float(value)
    return int(number) if number.is_integer() and abs(number) <= _MOST else None


def clean_name(name: Any) -> str | None:
    """A name from metadata, or None if it is empty or not fit to be printed."""
    if not isinstance(name, str):
        return None
    name = " ".join(name.split())
    return name if name and name.isprintable() else None


def _refuse_packed(attributes: Mapping[str, Any], kind: str, where: str) -> None:
    packed = [
        f"{name} {attributes[name]}"
        for name, nothing in (("scale_factor", 1), ("add_offset", 0))
        if name in attributes and _several(attributes[name]) != [nothing]
    ]
    if (kind, attributes.get("_Unsigned")) in (("i", "true"), ("u", "false")):
        packed.append(f"_Unsigned {attributes['_Unsigned']}")
    if packed:
        raise UnsupportedSource(
            f"{where}: its attributes say {' and '.join(packed)}, so that its elements stand for "
            "other numbers; open it with xarray, which decodes them, and count that"
        )


def _numbers(value: Any) -> Iterator[Any]:
    """The numbers that an attribute holds: one, several, or a float as xarray writes it."""
    if isinstance(value, str):
        try:
            yield struct.unpack("<d", b64decode(value, validate=True))[0]
        except (Base64Error, ValueError, struct.error):
            return
    elif value is not None:
        yield from _several(value)


def _several(value: Any) -> list[Any]:
    """One value or several as a list."""
    found: list[Any] = np.ravel(np.asarray(value, object)).tolist()
    return found


def _flag_names(attributes: Mapping[str, Any], where: str) -> dict[int, tuple[str, ...]]:
    """The names of labels: blank-separated ``flag_meanings``, one for each of ``flag_values``."""
    meanings = attributes.get("flag_meanings")
    if not isinstance(meanings, str):
        return {}
    if "flag_masks" in attributes:
        _LOG.warning(
            "%s: its flag_masks name bits and no labels; every combination of bits is counted as "
            "a label of its own, without a name",
            where,
        )
        return {}
    names = [clean_name(name) for name in meanings.split()]
    labels = [as_label(value) for value in _several(attributes.get("flag_values", ()))]
    if len(labels) != len(names) or None in labels:
        _LOG.warning("%s: its flag_values and flag_meanings do not fit together", where)
        return {}
    pairs = zip(labels, names, strict=True)
    return join_names({label: (name,)} for label, name in pairs if label is not None and name)
