"""Options of schemes: read, or refused with what was expected."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcounts.errors import OptionError
from fastcounts.messages import argument, shown
from fastcounts.weights import Floats, is_number

if TYPE_CHECKING:
    from fastcounts.solvers.tally import Tally

__all__ = ["at_least", "choice", "flag", "number", "per_class", "read_option", "whole"]


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
    except (ValueError, RecursionError):
        return word


def number(name: str, value: Any, above: float, below: float = math.inf) -> float:
    """Read an option that is a finite number strictly between two others."""
    if not is_number(value) or not above < value < below:
        to = "" if below == math.inf else f" and below {below:g}"
        raise OptionError(f"{argument(name, value)}: give a number above {above:g}{to}")
    return float(value)


def at_least(
    name: str, value: Any, low: float, *, below: float = math.inf, most: float = math.inf
) -> float:
    """Read an option that is a finite number from ``low`` on, to below a bound or up to one."""
    if not is_number(value) or not low <= value < below or not value <= most:
        to = " on" if below == most else f" to {most:g}" if most < below else f" to below {below:g}"
        raise OptionError(f"{argument(name, value)}: give a number from {low:g}{to}")
    return float(value)


def whole(name: str, value: Any, low: int) -> int:
    """Read an option that is a whole number from ``low`` on."""
    if not is_number(value) or int(value) != value or value < low:
        raise OptionError(f"{argument(name, value)}: give a whole number from {low} on")
    return int(value)


def per_class(name: str, value: Any, tally: Tally) -> Floats:
    """Read an option that is one number a class."""
    labels = tally.labels.tolist()
    if isinstance(value, Mapping):
        given = {_label(key): each for key, each in value.items()}
        if set(given) != set(labels) or len(given) != len(value):
            raise OptionError(
                f"{argument(name)} is for the labels {shown(list(value))}: the classes are {labels}"
            )
        value = [given[label] for label in labels]
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):  # the last: a number of hundreds of digits
        numbers = np.empty(0)
    if numbers.shape != (len(labels),) or not np.isfinite(numbers).all():
        raise OptionError(
            f"{argument(name, value)}: give {len(labels)} finite numbers, one a class in "
            f"the order of the labels {labels[:8]}{'...' if len(labels) > 8 else ''}"
        )
    return numbers


def _label(key: Any) -> Any:
    """Label that a key stands for; JSON has no keys but text."""
    return int(key) if isinstance(key, str) and key.removeprefix("-").isdecimal() else key


def flag(name: str, value: Any) -> bool:
    """Read an option that is yes or no."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{argument(name, value)}: give True or False")
    return bool(value)


def choice(name: str, value: Any, *allowed: str) -> str:
    """Read an option that is one of a few words."""
    if value not in allowed:
        raise OptionError(f"{argument(name, value)}: give one of {', '.join(allowed)}")
    return str(value)
