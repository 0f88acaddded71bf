"""The metadata of a Zarr array in its store, compared with the metadata it was opened with.

An array that is rewritten while it is counted would be read with the old data type, fill value or
chunks: the count would be wrong without an error.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zarr import Array
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata
from zarr.core.sync import sync
from zarr.storage import StorePath, ZipStore

from fastcounts.errors import ReadError
from fastcounts.sources.port import one_line
from fastcounts.sources.remote import is_forbidden, words_of

__all__ = ["StoredMetadata", "number_orders"]

_KEYS = {3: ("zarr.json",), 2: (".zarray", ".zattrs")}
"""Where each format keeps the metadata of an array, and its attributes."""

_MEANINGFUL = (
    "_FillValue",
    "missing_value",
    "scale_factor",
    "add_offset",
    "_Unsigned",
    "_ARRAY_DIMENSIONS",
)
"""Attributes that decide what labels mean; others may change while an array is counted."""


class StoredMetadata:
    """The metadata of one array in its store.

    Parameters
    ----------
    array : an open array.
    name : of the array, for messages.
    """

    def __init__(self, array: Array[Any], name: str) -> None:
        self._array = array
        self._name = name
        self._archive = _signature(array.store_path)
        self._seen: list[bytes | None] | None = None

    def check(self) -> None:
        """Check that the store has the array, with the metadata it was opened with.

        Raises
        ------
        ReadError
            If the array does not exist, or if its metadata cannot be read or is different; the
            message names what is different.
        """
        version = self._array.metadata.zarr_format
        try:
            with self._opened() as place:
                content = self._read(place, version)
                other = None if content[0] is not None else _other_format(place, version)
        except Exception as error:  # noqa: BLE001  a store may fail in any way
            raise ReadError(f"{self._name}: {words_of(error)}") from None
        if content == self._seen:
            return
        if content[0] is None and other is None:
            raise ReadError(
                f"{self._name}: there is no array (any more); what cannot be seen from here "
                "is not counted as fill"
            )
        changes = [f"zarr_format: {version} -> {other}"] if other else list(self._changes(content))
        if changes:
            raise ReadError(
                f"{self._name}: its metadata changed since the array was opened: "
                f"{'; '.join(changes)}. Count it again when nothing writes to it"
            )
        self._seen = content

    @contextmanager
    def _opened(self) -> Iterator[StorePath]:
        """Give the place of the metadata; an archive that was replaced is opened again."""
        place = self._array.store_path
        if not isinstance(place.store, ZipStore) or _signature(place) == self._archive:
            yield place
            return
        store = sync(ZipStore.open(path=place.store.path, mode="r"))
        try:
            yield StorePath(store, place.path)
        finally:
            store.close()

    def _read(self, place: StorePath, version: int) -> list[bytes | None]:
        """Return the content of each key: None if it does not exist, empty if it is forbidden."""
        first, *others = _KEYS[version]
        found = [_content(place / first)]
        for key in others:
            try:
                found.append(_content(place / key))
            except Exception as error:
                if not is_forbidden(error):
                    raise
                found.append(b"")
        return found

    def _changes(self, content: list[bytes | None]) -> Iterator[str]:
        """Yield each field that is different, with its value before and after."""
        before = _fields(self._array.metadata)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # advice on codecs, given when it was opened
                after = _fields(_parse(content))
        except Exception as error:  # noqa: BLE001  metadata may be wrong in any way
            yield f"it cannot be read: {one_line(error)}"
            return
        if content[-1] == b"":  # the attributes may not be read
            before = {key: value for key, value in before.items() if "attributes." not in key}
        for key in sorted({*before, *after}):
            old, new = _text(before.get(key)), _text(after.get(key))
            if old != new:
                yield f"{key}: {one_line(old, 80)} -> {one_line(new, 80)}"


def _signature(place: StorePath) -> tuple[int, ...] | None:
    """Return what changes if an archive is replaced; None for other stores."""
    if not isinstance(place.store, ZipStore):
        return None
    try:
        status = Path(place.store.path).stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _content(place: StorePath) -> bytes | None:
    """Return the content of a key, or None; servers that only give files cannot list."""
    found = sync(place.get(default_buffer_prototype()))
    return None if found is None else found.to_bytes()


def _other_format(place: StorePath, version: int) -> int | None:
    """Return the format of an array that is there in another format; None if there is none."""
    for other, (key, *_) in _KEYS.items():
        if other != version and _content(place / key) is not None:
            return other
    return None


def _parse(content: list[bytes | None]) -> ArrayV2Metadata | ArrayV3Metadata:
    """Read metadata as zarr-python reads it."""
    first, *others = content
    data = json.loads(first or b"")
    if data["zarr_format"] == 2:
        attributes = json.loads(others[0]) if others and others[0] else {}
        return ArrayV2Metadata.from_dict(data | {"attributes": attributes})
    try:
        return ArrayV3Metadata.from_dict(data)
    except (KeyError, TypeError, ValueError):
        if not number_orders(data):
            raise
        return ArrayV3Metadata.from_dict(data)


def number_orders(metadata: Any) -> bool:
    """Replace "C" and "F", as early writers of format 3 have them, in the transpose codecs.

    Returns
    -------
    Whether there were any.
    """
    axes = list(range(len(metadata["shape"])))
    orders = {"C": axes, "F": axes[::-1]}
    named = [
        codec["configuration"]
        for codec in metadata["codecs"]
        if codec["name"] == "transpose" and codec["configuration"]["order"] in ("C", "F")
    ]
    for configuration in named:
        configuration["order"] = orders[configuration["order"]]
    return bool(named)


def _fields(metadata: ArrayV2Metadata | ArrayV3Metadata) -> dict[str, Any]:
    """Return the fields that decide how an array is read, and what its labels mean."""
    fields: dict[str, Any] = dict(metadata.to_dict())
    fields.pop("consolidated_metadata", None)
    attributes = fields.pop("attributes", None)
    if isinstance(attributes, Mapping):
        chosen = {key: attributes[key] for key in _MEANINGFUL if key in attributes}
        fields |= {f"attributes.{key}": value for key, value in chosen.items()}
    return fields


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
