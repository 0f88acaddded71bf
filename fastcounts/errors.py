"""Every failure that a caller can act on.

::

    FastcountsError
    ├── OptionError (ValueError)               an argument is wrong; nothing was read
    ├── MemoryBudgetError (MemoryError)        the budget cannot hold one block
    ├── MissingExtra (ImportError)             an optional library is not installed
    ├── OutputError (OSError)                  the result cannot be written: the disk is full
    ├── UnknownClass (KeyError)                counts have no such class, or several of one name
    ├── SourceError                            masks that cannot be read
    │   ├── SourceNotFound (FileNotFoundError) nothing is there
    │   ├── UnsupportedSource (TypeError)      what is there holds no labels
    │   ├── AmbiguousSource (ValueError)       several label arrays, and none was named
    │   ├── ReadError (OSError)                a block that cannot be read or decoded
    │   │   └── ForbiddenChunk                 a chunk that the store forbids to read (403)
    │   └── MissingChunk (OSError)             a chunk that does not exist and may not be guessed
    ├── LabelError (ValueError)                pixels that are no labels
    │   ├── NonIntegralLabel                   a fraction, an infinity, or beyond 2**53
    │   ├── LabelRangeError (OverflowError)    negative labels beside labels of 2**63 or more
    │   ├── UnexpectedLabel                    a label of no class, under ``strict``
    │   └── StrictError                        any other warning, under ``strict``
    ├── CountsError (ValueError)
    │   ├── LedgerError                        numbers that do not add up
    │   ├── CountsOverflow (OverflowError)     more pixels than int64 holds
    │   ├── IncompatibleCounts                 counts that must not be added or subtracted
    │   ├── IncompleteCounts                   parts of the run are not there
    │   └── FormatError                        a file that is no counts file
    └── SolveError (ValueError)
        ├── UnknownScheme                      no scheme of that name
        ├── AbsentClass                        a class without pixels, and no policy for it
        ├── PresenceNeeded                     the scheme needs counts per item
        └── InfeasibleCosts                    no weights meet the stated costs
    FastcountsWarning (UserWarning)            the category of the warnings of ``fastcounts.count``

The builtin in brackets is what a caller would already catch.
``exit_code`` is what the command line ends with.

A message that names an argument has it from :func:`fastcounts.messages.argument`, so that it reads
``absent='max'`` in Python and ``--absent max`` in the shell.
"""

from __future__ import annotations

from fastcounts.messages import in_python, in_shell

__all__ = [
    "AbsentClass",
    "AmbiguousSource",
    "CountsError",
    "CountsOverflow",
    "FastcountsError",
    "FastcountsWarning",
    "ForbiddenChunk",
    "FormatError",
    "IncompatibleCounts",
    "IncompleteCounts",
    "InfeasibleCosts",
    "LabelError",
    "LabelRangeError",
    "LedgerError",
    "MemoryBudgetError",
    "MissingChunk",
    "MissingExtra",
    "NonIntegralLabel",
    "OptionError",
    "OutputError",
    "PresenceNeeded",
    "ReadError",
    "SolveError",
    "SourceError",
    "SourceNotFound",
    "StrictError",
    "UnexpectedLabel",
    "UnknownClass",
    "UnknownScheme",
    "UnsupportedSource",
]


class FastcountsError(Exception):
    """Base of every error that fastcounts raises on purpose."""

    exit_code = 3

    def __str__(self) -> str:
        return in_python(super().__str__())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def shell_message(self) -> str:
        """Return the message with arguments named as options of the command line."""
        return in_shell(super().__str__())


class FastcountsWarning(UserWarning):
    """Counts that may mean something else than the caller thinks; nothing is wrong with them."""


class OptionError(FastcountsError, ValueError):
    """An argument is wrong; nothing has been read."""

    exit_code = 2


class MemoryBudgetError(MemoryError, FastcountsError):  # this order: MemoryError makes itself
    """The memory budget cannot hold what must be held at once."""

    exit_code = 2


class MissingExtra(FastcountsError, ImportError):
    """An optional library is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self._facts = (what, extra)
        super().__init__(f"{what}: install it with pip install 'fastcounts[{extra}]'")

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return type(self), self._facts


class OutputError(FastcountsError, OSError):
    """The result cannot be written: the disk is full, or standard output is closed."""


class UnknownClass(FastcountsError, KeyError):
    """Counts have no class of that label or name, or several of that name."""

    exit_code = 2

    def __str__(self) -> str:  # KeyError would put the message in quotes
        return in_python(str(self.args[0]))

    def shell_message(self) -> str:
        """Return the message with arguments named as options of the command line."""
        return in_shell(str(self.args[0]))


class SourceError(FastcountsError):
    """Masks that cannot be read.

    The message is one line, also if a library or a file name brought line breaks into it.
    """

    def __str__(self) -> str:
        lines = super().__str__().splitlines()
        return " ".join(line.strip() for line in lines) if len(lines) > 1 else "".join(lines)


class SourceNotFound(SourceError, FileNotFoundError):
    """Nothing is at the place that was named."""


class UnsupportedSource(SourceError, TypeError):
    """What was given exists and holds no labels that can be counted."""


class AmbiguousSource(SourceError, ValueError):
    """Several label arrays are there and none was named."""


class ReadError(SourceError, OSError):
    """A block cannot be read or decoded."""


class ForbiddenChunk(ReadError):
    """A chunk that the store forbids to read; a bucket may answer so for one that is not there."""


class MissingChunk(SourceError, OSError):
    """A chunk does not exist and its content may not be assumed."""


class LabelError(FastcountsError, ValueError):
    """Pixels that are no labels."""


class NonIntegralLabel(LabelError):
    """A floating point pixel that is no label.

    Parameters
    ----------
    value : the pixel: a fraction, an infinity, or more than 2**53 in magnitude.
    index : its place, one coordinate an axis, in the array that was being counted.
    where : what that array is called; empty while only the array is known.
    """

    def __init__(self, value: float, index: tuple[int, ...], where: str = "") -> None:
        self.value = value
        self.index = index
        self.where = where
        place = f"{where}, " if where else ""
        super().__init__(
            f"{place}pixel {index}: {value!r} is no label; labels are whole numbers up to 2**53 "
            "in magnitude (NaN is nodata)"
        )

    def __reduce__(self) -> tuple[type[NonIntegralLabel], tuple[float, tuple[int, ...], str]]:
        return type(self), (self.value, self.index, self.where)


class LabelRangeError(LabelError, OverflowError):
    """Negative labels beside labels of 2**63 or more: no integer type holds both."""


class UnexpectedLabel(LabelError):
    """A label of no class, where ``strict`` forbids it."""

    exit_code = 1


class StrictError(LabelError):
    """A warning about the labels, where ``strict`` makes it an error."""

    exit_code = 1


class CountsError(FastcountsError, ValueError):
    """Counts that cannot be what they claim."""


class LedgerError(CountsError):
    """Numbers that do not add up."""

    exit_code = 5


class CountsOverflow(CountsError, OverflowError):
    """More pixels than a signed 64-bit integer holds."""


class IncompatibleCounts(CountsError):
    """Counts that must not be added or subtracted."""

    exit_code = 2


class IncompleteCounts(CountsError):
    """Parts of the run are not there."""

    exit_code = 1


class FormatError(CountsError):
    """A file that is no counts file; the message names the field."""


class SolveError(FastcountsError, ValueError):
    """Weights that cannot be had from these counts."""

    exit_code = 2


class UnknownScheme(SolveError):
    """No scheme of that name."""


class AbsentClass(SolveError):
    """A class without pixels, and no policy that says what it weighs."""


class PresenceNeeded(SolveError):
    """The scheme needs to know in how many items each class occurs."""


class InfeasibleCosts(SolveError):
    """No nonnegative weights meet the stated costs."""
