"""What a command line names: classes, regions, parts, and counts, read from text and files."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastcounts.counts import Counts, parse
from fastcounts.errors import CountsError, FormatError, LabelError, OptionError, SourceNotFound
from fastcounts.files import once

__all__ = ["read_classes", "read_counts", "read_part", "read_region"]

_LONGEST = 40
"""Digits of a number that could be meant; Python itself refuses some thousands."""


def read_classes(text: str | None) -> Any:
    """Classes from a number K or a file.

    The file is JSON (a list of names, or a mapping from label to name), CSV with a label and a
    name a line, or plain text with one name a line.

    Raises
    ------
    OptionError
        If the file is not there or says something else; names the line.
    """
    if text is None:
        return None
    if text.isdecimal():
        return int(text)
    path = Path(text)
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise OptionError(f"--classes: {text!r} is neither a number nor a file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"--classes: {text}: cannot be read: {error}") from None
    if path.suffix.lower() == ".json":
        return _json_classes(content, text)
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    if not lines:
        raise OptionError(f"--classes: {text}: the file names no class")
    try:
        rows = list(csv.reader(lines))
    except csv.Error as error:
        raise OptionError(f"--classes: {text}: no CSV: {error}") from None
    return lines if all(len(row) == 1 for row in rows) else _csv_classes(rows, text)


def _csv_classes(rows: list[list[str]], text: str) -> dict[int, str]:
    classes = {}
    for number, row in enumerate(rows, 1):
        label, name = (row[0].strip(), row[1].strip()) if len(row) == 2 else ("", "")
        if number == 1 and len(row) == 2 and not any(map(str.isdigit, label)):
            continue  # a header
        if not _is_whole(label):
            raise OptionError(f"--classes: {text}, line {number}: expected 'label,name'")
        if int(label) in classes:
            raise OptionError(f"--classes: {text}, line {number}: label {label} stands twice")
        classes[int(label)] = name
    return classes


def _json_classes(content: str, text: str) -> Any:
    try:
        data = json.loads(content, object_pairs_hook=once)
    except FormatError as error:
        raise OptionError(f"--classes: {text}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise OptionError(f"--classes: {text}: no JSON: {error}") from None
    if isinstance(data, list):
        return data
    if isinstance(data, dict) and all(_is_whole(label) for label in data):
        classes = {int(label): name for label, name in data.items()}
        if len(classes) < len(data):
            raise OptionError(f"--classes: {text}: a label stands twice, spelled differently")
        return classes
    raise OptionError(
        f"--classes: {text}: expected a list of names, or a mapping from label to name"
    )


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
                f"--region: {text!r}: expected ranges such as 0:10,:,0:512, got {word!r}"
            ) from None
    return tuple(region)


def read_part(text: str | None) -> tuple[int, int] | None:
    """A part from text such as ``0/8``."""
    if text is None:
        return None
    number, slash, parts = text.partition("/")
    if not slash or not number.strip().isdecimal() or not parts.strip().isdecimal():
        raise OptionError(f"--part: expected i/N such as 0/8, got {text!r}")
    return int(number), int(parts)


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
