"""Class files: names by label, in the shapes in which people have them.

A file is recognised by its content; a suffix (.json, .yaml, .toml, .csv, .tsv) says which format
must be in it.  Each function below reads one shape.  What could mean two things is refused, with
the line and both readings, because a guess that is wrong shifts every name.

The accepted shapes are listed in ``docs/classes.md``.
"""

from __future__ import annotations

import csv
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from reprlib import Repr
from typing import Any, NamedTuple

from fastcounts.errors import FormatError, OptionError, SourceNotFound
from fastcounts.files import once

__all__ = ["load_classes", "read_class_file", "read_class_text", "understand"]

Names = list[str] | dict[int, str | None]
"""Names of the labels 0, 1, ..., or a name per label."""

_WHOLE = re.compile(r"[-+]?[0-9]{1,40}", re.ASCII)

_LABEL_WORDS = (
    *("id", "idx", "index", "label", "label_id", "labelid", "class", "class_id", "classid"),
    *("category_id", "categoryid", "value", "code", "trainid", "train_id"),
)
"""Headings of a column of labels, and names of the field of a label."""

_NAME_WORDS = (
    *("name", "class_name", "classname", "label_name", "labelname", "category", "readable"),
    *("title", "class", "label"),
)
"""Headings of a column of names, and names of the field of a name."""

_COLOUR_WORDS = (
    *("r", "g", "b", "a", "red", "green", "blue", "alpha", "color", "colour", "rgb", "rgba", "hex"),
)

_WRAPPERS = ("names", "id2label", "label2id", "categories", "labels", "classes")
"""Fields that hold the classes of a larger file: Ultralytics, Hugging Face, COCO, Mapillary."""

_show = Repr()
_show.maxstring = _show.maxother = 60


class _Line(NamedTuple):
    """A line of text that is neither empty nor a comment."""

    number: int
    text: str


def load_classes(path: str | os.PathLike[str]) -> dict[int, str | None]:
    """Read the names of the classes from a file, in one of the shapes of ``docs/classes.md``.

    Parameters
    ----------
    path : a JSON, YAML, TOML, CSV or text file.

    Returns
    -------
    The name of each label, by label in ascending order; None for a class without a name.  Pass it
    as ``classes`` to :func:`fastcounts.count`, which also takes the path itself.

    Raises
    ------
    SourceNotFound
        If there is no such file.
    OptionError
        If the file has none of these shapes, or could mean two things; names the line.
    """
    if not Path(path).exists():
        raise SourceNotFound(f"{path}: there is no such file")
    found = read_class_file(path)
    names = found if isinstance(found, dict) else dict(enumerate(found))
    return dict(sorted(names.items()))


def read_class_file(path: str | os.PathLike[str]) -> Names:
    """Read the classes in a file.

    Raises
    ------
    OptionError
        If there is no such file, or it is in none of the accepted shapes, or in more than one.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise OptionError(f"{os.fspath(path)!r} is neither a number nor a file") from None
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: cannot be read: {error}") from None
    return read_class_text(content, str(path))


def read_class_text(content: bytes, name: str) -> Names:
    """Read the classes in the content of a file; ``name`` is what messages call it."""
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionError(f"{name}: cannot be read: {error}") from None
    if "\0" in text:
        raise OptionError(f"{name}: cannot be read: it is not a text file")
    if not (lines := _lines(text)):
        raise OptionError(f"{name}: the file names no class")
    return _reader(lines, Path(name).suffix.lower())(text, lines, name)


_TOML = re.compile(r"\[\[?[A-Za-z_][\w.]*\]\]?$|[\w\"]+\s*=\s*[\[\"']")
"""A line that only TOML has: the heading of a table, or a text or list behind ``=``."""

_Reader = Callable[[str, Sequence[_Line], str], Names]


def _reader(lines: Sequence[_Line], suffix: str) -> _Reader:
    """Return the reader of the format that the suffix names, or else of that of the content."""
    by_suffix: dict[str, _Reader] = {
        ".json": _read_json,
        ".yaml": _read_yaml,
        ".yml": _read_yaml,
        ".toml": _read_toml,
    }
    if suffix in by_suffix:
        return by_suffix[suffix]
    first = lines[0].text
    if any(_TOML.match(line.text) for line in lines):
        return _read_toml
    if first.startswith("{") or re.match(r"\[\s*([\"{\[\]]|$)", first):
        return _read_json
    if first.startswith("<"):
        return _refuse_markup
    dashes = [bool(re.match(r"-(\s|$)", line.text)) for line in lines]
    keys = any(re.match(r"[A-Za-z_]\w*\s*:\s*([\[{].*)?$", line.text) for line in lines)
    if all(dashes) or keys or first == "---":
        return _read_yaml
    return _read_lines


def _lines(text: str) -> list[_Line]:
    """Return the lines without comments: ``#`` at the start, or between blanks.

    A line with quotes keeps what may be part of a name.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        kept = line if '"' in line else re.sub(r"\s#(\s.*)?$", "", line)
        kept = kept.strip(" ")
        if kept.strip() and not kept.startswith("#"):
            found.append(_Line(number, kept))
    return found


def _refuse_markup(text: str, lines: Sequence[_Line], name: str) -> Names:
    del text
    raise OptionError(
        f"{name}, line {lines[0].number}: markup cannot be read; write one 'label,name' per line"
    )


# ---- JSON, YAML, TOML ----


def _read_json(text: str, lines: Sequence[_Line], name: str) -> Names:
    del lines
    try:
        data = json.loads(text, object_pairs_hook=once)
    except FormatError as error:
        raise OptionError(f"{name}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{name}: no JSON: {error}") from None
    return understand(data, name)


def _read_toml(text: str, lines: Sequence[_Line], name: str) -> Names:
    del lines
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{name}: no TOML: {error}") from None
    return understand(data, name)


def _read_yaml(text: str, lines: Sequence[_Line], name: str) -> Names:
    """Read YAML in which every scalar is text, so that a class may be called ``no`` or ``on``."""
    import yaml

    class Loader(yaml.BaseLoader):  # type: ignore[misc, unused-ignore]  # constructs text only
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            return once(
                [
                    (str(self.construct_object(key, True)), self.construct_object(value, deep))
                    for key, value in node.value
                ]
            )

        def construct_yaml_map(self, node: Any) -> Any:
            return self.construct_mapping(node, deep=True)

    Loader.add_constructor("tag:yaml.org,2002:map", Loader.construct_yaml_map)
    try:
        data = yaml.load(text, Loader)  # noqa: S506  constructs nothing but text, lists, mappings
    except FormatError as error:
        raise OptionError(f"{name}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise OptionError(f"{name}: no YAML: {said[:200]}") from None
    if isinstance(data, str):
        raise OptionError(
            f"{name}, line {lines[0].number}: the YAML is one text, {_show.repr(data)}; write "
            "'- name' or 'label: name' in each line, or call the file .txt"
        )
    return understand(data, name)


def understand(data: Any, name: str) -> Names:
    """Return the classes in parsed data: lists and mappings as JSON, YAML and TOML have them.

    Raises
    ------
    OptionError
        If the data has none of the accepted shapes, or more than one.
    """
    if isinstance(data, list):
        return _from_list(data, name)
    if not isinstance(data, Mapping):
        raise OptionError(
            f"{name}: expected a list of names, or a mapping from label to name, got "
            f"{_show.repr(data)}"
        )
    if not data:
        raise OptionError(f"{name}: the file names no class")
    wrappers = [key for key in _WRAPPERS if isinstance(data.get(key), list | Mapping)]
    return _from_wrapper(data, wrappers, name) if wrappers else _from_mapping(data, name)


def _from_wrapper(data: Mapping[str, Any], wrappers: Sequence[str], name: str) -> Names:
    """Read the field of a larger file that has the classes; several must agree."""
    found: dict[str, Names] = {}
    first: OptionError | None = None
    for key in wrappers:
        try:
            inner = data[key]
            found[key] = (
                _from_list(inner, f"{name}: {key}")
                if isinstance(inner, list)
                else _from_mapping(inner, f"{name}: {key}")
            )
        except OptionError as error:
            first = first or error
    if first is not None and not found:
        raise first
    (key, names), *others = found.items()
    for other, theirs in others:
        if _by_label(theirs) != _by_label(names):
            raise OptionError(
                f"{name}: {key!r} and {other!r} name different classes; keep the one that your "
                "masks use"
            )
    return names


def _by_label(names: Names) -> dict[int, str | None]:
    return names if isinstance(names, dict) else dict(enumerate(names))


def _from_list(data: Sequence[Any], name: str) -> Names:
    """Read a list: names in the order of their labels, or an object per class."""
    if not data:
        raise OptionError(f"{name}: the file names no class")
    if all(isinstance(one, str) for one in data):
        _refuse_numbers(data, name)
        return [_checked(one, f"{name}: entry {place}") for place, one in enumerate(data)]
    for place, one in enumerate(data):
        if not isinstance(one, Mapping):
            raise OptionError(
                f"{name}: expected a list of names, or of objects with 'id' and 'name'; entry "
                f"{place} is {_show.repr(one)}"
            )
    return _from_objects(data, name)


def _refuse_numbers(names: Sequence[str], where: str) -> None:
    """Refuse names that are numbers and not those of their labels."""
    if all(map(_is_whole, names)) and [int(name) for name in names] != list(range(len(names))):
        raise OptionError(
            f"{where}: {_show.repr(list(names))} may be labels, or the names of the labels 0, 1, "
            "...; write 'label,name' for each"
        )


def _from_objects(data: Sequence[Mapping[str, Any]], name: str) -> Names:
    """Read objects with a name and a label each; without any label the order gives them."""
    fields = {str(key).lower(): key for one in data for key in one}
    label_key = _only_field(data, fields, _LABEL_WORDS, name, is_label=True)
    name_key = _only_field(data, fields, _NAME_WORDS, name, is_label=False)
    if name_key is None:
        raise OptionError(
            f"{name}: no object has a 'name'; the fields are {_show.repr(sorted(fields))}"
        )
    pairs = []
    for place, one in enumerate(data):
        where = f"{name}: entry {place}"
        for key in (label_key, name_key):
            if key is not None and key not in one:
                raise OptionError(f"{where}: it has no {key!r}, and others have")
        label = place if label_key is None else one[label_key]
        pairs.append((where, label, one[name_key]))
    return _paired(pairs)


def _only_field(
    data: Sequence[Mapping[str, Any]],
    fields: Mapping[str, str],
    words: Sequence[str],
    name: str,
    *,
    is_label: bool,
) -> str | None:
    """Return the field that has the labels, or the names; None if there is none."""
    found = [
        fields[word]
        for word in words
        if word in fields
        and all(_is_whole(one[fields[word]]) == is_label for one in data if fields[word] in one)
    ]
    if len(found) > 1 and not is_label and "name" in fields and fields["name"] in found:
        return fields["name"]
    if len(found) > 1:
        what = "labels" if is_label else "names"
        raise OptionError(
            f"{name}: {found[0]!r} and {found[1]!r} may both be the {what}; keep the one that "
            "your masks use"
        )
    return found[0] if found else None


def _from_mapping(data: Mapping[Any, Any], name: str) -> Names:
    """Read a mapping from label to name, or from name to label."""
    if not data:
        raise OptionError(f"{name}: the file names no class")
    keys = [_is_whole(key) for key in data]
    values = [_is_whole(value) for value in data.values()]
    where = {key: f"{name}: {_show.repr(key)}" for key in data}
    if all(keys) and not any(values):
        return _paired((where[key], key, value) for key, value in data.items())
    if all(values) and not any(keys):
        return _paired((where[key], value, key) for key, value in data.items())
    key, value = next(
        (key, value)
        for (key, value), a, b in zip(data.items(), keys, values, strict=True)
        if a == b or a != keys[0]
    )
    entry = f"{_show.repr(key)}: {_show.repr(value)}"
    if _is_whole(key) and _is_whole(value):
        raise OptionError(
            f"{name}: {entry} may be label {key} with the name '{value}', or label {value} with "
            f'the name \'{key}\'; write a list of objects, [{{"id": ..., "name": ...}}]'
        )
    raise OptionError(
        f"{name}: expected a list of names, or a mapping from label to name (or from name to "
        f"label); {entry} has no label"
        if not (_is_whole(key) or _is_whole(value))
        else f"{name}: {entry} is the other way round than what precedes it"
    )


def _is_whole(value: Any) -> bool:
    """Return whether a value is a whole number, or text that is one."""
    if isinstance(value, str):
        return _WHOLE.fullmatch(value.strip()) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def _paired(pairs: Iterable[tuple[str, Any, Any]]) -> dict[int, str | None]:
    """Make a mapping of triples of place, label and name; a label must be there once."""
    found: dict[int, str | None] = {}
    for where, label, name in pairs:
        if not _is_whole(label):
            raise OptionError(f"{where}: expected a label, got {_show.repr(label)}")
        number = int(label)
        if number in found:
            raise OptionError(f"{where}: label {number} stands twice")
        found[number] = None if name is None else _checked(name, where)
    return found


def _checked(name: Any, where: str) -> str:
    if not isinstance(name, str):
        raise OptionError(f"{where}: expected a name, got {_show.repr(name)}")
    if not name.strip():
        raise OptionError(f"{where}: the name is empty")
    return name


# ---- lines ----


def _read_lines(text: str, lines: Sequence[_Line], name: str) -> Names:
    """Read a table with a delimiter, or lines such as ``0 road``, ``0: road`` and ``road``."""
    del text
    delimiters = "\t" if Path(name).suffix.lower() == ".tsv" else "\t;,"
    tables = {delimiter: _table(lines, delimiter, name) for delimiter in delimiters}
    wide = {d: rows for d, rows in tables.items() if rows and max(map(len, rows)) > 1}
    even = {d: rows for d, rows in wide.items() if min(map(len, rows)) > 1}
    if not wide:
        texts = [_Line(line.number, line.text.strip()) for line in lines]
        if len(texts) > 1 and texts[0].text.lower() in _NAME_WORDS:
            if Path(name).suffix.lower() not in (".csv", ".tsv"):
                raise OptionError(
                    f"{name}, line {texts[0].number}: {texts[0].text!r} may be a heading or the "
                    "name of label 0; call the file .csv if it is a heading, or write a JSON list"
                )
            texts = texts[1:]
        return _from_texts(texts, name)
    found: dict[str, Names] = {}
    faults: list[OptionError] = []
    for delimiter, rows in (even or wide).items():
        try:
            found[delimiter] = _from_rows(rows, [line.number for line in lines], name, delimiter)
        except OptionError as error:
            faults.append(error)
    if not found:
        raise faults[0]
    (delimiter, names), *others = found.items()
    for other, theirs in others:
        if theirs != names:
            raise OptionError(
                f"{name}, line {lines[0].number}: {_show.repr(lines[0].text)} may be a table with "
                f"{_spelled(delimiter)} or with {_spelled(other)} between its columns; put the "
                "names in quotes"
            )
    return names


def _spelled(delimiter: str) -> str:
    return "a tab" if delimiter == "\t" else f"{delimiter!r}"


def _table(lines: Sequence[_Line], delimiter: str, name: str) -> list[list[str]]:
    """Split lines into cells."""
    try:
        rows = csv.reader((line.text for line in lines), delimiter=delimiter, skipinitialspace=True)
        return [[cell.strip() for cell in row] for row in rows]
    except csv.Error as error:
        raise OptionError(f"{name}: no CSV: {error}") from None


def _unquoted(text: str) -> str:
    """Return text without the quotes around it."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


class _Columns(NamedTuple):
    """Which column has the labels, and which the names; no labels if the order gives them."""

    label: int | None
    name: int


def _from_rows(
    rows: Sequence[Sequence[str]], numbers: Sequence[int], name: str, delimiter: str
) -> Names:
    """Read the rows of a table, with or without a header."""
    if len(rows) != len(numbers):
        raise OptionError(f"{name}: no CSV: a quoted name goes over several lines")
    width = len(rows[0])
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != width:
            raise OptionError(
                f"{name}, line {number}: expected {width} columns with {_spelled(delimiter)} "
                f"between them as in line {numbers[0]}, such as 'label,name', got {len(row)}; a "
                "name that has it must be in quotes"
            )
    words = [cell.lower() for cell in rows[0]]
    known = {*_LABEL_WORDS, *_NAME_WORDS, *_COLOUR_WORDS}
    where = f"{name}, line {numbers[0]}"
    if not any(map(_is_whole, words)) and any(word in known for word in words):
        columns = _by_header(words, rows[1:], where)
        rows, numbers = rows[1:], numbers[1:]
    else:
        columns = _by_content(rows[0], where)
    if not rows:
        raise OptionError(f"{name}: the file names no class")
    if columns.label is None:
        return [
            _checked(row[columns.name], f"{name}, line {number}")
            for number, row in zip(numbers, rows, strict=True)
        ]
    places = [f"{name}, line {number}: expected 'label,name'" for number in numbers]
    return _paired(
        (
            place if not _is_whole(row[columns.label]) else place.partition(": ")[0],
            row[columns.label],
            row[columns.name],
        )
        for place, row in zip(places, rows, strict=True)
    )


def _by_header(words: Sequence[str], rows: Sequence[Sequence[str]], where: str) -> _Columns:
    """Find the columns by their headings."""

    def is_label(place: int) -> bool:
        return sum(_is_whole(row[place]) for row in rows) * 2 > len(rows)

    labels = [n for n, word in enumerate(words) if word in _LABEL_WORDS and is_label(n)]
    names = [n for n, word in enumerate(words) if word in _NAME_WORDS and not is_label(n)]
    if len(names) > 1 and "name" in words and words.index("name") in names:
        names = [words.index("name")]
    for what, places in (("labels", labels), ("names", names)):
        if len(places) > 1:
            raise OptionError(
                f"{where}: columns {words[places[0]]!r} and {words[places[1]]!r} may both be the "
                f"{what}; keep the one that your masks use"
            )
    if not names:
        raise OptionError(f"{where}: no column of names; call it 'name'")
    if not labels and len(words) > 1:
        more = (
            ": colours are no labels; number the classes as your masks do, since fastcounts counts "
            "one label per pixel"
            if any(word in _COLOUR_WORDS for word in words)
            else ""
        )
        raise OptionError(f"{where}: no column of labels; add one and call it 'id'{more}")
    return _Columns(labels[0] if labels else None, names[0])


def _by_content(cells: Sequence[str], where: str) -> _Columns:
    """Find the columns by what is in the first row."""
    whole = [n for n, cell in enumerate(cells) if _is_whole(cell)]
    texts = [n for n in range(len(cells)) if n not in whole]
    shown = _show.repr(",".join(cells))
    if len(texts) == 1 and len(whole) == 1:
        return _Columns(whole[0], texts[0])
    if texts == [1] and len(whole) == 4:  # label,name,red,green,blue
        return _Columns(0, 1)
    if len(cells) == 2 and not texts:
        raise OptionError(
            f"{where}: {shown} may be label {cells[0]} with the name '{cells[1]}', or the other "
            "way round; write a header, 'id,name'"
        )
    raise OptionError(
        f"{where}: expected 'label,name' or a header that has 'id' and 'name', got {shown}"
    )


_LABEL_FIRST = re.compile(r"([-+]?[0-9]{1,40})(?:\s*[:=]\s*|\s+)(\S.*)")
_NAME_FIRST = re.compile(r"(\S.*?)(\s*[:=]\s*|\s+)([-+]?[0-9]{1,40})")


def _from_texts(lines: Sequence[_Line], name: str) -> Names:
    """Read lines that are no table: ``0 road``, ``0: road``, ``road: 0``, or a name each."""
    first = [_LABEL_FIRST.fullmatch(line.text) for line in lines]
    last = [_NAME_FIRST.fullmatch(line.text) for line in lines]
    where = [f"{name}, line {line.number}" for line in lines]
    if all(_is_whole(line.text) for line in lines):
        _refuse_numbers([line.text for line in lines], where[0])
        return [line.text for line in lines]
    if all(first):
        if all(map(_is_whole, (match[2] for match in first if match))):
            raise OptionError(
                f"{where[0]}: {_show.repr(lines[0].text)} may be a label and a name, or a name and "
                "a label; write 'id,name' as a header of a CSV file"
            )
        return _paired(
            (place, match[1], _unquoted(match[2]))
            for place, match in zip(where, first, strict=True)
            if match
        )
    if any(first) or any(_is_whole(line.text) for line in lines):
        labelled = next(n for n, match in enumerate(first) if match or _is_whole(lines[n].text))
        bare = next((n for n, match in enumerate(first) if not match), labelled)
        raise OptionError(
            f"{where[bare]}: {_show.repr(lines[bare].text)} has no label and a name, and line "
            f"{lines[labelled].number} begins with a number, {_show.repr(lines[labelled].text)}; "
            "write 'label,name' in every line, or a JSON list if these are names"
        )
    if all(last):
        matches = [match for match in last if match]
        if all(match[2].strip() for match in matches):
            return _paired(
                (place, match[3], _unquoted(match[1]))
                for place, match in zip(where, matches, strict=True)
            )
        raise OptionError(
            f"{where[0]}: {_show.repr(lines[0].text)} may be label {matches[0][3]} with the name "
            f"{matches[0][1]!r}, or label 0 with the name {lines[0].text!r}; write 'label,name', "
            "or a JSON list of names"
        )
    return [_checked(_unquoted(line.text), place) for place, line in zip(where, lines, strict=True)]
