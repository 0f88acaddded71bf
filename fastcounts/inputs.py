"""What a command line names: classes, regions, parts, and counts, read from text and files."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastcounts.class_files import read_class_file
from fastcounts.counts import Counts, parse
from fastcounts.errors import CountsError, FormatError, LabelError, OptionError, SourceNotFound
from fastcounts.files import once
from fastcounts.messages import shown

__all__ = ["read_classes", "read_counts", "read_items", "read_order", "read_part", "read_region"]

_LONGEST = 40
"""Digits of a number that could be meant; Python itself refuses some thousands."""


def read_classes(text: str | None) -> Any:
    """Read classes from a number K, or from a file in one of the shapes of ``docs/classes.md``.

    Raises
    ------
    OptionError
        If the file is not there, or in no shape that is known; names the line.
    """
    if text is None:
        return None
    if text.isdecimal() and len(text) <= _LONGEST:
        return int(text)
    try:
        return read_class_file(text)
    except OptionError as error:
        raise OptionError(f"--classes: {error}") from None


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and len(text) <= _LONGEST


def _is_header(cells: Sequence[str]) -> bool:
    """Return whether a line names columns.

    It does if two of them are ``label`` and ``pixels``, or if it has two words without a digit: a
    word with a digit may be a number that was misspelled.
    """
    words = [cell.lower() for cell in cells]
    if {"label", "pixels"} <= set(words):
        return True
    return len(cells) == 2 and not any(map(str.isdigit, "".join(cells)))


def read_region(text: str | None) -> Any:
    """A region from text such as ``0:10,:,0:512``; ``...`` stands for axes left out."""
    if text is None:
        return None
    region: list[Any] = []
    for part in text.split(","):
        word = part.strip()
        bounds = word.split(":")
        try:
            if word == "...":
                region.append(Ellipsis)
            elif len(bounds) == 1:
                region.append(int(word))
            else:
                region.append(slice(*(int(bound) if bound.strip() else None for bound in bounds)))
        except (ValueError, TypeError):
            raise OptionError(
                f"--region: {shown(text)}: expected ranges such as 0:10,:,0:512, got {shown(word)}"
            ) from None
    return tuple(region)


def read_part(text: str | None) -> tuple[int, int] | None:
    """A part from text such as ``0/8``."""
    if text is None:
        return None
    numbers = [number.strip() for number in text.split("/")]
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise OptionError(f"--part: expected i/N such as 0/8, got {shown(text)}")
    if max(map(len, numbers)) > _LONGEST:
        raise OptionError(f"--part: the numbers of {shown(text)} are too large")
    return int(numbers[0]), int(numbers[1])


def read_items(text: str) -> int | str:
    """Read the axis of the images, or a word such as ``file``."""
    return int(text) if text.isdecimal() and len(text) <= _LONGEST else text


def read_order(text: str | None) -> list[int] | None:
    """Read the label of every channel from text such as ``3,0,7``.

    Raises
    ------
    OptionError
        If it is not a list of whole numbers.
    """
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(map(_is_whole, words)):
        raise OptionError(f"--order: expected labels such as 0,1,2, got {shown(text)}")
    return list(map(int, words))


def read_counts(path: str) -> Counts:
    """Read counts from a counts file, from CSV, or from a JSON mapping; ``-`` is stdin.

    CSV has a label and its pixels per line, or a header that names the columns ``label`` and
    ``pixels``, as the CSV that ``solve`` prints does.  The mapping is from label to pixels, or from
    name to pixels for the labels 0, 1, ... in this order.

    Raises
    ------
    SourceNotFound
        If there is no such file.
    FormatError
        If it holds no counts; names the field or line.
    """
    name = "standard input" if path == "-" else path
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except FileNotFoundError:
        raise SourceNotFound(f"{path}: there is no such file") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"{" and (pixels := _json_mapping(content, name)) is not None:
        return _counts_of_mapping(pixels, name)
    if start in (b"{", b"[") or content.startswith(b"PK"):
        return parse(content, name)
    return _csv_counts(content, name)


def _json_mapping(content: bytes, name: str) -> dict[str, Any] | None:
    """Return the mapping in a JSON file that is not a counts file, or None."""
    try:
        data = json.loads(content.decode("utf-8-sig"), object_pairs_hook=once)
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from None
    except (ValueError, RecursionError):
        return None
    plain = isinstance(data, dict) and data and not {"fastcounts", "ledger"} & set(data)
    return data if plain and not any(isinstance(v, dict | list) for v in data.values()) else None


def _counts_of_mapping(data: dict[str, Any], name: str) -> Counts:
    """Make counts of pixels per label, or per name."""
    for key, pixels in data.items():
        if isinstance(pixels, bool) or not isinstance(pixels, int):
            raise FormatError(f"{name}: {key}: expected pixels as a whole number, got {pixels!r}")
    labelled = [_is_whole(key) for key in data]
    if all(labelled):
        if len({int(key) for key in data}) < len(data):
            raise FormatError(f"{name}: a label stands twice, spelled differently")
        return _given({int(key): pixels for key, pixels in data.items()}, {}, name)
    if any(labelled):
        label, other = (next(key for key in data if _is_whole(key) == kind) for kind in (1, 0))
        raise FormatError(f"{name}: {label!r} is a label and {other!r} is a name; give one of them")
    return _given(dict(enumerate(data.values())), dict(enumerate(data)), name)


def _given(pixels: dict[int, int], names: dict[int, str], name: str) -> Counts:
    """Make counts of pixels and names by label."""
    named = [text for text in names.values() if text]
    if len(set(named)) < len(named):
        twice = next(text for text in named if named.count(text) > 1)
        raise FormatError(f"{name}: two labels are called {twice!r}; give one row per class")
    classes = {label: names.get(label) or None for label in pixels} if named else None
    try:
        return Counts.from_pixels(pixels, classes=classes)
    except (CountsError, LabelError, OptionError) as error:
        raise FormatError(f"{name}: {error}") from None


def _csv_counts(content: bytes, name: str) -> Counts:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FormatError(f"{name}: is no counts file and no CSV") from None
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text))]
    except csv.Error as error:
        raise FormatError(f"{name}: no CSV: {error}") from None
    numbered = [(number, row) for number, row in enumerate(rows, 1) if any(row)]
    columns, width = {"label": 0, "pixels": 1}, 2
    if numbered and [word.lower() for word in numbered[0][1][:2]] == ["source", "item"]:
        raise FormatError(
            f"{name}: its rows are images; give the counts of the classes, which 'fastcounts "
            "count' writes with -o"
        )
    if numbered and _is_header(numbered[0][1]):
        words = [word.lower() for word in numbered.pop(0)[1]]
        if {"label", "pixels"} <= set(words):
            if "item" in words:
                raise FormatError(f"{name}: its rows are images, as those of weights per image are")
            columns = {word: words.index(word) for word in words}
            width = len(words)
    pixels: dict[int, int] = {}
    names: dict[int, str] = {}
    for number, row in numbered:
        cells = [row[columns[word]] for word in ("label", "pixels")] if len(row) == width else []
        if not cells or not all(map(_is_whole, cells)):
            raise FormatError(f"{name}, line {number}: expected 'label,pixels' in whole numbers")
        label = int(cells[0])
        if label in pixels:
            raise FormatError(f"{name}, line {number}: label {cells[0]} stands twice")
        pixels[label] = int(cells[1])
        if "name" in columns:
            names[label] = row[columns["name"]]
    if not pixels:
        raise FormatError(f"{name}: holds no counts")
    return _given(pixels, names, name)
