"""Text of messages: arguments named as the reader types them, and values shown in bounded length.

The same error reaches callers in Python and in the shell. A message marks the arguments that it
names, and is rendered for one of the two when it is shown.
"""

from __future__ import annotations

import json
import re
import shlex

__all__ = ["argument", "in_python", "in_shell", "shown", "variants"]

_BEGIN, _BETWEEN, _END = "\x02", "\x1f", "\x03"
_MARKS = re.compile(f"[{_BEGIN}{_BETWEEN}{_END}]")
_VARIANTS = re.compile(
    f"{_BEGIN}([^{_BEGIN}{_BETWEEN}{_END}]*){_BETWEEN}([^{_BEGIN}{_BETWEEN}{_END}]*){_END}"
)

_OPTIONS = {"all_arrays": "--all", "scheduler": "--dask"}
"""Options of the command line that are not called like the argument."""

_FLAGS = {"all_arrays", "keep_items", "strict"}
"""Arguments that are options without a value in the command line."""

_MAX_SHOWN = 120
"""Characters of a value in a message, so that a message stays readable."""


def variants(python: str, shell: str) -> str:
    """Return text for a message that reads ``python`` in Python and ``shell`` in the shell."""
    return f"{_BEGIN}{_MARKS.sub('?', python)}{_BETWEEN}{_MARKS.sub('?', shell)}{_END}"


def argument(name: str, *values: object) -> str:
    """Name an argument in a message, with a value or with several to choose from.

    Parameters
    ----------
    name : as it is called in Python.
    values : of the argument; ``...`` for a list that the reader has to write.

    Examples
    --------
    >>> message = f"{argument('num_classes', 3)} is too small"
    >>> in_python(message), in_shell(message)
    ('num_classes=3 is too small', '--num-classes 3 is too small')
    >>> in_python(argument("absent", "max", "zero")), in_shell(argument("absent", "max", "zero"))
    ("absent='max' or 'zero'", '--absent max or zero')
    """
    option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
    if not values:
        return variants(name, option)
    if name in _FLAGS and values == (True,):
        return variants(f"{name}=True", option)
    python = _alternatives(["[...]" if value is ... else shown(value) for value in values])
    return variants(f"{name}={python}", f"{option} {_alternatives(list(map(_word, values)))}")


def in_python(message: str) -> str:
    """Return a message for a reader in Python."""
    return _VARIANTS.sub(r"\1", message)


def in_shell(message: str) -> str:
    """Return a message for a reader in the shell."""
    return _VARIANTS.sub(r"\2", message)


def shown(value: object) -> str:
    """Return ``repr(value)``, shortened if it is too long for a message.

    Examples
    --------
    >>> shown("road"), len(shown(10**5000)) < 200
    ("'road'", True)
    """
    try:
        text = repr(value)
    except ValueError:  # Python does not convert integers of more than 4,300 digits
        return f"a number of {value.bit_length():,} bits" if isinstance(value, int) else "numbers"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}... ({len(text):,} characters)"


def _word(value: object) -> str:
    """Return a value as it is typed in the shell."""
    if value is ...:
        return "LABEL,LABEL,..."
    if isinstance(value, str):
        return shlex.quote(value)
    if value is None:
        return "none"
    try:
        return shlex.quote(json.dumps(value))
    except (TypeError, ValueError):
        return shown(value)


def _alternatives(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
