"""Options of schemes: read, or refused with what was expected."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcounts.errors import OptionError
from fastcounts.weights import Floats

if TYPE_CHECKING:
    from fastcounts.solvers.tally import Tally

__all__ = ["at_least", "choice", "flag", "number", "per_class", "read_option"]


def read_option(text: str) -> Any:
    """Value of an option as it stands on a command line.

    Numbers, ``true``, ``false``, ``none`` and lists are read as such; anything else is text.

    Examples
    --------
    >>> read_option("1.02"), read_option("true"), read_option("[1, 2]"), read_option("keras")
    (1.02, True, [1, 2], 'keras')
    """
    word = text.strip()
    known = {"true": True, "false": False, "none": None, "null": None}
    if word.lower() in known:
        return known[word.lower()]
    try:
        return json.loads(word)
    except ValueError:
        return word


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Read an option that is a number strictly between two others."""
    good = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not good or not low < value < high:
        wanted = "a finite number" if low == -math.inf else f"a number above {low:g}"
        wanted += "" if high == math.inf else f" and below {high:g}"
        raise OptionError(f"{name}={value!r}: give {wanted}")
    return float(value)


def at_least(name: str, value: Any, low: float, below: float = math.inf) -> float:
    """Read an option that is a number from ``low`` on."""
    if isinstance(value, int | float | np.number) and value == low:
        return float(low)
    return number(name, value, low, below)


def per_class(name: str, value: Any, tally: Tally) -> Floats:
    """Read an option that is one number a class."""
    labels = tally.labels.tolist()
    if isinstance(value, Mapping):
        given = {int(label): number for label, number in value.items()}
        if sorted(given) != labels:
            raise OptionError(f"{name} is for the labels {sorted(given)}: the classes are {labels}")
        value = [given[label] for label in labels]
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (len(labels),) or not np.isfinite(numbers).all():
        raise OptionError(
            f"{name}={value!r}: give {len(labels)} finite numbers, one a class in the order of the "
            f"labels {labels[:8]}{'...' if len(labels) > 8 else ''}"
        )
    return numbers


def flag(name: str, value: Any) -> bool:
    """Read an option that is yes or no."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name}={value!r}: give True or False")
    return bool(value)


def choice(name: str, value: Any, *allowed: str) -> str:
    """Read an option that is one of a few words."""
    if value not in allowed:
        raise OptionError(f"{name}={value!r}: give one of {', '.join(allowed)}")
    return str(value)
