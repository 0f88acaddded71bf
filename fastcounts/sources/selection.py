"""Selection of files by ``include`` and ``exclude``, and a record of what is passed over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from fastcounts.errors import OptionError
from fastcounts.messages import argument
from fastcounts.notices import Notice, note, warning

__all__ = ["Opening", "Skipped", "abbreviate", "names_below", "read_patterns"]

_SHOWN = 3
"""Names that a notice about skipped files lists."""

_LONGEST = 1000
"""Characters of a path that a message shows; one below PATH_MAX can have 4,096."""

_REASONS = {
    "not-a-mask": "files that are not masks",
    "counts-file": "counts files that fastcounts wrote",
    "special-file": "files that are not regular files (such as named pipes, sockets or devices)",
    "companion": "masks and overviews that GDAL wrote beside a TIFF (.msk, .ovr)",
    "hidden": "hidden files and folders (their names start with a dot)",
    "listed-before": "folders that are links to folders that are counted under another name",
    "folder": "folders that match the pattern (a pattern with ** reaches the files in them)",
    "array": "arrays that are not arrays of integers",
}
"""Why something is passed over: the code of the notice, and its words."""


class Skipped(NamedTuple):
    """Something that was found and is not counted; ``reason`` is a key of ``_REASONS``."""

    name: str
    reason: str


def abbreviate(path: object) -> str:
    """Return a path as text, without its middle if it is too long to read."""
    text = str(path)
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"


def read_patterns(name: str, given: Any) -> tuple[str, ...]:
    """Return the patterns of an argument: one pattern, or several.

    Raises
    ------
    OptionError
        If one of them is not text, or is empty.
    """
    if given is None:
        return ()
    patterns = [given] if isinstance(given, str) else given
    if not isinstance(patterns, list | tuple) or not all(
        isinstance(pattern, str) and pattern.strip("/") for pattern in patterns
    ):
        raise OptionError(
            f"{argument(name)}: expected a pattern such as '*_labelIds.png', or a list of "
            f"patterns, got {given!r}"
        )
    return tuple(patterns)


class Opening:
    """The choices of one call of ``open_source``, and what was passed over by it.

    A pattern without a slash is compared with the name of the file and with the name of each
    folder above it; a pattern with a slash with the whole path, and with the path of each folder
    above the file.  Paths are relative to the folder that was given, or to the part of a glob
    before its first wildcard.  ``*`` stands for any characters within one name, ``**`` for any
    number of folders.  A file that was named itself has no such folder: a pattern with a slash
    is compared with the end of its path.

    Parameters
    ----------
    every : take all label arrays of a Zarr group or .npz archive.
    include : patterns; a file is counted if it matches one of them, or if there are none.
    exclude : patterns; a file that matches one of them is not counted.

    Attributes
    ----------
    skipped : what was found and not counted, other than by ``include`` and ``exclude``.
    """

    def __init__(
        self, every: bool = False, include: Sequence[str] = (), exclude: Sequence[str] = ()
    ) -> None:
        self.every = every
        self.skipped: list[Skipped] = []
        self._include = {pattern: _parts(pattern) for pattern in include}
        self._exclude = {pattern: _parts(pattern) for pattern in exclude}
        self._used: set[str] = set()
        self._asked = False
        self._left_out = 0

    @property
    def selects(self) -> bool:
        """Return whether there are patterns."""
        return bool(self._include or self._exclude)

    def skip(self, path: object, reason: str) -> None:
        """Record something that is not counted."""
        self.skipped.append(Skipped(str(path), reason))

    def takes(self, names: Sequence[str], *, anchored: bool = True) -> bool:
        """Return whether a file is counted.

        Parameters
        ----------
        names : the folders on the way to the file, and its name.
        anchored : whether the first of them lies in the folder that was given.
        """
        if not self.selects:
            return True
        self._asked = True
        included = self._matches(self._include, names, anchored) or not self._include
        taken = included and not self._matches(self._exclude, names, anchored)
        self._left_out += not taken
        return taken

    def excludes(self, names: Sequence[str]) -> bool:
        """Return whether ``exclude`` matches a folder, so that it need not be listed."""
        if not self._exclude:
            return False
        found = self._matches(self._exclude, names, True)
        self._asked |= found
        self._left_out += found
        return found

    def _matches(
        self, patterns: dict[str, tuple[str, ...]], names: Sequence[str], anchored: bool
    ) -> bool:
        """Return whether one of the patterns matches; every pattern that does is noted as used."""
        if anchored:
            found = [pattern for pattern, parts in patterns.items() if _match_above(names, parts)]
        else:
            found = [
                pattern
                for pattern, parts in patterns.items()
                if _match_above(names, ("**", *parts))
            ]
        self._used.update(found)
        return bool(found)

    def check(self) -> None:
        """Refuse patterns where nothing was selected from.

        Raises
        ------
        OptionError
            If the source contains neither files nor Zarr arrays found in a folder.
        """
        if self.selects and not self._asked:
            name = "include" if self._include else "exclude"
            raise OptionError(
                f"{argument(name)}: patterns select among files; the source is not a file, "
                "folder or glob"
            )

    def notices(self) -> Iterator[Notice]:
        """Return what the user should know about what is not counted."""
        for reason, words in _REASONS.items():
            names = [one.name for one in self.skipped if one.reason == reason]
            if names:
                shown = ", ".join(abbreviate(name) for name in names[:_SHOWN])
                more = ", ..." if len(names) > _SHOWN else ""
                yield note(
                    f"skipped-{reason}", f"passed over {words} ({len(names)}): {shown}{more}"
                )
        if self._left_out:
            yield note(
                "excluded",
                f"left out by {argument('include')} and {argument('exclude')}: "
                f"{self._left_out} files or folders",
            )
        for name, patterns in (("include", self._include), ("exclude", self._exclude)):
            for pattern in patterns:
                if self._asked and pattern not in self._used:
                    yield warning(
                        "pattern-unused",
                        f"{argument(name)}: no file matches {pattern!r}; patterns are compared "
                        "with names and with paths relative to the folder; upper and lower "
                        "case differ",
                    )


def _parts(pattern: str) -> tuple[str, ...]:
    """Return the names of a pattern; one without a slash may lie at any depth."""
    parts = tuple(part for part in pattern.split("/") if part not in ("", "."))
    return parts if "/" in pattern.rstrip("/") else ("**", *parts)


def _match_above(names: Sequence[str], parts: tuple[str, ...]) -> bool:
    """Return whether a pattern matches a path or that of a folder on the way to it."""
    return any(_match(names[:length], parts) for length in range(1, len(names) + 1))


def _match(names: Sequence[str], parts: tuple[str, ...]) -> bool:
    """Return whether a pattern matches a path, name by name."""
    if not parts:
        return not names
    if parts[0] == "**":
        return any(_match(names[start:], parts[1:]) for start in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _match(names[1:], parts[1:])


def names_below(path: Path, folder: Path) -> tuple[str, ...]:
    """Return the folders between ``folder`` and a path in it, and the name of the path."""
    return path.parts[len(folder.parts) :]
