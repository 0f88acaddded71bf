"""What a command line names: classes, regions, parts, and counts, read from text and files."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastcounts.class_files import read_class_file
from fastcounts.counts import Counts, parse
from fastcounts.errors import CountsError, FormatError, LabelError, OptionError, SourceNotFound
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
    """Whether a line holds two words: one with a digit may be a number that was misspelled."""
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
    """Counts from a counts file, or from CSV with a label and its pixels a line; ``-`` is stdin.

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
    if content.lstrip()[:1] in (b"{", b"[") or content.startswith(b"PK"):
        return parse(content, name)
    return _csv_counts(content, name)


def _csv_counts(content: bytes, name: str) -> Counts:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FormatError(f"{name}: is no counts file and no CSV") from None
    try:
        rows = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise FormatError(f"{name}: no CSV: {error}") from None
    pixels: dict[int, int] = {}
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) == 2 and all(map(_is_whole, cells)):
            if int(cells[0]) in pixels:
                raise FormatError(f"{name}, line {number}: label {cells[0]} stands twice")
            pixels[int(cells[0])] = int(cells[1])
        elif number > 1 or not _is_header(cells):
            raise FormatError(f"{name}, line {number}: expected 'label,pixels' in whole numbers")
    if not pixels:
        raise FormatError(f"{name}: holds no counts")
    try:
        return Counts.from_pixels(pixels)
    except (CountsError, LabelError, OptionError) as error:
        raise FormatError(f"{name}: {error}") from None
